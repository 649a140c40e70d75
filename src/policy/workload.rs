//! Which kinds carry a pod template, where it stands, and the parts of the object that rules read.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::policy::{
    source::Source,
    template::{Metadata, Scalar, Site, Template, Text, value::maps},
};

/// A kind that is judged: one row of [`KINDS`], or one that `settings.workloads` adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkloadKind {
    /// API group, empty for the core group.
    pub group: Cow<'static, str>,
    /// API version without the group.
    pub version: Cow<'static, str>,
    /// Kind as in manifests.
    pub kind: Cow<'static, str>,
    /// Plural resource name, for webhook rules and lookups.
    pub resource: Cow<'static, str>,
    /// JSON pointer (RFC 6901) to the pod template; empty when the object is the pod itself.
    pub template: Cow<'static, str>,
    /// UPDATE is judged too; false for kinds that are judged on CREATE only.
    pub update: bool,
    /// Runs to completion: needs no probes.
    pub batch: bool,
}

/// The built-in kinds.
pub const KINDS: &[WorkloadKind] = &[
    WorkloadKind::built_in("", "Pod", "pods", "").create_only(),
    WorkloadKind::built_in("apps", "Deployment", "deployments", "/spec/template"),
    WorkloadKind::built_in("apps", "StatefulSet", "statefulsets", "/spec/template"),
    WorkloadKind::built_in("apps", "DaemonSet", "daemonsets", "/spec/template"),
    WorkloadKind::built_in("apps", "ReplicaSet", "replicasets", "/spec/template"),
    WorkloadKind::built_in(
        "",
        "ReplicationController",
        "replicationcontrollers",
        "/spec/template",
    ),
    WorkloadKind::built_in("batch", "Job", "jobs", "/spec/template").batch(),
    WorkloadKind::built_in(
        "batch",
        "CronJob",
        "cronjobs",
        "/spec/jobTemplate/spec/template",
    )
    .batch(),
    WorkloadKind::built_in(
        "apps",
        "ControllerRevision",
        "controllerrevisions",
        "/data/spec/template",
    )
    .create_only(),
];

/// An object that is judged: borrowed from the bytes it came in.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// Its kind.
    pub kind: &'a WorkloadKind,
    /// The namespace it is, or will be, in.
    pub namespace: &'a str,
    /// How its controller replaces pods; all absent for a Pod.
    pub rollout: Rollout<'a>,
    /// The pod template; of a Pod, the Pod itself.
    pub template: Template<'a>,
    metadata: Metadata<'a>,
    source: Source<'a>,
}

/// What a workload says beside its template about how pods are replaced.
#[derive(Clone, Debug, Default)]
pub struct Rollout<'a> {
    /// `spec.replicas`; absent means 1.
    pub replicas: Option<i64>,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: Option<i64>,
    /// `spec.progressDeadlineSeconds`.
    pub progress_deadline_seconds: Option<i64>,
    /// `spec.strategy` of a Deployment.
    pub strategy: Option<Strategy<'a>>,
    /// `spec.updateStrategy` of a StatefulSet or DaemonSet.
    pub update_strategy: Option<Strategy<'a>>,
}

/// `strategy` or `updateStrategy`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Strategy<'a> {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: Option<Text<'a>>,
    /// `rollingUpdate`.
    pub rolling_update: Option<RollingUpdate<'a>>,
}

/// `rollingUpdate` of a strategy.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct RollingUpdate<'a> {
    /// `maxUnavailable`: a number or a percentage, as written.
    pub max_unavailable: Option<Scalar<'a>>,
    /// `maxSurge`, likewise.
    pub max_surge: Option<Scalar<'a>>,
}

/// An object that can't be read as its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Malformed {
    /// Where, as a dotted path; `.` is the object itself.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

/// The parts of an object, as they turn up on the one way through its bytes.
#[derive(Default)]
struct Parts<'a> {
    metadata: Option<Metadata<'a>>,
    rollout: Rollout<'a>,
    template: Option<Template<'a>>,
}

/// Walks down a JSON pointer and fills [`Parts`] on the way.
struct Descend<'p, 'a> {
    parts: &'p mut Parts<'a>,
    /// What is left of the pointer to the template, beginning with `/`.
    pointer: &'p str,
    depth: usize,
}

maps! {
    RollingUpdate, Strategy
}

// === impl WorkloadKind ===

impl WorkloadKind {
    const fn built_in(
        group: &'static str,
        kind: &'static str,
        resource: &'static str,
        template: &'static str,
    ) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed("v1"),
            kind: Cow::Borrowed(kind),
            resource: Cow::Borrowed(resource),
            template: Cow::Borrowed(template),
            update: true,
            batch: false,
        }
    }

    const fn create_only(mut self) -> Self {
        self.update = false;
        self
    }

    const fn batch(mut self) -> Self {
        self.batch = true;
        self
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The object is the pod itself, not a template for pods.
    pub fn is_pod(&self) -> bool {
        self.template.is_empty()
    }
}

// === impl Workload ===

impl<'a> Workload<'a> {
    /// Reads an object of `kind`. `Ok(None)` when it carries no pod template at all (a ControllerRevision of
    /// something else, a Rollout that refers to a Deployment).
    pub fn read(
        kind: &'a WorkloadKind,
        namespace: &'a str,
        object: &'a RawValue,
    ) -> Result<Option<Self>, Malformed> {
        let mut parts = Parts::default();
        let mut json = serde_json::Deserializer::from_str(object.get());
        if parts.fill(kind, &mut json).is_err() {
            // Once more, slower, to learn where: only a malformed object pays for the path.
            return Err(Malformed::find(kind, object));
        }
        let Parts {
            metadata,
            rollout,
            template,
        } = parts;
        Ok(template.map(|template| Self {
            kind,
            namespace,
            rollout,
            template,
            metadata: metadata.unwrap_or_default(),
            source: Source(object),
        }))
    }

    /// The object as it was written.
    pub(super) fn source(&self) -> Source<'a> {
        self.source
    }

    /// The template as it was written.
    pub(super) fn template_source(&self) -> Option<Source<'a>> {
        self.source.at(&self.kind.template)
    }

    /// The fields of the container at `site` as they are written, all but its name.
    pub(super) fn container_but_name(&self, site: Site<'_, '_>) -> Option<Vec<(String, &'a str)>> {
        let list = format!("{}/spec/{}", self.kind.template, site.list);
        self.source.at(&list)?.item(site.index)?.without("name")
    }

    /// `metadata` of the object itself.
    pub fn metadata(&self) -> &Metadata<'a> {
        match &self.template.metadata {
            Some(metadata) if self.kind.is_pod() => metadata,
            _ => &self.metadata,
        }
    }

    /// `metadata.name`, or `metadata.generateName` and a star.
    pub fn name(&self) -> Cow<'_, str> {
        let Metadata {
            name,
            generate_name,
            ..
        } = self.metadata();
        match (name, generate_name) {
            (Some(name), _) if !name.is_empty() => name.as_cow(),
            (_, Some(prefix)) => Cow::Owned(format!("{prefix}*")),
            _ => Cow::Borrowed("(no name)"),
        }
    }

    /// Its pods are meant to run for ever, so they are asked for probes.
    pub fn is_long_running(&self) -> bool {
        !self.kind.batch && self.template.restarts_always()
    }
}

// === impl Malformed ===

impl Malformed {
    fn find(kind: &WorkloadKind, object: &RawValue) -> Self {
        let mut json = serde_json::Deserializer::from_str(object.get());
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        let reason = match Parts::default().fill(kind, tracked) {
            Ok(()) => String::from("unreadable"),
            Err(error) => without_position(&error.to_string()).to_owned(),
        };
        Self {
            path: track.path().to_string(),
            reason,
        }
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    fn fill<D: Deserializer<'a>>(
        &mut self,
        kind: &WorkloadKind,
        object: D,
    ) -> Result<(), D::Error> {
        if kind.is_pod() {
            self.template = Some(Template::deserialize(object)?);
            return Ok(());
        }
        Descend {
            parts: self,
            pointer: &kind.template,
            depth: 0,
        }
        .deserialize(object)
    }
}

// === impl Descend ===

impl<'a> DeserializeSeed<'a> for Descend<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Descend<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            parts,
            pointer,
            depth,
        } = self;
        let (token, rest) = first_token(pointer);
        while let Some(key) = map.next_key::<Text<'a>>()? {
            let rollout = &mut parts.rollout;
            match &*key {
                key if key == token && rest.is_empty() => parts.template = map.next_value()?,
                key if key == token => {
                    let below = Descend {
                        parts: &mut *parts,
                        pointer: rest,
                        depth: depth + 1,
                    };
                    map.next_value_seed(below)?;
                }
                "metadata" if depth == 0 => parts.metadata = map.next_value()?,
                "replicas" if depth == 1 => rollout.replicas = map.next_value()?,
                "minReadySeconds" if depth == 1 => rollout.min_ready_seconds = map.next_value()?,
                "progressDeadlineSeconds" if depth == 1 => {
                    rollout.progress_deadline_seconds = map.next_value()?;
                }
                "strategy" if depth == 1 => rollout.strategy = map.next_value()?,
                "updateStrategy" if depth == 1 => rollout.update_strategy = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The first token of a JSON pointer, unescaped (RFC 6901 section 4), and the rest of it.
fn first_token(pointer: &str) -> (Cow<'_, str>, &str) {
    let tokens = pointer.strip_prefix('/').unwrap_or(pointer);
    let end = tokens.find('/').unwrap_or(tokens.len());
    let (token, rest) = tokens.split_at(end);
    if token.contains('~') {
        return (
            Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
            rest,
        );
    }
    (Cow::Borrowed(token), rest)
}

/// `serde_json` ends its errors with a position in bytes that nobody who wrote YAML has ever seen.
fn without_position(error: &str) -> &str {
    error
        .split_once(" at line ")
        .map_or(error, |(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::testing::{deployment, kind_of, raw};

    fn malformed(object: &Value) -> String {
        let bytes = raw(object);
        Workload::read(kind_of(object), "shop", &bytes)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn finds_the_template_of_every_built_in_kind() {
        for kind in KINDS {
            let mut object =
                json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "app"}]}});
            for token in kind.template.rsplit('/').filter(|token| !token.is_empty()) {
                object = json!({ token: object });
            }
            object["metadata"] = json!({"name": "checkout"});
            let bytes = raw(&object);
            let workload = Workload::read(kind, "shop", &bytes).unwrap().unwrap();
            assert_eq!(workload.name(), "checkout", "{}", kind.kind);
            let sites: Vec<_> = workload.template.containers().collect();
            assert_eq!(sites.len(), 1, "{}", kind.kind);
            assert_eq!(sites[0].name(), "app", "{}", kind.kind);
        }
    }

    #[test]
    fn a_pointer_may_hold_escapes() {
        let kind = WorkloadKind::built_in("example.com", "Odd", "odds", "/spec/a~1b/~0c");
        let bytes = raw(&json!({"spec": {"a/b": {"~c": {"spec": {"containers": [{}]}}}}}));
        let workload = Workload::read(&kind, "shop", &bytes).unwrap().unwrap();
        assert_eq!(workload.template.containers().count(), 1);
    }

    #[test]
    fn an_object_without_a_template_is_not_judged() {
        let revision = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": "x"}, "data": {"something": "else"}, "revision": 1,
        });
        let bytes = raw(&revision);
        assert!(
            Workload::read(kind_of(&revision), "shop", &bytes)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn null_is_absent_and_unknown_fields_are_ignored() {
        let object = deployment(json!({
            "futureField": {"deep": [1, 2, {"x": null}]},
            "initContainers": null,
            "volumes": [null],
            "imagePullSecrets": [null, {"name": "regcred"}],
            "restartPolicy": null,
            "containers": [null, {
                "name": "app", "env": null, "ports": [null], "resources": {"limits": null},
                "readinessProbe": null, "envFrom": [{"secretRef": null}],
            }],
        }));
        let bytes = raw(&object);
        let workload = Workload::read(kind_of(&object), "shop", &bytes)
            .unwrap()
            .unwrap();
        let sites: Vec<_> = workload.template.containers().collect();
        assert_eq!(sites.len(), 1);
        assert_eq!(
            (sites[0].name(), sites[0].index),
            ("app", 1),
            "null keeps its place"
        );
        assert!(workload.template.restarts_always());
        let spec = workload.template.spec.as_ref().unwrap();
        assert_eq!(
            spec.image_pull_secrets
                .iter()
                .map(|(index, _)| index)
                .collect::<Vec<_>>(),
            [1]
        );
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        let object = deployment(json!({"containers": [{"name": "app"}, {"name": 7}]}));
        assert_eq!(
            malformed(&object),
            "spec.template.spec.containers[1].name: invalid type: integer `7`, expected a string"
        );
        let object = deployment(json!({"containers": {"name": "app"}}));
        assert_eq!(
            malformed(&object),
            "spec.template.spec.containers: invalid type: map, expected a sequence"
        );
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": []}}});
        assert_eq!(
            malformed(&pod),
            "metadata.labels.a: invalid type: sequence, expected a string"
        );
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": []});
        assert_eq!(
            malformed(&deployment),
            "spec: invalid type: sequence, expected a map"
        );
    }

    #[test]
    fn strings_are_borrowed_from_the_bytes() {
        let bytes = raw(&deployment(
            json!({"containers": [{"name": "app"}, {"name": "a\"b"}]}),
        ));
        let whole = bytes.get().as_bytes().as_ptr_range();
        let workload = Workload::read(&KINDS[1], "shop", &bytes).unwrap().unwrap();
        let borrowed: Vec<_> = workload
            .template
            .containers()
            .map(|site| whole.contains(&site.name().as_ptr()))
            .collect();
        assert_eq!(borrowed, [true, false], "only an escape makes a copy");
    }

    #[test]
    fn a_pod_without_a_name_is_called_by_its_prefix() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"}});
        let bytes = raw(&pod);
        let workload = Workload::read(kind_of(&pod), "shop", &bytes)
            .unwrap()
            .unwrap();
        assert_eq!(workload.name(), "x-*");
    }
}
