//! What a pod's gate is told: the annotation over the profile over the namespace over the settings file.

use core::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::{Map, Value};

use super::layer::{Layer, merge};
use crate::{
    contract::{self, GATE_CONFIG_ANNOTATION, GATE_PROFILE_ANNOTATION, Protocol},
    policy::{facts::Namespace, quantity::Quantity, settings, template::Template},
};

/// What a pod's gate is told, read and checked as far as that goes without the pod.
#[derive(Debug, Default)]
pub(super) struct Config {
    /// What injection itself acts on.
    pub(super) own: Own,
    /// What the gate is told as it stands: members of its settings.
    pub(super) gate: Map<String, Value>,
    layers: Vec<Layer>,
}

/// The fields that injection itself acts on.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Own {
    /// The ports to stand before. Without it, those that the pod's containers name, but for metrics and the like.
    pub(super) ports: Option<Vec<PortChoice>>,
    /// How to take them over.
    pub(super) takeover: Choice,
    /// The variable that tells the app its port.
    pub(super) port_env: Option<String>,
    /// The form of the readiness probe.
    pub(super) readiness: Readiness,
    /// The form of the container.
    pub(super) sidecar: Sidecar,
    /// What the drain leaves of the grace period for the app to stop in.
    #[serde(deserialize_with = "contract::duration::option::deserialize")]
    pub(super) app_reserve: Option<Duration>,
    /// Requests and limits of the gate's container, each instead of what it would get.
    pub(super) resources: Amounts,
}

/// One of `ports`: a name, a number, or either with more to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PortChoice {
    /// The container port.
    pub(super) port: PortRef,
    /// What is spoken there.
    pub(super) protocol: Option<Protocol>,
    /// Where the gate listens.
    pub(super) listen: Option<u16>,
}

/// A container port, by name or number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PortRef {
    Name(String),
    Number(u16),
}

/// How the gate is to take over ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Choice {
    /// As pod and Services allow.
    #[default]
    Auto,
    NamedPort,
    Env,
    None,
}

/// The forms of the gate's readiness probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Readiness {
    /// A command that prints the reason, which `kubectl describe` then shows. Each run is a process: ten millicores
    /// of the node a pod, measured by `tests/bench/readiness.sh`, where a request costs three with the gate's own work.
    Exec,
    /// A request, cheap enough to be made every second, so that a gate that closes is known of soon.
    #[default]
    Http,
}

/// The forms of the gate's container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sidecar {
    /// Native where the cluster's releases allow.
    #[default]
    Auto,
    /// An init container with `restartPolicy: Always`.
    Native,
    /// One of `containers`.
    Container,
}

/// Requests and limits.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Amounts {
    pub(super) requests: Amount,
    pub(super) limits: Amount,
}

/// CPU and memory.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Amount {
    #[serde(deserialize_with = "quantity")]
    pub(super) cpu: Option<Quantity>,
    #[serde(deserialize_with = "quantity")]
    pub(super) memory: Option<Quantity>,
}

/// Something that is wrong with what a gate is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// JSON pointer to the field, below the document; empty for the document.
    pub(crate) pointer: String,
    /// Field and text, and where they stand.
    pub(crate) text: String,
}

/// The members of a document that belong to the gate's own settings. Its ports and where its admin endpoints are is
/// injection's to say.
const GATE_FIELDS: [&str; 7] = [
    "checks",
    "warmup",
    "hold",
    "ramp",
    "drain",
    "checksFailed",
    "notWarm",
];

/// Those of [`Own`].
const OWN_FIELDS: [&str; 7] = [
    "ports",
    "takeover",
    "portEnv",
    "readiness",
    "sidecar",
    "appReserve",
    "resources",
];

// === impl Config ===

impl Config {
    /// What the pods of `template` are told.
    pub(super) fn read(
        template: &Template<'_>,
        namespace: (&str, Option<&Namespace>),
        settings: &settings::Gate,
    ) -> Result<Self, Vec<Mistake>> {
        let mut layers = Vec::new();
        let mut mistakes = Vec::new();
        let (name, facts) = namespace;
        let annotated = |key: &str| facts.and_then(|facts| facts.annotations.get(key));
        layers.extend(settings.defaults.clone().map(|value| Layer {
            title: "gate.defaults of the settings".to_owned(),
            value,
            places: None,
        }));
        if let Some(text) = annotated(GATE_CONFIG_ANNOTATION) {
            let title = format!("annotation {GATE_CONFIG_ANNOTATION} of namespace \"{name}\"");
            Layer::parse(title, text).map_or_else(|m| mistakes.push(m), |l| layers.push(l));
        }
        let profile = template.annotation(GATE_PROFILE_ANNOTATION);
        let profile = profile.or_else(|| annotated(GATE_PROFILE_ANNOTATION).map(|name| &**name));
        if let Some(profile) = profile {
            match settings.profiles.get(profile) {
                Some(value) => layers.push(Layer {
                    title: format!("gate.profiles.{profile} of the settings"),
                    value: value.clone(),
                    places: None,
                }),
                None => mistakes.push(no_profile(profile, settings)),
            }
        }
        if let Some(text) = template.annotation(GATE_CONFIG_ANNOTATION) {
            let title = format!("annotation {GATE_CONFIG_ANNOTATION}");
            Layer::parse(title, text).map_or_else(|m| mistakes.push(m), |l| layers.push(l));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Self::merge(layers)
    }

    /// Checks a document of the settings file by itself.
    pub(super) fn check(value: Map<String, Value>) -> Result<(), Vec<Mistake>> {
        let layer = Layer {
            title: String::new(),
            value,
            places: None,
        };
        let config = Self::merge(vec![layer])?;
        let mut document = config.gate.clone();
        document.insert(
            "ports".to_owned(),
            serde_json::json!([{"name": "http", "app": 1}]),
        );
        config.decode(document).map(drop)
    }

    fn merge(layers: Vec<Layer>) -> Result<Self, Vec<Mistake>> {
        let mut whole = Map::new();
        for layer in &layers {
            merge(&mut whole, &layer.value);
        }
        let mut config = Self {
            layers,
            ..Self::default()
        };
        let mut own = Map::new();
        let mut mistakes = Vec::new();
        for (key, value) in whole {
            if OWN_FIELDS.contains(&&*key) {
                own.insert(key, value);
            } else if GATE_FIELDS.contains(&&*key) {
                config.gate.insert(key, value);
            } else {
                let expected = [GATE_FIELDS, OWN_FIELDS].concat().join(", ");
                mistakes
                    .push(config.mistake(&key, &format!("unknown field; there are {expected}")));
            }
        }
        match serde_path_to_error::deserialize::<_, Own>(Value::Object(own)) {
            Ok(own) => config.own = own,
            Err(error) => {
                mistakes
                    .push(config.mistake(&error.path().to_string(), &error.inner().to_string()));
            }
        }
        if mistakes.is_empty() {
            Ok(config)
        } else {
            Err(mistakes)
        }
    }

    /// The gate's settings from its whole document.
    pub(super) fn decode(
        &self,
        document: Map<String, Value>,
    ) -> Result<contract::Settings, Vec<Mistake>> {
        let json = Value::Object(document).to_string();
        contract::Settings::decode(&json).map_err(|error| match error {
            contract::SettingsError::Form(problem) => {
                let text = problem.text.as_str();
                // The position is one in the JSON that was made of all layers: nobody has ever seen it.
                let text = text.split_once(" at line ").map_or(text, |(text, _)| text);
                vec![self.mistake(&problem.field, text)]
            }
            contract::SettingsError::Invalid(problems) => problems
                .iter()
                .map(|problem| self.mistake(&problem.field, &problem.text))
                .collect(),
        })
    }

    /// It is said that no port is to be taken over.
    pub(super) fn wants_none(&self) -> bool {
        self.own.takeover == Choice::None
    }

    /// A mistake in `field`, as messages write it (`checks[1].timeout`), placed in the layer that it comes from.
    pub(super) fn mistake(&self, field: &str, text: &str) -> Mistake {
        let pointer = pointer(field);
        let first = field.split(['.', '[']).next().unwrap_or_default();
        let from = (self.layers.iter().rev()).find(|layer| layer.value.contains_key(first));
        let place = from
            .or_else(|| self.layers.last())
            .map_or_else(String::new, |layer| layer.place(&pointer));
        let text = match field {
            "" | "." => format!("{place}{text}"),
            _ => format!("{place}{field}: {text}"),
        };
        Mistake { pointer, text }
    }
}

fn no_profile(profile: &str, settings: &settings::Gate) -> Mistake {
    let names: Vec<_> = settings.profiles.keys().map(String::as_str).collect();
    let known = if names.is_empty() {
        "the settings have none".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    Mistake {
        pointer: String::new(),
        text: format!("annotation {GATE_PROFILE_ANNOTATION}: no profile \"{profile}\"; {known}"),
    }
}

/// As the API server reads it: a text or a number.
fn quantity<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Quantity>, D::Error> {
    let text = match Value::deserialize(from)? {
        Value::String(text) => text,
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Array(_)
        | Value::Object(_)) => other.to_string(),
    };
    let wrong = |error| de::Error::custom(format_args!("\"{text}\" is not a quantity: {error}"));
    Quantity::parse(&text).map(Some).map_err(wrong)
}

/// `checks[1].timeout` as a JSON pointer.
fn pointer(field: &str) -> String {
    field
        .split(['.', '[', ']'])
        .filter(|token| !token.is_empty())
        .fold(String::new(), |pointer, token| format!("{pointer}/{token}"))
}

// === impl PortRef ===

impl Default for PortRef {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl<'de> Deserialize<'de> for PortRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::String(name) => Ok(Self::Name(name)),
            Value::Number(number) => number
                .as_u64()
                .and_then(|number| u16::try_from(number).ok())
                .filter(|number| *number > 0)
                .map(Self::Number)
                .ok_or_else(|| de::Error::custom(format_args!("{number} is no port"))),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(
                de::Error::custom("must be the name or number of a container port"),
            ),
        }
    }
}

// === impl PortChoice ===

impl<'de> Deserialize<'de> for PortChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            port: PortRef,
            protocol: Option<Protocol>,
            listen: Option<u16>,
        }
        let value = Value::deserialize(from)?;
        if value.is_object() {
            let Long {
                port,
                protocol,
                listen,
            } = Long::deserialize(value).map_err(de::Error::custom)?;
            return Ok(Self {
                port,
                protocol,
                listen,
            });
        }
        let port = PortRef::deserialize(value).map_err(de::Error::custom)?;
        Ok(Self {
            port,
            ..Self::default()
        })
    }
}
