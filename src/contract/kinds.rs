//! What each kind of check needs to know.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    problem::Problems,
    status::{StatusRange, kubelet_statuses, require_statuses},
};

/// A request whose answer tells whether its server is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpCheck {
    /// Path and query.
    #[serde(default = "root_path")]
    pub path: String,
    /// The app's own host unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The app's first port unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Header fields to send; `Host` may be among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The status codes that pass. Default: 200 to 399, as the kubelet's.
    #[serde(default = "kubelet_statuses")]
    pub status: Vec<StatusRange>,
    /// A regular expression that must match somewhere in the first 64 KiB of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_matches: Option<String>,
    /// `https` only: PEM file of the authorities to trust. Without it no certificate is verified,
    /// as the kubelet does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// A port that must accept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpCheck {
    /// The app's own host unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

/// A name that must resolve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsCheck {
    /// As the app would look it up: the pod's search list applies.
    pub name: String,
}

/// The gRPC health protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcCheck {
    /// The app's own host unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The app's first port unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The service to ask about; empty means the server as a whole.
    #[serde(default)]
    pub service: String,
}

/// A file that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileCheck {
    /// As the gate sees it.
    pub path: String,
}

/// An environment variable that must be set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvCheck {
    /// Its name. Its value is never shown.
    pub name: String,
}

/// A database, found by a URL that is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatabaseCheck {
    /// Where the URL stands.
    pub url_from: ValueFrom,
    /// Overrides what the URL says (`sslmode=`, `rediss:`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsMode>,
    /// PEM file of the authorities to trust with `verify-full`, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// Where a secret value stands. It is read anew at every run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ValueFrom {
    /// An environment variable.
    Env(String),
    /// A file; white space round its content is dropped.
    File(String),
}

/// How a connection is encrypted: the words of PostgreSQL's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server can; not verified.
    Prefer,
    /// Always; not verified.
    Require,
    /// Always, with the certificate's chain and name verified.
    VerifyFull,
}

// === impl HttpCheck ===

impl HttpCheck {
    pub(crate) fn validate(&self, at: &str, problems: &mut Problems) {
        problems.require(
            is_path(&self.path),
            format_args!("{at}.path"),
            "must begin with / and hold no spaces",
        );
        require_headers(&self.headers, at, problems);
        require_statuses(&self.status, at, problems);
        if let Some(pattern) = &self.body_matches
            && let Err(error) = regex_lite::Regex::new(pattern)
        {
            problems.add(
                format_args!("{at}.bodyMatches"),
                format_args!("is no regular expression: {error}"),
            );
        }
    }
}

// === impl DatabaseCheck ===

impl DatabaseCheck {
    pub(crate) fn validate(&self, at: &str, problems: &mut Problems) {
        match &self.url_from {
            ValueFrom::Env(name) => problems.require(
                is_env_name(name),
                format_args!("{at}.urlFrom.env"),
                "must be the name of an environment variable",
            ),
            ValueFrom::File(path) => problems.require(
                path.starts_with('/'),
                format_args!("{at}.urlFrom.file"),
                "must be an absolute path",
            ),
        }
    }
}

pub(crate) fn require_headers(
    headers: &BTreeMap<String, String>,
    at: &str,
    problems: &mut Problems,
) {
    for (name, value) in headers {
        let good = http::HeaderName::try_from(name.as_str()).is_ok()
            && http::HeaderValue::try_from(value.as_str()).is_ok();
        problems.require(
            good,
            format_args!("{at}.headers.{name}"),
            "is no header field",
        );
    }
}

pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok()
}

pub(crate) fn is_env_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !name.contains(char::is_whitespace)
}

fn root_path() -> String {
    "/".to_owned()
}
