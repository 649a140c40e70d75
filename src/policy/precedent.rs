//! Templates that the cluster holds already: a workload's own old revisions, and the CronJob that a Job is made from by
//! hand. To go back to one of them brings nothing new.

use std::borrow::Cow;

use serde_json::{Value, json, value::RawValue};

use super::{
    facts::{Query, Revision},
    leniency::Leniency,
    source::Source,
    template::{List, Map, Scalar},
    workload::{KINDS, Workload, WorkloadKind},
};

/// Labels and annotations of this domain change what becomes of a pod; others don't, and tools write them:
/// `pod-template-hash`, `restartedAt`, the four that a Job's template gets.
const DOMAIN: &str = "portcullis.dev/";

/// What an owner is told by.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct OwnerReference<'a> {
    api_version: &'a str,
    kind: &'a str,
    name: &'a str,
    uid: &'a str,
    controller: bool,
}

/// What may speak for `workload`, an update of `old` where that is given: asked only when it would be refused without.
pub(super) fn of<'w>(
    workload: &'w Workload<'_>,
    old: Option<&'w Workload<'_>>,
) -> Option<(Leniency, Query<'w>)> {
    let template = essence(workload.template_source()?)?;
    let (why, revision) = match old {
        Some(old) => {
            // What has not changed is no step back: or whatever is in force would excuse itself.
            if essence(old.template_source()?)? == template {
                return None;
            }
            (Leniency::Rollback, own_revision(old)?)
        }
        None => (Leniency::FromCronJob, cron_job(workload)?),
    };
    let query = Query::Template {
        namespace: Cow::Borrowed(workload.namespace),
        revision,
        template: Cow::Owned(template),
    };
    Some((why, query))
}

/// Objects of this kind speak for others: so nothing in them is let in because it is old.
pub(super) fn is_kept_as_revision(kind: &WorkloadKind) -> bool {
    kind.group == "apps" && matches!(&*kind.kind, "ReplicaSet" | "ControllerRevision")
}

/// Where the controller of `stored` keeps its revisions.
fn own_revision(stored: &Workload<'_>) -> Option<Revision<'static>> {
    let source = stored.source();
    // As it is stored: the UID is the API server's, and nobody else's to give.
    let uid: String = source.at("/metadata/uid")?.read()?;
    let selector = source
        .at("/spec/selector/matchLabels")
        .map(selector)
        .unwrap_or_default();
    let (owner, selector) = (Cow::Owned(uid), Cow::Owned(selector));
    match (&*stored.kind.group, &*stored.kind.kind) {
        ("apps", "Deployment") => Some(Revision::ReplicaSet { owner, selector }),
        ("apps", "StatefulSet" | "DaemonSet") => {
            Some(Revision::ControllerRevision { owner, selector })
        }
        _ => None,
    }
}

/// The CronJob that a Job says it is made from. It only says so: what counts is that the CronJob has that template.
fn cron_job(job: &Workload<'_>) -> Option<Revision<'static>> {
    if (&*job.kind.group, &*job.kind.kind) != ("batch", "Job") {
        return None;
    }
    let owners: List<OwnerReference<'_>> = job.source().at("/metadata/ownerReferences")?.read()?;
    let mut owners = owners.items();
    let owner = owners.find(|owner| owner.api_version == "batch/v1" && owner.kind == "CronJob")?;
    let name = Cow::Owned(owner.name.to_owned());
    Some(Revision::CronJob { name })
}

/// `matchLabels` as the API server takes them for `labelSelector`; it only makes the list shorter.
fn selector(labels: Source<'_>) -> String {
    let labels: Map<'_, Scalar<'_>> = labels.read().unwrap_or_default();
    let plain = |text: &str| {
        let mut bytes = text.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    };
    let pairs = labels.iter().map(|(key, value)| (key, value.as_written()));
    let pairs = pairs.filter(|(key, value)| plain(key) && plain(value));
    let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Whether `object`, as the API server lists it, is such a revision with this template.
pub(crate) fn is_it(object: &RawValue, revision: &Revision<'_>, template: &str) -> bool {
    let object = Source(object);
    let (kind, owner) = match revision {
        Revision::ReplicaSet { owner, .. } => ("ReplicaSet", Some(owner)),
        Revision::ControllerRevision { owner, .. } => ("ControllerRevision", Some(owner)),
        Revision::CronJob { .. } => ("CronJob", None),
    };
    let controlled = owner.is_none_or(|uid| {
        let owners = object.at("/metadata/ownerReferences");
        let owners: List<OwnerReference<'_>> = owners.and_then(Source::read).unwrap_or_default();
        owners
            .items()
            .any(|owner| owner.controller && owner.uid == uid)
    });
    let kind = KINDS.iter().find(|row| row.kind == kind);
    let held = kind.and_then(|kind| object.at(&kind.template));
    controlled && held.and_then(essence).is_some_and(|held| held == template)
}

/// What pods are made from: `spec`, and the labels and annotations of this domain, in one order, and without `null`.
fn essence(template: Source<'_>) -> Option<String> {
    let template: Value = template.read()?;
    let ours = |field: &str| {
        let map = template
            .pointer(&format!("/metadata/{field}"))?
            .as_object()?;
        let ours = map.iter().filter(|(key, _)| key.starts_with(DOMAIN));
        Some(
            ours.map(|(key, value)| (key.clone(), value.clone()))
                .collect::<Value>(),
        )
    };
    let nothing = || json!({});
    let essence = json!({
        "spec": template.get("spec")?,
        "labels": ours("labels").unwrap_or_else(nothing),
        "annotations": ours("annotations").unwrap_or_else(nothing),
    });
    Some(in_order(essence).to_string())
}

/// The same value: maps sorted by key, and without members that are `null`.
fn in_order(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(in_order).collect(),
        Value::Object(members) => {
            let mut members: Vec<_> = members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, in_order(value)))
                .collect();
            members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            members.into_iter().collect()
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        Judgement, Request,
        facts::{Answer, Unknown},
        judge,
        testing::{Facts, NAMESPACE, kind_of, raw},
        verdict::{Decision, Verdict},
    };

    /// A workload that is stored, with a container of this image and no limits.
    fn stored(kind: &str, image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": "checkout", "namespace": NAMESPACE, "uid": "its-uid"},
            "spec": {
                "selector": {"matchLabels": {"app": "checkout", "example.com/tier": "web"}},
                "template": {"spec": {"containers": [{"name": "app", "image": image}]}},
            },
        })
    }

    fn sound(mut object: Value) -> Value {
        object["spec"]["template"]["spec"]["containers"][0] = json!({
            "name": "app",
            "image": "app:2",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
            "resources": {"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Mi"}},
        });
        object
    }

    /// The judgement of `object`, if need be with this answer to the one question about a precedent.
    fn judged(
        old: Option<&Value>,
        object: &Value,
        answer: Answer,
    ) -> (Option<Query<'static>>, Verdict) {
        let (bytes, old) = (raw(object), old.map(raw));
        let workload = Workload::read(kind_of(object), NAMESPACE, &bytes)
            .unwrap()
            .unwrap();
        let request = Request {
            dry_run: false,
            user: None,
            groups: &[],
            old: old.as_deref(),
        };
        let previous = old.as_deref().map(|old| {
            Workload::read(kind_of(object), NAMESPACE, old)
                .unwrap()
                .unwrap()
        });
        let asked = of(&workload, previous.as_ref()).map(|(_, query)| query.into_owned());
        let mut facts = Facts::default();
        if let Some(query) = asked.clone() {
            facts = facts.with(query, answer);
        }
        match judge(&workload, &request, &facts, &facts.settings) {
            Judgement::Done(verdict) => (asked, verdict),
            Judgement::Ask(questions) => panic!("{questions:?}"),
        }
    }

    #[test]
    fn a_step_back_to_an_own_revision_warns_and_says_why() {
        let old = sound(stored("Deployment", "app:2"));
        let (asked, verdict) = judged(Some(&old), &stored("Deployment", "app:1"), Answer::Exists);
        let Some(Query::Template {
            revision, template, ..
        }) = asked
        else {
            panic!("{asked:?}");
        };
        assert_eq!(
            revision,
            Revision::ReplicaSet {
                owner: "its-uid".into(),
                selector: "app=checkout,example.com/tier=web".into(),
            }
        );
        assert_eq!(
            template,
            r#"{"annotations":{},"labels":{},"spec":{"containers":[{"image":"app:1","name":"app"}]}}"#
        );
        assert_eq!(verdict.decision, Decision::Warn);
        assert!(
            verdict.warnings[0].contains("an own revision"),
            "{:?}",
            verdict.warnings
        );
        assert!(
            verdict
                .lowered
                .iter()
                .all(|(_, why)| *why == Leniency::Rollback)
        );
        assert!(
            verdict
                .audit()
                .contains(&("lowered-by", "rollback".to_owned()))
        );
    }

    #[test]
    fn where_there_is_no_such_revision_it_is_refused() {
        let old = sound(stored("StatefulSet", "app:2"));
        let (asked, verdict) = judged(Some(&old), &stored("StatefulSet", "app:1"), Answer::Missing);
        let asked = asked.unwrap();
        assert!(
            matches!(
                &asked,
                Query::Template {
                    revision: Revision::ControllerRevision { .. },
                    ..
                }
            ),
            "{asked:?}"
        );
        assert_eq!(verdict.decision, Decision::Deny);
    }

    #[test]
    fn what_could_not_be_found_out_refuses_and_says_so() {
        let old = sound(stored("DaemonSet", "app:2"));
        let unknown = Answer::Unknown(Unknown::Deadline);
        let (_, verdict) = judged(Some(&old), &stored("DaemonSet", "app:1"), unknown);
        assert_eq!(verdict.decision, Decision::Deny);
        assert!(
            verdict.warnings[0].contains("the API server did not answer in time"),
            "{:?}",
            verdict.warnings
        );
    }

    #[test]
    fn a_template_that_does_not_change_is_no_step_back() {
        let mut old = stored("Deployment", "app:1");
        let mut new = old.clone();
        // A restart and a hash are no change either.
        old["spec"]["template"]["metadata"] = json!({
            "annotations": {"kubectl.kubernetes.io/restartedAt": "2026"}, "labels": {"pod-template-hash": "x"},
        });
        assert!(judged(Some(&old), &new, Answer::Exists).0.is_none());
        new["spec"]["template"]["metadata"] = json!({"labels": {"portcullis.dev/gate": "enabled"}});
        assert!(
            judged(Some(&old), &new, Answer::Exists).0.is_some(),
            "a label of ours is"
        );
    }

    #[test]
    fn kinds_without_revisions_have_no_way_back() {
        let mut old = sound(stored("ReplicaSet", "app:2"));
        let new = stored("ReplicaSet", "app:1");
        assert!(judged(Some(&old), &new, Answer::Exists).0.is_none());
        // Neither has what the API server has given no UID, nor what is new.
        old["kind"] = json!("Deployment");
        old["metadata"]["uid"] = Value::Null;
        assert!(
            judged(Some(&old), &stored("Deployment", "app:1"), Answer::Exists)
                .0
                .is_none()
        );
        assert!(
            judged(None, &stored("Deployment", "app:1"), Answer::Exists)
                .0
                .is_none()
        );
    }

    #[test]
    fn what_stands_beside_the_template_is_judged_all_the_same() {
        let old = sound(stored("Deployment", "app:2"));
        let mut new = stored("Deployment", "app:1");
        new["metadata"]["labels"] = json!({"team": true});
        let (_, verdict) = judged(Some(&old), &new, Answer::Exists);
        assert_eq!(verdict.decision, Decision::Deny);
        let denied: Vec<_> = verdict
            .findings
            .iter()
            .filter(|finding| finding.level == crate::policy::finding::Level::Deny)
            .collect();
        assert_eq!(denied.len(), 1, "{denied:?}");
        assert_eq!(denied[0].rule.as_str(), "string-value");
    }

    #[test]
    fn a_job_made_from_a_cron_job_warns() {
        let job = |owner: Value| {
            json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": "by-hand", "ownerReferences": [owner]},
                "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "app"}]}}},
            })
        };
        let owner = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "x", "controller": true});
        let (asked, verdict) = judged(None, &job(owner.clone()), Answer::Exists);
        let asked = asked.unwrap();
        assert!(
            matches!(&asked, Query::Template { revision: Revision::CronJob { name }, .. } if name == "nightly"),
            "{asked:?}"
        );
        assert_eq!(verdict.decision, Decision::Warn);
        let (_, verdict) = judged(None, &job(owner.clone()), Answer::Missing);
        assert_eq!(verdict.decision, Decision::Deny);
        let mut other = owner;
        other["kind"] = json!("Workflow");
        assert!(judged(None, &job(other), Answer::Exists).0.is_none());
    }

    #[test]
    fn a_revision_counts_by_its_controller_and_its_template_alone() {
        let template = json!({
            "metadata": {
                "creationTimestamp": null,
                "labels": {"app": "checkout", "portcullis.dev/gate": "enabled"},
                "annotations": {"kubectl.kubernetes.io/restartedAt": "2026"},
            },
            "spec": {"containers": [{"name": "app", "image": "app:1"}], "nodeName": null},
        });
        let wanted = essence(Source(&raw(&json!({
            "metadata": {"labels": {"portcullis.dev/gate": "enabled", "pod-template-hash": "y"}},
            "spec": {"containers": [{"image": "app:1", "name": "app"}]},
        }))))
        .unwrap();
        let (owner, selector) = (Cow::Borrowed("its-uid"), Cow::Borrowed(""));
        let set = Revision::ReplicaSet {
            owner: owner.clone(),
            selector: selector.clone(),
        };
        let revision = Revision::ControllerRevision { owner, selector };
        let controlled_by = |uid: &str, controller: bool| {
            json!({"ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "another"},
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": "checkout", "uid": uid, "controller": controller},
            ]})
        };
        let at_spec = |template: &Value| json!({"metadata": controlled_by("its-uid", true), "spec": {"template": template}});
        let is_set = |object: &Value| is_it(&raw(object), &set, &wanted);
        assert!(is_set(&at_spec(&template)));
        for (uid, controller) in [("its-uid", false), ("another-uid", true)] {
            let mut other = at_spec(&template);
            other["metadata"] = controlled_by(uid, controller);
            assert!(!is_set(&other), "{uid} {controller}");
        }
        assert!(
            !is_set(&json!({"metadata": {}, "spec": {"template": template}})),
            "owned by nobody"
        );
        for (pointer, value) in [
            ("/spec/containers/0/image", json!("app:2")),
            ("/spec/nodeName", json!("n1")),
            ("/metadata/labels/portcullis.dev~1gate", json!("preferred")),
        ] {
            let mut other = template.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert!(!is_set(&at_spec(&other)), "{pointer}");
        }
        // A ControllerRevision keeps its template elsewhere, as a patch.
        let mut patch = template.clone();
        patch["$patch"] = json!("replace");
        let kept = json!({"metadata": controlled_by("its-uid", true), "data": {"spec": {"template": patch}}});
        assert!(is_it(&raw(&kept), &revision, &wanted));
        assert!(!is_it(&raw(&at_spec(&template)), &revision, &wanted));
    }

    #[test]
    fn a_selector_holds_nothing_but_labels() {
        let labels = raw(
            &json!({"app": "checkout", "bad": "a&limit=1", "b,c": "x", "example.com/n": "1_2.3"}),
        );
        assert_eq!(
            selector(Source(&labels)),
            "app=checkout,example.com/n=1_2.3"
        );
    }

    #[test]
    fn nesting_without_end_is_equal_to_nothing() {
        let deep = format!(
            r#"{{"spec": {}{}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );
        let deep: Box<RawValue> = serde_json::from_str(&deep).unwrap();
        assert!(essence(Source(&deep)).is_none());
    }
}
