//! The deep checks that a gate can be told to run.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duration,
    kinds::{
        DatabaseCheck, DnsCheck, EnvCheck, FileCheck, GrpcCheck, HttpCheck, TcpCheck, TlsMode,
        is_env_name,
    },
    problem::Problems,
};

/// Something that must be true before traffic may pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "CheckDocument", into = "CheckDocument")]
pub struct Check {
    /// What reasons and metrics call it: unique, lower case letters, digits and `-`.
    pub name: String,
    /// What is checked.
    pub kind: CheckKind,
    /// From the start of one run to the start of the next while the gate is not open.
    pub period: Duration,
    /// How long one run may take.
    pub timeout: Duration,
    /// Passes in a row that make a failing check pass.
    pub success_threshold: u32,
    /// Failures in a row that make a passing check fail.
    pub failure_threshold: u32,
    /// What it means once the gate is open.
    pub scope: Scope,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// `GET` over plain HTTP/1.1.
    Http(HttpCheck),
    /// `GET` over TLS.
    Https(HttpCheck),
    /// A connection is accepted.
    Tcp(TcpCheck),
    /// A name resolves to at least one address.
    Dns(DnsCheck),
    /// `grpc.health.v1.Health/Check` answers `SERVING`.
    Grpc(GrpcCheck),
    /// A file exists, can be read and is not empty.
    File(FileCheck),
    /// An environment variable of the gate is set and not empty.
    Env(EnvCheck),
    /// PostgreSQL answers `SELECT 1`.
    Postgres(DatabaseCheck),
    /// Redis answers `PING`.
    Redis(DatabaseCheck),
}

/// What a failing check does to an open gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// It must pass before the gate opens, and is only reported afterwards: a shared database that
    /// blinks must not take every replica out of its Service at once.
    Startup,
    /// Its failing closes the gate again.
    Always,
}

/// A check as it stands in a document: the kind is the name of a field.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Check")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CheckDocument {
    /// What reasons and metrics call it: unique, lower case letters, digits and `-`.
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<HttpCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    https: Option<HttpCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dns: Option<DnsCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grpc: Option<GrpcCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<FileCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<EnvCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postgres: Option<DatabaseCheck>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redis: Option<DatabaseCheck>,
    /// From the start of one run to the start of the next while the gate is not open (then checks
    /// of scope `startup` run at most every 30 s). Default: 1s.
    #[serde(default = "one_second", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    period: Duration,
    /// How long one run may take. Default: 1s.
    #[serde(default = "one_second", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// Passes in a row that make a failing check pass. Default: 1.
    #[serde(default = "one")]
    success_threshold: u32,
    /// Failures in a row that make a passing check fail. Default: 3.
    #[serde(default = "three")]
    failure_threshold: u32,
    /// What its failing means once the gate is open. Default: `always` for checks of the app's own
    /// host, else `startup`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Scope>,
}

/// The names of the kinds, in the order of the documentation.
const KINDS: &str = "http, https, tcp, dns, grpc, file, env, postgres, redis";

// === impl Check ===

impl Check {
    pub(crate) fn validate(&self, at: &str, problems: &mut Problems) {
        problems.require(
            is_name(&self.name),
            format_args!("{at}.name"),
            "must be 1 to 40 lower case letters, digits or -",
        );
        let second = Duration::from_secs(1);
        problems.duration(
            format_args!("{at}.period"),
            self.period,
            &(second / 20..=second * 3600),
        );
        problems.duration(
            format_args!("{at}.timeout"),
            self.timeout,
            &(second / 1000..=second * 60),
        );
        let thresholds = 1..=1000;
        problems.number(
            format_args!("{at}.successThreshold"),
            &self.success_threshold,
            &thresholds,
        );
        problems.number(
            format_args!("{at}.failureThreshold"),
            &self.failure_threshold,
            &thresholds,
        );
        self.kind
            .validate(&format!("{at}.{}", self.kind.name()), problems);
    }
}

impl TryFrom<CheckDocument> for Check {
    type Error = String;

    fn try_from(document: CheckDocument) -> Result<Self, String> {
        let CheckDocument {
            name,
            http,
            https,
            tcp,
            dns,
            grpc,
            file,
            env,
            postgres,
            redis,
            period,
            timeout,
            success_threshold,
            failure_threshold,
            scope,
        } = document;
        let mut kinds = [
            http.map(CheckKind::Http),
            https.map(CheckKind::Https),
            tcp.map(CheckKind::Tcp),
            dns.map(CheckKind::Dns),
            grpc.map(CheckKind::Grpc),
            file.map(CheckKind::File),
            env.map(CheckKind::Env),
            postgres.map(CheckKind::Postgres),
            redis.map(CheckKind::Redis),
        ]
        .into_iter()
        .flatten();
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            return Err(format!("check {name:?} needs exactly one of {KINDS}"));
        };
        Ok(Self {
            scope: scope.unwrap_or_else(|| kind.default_scope()),
            name,
            kind,
            period,
            timeout,
            success_threshold,
            failure_threshold,
        })
    }
}

impl From<Check> for CheckDocument {
    fn from(check: Check) -> Self {
        let mut document = Self {
            name: check.name,
            http: None,
            https: None,
            tcp: None,
            dns: None,
            grpc: None,
            file: None,
            env: None,
            postgres: None,
            redis: None,
            period: check.period,
            timeout: check.timeout,
            success_threshold: check.success_threshold,
            failure_threshold: check.failure_threshold,
            scope: Some(check.scope),
        };
        match check.kind {
            CheckKind::Http(kind) => document.http = Some(kind),
            CheckKind::Https(kind) => document.https = Some(kind),
            CheckKind::Tcp(kind) => document.tcp = Some(kind),
            CheckKind::Dns(kind) => document.dns = Some(kind),
            CheckKind::Grpc(kind) => document.grpc = Some(kind),
            CheckKind::File(kind) => document.file = Some(kind),
            CheckKind::Env(kind) => document.env = Some(kind),
            CheckKind::Postgres(kind) => document.postgres = Some(kind),
            CheckKind::Redis(kind) => document.redis = Some(kind),
        }
        document
    }
}

// === impl CheckKind ===

impl CheckKind {
    /// The field that names it in a document, and its label in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Https(_) => "https",
            Self::Tcp(_) => "tcp",
            Self::Dns(_) => "dns",
            Self::Grpc(_) => "grpc",
            Self::File(_) => "file",
            Self::Env(_) => "env",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
        }
    }

    /// `always` where the app's own host is asked, since only that tells about this app.
    pub fn default_scope(&self) -> Scope {
        let host = match self {
            Self::Http(http) | Self::Https(http) => &http.host,
            Self::Tcp(tcp) => &tcp.host,
            Self::Grpc(grpc) => &grpc.host,
            Self::Dns(_) | Self::File(_) | Self::Env(_) | Self::Postgres(_) | Self::Redis(_) => {
                return Scope::Startup;
            }
        };
        if host.is_none() {
            Scope::Always
        } else {
            Scope::Startup
        }
    }

    fn validate(&self, at: &str, problems: &mut Problems) {
        match self {
            Self::Http(http) => {
                http.validate(at, problems);
                problems.require(
                    http.ca_file.is_none(),
                    format_args!("{at}.caFile"),
                    "only an https check verifies a certificate",
                );
            }
            Self::Https(http) => http.validate(at, problems),
            Self::Dns(dns) => problems.require(
                !dns.name.trim().is_empty(),
                format_args!("{at}.name"),
                "must not be empty",
            ),
            Self::File(file) => problems.require(
                file.path.starts_with('/'),
                format_args!("{at}.path"),
                "must be an absolute path",
            ),
            Self::Env(env) => problems.require(
                is_env_name(&env.name),
                format_args!("{at}.name"),
                "must be the name of an environment variable",
            ),
            Self::Postgres(database) => database.validate(at, problems),
            Self::Redis(database) => {
                database.validate(at, problems);
                problems.require(
                    database.tls != Some(TlsMode::Prefer),
                    format_args!("{at}.tls"),
                    "Redis has no way to prefer TLS: write disable, require or verify-full",
                );
            }
            Self::Tcp(_) | Self::Grpc(_) => {}
        }
    }
}

/// A name that is safe as a metric label and in a one-line reason.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}
