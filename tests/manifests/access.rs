//! What the manifests grant is what the code says it needs: no right is missing, and none is left over.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use portcullis::facts::access::{
    AUDIT, Access, LOOKUPS, REPORT, SELF_CHECK_NAMESPACE, Scope, WRITES,
};

use super::{base, read};

/// (verb, group, resource, names); no names stands for all objects.
type Right = (String, String, String, Vec<String>);

fn granted(rules: Option<Vec<PolicyRule>>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules.expect("a role has rules") {
        assert_eq!(rule.non_resource_urls, None);
        let names = rule.resource_names.unwrap_or_default();
        for verb in &rule.verbs {
            for group in rule.api_groups.as_deref().unwrap_or_default() {
                for resource in rule.resources.as_deref().unwrap_or_default() {
                    let right = (verb.clone(), group.clone(), resource.clone(), names.clone());
                    assert!(rights.insert(right.clone()), "granted twice: {right:?}");
                }
            }
        }
    }
    rights
}

/// Where a role holds.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Cluster,
    Own,
    SelfCheck,
}

fn needed(place: Place) -> BTreeSet<Right> {
    rights(LOOKUPS.iter().chain(WRITES), place)
}

fn rights(table: impl Iterator<Item = &'static Access>, place: Place) -> BTreeSet<Right> {
    table
        .filter_map(|access| {
            let (holds, names) = match access.scope {
                Scope::All => (Place::Cluster, &[][..]),
                Scope::Named(names) => (Place::Cluster, names),
                Scope::Own(names) => (Place::Own, names),
                Scope::SelfCheck => (Place::SelfCheck, &[][..]),
            };
            let names = names.iter().map(|&name| name.to_owned()).collect();
            let right = (
                access.verb.to_owned(),
                access.group.to_owned(),
                access.resource.to_owned(),
                names,
            );
            (holds == place).then_some(right)
        })
        .collect()
}

#[test]
fn the_cluster_role_is_what_the_code_needs() {
    let role: ClusterRole = base("cluster-role");
    assert_eq!(granted(role.rules), needed(Place::Cluster));
    assert_eq!(role.aggregation_rule, None);
}

#[test]
fn the_role_in_our_namespace_is_what_the_code_needs() {
    let role: Role = base("role");
    assert_eq!(granted(role.rules), needed(Place::Own));
}

#[test]
fn the_role_in_the_self_check_s_namespace_is_what_the_code_needs() {
    let role: Role = base("self-check-role");
    assert_eq!(granted(role.rules), needed(Place::SelfCheck));
    assert_eq!(
        role.metadata.namespace.as_deref(),
        Some(SELF_CHECK_NAMESPACE)
    );
}

#[test]
fn the_role_for_audits_is_what_the_code_needs() {
    let role: ClusterRole = read("audit/cluster-role.yaml");
    let needed = rights(LOOKUPS.iter().chain(AUDIT), Place::Cluster);
    assert_eq!(granted(role.rules), needed);
    assert_eq!(role.aggregation_rule, None);
}

#[test]
fn the_roles_of_the_periodic_audit_are_what_the_code_needs() {
    let cluster: ClusterRole = read("report/cluster-role.yaml");
    assert_eq!(
        granted(cluster.rules),
        rights(REPORT.iter(), Place::Cluster)
    );
    assert_eq!(cluster.aggregation_rule, None);
    let own: Role = read("report/role.yaml");
    assert_eq!(granted(own.rules), rights(REPORT.iter(), Place::Own));
    assert!(rights(REPORT.iter(), Place::SelfCheck).is_empty());
}

#[test]
fn secrets_are_never_listed_nor_watched() {
    let cluster: ClusterRole = base("cluster-role");
    let own: Role = base("role");
    let audit: ClusterRole = read("audit/cluster-role.yaml");
    let report: ClusterRole = read("report/cluster-role.yaml");
    let ours = granted(cluster.rules).into_iter().chain(granted(own.rules));
    let theirs = granted(audit.rules)
        .into_iter()
        .chain(granted(report.rules));
    for (verb, _, resource, _) in ours.chain(theirs) {
        assert!(resource != "*" && verb != "*", "{verb} {resource}");
        assert!(
            resource != "secrets" || !["list", "watch"].contains(&verb.as_str()),
            "{verb} {resource}"
        );
    }
}

#[test]
fn all_are_bound_to_our_service_account_alone() {
    let cluster: ClusterRoleBinding = base("cluster-role-binding");
    let own: RoleBinding = base("role-binding");
    let self_check: RoleBinding = base("self-check-role-binding");
    let reference = |kind: &str| reference(kind, "portcullis");
    let us = Some(vec![account("portcullis")]);
    assert_eq!(
        (cluster.role_ref, cluster.subjects),
        (reference("ClusterRole"), us.clone())
    );
    for (binding, namespace) in [
        (own, "portcullis-system"),
        (self_check, SELF_CHECK_NAMESPACE),
    ] {
        assert_eq!(
            (binding.role_ref, &binding.subjects),
            (reference("Role"), &us)
        );
        assert_eq!(binding.metadata.namespace.as_deref(), Some(namespace));
    }
}

#[test]
fn those_of_the_periodic_audit_are_bound_to_its_service_account_alone() {
    let us = Some(vec![account("portcullis-report")]);
    for (file, role) in [
        ("cluster-role-binding", "portcullis-report"),
        ("audit-binding", "portcullis-audit"),
    ] {
        let binding: ClusterRoleBinding = read(&format!("report/{file}.yaml"));
        let expected = (reference("ClusterRole", role), us.clone());
        assert_eq!((binding.role_ref, binding.subjects), expected, "{file}");
    }
    let own: RoleBinding = read("report/role-binding.yaml");
    let expected = (reference("Role", "portcullis-report"), us);
    assert_eq!((own.role_ref, own.subjects), expected);
}

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn account(name: &str) -> Subject {
    Subject {
        api_group: None,
        kind: "ServiceAccount".to_owned(),
        name: name.to_owned(),
        namespace: Some("portcullis-system".to_owned()),
    }
}
