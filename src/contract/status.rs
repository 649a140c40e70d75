//! Which status codes count as a pass.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::problem::Problems;

/// Status codes that count as a pass: `204`, or `"200-299"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest.
    pub low: u16,
    /// The highest.
    pub high: u16,
}

// === impl StatusRange ===

impl StatusRange {
    /// Whether `code` is one of them.
    pub fn contains(self, code: u16) -> bool {
        (self.low..=self.high).contains(&code)
    }
}

impl FromStr for StatusRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.trim().parse(), high.trim().parse()) {
            (Ok(low), Ok(high)) => Ok(Self { low, high }),
            _ => Err(format!(
                "{text:?} is no status code such as 204 or \"200-299\""
            )),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.low == self.high {
            write!(f, "{}", self.low)
        } else {
            write!(f, "{}-{}", self.low, self.high)
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.low == self.high {
            to.serialize_u16(self.low)
        } else {
            to.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a status code such as 204 or \"200-299\""
        )]
        enum Form {
            Code(u16),
            Range(String),
        }

        match Form::deserialize(from)? {
            Form::Code(code) => Ok(Self {
                low: code,
                high: code,
            }),
            Form::Range(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

impl JsonSchema for StatusRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "examples": ["200-299"]},
            ],
        })
    }
}

pub(crate) fn require_statuses(ranges: &[StatusRange], at: &str, problems: &mut Problems) {
    let good = !ranges.is_empty()
        && ranges
            .iter()
            .all(|range| 100 <= range.low && range.low <= range.high && range.high <= 599);
    problems.require(
        good,
        format_args!("{at}.status"),
        "must hold status codes between 100 and 599, such as [204, \"200-299\"]",
    );
}

pub(crate) fn kubelet_statuses() -> Vec<StatusRange> {
    vec![StatusRange {
        low: 200,
        high: 399,
    }]
}
