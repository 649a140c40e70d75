//! One violation: rule, level, place, words and mend.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use super::{rules::RuleId, workload::WorkloadKind};

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
    /// Each violation that it speaks of, as it is recognised in another version of the object; none where the rule's
    /// findings are refused even if they are old.
    pub offences: Vec<Offence>,
}

/// One violation apart from the words about it. Two versions of an object have the same one if all of this is equal,
/// wherever lists have been reordered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Offence {
    /// The container that it stands in, by name.
    pub container: Option<String>,
    /// The field, by the names of its list items and never by their index: `resources.limits.memory`, `env URL`.
    pub field: String,
    /// What stands there and should not; empty where nothing does.
    pub value: String,
    /// How bad it is, among those that are otherwise equal: more is worse.
    pub degree: i128,
}

/// A violation of an object, as a number that stays the same as long as the violation does: whatever the words about it,
/// and wherever lists are reordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

/// What to paste, and where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fix {
    /// Where, as `kubectl explain` writes it: `spec.template.spec.containers[name=app]`.
    pub at: String,
    /// YAML, without indentation of its own.
    pub yaml: String,
}

// === impl Offence ===

impl Offence {
    /// Of a container, or of the pod as a whole.
    pub fn new(
        container: Option<&str>,
        field: impl Into<String>,
        value: impl Into<String>,
    ) -> Self {
        Self {
            container: container.map(str::to_owned),
            field: field.into(),
            value: value.into(),
            degree: 0,
        }
    }

    /// The same, that bad.
    #[must_use]
    pub fn to_degree(mut self, degree: impl Into<i128>) -> Self {
        self.degree = degree.into();
        self
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    /// Of each violation that `finding` speaks of, about the object of this namespace and name.
    pub fn of(kind: &WorkloadKind, object: [&str; 2], finding: &Finding) -> Box<[Self]> {
        let [namespace, name] = object;
        let rule = finding.rule.as_str();
        let about = Self::EMPTY.with(&[&kind.group, &kind.kind, namespace, name, rule]);
        let container = |name: &Option<String>| name.clone().unwrap_or_default();
        if finding.offences.is_empty() {
            return [about.with(&[&container(&finding.container), &finding.path])].into();
        }
        let offences = finding.offences.iter().map(|offence| {
            let Offence {
                container: within,
                field,
                value,
                degree: _,
            } = offence;
            about.with(&[&container(within), field, value])
        });
        offences.collect()
    }

    /// The offset basis of FNV-1a in 64 bits (draft-eastlake-fnv), the one hash here whose numbers outlive a release.
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn with(self, parts: &[&str]) -> Self {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let end = [0xff]; // a byte that UTF-8 never uses
        let bytes = parts.iter().flat_map(|part| part.bytes().chain(end));
        Self(bytes.fold(self.0, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(PRIME)
        }))
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let number = u64::from_str_radix(&text, 16);
        number.map(Self).map_err(|_| {
            D::Error::invalid_value(Unexpected::Str(&text), &"sixteen hexadecimal digits")
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
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
