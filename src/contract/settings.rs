//! The gate's settings: one JSON document.

use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};

use super::{
    address::{AppAddress, Listen},
    check::{Check, is_name},
    problem::{Problem, Problems},
    traffic::{ChecksFailed, Drain, Hold, NotWarm, Ramp},
    warmup::Warmup,
};

/// What a gate is told to do. Valid by construction: it comes from [`Settings::decode`].
///
/// ```
/// use portcullis::contract::Settings;
///
/// let settings = Settings::decode(r#"{
///     "listen": 8080, "app": 8081,
///     "checks": [{"name": "ready", "http": {"path": "/ready"}}]
/// }"#)?;
/// assert_eq!(settings.checks()[0].name, "ready");
/// assert_eq!(Settings::decode(&settings.encode())?, settings);
/// # Ok::<(), portcullis::contract::SettingsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    document: Document,
}

/// A port that the gate guards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Unique, lower case letters, digits and `-`.
    pub name: String,
    /// Where clients come in. Without it the gate only watches the app's port and decides when the
    /// pod is ready; traffic does not pass through it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<Listen>,
    /// Where the app is.
    pub app: AppAddress,
    /// What is spoken there. Default: http.
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1 and, by prior knowledge, HTTP/2 in the clear; so gRPC and WebSocket too.
    #[default]
    Http,
    /// Bytes: TLS and whatever else.
    Tcp,
}

/// Why a document is refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is not JSON, or a field is unknown or of the wrong type.
    #[error("settings: {0}")]
    Form(Problem),
    /// Fields hold what they must not: all that were found.
    #[error("settings: {}", join(.0))]
    Invalid(Vec<Problem>),
}

/// The document as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Settings of portcullis-gate")]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    /// Short form for one port: where clients come in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listen: Option<Listen>,
    /// Short form for one port: where the app is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    app: Option<AppAddress>,
    /// Short form for one port: what is spoken there. Default: http.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    /// The ports, where there are several. They open and close together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Port>,
    /// Where `/live`, `/ready`, `/status` and `/metrics` are served. Default: `[::]:15981`.
    #[serde(default = "default_admin")]
    admin: Listen,
    /// What must be true before traffic may pass. That the app's ports accept goes without saying.
    #[serde(default)]
    checks: Vec<Check>,
    /// How the app is warmed up once the checks pass. Without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warmup: Option<Warmup>,
    /// What happens to requests that arrive while the gate is shut.
    #[serde(default)]
    hold: Hold,
    /// How gently an app that was not warmed up gets its first traffic.
    #[serde(default)]
    ramp: Ramp,
    /// How the gate lets go.
    #[serde(default)]
    drain: Drain,
    /// What happens when the checks do not pass in time.
    #[serde(default)]
    checks_failed: ChecksFailed,
    /// What happens when the app does not get warm in time.
    #[serde(default)]
    not_warm: NotWarm,
}

/// Where the admin port is unless told otherwise.
pub const ADMIN_PORT: u16 = 15981;

/// Checks a gate runs at most: each costs a timer and a connection a second.
const MAX_CHECKS: usize = 64;

/// Ports a gate guards at most.
const MAX_PORTS: usize = 32;

// === impl Settings ===

impl Settings {
    /// Reads a document and refuses one that a gate could not run with, naming the field.
    pub fn decode(json: &str) -> Result<Self, SettingsError> {
        let mut from = serde_json::Deserializer::from_str(json);
        let form = |field: String, error: &serde_json::Error| {
            SettingsError::Form(Problem {
                field,
                text: error.to_string(),
            })
        };
        let mut document: Document = serde_path_to_error::deserialize(&mut from)
            .map_err(|error| form(error.path().to_string(), error.inner()))?;
        from.end().map_err(|error| form(String::new(), &error))?;
        let mut problems = Problems::default();
        document.spell_out_ports(&mut problems);
        document.validate(&mut problems);
        problems.into_result().map_err(SettingsError::Invalid)?;
        Ok(Self { document })
    }

    /// Writes the document that [`Settings::decode`] reads back to the same settings.
    pub fn encode(&self) -> String {
        serde_json::to_string(&self.document).expect("a document has only string keys")
    }

    /// The JSON Schema of the document, as `portcullis-gate settings --schema` prints it.
    pub fn schema() -> Schema {
        schemars::schema_for!(Document)
    }

    /// The ports it guards: at least one.
    pub fn ports(&self) -> &[Port] {
        &self.document.ports
    }

    /// Where the admin endpoints are served.
    pub fn admin(&self) -> Listen {
        self.document.admin
    }

    /// The deep checks.
    pub fn checks(&self) -> &[Check] {
        &self.document.checks
    }

    /// The warm-up, if there is one.
    pub fn warmup(&self) -> Option<&Warmup> {
        self.document.warmup.as_ref()
    }

    /// What happens to requests while the gate is shut.
    pub fn hold(&self) -> &Hold {
        &self.document.hold
    }

    /// How gently the gate opens.
    pub fn ramp(&self) -> &Ramp {
        &self.document.ramp
    }

    /// How the gate lets go.
    pub fn drain(&self) -> &Drain {
        &self.document.drain
    }

    /// What happens when the checks do not pass in time.
    pub fn checks_failed(&self) -> &ChecksFailed {
        &self.document.checks_failed
    }

    /// What happens when the app does not get warm in time.
    pub fn not_warm(&self) -> &NotWarm {
        &self.document.not_warm
    }
}

// === impl Protocol ===

impl Protocol {
    /// As it stands in a document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

// === impl Document ===

impl Document {
    /// Turns the short form into a list of one, named after its protocol.
    fn spell_out_ports(&mut self, problems: &mut Problems) {
        let (listen, app, protocol) = (self.listen.take(), self.app.take(), self.protocol.take());
        match (listen, app, protocol) {
            (None, None, None) if !self.ports.is_empty() => {}
            (Some(listen), Some(app), protocol) if self.ports.is_empty() => {
                let protocol = protocol.unwrap_or_default();
                self.ports.push(Port {
                    name: protocol.name().to_owned(),
                    listen: Some(listen),
                    app,
                    protocol,
                });
            }
            _ => problems.add(
                "ports",
                "give either listen and app for one port, or ports for several",
            ),
        }
    }

    fn validate(&self, problems: &mut Problems) {
        problems.require(
            self.ports.len() <= MAX_PORTS,
            "ports",
            "must hold at most 32 ports",
        );
        problems.unique(self.ports.iter().map(|port| port.name.as_str()), |index| {
            format!("ports[{index}].name")
        });
        for (index, port) in self.ports.iter().enumerate() {
            problems.require(
                is_name(&port.name),
                format_args!("ports[{index}].name"),
                "must be 1 to 40 lower case letters, digits or -",
            );
            problems.require(
                port.app.port != 0,
                format_args!("ports[{index}].app"),
                "must name a port above 0",
            );
        }
        problems.require(
            self.checks.len() <= MAX_CHECKS,
            "checks",
            "must hold at most 64 checks",
        );
        problems.unique(
            self.checks.iter().map(|check| check.name.as_str()),
            |index| format!("checks[{index}].name"),
        );
        for (index, check) in self.checks.iter().enumerate() {
            check.validate(&format!("checks[{index}]"), problems);
        }
        if let Some(warmup) = &self.warmup {
            let ports: Vec<_> = self.ports.iter().map(|port| port.name.clone()).collect();
            warmup.validate(&ports, problems);
        }
        self.hold.validate(problems);
        self.ramp.validate(problems);
        self.drain.validate(problems);
        self.checks_failed.validate(problems);
        self.not_warm.validate(problems);
    }
}

fn default_admin() -> Listen {
    Listen::any(ADMIN_PORT)
}

fn join(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
