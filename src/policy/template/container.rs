//! One container: env, ports, resources.

use serde::Deserialize;

use super::{
    probe::{Lifecycle, Probe},
    value::{List, Map, Scalar, Text, maps},
};

/// A container, or an init container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Container<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `restartPolicy`: `Always` makes an init container a native sidecar.
    pub restart_policy: Option<Text<'a>>,
    /// `env`.
    pub env: List<EnvVar<'a>>,
    /// `envFrom`.
    pub env_from: List<EnvFrom<'a>>,
    /// `ports`.
    pub ports: List<ContainerPort<'a>>,
    /// `volumeMounts`.
    pub volume_mounts: List<VolumeMount<'a>>,
    /// `readinessProbe`.
    pub readiness_probe: Option<Probe<'a>>,
    /// `livenessProbe`.
    pub liveness_probe: Option<Probe<'a>>,
    /// `startupProbe`.
    pub startup_probe: Option<Probe<'a>>,
    /// `lifecycle`.
    pub lifecycle: Option<Lifecycle<'a>>,
    /// `resources`.
    pub resources: Option<Resources<'a>>,
}

/// One of `env`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct EnvVar<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `value`. Must be a string; that it is one is a rule's business.
    pub value: Option<Scalar<'a>>,
    /// `valueFrom`.
    pub value_from: Option<EnvSource<'a>>,
}

/// `valueFrom` of an env entry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct EnvSource<'a> {
    /// `secretKeyRef`.
    pub secret_key_ref: Option<KeySelector<'a>>,
    /// `configMapKeyRef`.
    pub config_map_key_ref: Option<KeySelector<'a>>,
    /// `fieldRef`.
    pub field_ref: Option<FieldSelector<'a>>,
    /// `resourceFieldRef`.
    pub resource_field_ref: Option<ResourceSelector<'a>>,
}

/// One key of a Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct KeySelector<'a> {
    /// `name` of the object.
    pub name: Option<Text<'a>>,
    /// `key` in it.
    pub key: Option<Text<'a>>,
    /// `optional`: the pod starts without it.
    pub optional: Option<bool>,
}

/// A field of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct FieldSelector<'a> {
    /// `fieldPath`.
    pub field_path: Option<Text<'a>>,
}

/// A resource of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct ResourceSelector<'a> {
    /// `containerName`; absent means the container itself.
    pub container_name: Option<Text<'a>>,
    /// `resource`.
    pub resource: Option<Text<'a>>,
}

/// One of `envFrom`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct EnvFrom<'a> {
    /// `prefix` put before every key.
    pub prefix: Option<Text<'a>>,
    /// `secretRef`.
    pub secret_ref: Option<ObjectSelector<'a>>,
    /// `configMapRef`.
    pub config_map_ref: Option<ObjectSelector<'a>>,
}

/// A whole Secret or ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct ObjectSelector<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `optional`: the pod starts without it.
    pub optional: Option<bool>,
}

/// One of `ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct ContainerPort<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `containerPort`.
    pub container_port: Option<i32>,
    /// `protocol`; absent means `TCP`.
    pub protocol: Option<Text<'a>>,
    /// `hostPort`.
    pub host_port: Option<i32>,
}

/// One of `volumeMounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct VolumeMount<'a> {
    /// `mountPath`.
    pub mount_path: Option<Text<'a>>,
}

/// `resources` of a container or of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Resources<'a> {
    /// `limits`, by resource name, as written.
    pub limits: Map<'a, Scalar<'a>>,
    /// `requests`, likewise.
    pub requests: Map<'a, Scalar<'a>>,
}

maps! {
    Container, EnvVar, EnvSource, KeySelector, FieldSelector, ResourceSelector, EnvFrom, ObjectSelector, ContainerPort, VolumeMount, Resources
}

// === impl Container ===

impl Container<'_> {
    /// As an init container it is a native sidecar.
    pub fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
    }

    /// The port of that name, of any protocol: the kubelet looks at the name alone.
    pub fn port(&self, name: &str) -> Option<&ContainerPort<'_>> {
        self.ports
            .items()
            .find(|port| !name.is_empty() && port.name.as_deref() == Some(name))
    }
}

// === impl ContainerPort ===

impl ContainerPort<'_> {
    /// Its protocol is TCP, the one that probes speak.
    pub fn is_tcp(&self) -> bool {
        matches!(self.protocol.as_deref(), None | Some("" | "TCP"))
    }
}
