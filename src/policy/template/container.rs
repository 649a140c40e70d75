//! One container: env, ports, probes, resources.

use serde::Deserialize;

use super::value::{List, Map, Scalar, Text, maps};

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

/// A probe. Two that are equal ask the very same question at the very same pace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Probe<'a> {
    /// `httpGet`.
    pub http_get: Option<HttpGet<'a>>,
    /// `tcpSocket`.
    pub tcp_socket: Option<TcpSocket<'a>>,
    /// `grpc`.
    pub grpc: Option<Grpc<'a>>,
    /// `exec`.
    pub exec: Option<Exec<'a>>,
    /// `initialDelaySeconds`.
    pub initial_delay_seconds: Option<i32>,
    /// `timeoutSeconds`; absent means 1.
    pub timeout_seconds: Option<i32>,
    /// `periodSeconds`; absent means 10.
    pub period_seconds: Option<i32>,
    /// `successThreshold`; absent means 1.
    pub success_threshold: Option<i32>,
    /// `failureThreshold`; absent means 3.
    pub failure_threshold: Option<i32>,
}

/// `lifecycle` of a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Lifecycle<'a> {
    /// `postStart`.
    pub post_start: Option<Hook<'a>>,
    /// `preStop`.
    pub pre_stop: Option<Hook<'a>>,
}

/// `postStart` or `preStop`, as far as it asks a port or takes time.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub struct Hook<'a> {
    /// `httpGet`.
    pub http_get: Option<HttpGet<'a>>,
    /// `exec`.
    pub exec: Option<Exec<'a>>,
    /// `sleep`.
    pub sleep: Option<Sleep>,
}

/// `sleep` of a hook.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sleep {
    /// `seconds`.
    pub seconds: Option<i64>,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler<'p, 'a> {
    /// `httpGet`.
    HttpGet(&'p HttpGet<'a>),
    /// `tcpSocket`.
    TcpSocket(&'p TcpSocket<'a>),
    /// `grpc`.
    Grpc(&'p Grpc<'a>),
    /// `exec`.
    Exec(&'p Exec<'a>),
}

/// `httpGet` of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct HttpGet<'a> {
    /// `host`; absent means the pod's address.
    pub host: Option<Text<'a>>,
    /// `path`; absent means `/`.
    pub path: Option<Text<'a>>,
    /// `port`.
    pub port: Option<Port<'a>>,
    /// `scheme`; absent means `HTTP`.
    pub scheme: Option<Text<'a>>,
    /// `httpHeaders`.
    pub http_headers: List<HttpHeader<'a>>,
}

/// One of `httpHeaders`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct HttpHeader<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `value`.
    pub value: Option<Text<'a>>,
}

/// `tcpSocket` of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct TcpSocket<'a> {
    /// `host`; absent means the pod's address.
    pub host: Option<Text<'a>>,
    /// `port`.
    pub port: Option<Port<'a>>,
}

/// `grpc` of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Grpc<'a> {
    /// `port`, always a number.
    pub port: Option<i32>,
    /// `service`; absent means the server as a whole.
    pub service: Option<Text<'a>>,
}

/// `exec` of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Exec<'a> {
    /// `command` and its arguments.
    pub command: List<Text<'a>>,
}

/// A port by number or by name. Kubernetes takes a string of digits for a name, so `"8080"` is one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Scalar<'a>", bound(deserialize = "'de: 'a"))]
pub enum Port<'a> {
    /// A number.
    Number(i32),
    /// A name.
    Name(Text<'a>),
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
    Container, EnvVar, EnvSource, KeySelector, FieldSelector, ResourceSelector, EnvFrom, ObjectSelector, ContainerPort, VolumeMount, Probe, HttpGet, HttpHeader, TcpSocket, Grpc, Exec, Resources
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

// === impl Probe ===

impl<'a> Probe<'a> {
    /// What it asks; `None` for a probe without a handler, which the API server refuses.
    pub fn handler(&self) -> Option<Handler<'_, 'a>> {
        (self.http_get.as_ref().map(Handler::HttpGet))
            .or_else(|| self.tcp_socket.as_ref().map(Handler::TcpSocket))
            .or_else(|| self.grpc.as_ref().map(Handler::Grpc))
            .or_else(|| self.exec.as_ref().map(Handler::Exec))
    }

    /// Seconds of failing before the kubelet acts: `failureThreshold` x `periodSeconds`.
    pub fn patience(&self) -> i64 {
        let threshold = self
            .failure_threshold
            .filter(|&threshold| threshold > 0)
            .unwrap_or(3);
        i64::from(threshold) * self.period()
    }

    /// `periodSeconds`. The defaults are those of the API server (`SetDefaults_Probe`).
    pub fn period(&self) -> i64 {
        i64::from(
            self.period_seconds
                .filter(|&period| period > 0)
                .unwrap_or(10),
        )
    }
}

// === impl Port ===

impl<'a> From<Scalar<'a>> for Port<'a> {
    fn from(scalar: Scalar<'a>) -> Self {
        match scalar {
            Scalar::Text(name) => Self::Name(name),
            Scalar::Number(digits) => digits
                .parse()
                .map_or_else(|_| Self::Name(digits.into()), Self::Number),
            Scalar::Bool(true) => Self::Name("true".into()),
            Scalar::Bool(false) => Self::Name("false".into()),
        }
    }
}
