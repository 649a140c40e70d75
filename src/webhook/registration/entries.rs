//! What we want our webhook configurations to say: a pure function of what they say now, the kinds that are
//! judged, and our authority.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::policy::settings::FailurePolicy;
use crate::policy::workload::WorkloadKind;
use crate::webhook::metrics::Configuration;
use crate::webhook::tls::Trust;

/// The condition of the shipped validating entry that lets an UPDATE through when what is judged has changed
/// (`manifests/base/validating-webhook.yaml`).
const CHANGED: &str = "creates-or-changes-what-is-judged";

/// The places that [`CHANGED`] looks at, as JSON pointers: a template below one of them needs no entry of its own.
const WATCHED: [&str; 2] = ["/spec/template", "/spec/jobTemplate"];

/// The shipped entries of a configuration: the manifest gives them everything but what we set.
///
/// An entry's two selectors must both agree, so a pod that asks for a gate itself and one whose namespace asks for it
/// come by entries of their own; so do a gate that is demanded and one that is preferred.
pub(crate) const fn shipped_entries(configuration: Configuration) -> &'static [&'static str] {
    match configuration {
        Configuration::Validating => &["validate.portcullis.dev"],
        Configuration::Mutating => &[
            "patch.portcullis.dev",
            "inject.portcullis.dev",
            "inject-by-namespace.portcullis.dev",
            "inject-preferred.portcullis.dev",
            "inject-preferred-by-namespace.portcullis.dev",
        ],
    }
}

/// The entry of this name is the shipped one, or one that was made of it for a kind of the settings (`KIND.GROUP.SHIPPED`).
pub(crate) fn is_or_copies(name: &str, shipped: &str) -> bool {
    let rest = name.strip_suffix(shipped);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The entries to apply: `rules`, `failurePolicy` (by an entry's name) and `caBundle` of the shipped ones that are there;
/// and, for each kind whose template their condition does not watch, an entry that is all ours.
pub(super) fn entries(
    configuration: Configuration,
    shipped: &[&Value],
    kinds: &[&WorkloadKind],
    (trust, policy): (&Trust, &dyn Fn(&str) -> FailurePolicy),
) -> Vec<Value> {
    let kinds = kinds.iter().copied();
    let (watched, unwatched): (Vec<_>, Vec<_>) = match configuration {
        Configuration::Validating => kinds.partition(|kind| is_watched(kind)),
        // Changes are made to Pods only: the templates that people wrote stay as they are.
        Configuration::Mutating => (kinds.filter(|kind| kind.is_pod()).collect(), vec![]),
    };
    let mut entries = Vec::new();
    for entry in shipped {
        let name = entry.get("name").and_then(Value::as_str);
        let name = name.unwrap_or_default();
        let fields = Map::from_iter([("name".to_owned(), name.into())]);
        entries.push(complete(
            fields,
            &watched,
            (bundle(entry, trust), policy(name)),
        ));
        for kind in &unwatched {
            let own = own_name(name, kind);
            let fields = own_entry(own.clone(), entry, kind);
            entries.push(complete(
                fields,
                &[kind],
                (bundle(entry, trust), policy(&own)),
            ));
        }
    }
    entries
}

/// Puts in the three fields that are always ours.
fn complete(
    mut entry: Map<String, Value>,
    kinds: &[&WorkloadKind],
    (bundle, policy): (Option<Value>, FailurePolicy),
) -> Value {
    entry.insert("rules".to_owned(), rules(kinds));
    entry.insert("failurePolicy".to_owned(), policy.as_str().into());
    if let Some(bundle) = bundle {
        let client = entry.entry("clientConfig").or_insert_with(|| json!({}));
        if let Some(client) = client.as_object_mut() {
            client.insert("caBundle".to_owned(), bundle);
        }
    }
    entry.into()
}

/// The `caBundle` that we apply to an entry; none where it is not ours to say.
fn bundle(entry: &Value, trust: &Trust) -> Option<Value> {
    match trust {
        Trust::Bundle(pem) => Some(BASE64_STANDARD.encode(pem).into()),
        // Applied as it is, or it would be taken away: we are the one who manages it.
        Trust::AsFound => entry.pointer("/clientConfig/caBundle").cloned(),
        Trust::Others | Trust::Unknown => None,
    }
}

/// The rules that bring objects of these kinds to us. Never subresources: scale and status change nothing that
/// is judged.
fn rules(kinds: &[&WorkloadKind]) -> Value {
    let mut rules: Vec<(_, Vec<&str>)> = Vec::new();
    for kind in kinds {
        let rule = (&kind.group, &kind.version, kind.update);
        match rules.iter_mut().find(|(other, _)| *other == rule) {
            Some((_, resources)) => resources.push(&kind.resource),
            None => rules.push((rule, vec![&kind.resource])),
        }
    }
    let written = rules
        .into_iter()
        .map(|((group, version, update), resources)| {
            let operations: &[_] = if update {
                &["CREATE", "UPDATE"]
            } else {
                &["CREATE"]
            };
            json!({
                "apiGroups": [group],
                "apiVersions": [version],
                "operations": operations,
                "resources": resources,
                "scope": "Namespaced",
            })
        });
    written.collect()
}

/// The shipped condition sees each change of this kind's template.
fn is_watched(kind: &WorkloadKind) -> bool {
    let below = |place: &str| {
        let rest = kind.template.strip_prefix(place);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    !kind.update || WATCHED.into_iter().any(below)
}

/// The name ends in that of the shipped entry, whose proof counts for both.
fn own_name(shipped: &str, kind: &WorkloadKind) -> String {
    format!("{}.{}.{shipped}", kind.resource, kind.group)
}

/// The shipped entry once more, for one kind: called by the same service under the same conditions, but for a
/// change of the template, which stands elsewhere.
fn own_entry(name: String, shipped: &Value, kind: &WorkloadKind) -> Map<String, Value> {
    let mut entry = shipped.as_object().cloned().unwrap_or_default();
    entry.insert("name".to_owned(), name.into());
    let place = optional_path(&kind.template);
    let conditions = entry
        .get_mut("matchConditions")
        .and_then(Value::as_array_mut);
    for condition in conditions
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        if condition.get("name").is_some_and(|name| name == CHANGED)
            && let Some(Value::String(expression)) = condition.get_mut("expression")
        {
            expression.extend([" || object", &place, " != oldObject", &place]);
        }
    }
    entry
}

/// A JSON pointer (RFC 6901) as a CEL path that is `optional.none()` where a step is missing, so that the
/// condition never fails.
fn optional_path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = Value::from(step.replace("~1", "/").replace("~0", "~"));
        path.extend(["[?", &step.to_string(), "]"]);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::workload::KINDS;

    fn shipped(names: &[&str]) -> Vec<Value> {
        let entry = |name| {
            json!({
                "name": name,
                "admissionReviewVersions": ["v1"],
                "clientConfig": {"service": {"name": "portcullis", "namespace": "portcullis-system", "path": "/validate"}},
                "matchConditions": [
                    {"name": "not-from-a-node", "expression": "A"},
                    {"name": CHANGED, "expression": "B"},
                ],
            })
        };
        names.iter().map(entry).collect()
    }

    fn rollout(template: &'static str) -> WorkloadKind {
        WorkloadKind {
            group: "argoproj.io".into(),
            version: "v1alpha1".into(),
            kind: "Rollout".into(),
            resource: "rollouts".into(),
            template: template.into(),
            update: true,
            batch: false,
        }
    }

    fn of(configuration: Configuration, more: &[WorkloadKind], trust: &Trust) -> Vec<Value> {
        let kinds: Vec<_> = KINDS.iter().chain(more).collect();
        let shipped = shipped(shipped_entries(configuration));
        let shipped: Vec<_> = shipped.iter().collect();
        let policy = |name: &str| match name {
            "inject.portcullis.dev" => FailurePolicy::Fail,
            _ => FailurePolicy::Ignore,
        };
        entries(configuration, &shipped, &kinds, (trust, &policy))
    }

    #[test]
    fn asks_for_the_built_in_kinds_and_no_subresource() {
        let entries = of(
            Configuration::Validating,
            &[],
            &Trust::Bundle("PEM".to_owned()),
        );
        let rule = |group: &str, operations: &[&str], resources: &[&str]| {
            json!({"apiGroups": [group], "apiVersions": ["v1"], "operations": operations,
                "scope": "Namespaced", "resources": resources})
        };
        let both = ["CREATE", "UPDATE"];
        assert_eq!(
            entries,
            [json!({
                "name": "validate.portcullis.dev",
                "rules": [
                    rule("", &["CREATE"], &["pods"]),
                    rule("apps", &both, &["deployments", "statefulsets", "daemonsets", "replicasets"]),
                    rule("", &both, &["replicationcontrollers"]),
                    rule("batch", &both, &["jobs", "cronjobs"]),
                    rule("apps", &["CREATE"], &["controllerrevisions"]),
                ],
                "failurePolicy": "Ignore",
                "clientConfig": {"caBundle": "UEVN"},
            })]
        );
    }

    #[test]
    fn changes_pods_only_when_they_are_made_and_each_entry_has_its_own_policy() {
        let entries = of(
            Configuration::Mutating,
            &[rollout("/spec/template")],
            &Trust::Others,
        );
        let names: Vec<_> = entries.iter().map(|entry| &entry["name"]).collect();
        assert_eq!(names, shipped_entries(Configuration::Mutating));
        for entry in entries {
            assert_eq!(entry["rules"].as_array().unwrap().len(), 1);
            assert_eq!(entry["rules"][0]["resources"], json!(["pods"]));
            assert_eq!(entry["rules"][0]["operations"], json!(["CREATE"]));
            let is_proved = entry["name"] == "inject.portcullis.dev";
            let expected = if is_proved { "Fail" } else { "Ignore" };
            assert_eq!(entry["failurePolicy"], expected, "{}", entry["name"]);
        }
    }

    #[test]
    fn applies_the_bundle_as_it_is_while_ours_is_not_known() {
        let mut live = shipped(shipped_entries(Configuration::Validating));
        live[0]["clientConfig"]["caBundle"] = json!("UEVN");
        let kinds: Vec<_> = KINDS.iter().collect();
        let entries = entries(
            Configuration::Validating,
            &[&live[0]],
            &kinds,
            (&Trust::AsFound, &|_| FailurePolicy::Ignore),
        );
        assert_eq!(entries[0]["clientConfig"], json!({"caBundle": "UEVN"}));
        let none_yet = of(Configuration::Validating, &[], &Trust::AsFound);
        assert_eq!(none_yet[0].get("clientConfig"), None);
    }

    #[test]
    fn leaves_the_bundle_to_others_where_they_write_it() {
        let entries = of(Configuration::Validating, &[], &Trust::Others);
        assert_eq!(entries[0].get("clientConfig"), None);
    }

    #[test]
    fn a_kind_whose_template_is_watched_needs_no_entry_of_its_own() {
        for template in ["/spec/template", "/spec/jobTemplate/spec/template"] {
            let entries = of(
                Configuration::Validating,
                &[rollout(template)],
                &Trust::Others,
            );
            assert_eq!(entries.len(), 1, "{template}");
            assert!(entries[0].to_string().contains("rollouts"), "{template}");
        }
    }

    #[test]
    fn a_kind_whose_template_stands_elsewhere_gets_an_entry_that_watches_it() {
        let kind = rollout("/spec/templates/a~1b");
        let entries = of(Configuration::Validating, &[kind], &Trust::Others);
        let [main, own] = entries.as_slice() else {
            panic!("{entries:?}")
        };
        assert!(!main.to_string().contains("rollouts"));
        assert_eq!(own["name"], "rollouts.argoproj.io.validate.portcullis.dev");
        assert_eq!(own["clientConfig"]["service"]["path"], "/validate");
        assert_eq!(own["rules"][0]["resources"], json!(["rollouts"]));
        assert_eq!(own["matchConditions"][0]["expression"], "A");
        assert_eq!(
            own["matchConditions"][1]["expression"],
            r#"B || object[?"spec"][?"templates"][?"a/b"] != oldObject[?"spec"][?"templates"][?"a/b"]"#
        );
    }
}
