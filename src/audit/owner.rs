//! Who is judged through the object that controls it, and who makes no pods any more.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::policy::{
    settings::Settings,
    template::{List, Text},
};

/// What tells who an object belongs to, and since when it is there.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub(crate) struct Object<'a> {
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Metadata<'a> {
    namespace: Option<Text<'a>>,
    uid: Option<Text<'a>>,
    creation_timestamp: Option<Text<'a>>,
    deletion_timestamp: Option<Text<'a>>,
    owner_references: List<Owner<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Owner<'a> {
    api_version: Text<'a>,
    kind: Text<'a>,
    controller: Option<bool>,
}

/// The kubelet makes it for a static Pod, and no admission webhook is asked.
const NODE: &str = "Node";

// === impl Object ===

impl<'a> Object<'a> {
    pub(crate) fn read(json: &'a RawValue) -> serde_json::Result<Self> {
        serde_json::from_str(json.get())
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// As RFC 3339 has it, in UTC and whole seconds: such texts are ordered as their times are.
    pub(super) fn created(&self) -> Option<&str> {
        self.metadata.creation_timestamp.as_deref()
    }

    pub(crate) fn is_controlled(&self) -> bool {
        self.controller().is_some()
    }

    fn controller(&self) -> Option<&Owner<'a>> {
        let mut owners = self.metadata.owner_references.items();
        owners.find(|owner| owner.controller == Some(true))
    }

    /// It is judged through its controller, or by nobody: a mirror of a static Pod, or something that is going.
    pub(super) fn is_left_to_others(&self, settings: &Settings) -> bool {
        self.metadata.deletion_timestamp.is_some()
            || self.controller().is_some_and(
                |Owner {
                     api_version, kind, ..
                 }| {
                    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
                    let mut judged = settings.kinds();
                    judged.any(|row| row.group == group && row.kind == **kind)
                        || (group.is_empty() && **kind == *NODE)
                },
            )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn left_to_others(metadata: &Value) -> bool {
        let json = to_raw_value(&json!({ "metadata": metadata })).unwrap();
        let object = Object::read(&json).unwrap();
        object.is_left_to_others(&Settings::default())
    }

    #[test]
    fn who_has_a_controller_that_is_judged_is_judged_through_it() {
        let owned = |version: &str, kind: &str, controller: Value| {
            let owner = json!({"apiVersion": version, "kind": kind, "controller": controller});
            left_to_others(&json!({"ownerReferences": [owner]}))
        };
        for (version, kind) in [
            ("apps/v1", "ReplicaSet"),
            ("batch/v1", "CronJob"),
            ("batch/v1beta1", "CronJob"),
            ("v1", "ReplicationController"),
            ("v1", "Node"),
        ] {
            assert!(owned(version, kind, json!(true)), "{version} {kind}");
            assert!(
                !owned(version, kind, json!(false)),
                "{version} {kind} owns, without control"
            );
            assert!(!owned(version, kind, json!(null)), "{version} {kind}");
        }
        // An operator's object, of which nobody judges the pods.
        assert!(!owned("argoproj.io/v1alpha1", "Rollout", json!(true)));
        assert!(!owned("v1", "ReplicaSet", json!(true)), "another group's");
        assert!(!left_to_others(&json!({"ownerReferences": null})));
        assert!(left_to_others(
            &json!({"deletionTimestamp": "2026-11-21T10:00:00Z"})
        ));
    }
}
