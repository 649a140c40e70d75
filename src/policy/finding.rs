//! One violation: rule, level, place, words and mend.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::rules::RuleId;

/// How much a rule weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub enum Level {
    /// Not judged.
    None,
    /// Said, never in the way.
    Warn,
    /// Refused.
    Deny,
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that was broken.
    pub rule: RuleId,
    /// Its weight here, after settings, namespace label and what the fact's certainty allows.
    pub level: Level,
    /// The container it is about, if it is about one.
    pub container: Option<String>,
    /// JSON pointer (RFC 6901) into the object as it was given.
    pub path: String,
    /// One line, for the person who wrote the manifest.
    pub message: String,
    /// YAML to paste, if there is one.
    pub fix: Option<Fix>,
}

/// What to paste, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// Where, as `kubectl explain` writes it: `spec.template.spec.containers[name=app]`.
    pub at: String,
    /// YAML, without indentation of its own.
    pub yaml: String,
}

// === impl Level ===

impl Level {
    /// As settings, labels and output write it: `none`, `warn`, `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }

    /// The level of that name, written exactly so.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::Warn, Self::Deny]
            .into_iter()
            .find(|level| level.as_str() == name)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("none, warn or deny")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Level, E> {
                Level::parse(name).ok_or_else(|| E::invalid_value(Unexpected::Str(name), &self))
            }
        }

        deserializer.deserialize_str(Name)
    }
}
