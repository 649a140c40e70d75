//! What the kubelet asks a container, and when: probes and hooks.

use serde::Deserialize;

use super::value::{List, Scalar, Text, maps};

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

maps! {
    Probe, HttpGet, HttpHeader, TcpSocket, Grpc, Exec
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
