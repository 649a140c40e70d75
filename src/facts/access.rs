//! What the service account may do: one table, held by tests to the lookups below and to the manifests, so that no right
//! is missing and none is left over.

use crate::policy::{
    facts::{Producer, Query, Revision},
    workload::WorkloadKind,
};

/// One right: a verb on a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// `get`, `list`, `create`, `update`, `patch`. Never `list` or `watch` on Secrets.
    pub verb: &'static str,
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Plural resource name.
    pub resource: &'static str,
    /// Where it holds.
    pub scope: Scope,
}

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// On every object: a row of the ClusterRole.
    All,
    /// On objects of these names, cluster-wide or in any namespace: a row of the ClusterRole with `resourceNames`.
    Named(&'static [&'static str]),
    /// In our own namespace, on objects of these names; no names means any, since `create` can't be given one.
    Own(&'static [&'static str]),
    /// In the namespace of the self-check, on any object.
    SelfCheck,
}

/// What the lookups need. For `env-parity` of the kinds that settings add, a role of the operator's own must give
/// `get` on them; without it the comparison is a warning.
pub const LOOKUPS: &[Access] = &[
    Access::all("get", "", "namespaces"),
    Access::all("get", "", "secrets"),
    Access::all("get", "", "configmaps"),
    Access::all("get", "", "serviceaccounts"),
    Access::all("list", "", "limitranges"),
    Access::all("list", "", "services"),
    Access::all("list", "networking.k8s.io", "networkpolicies"),
    Access::all("list", "", "nodes"),
    Access::all("get", "", "replicationcontrollers"),
    Access::all("get", "apps", "deployments"),
    Access::all("get", "apps", "statefulsets"),
    Access::all("get", "apps", "daemonsets"),
    Access::all("get", "apps", "replicasets"),
    Access::all("get", "batch", "jobs"),
    Access::all("get", "batch", "cronjobs"),
    // Asked only before a refusal: does somebody make the Secret that is missing?
    Access::all("list", "external-secrets.io", "externalsecrets"),
    Access::all("list", "external-secrets.io", "clusterexternalsecrets"),
    Access::all("list", "bitnami.com", "sealedsecrets"),
    Access::all("list", "cert-manager.io", "certificates"),
    Access::all(
        "list",
        "secrets-store.csi.x-k8s.io",
        "secretproviderclasses",
    ),
    // Asked only before a refusal: is this a rollback?
    Access::all("list", "apps", "replicasets"),
    Access::all("list", "apps", "controllerrevisions"),
];

/// What `portcullis audit` needs beside the lookups: the lists of what is judged, and where we are registered. Kinds that
/// settings add need `list` in a role of the operator's own.
pub const AUDIT: &[Access] = &[
    Access::all("list", "", "pods"),
    Access::all("list", "", "replicationcontrollers"),
    Access::all("list", "apps", "deployments"),
    Access::all("list", "apps", "statefulsets"),
    Access::all("list", "apps", "daemonsets"),
    Access::all("list", "batch", "jobs"),
    Access::all("list", "batch", "cronjobs"),
    // Which of them ask for a gate in all their pods.
    Access::all("list", "", "namespaces"),
    Access::webhooks("get", "validatingwebhookconfigurations"),
];

/// What `portcullis report` needs beside the lookups and the audit's lists: what it writes, and what of it is there.
pub const REPORT: &[Access] = &[
    // One report a namespace, by server-side apply, in whichever of the two APIs is served.
    Access::all("list", "openreports.io", "reports"),
    Access::all("create", "openreports.io", "reports"),
    Access::reports("patch", "openreports.io", "reports"),
    Access::reports("delete", "openreports.io", "reports"),
    Access::all("list", "wgpolicyk8s.io", "policyreports"),
    Access::all("create", "wgpolicyk8s.io", "policyreports"),
    Access::reports("patch", "wgpolicyk8s.io", "policyreports"),
    Access::reports("delete", "wgpolicyk8s.io", "policyreports"),
    // One Event a workload that breaks a rule, and one a pod whose gate stays closed.
    Access::all("get", "", "events"),
    Access::all("create", "", "events"),
    Access::all("patch", "", "events"),
    // Which replica does that.
    Access::own("create", "coordination.k8s.io", "leases", &[]),
    Access::own("get", "coordination.k8s.io", "leases", &[REPORT_LEASE]),
    Access::own("update", "coordination.k8s.io", "leases", &[REPORT_LEASE]),
];

/// What the server writes, and reads in order to write.
pub const WRITES: &[Access] = &[
    // Our certificate authority. RBAC can't name an object that is yet to be made, so `create` stands alone.
    Access::own("create", "", "secrets", &[]),
    Access::own("get", "", "secrets", &[CA_SECRET]),
    Access::own("update", "", "secrets", &[CA_SECRET]),
    // Our registration: `rules`, `failurePolicy` and `caBundle`, by server-side apply.
    Access::webhooks("get", "validatingwebhookconfigurations"),
    Access::webhooks("patch", "validatingwebhookconfigurations"),
    Access::webhooks("watch", "validatingwebhookconfigurations"),
    Access::webhooks("get", "mutatingwebhookconfigurations"),
    Access::webhooks("patch", "mutatingwebhookconfigurations"),
    Access::webhooks("watch", "mutatingwebhookconfigurations"),
    // Which replica does that.
    Access::own("create", "coordination.k8s.io", "leases", &[]),
    Access::own("get", "coordination.k8s.io", "leases", &[LEASE]),
    Access::own("update", "coordination.k8s.io", "leases", &[LEASE]),
    // That glass was broken: an Event.
    Access::own("create", "", "events", &[]),
    // The proof that we answer: dry runs, through every API server, to every replica.
    Access {
        verb: "create",
        group: "",
        resource: "pods",
        scope: Scope::SelfCheck,
    },
    Access {
        verb: "get",
        group: "discovery.k8s.io",
        resource: "endpointslices",
        scope: Scope::Named(&[API_SERVERS]),
    },
    Access::own("list", "discovery.k8s.io", "endpointslices", &[]),
];

/// The Secret that holds our certificate authority, in our own namespace.
pub const CA_SECRET: &str = "portcullis-ca";

/// The name of both webhook configurations.
pub const CONFIGURATION: &str = "portcullis";

/// The Lease of the replica that writes them, in our own namespace.
pub const LEASE: &str = "portcullis";

/// The Lease of the replica that audits, in our own namespace.
pub const REPORT_LEASE: &str = "portcullis-report";

/// The name of our report in each namespace.
pub const REPORTS: &str = "portcullis";

/// The namespace where nothing but our own dry runs is ever made.
pub const SELF_CHECK_NAMESPACE: &str = "portcullis-self-check";

/// The EndpointSlice of the API servers, in the namespace `default`: they keep it themselves, under this name
/// (kubernetes `pkg/controlplane/reconcilers`).
pub const API_SERVERS: &str = "kubernetes";

// === impl Access ===

impl Access {
    const fn all(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            group,
            resource,
            scope: Scope::All,
        }
    }

    const fn named(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        Self {
            verb,
            group,
            resource,
            scope: Scope::Named(names),
        }
    }

    const fn own(
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        names: &'static [&'static str],
    ) -> Self {
        Self {
            verb,
            group,
            resource,
            scope: Scope::Own(names),
        }
    }

    const fn reports(verb: &'static str, group: &'static str, resource: &'static str) -> Self {
        Self::named(verb, group, resource, &[REPORTS])
    }

    const fn webhooks(verb: &'static str, resource: &'static str) -> Self {
        let group = "admissionregistration.k8s.io";
        Self::named(verb, group, resource, &[CONFIGURATION])
    }
}

/// The path of the API that answers `query`: `get` of one object, or `list` of a namespace's. `None` where
/// no object can have that name, so that there is nothing to ask: a pod template may name anything, `../` included, and
/// must not choose our path.
pub(super) fn path(query: &Query<'_>) -> Option<String> {
    let (group, version, namespace, resource, name) = match query {
        Query::Namespace { name } => {
            return can_be_named(name).then(|| format!("/api/v1/namespaces/{name}"));
        }
        Query::Secret { namespace, name } => ("", "v1", namespace, "secrets", Some(name)),
        Query::ConfigMap { namespace, name } => ("", "v1", namespace, "configmaps", Some(name)),
        Query::ServiceAccount { namespace, name } => {
            ("", "v1", namespace, "serviceaccounts", Some(name))
        }
        Query::LimitRanges { namespace } => ("", "v1", namespace, "limitranges", None),
        Query::Services { namespace } => ("", "v1", namespace, "services", None),
        Query::NetworkPolicies { namespace } => {
            let group = "networking.k8s.io";
            (group, "v1", namespace, "networkpolicies", None)
        }
        // The API server tells its own version at /version, to whoever asks.
        Query::Versions => return Some("/api/v1/nodes".to_owned()),
        // To whoever asks, likewise (ClusterRole `system:discovery`).
        Query::Groups => return Some("/apis".to_owned()),
        Query::Declared {
            namespace,
            producer,
            version,
            secret,
        } => return declared_path(*producer, [namespace, version, secret]),
        Query::Template {
            namespace,
            revision,
            ..
        } => {
            let (group, resource, name) = match revision {
                Revision::ReplicaSet { .. } => ("apps", "replicasets", None),
                Revision::ControllerRevision { .. } => ("apps", "controllerrevisions", None),
                Revision::CronJob { name } => ("batch", "cronjobs", Some(name)),
            };
            (group, "v1", namespace, resource, name)
        }
        Query::Twin {
            namespace,
            kind,
            name,
        } => {
            let WorkloadKind {
                group,
                version,
                resource,
                ..
            } = &**kind;
            (&**group, &**version, namespace, &**resource, Some(name))
        }
    };
    let list = namespaced([group, version, namespace, resource])?;
    match name {
        Some(name) => can_be_named(name).then(|| format!("{list}/{name}")),
        None => Some(list),
    }
}

/// The path of the list of a kind, in one namespace or in all. `None` where no namespace can have that name.
pub(super) fn list_path(kind: &WorkloadKind, namespace: Option<&str>) -> Option<String> {
    let WorkloadKind {
        group,
        version,
        resource,
        ..
    } = kind;
    match namespace {
        None => Some(format!("{}/{version}/{resource}", api(group))),
        Some(namespace) => namespaced([group, version, namespace, resource]),
    }
}

/// The path of a namespace's list, by group, version, namespace and resource.
fn namespaced([group, version, namespace, resource]: [&str; 4]) -> Option<String> {
    can_be_named(namespace).then(|| {
        let api = api(group);
        format!("{api}/{version}/namespaces/{namespace}/{resource}")
    })
}

fn api(group: &str) -> String {
    if group.is_empty() {
        String::from("/api")
    } else {
        format!("/apis/{group}")
    }
}

/// Where objects stand that may declare a Secret; these are its namespace, the version of their API and its name.
fn declared_path(producer: Producer, names: [&str; 3]) -> Option<String> {
    let [namespace, version, _] = names;
    let (group, resource) = producer.resource();
    names.into_iter().all(can_be_named).then(|| match producer {
        Producer::ClusterExternalSecret => format!("/apis/{group}/{version}/{resource}"),
        Producer::ExternalSecret
        | Producer::SealedSecret
        | Producer::Certificate
        | Producer::SecretProviderClass => {
            format!("/apis/{group}/{version}/namespaces/{namespace}/{resource}")
        }
    })
}

/// The API server lets no object be made whose name is not a DNS subdomain
/// (apimachinery `pkg/api/validation/generic.go`, `NameIsDNSSubdomain`).
fn can_be_named(name: &str) -> bool {
    const LONGEST: usize = 253;
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
    };
    name.len() <= LONGEST && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::policy::workload::KINDS;

    fn secret(namespace: &'static str, name: &'static str) -> Query<'static> {
        Query::Secret {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    fn template(revision: Revision<'static>) -> Query<'static> {
        Query::Template {
            namespace: "shop".into(),
            revision,
            template: "{}".into(),
        }
    }

    fn twin(kind: &WorkloadKind) -> Query<'_> {
        Query::Twin {
            namespace: "production".into(),
            kind: Cow::Borrowed(kind),
            name: "shop".into(),
        }
    }

    /// A path that this right opens.
    fn example(access: &Access) -> String {
        let Access {
            verb,
            group,
            resource,
            scope: _,
        } = access;
        let api = if group.is_empty() {
            "/api/v1".into()
        } else {
            format!("/apis/{group}/v1")
        };
        match (*verb, *resource) {
            (_, "namespaces") => format!("{api}/namespaces/shop"),
            (_, "nodes" | "clusterexternalsecrets") => format!("{api}/{resource}"),
            ("list", _) => format!("{api}/namespaces/shop/{resource}"),
            (_, "secrets" | "configmaps" | "serviceaccounts") => {
                format!("{api}/namespaces/shop/{resource}/checkout")
            }
            _ => format!("{api}/namespaces/production/{resource}/shop"),
        }
    }

    #[test]
    fn every_lookup_is_a_row_of_the_table() {
        let core = [
            Query::Namespace {
                name: "shop".into(),
            },
            secret("shop", "checkout"),
            Query::ConfigMap {
                namespace: "shop".into(),
                name: "checkout".into(),
            },
            Query::ServiceAccount {
                namespace: "shop".into(),
                name: "checkout".into(),
            },
            Query::LimitRanges {
                namespace: "shop".into(),
            },
            Query::Services {
                namespace: "shop".into(),
            },
            Query::NetworkPolicies {
                namespace: "shop".into(),
            },
            Query::Versions,
            template(Revision::ReplicaSet {
                owner: "uid".into(),
                selector: "".into(),
            }),
            template(Revision::ControllerRevision {
                owner: "uid".into(),
                selector: "".into(),
            }),
        ];
        let declared = Producer::ALL.map(|producer| Query::Declared {
            namespace: "shop".into(),
            producer,
            version: "v1".into(),
            secret: "checkout".into(),
        });
        let twins = KINDS
            .iter()
            .filter(|kind| kind.update) // the others share no name
            .map(twin);
        let mut asked: Vec<_> = core
            .into_iter()
            .chain(declared)
            .chain(twins)
            .map(|query| path(&query).unwrap())
            .collect();
        let mut granted: Vec<_> = LOOKUPS.iter().map(example).collect();
        asked.sort();
        granted.sort();
        assert_eq!(asked, granted);
    }

    #[test]
    fn an_audit_may_list_every_kind_that_is_judged() {
        for kind in KINDS {
            let path = list_path(kind, None).unwrap();
            let mut rows = LOOKUPS.iter().chain(AUDIT);
            let is_granted = rows.any(|access| {
                (access.verb, access.group, access.resource)
                    == ("list", &*kind.group, &*kind.resource)
            });
            assert!(is_granted, "{path}");
            let within = list_path(kind, Some("shop")).unwrap();
            assert!(within.contains("/namespaces/shop/"), "{within}");
            assert_eq!(list_path(kind, Some("../x")), None);
        }
    }

    #[test]
    fn the_cron_job_of_a_job_is_read_as_twins_are() {
        let name = "nightly".into();
        let asked = path(&template(Revision::CronJob { name }));
        let expected = "/apis/batch/v1/namespaces/shop/cronjobs/nightly";
        assert_eq!(asked.as_deref(), Some(expected));
        assert!(LOOKUPS.contains(&Access::all("get", "batch", "cronjobs")));
    }

    #[test]
    fn never_lists_or_watches_secrets() {
        for access in LOOKUPS
            .iter()
            .chain(WRITES)
            .filter(|access| access.resource == "secrets")
        {
            assert!(!["list", "watch", "*"].contains(&access.verb), "{access:?}");
        }
    }

    #[test]
    fn asks_nothing_about_names_that_cannot_exist() {
        let names = [
            "",
            ".",
            "..",
            "../../../kube-system/secrets/x",
            "a/b",
            "a?watch=true",
            "a#b",
            "a%2fb",
            "A",
            "a b",
            "-a",
            "a-",
            "a..b",
            "\u{e9}",
        ];
        for name in names {
            assert_eq!(path(&secret("shop", name)), None, "{name:?}");
            assert_eq!(
                path(&Query::Namespace { name: name.into() }),
                None,
                "{name:?}"
            );
            assert_eq!(
                path(&Query::LimitRanges {
                    namespace: name.into()
                }),
                None,
                "{name:?}"
            );
        }
        assert_eq!(
            path(&Query::Namespace {
                name: "a".repeat(254).into()
            }),
            None
        );
        assert_eq!(
            path(&secret("shop", "a.b-1.c")).as_deref(),
            Some("/api/v1/namespaces/shop/secrets/a.b-1.c")
        );
    }
}
