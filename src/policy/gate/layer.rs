//! One of the documents that together tell a gate what to do.

use serde_json::{Map, Value};

use super::config::Mistake;
use crate::yaml;

/// One document.
#[derive(Debug)]
pub(super) struct Layer {
    /// What it is called in a message.
    pub(super) title: String,
    pub(super) value: Map<String, Value>,
    /// For lines; absent for what comes from the settings file.
    pub(super) places: Option<yaml::Places>,
}

/// `over` merged into `base` as RFC 7396 has it: maps member by member, all else replaced, `null` removed.
pub(super) fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match value {
            Value::Null => {
                base.shift_remove(key);
            }
            Value::Object(over) => {
                let slot = base.entry(key.clone()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(base) = slot {
                    merge(base, over);
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

// === impl Layer ===

impl Layer {
    pub(super) fn parse(title: String, text: &str) -> Result<Self, Mistake> {
        let mistake = |line: u32, text: &str| Mistake {
            pointer: String::new(),
            text: format!("{title}, line {line}: {text}"),
        };
        let mut documents = yaml::documents(text);
        let first = documents.next().transpose();
        let first = first.map_err(|error| mistake(error.position.line, &error.message))?;
        if let Some(second) = documents.next() {
            let line = match second {
                Ok(second) => second.position("").line,
                Err(error) => error.position.line,
            };
            return Err(mistake(
                line,
                "must be one document, and here begins another",
            ));
        }
        let (value, places) = match first {
            None => (Map::new(), None),
            Some(yaml::Document { value, places }) => match value {
                Value::Null => (Map::new(), None),
                Value::Object(value) => (value, Some(places)),
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                    return Err(mistake(1, "must be a map of fields, such as `checks:`"));
                }
            },
        };
        Ok(Self {
            title,
            value,
            places,
        })
    }

    /// `TITLE, line 3: `
    pub(super) fn place(&self, pointer: &str) -> String {
        let Self {
            title,
            value,
            places,
        } = self;
        match places {
            Some(places) => {
                let line = places.find(&Value::Object(value.clone()), pointer).line;
                format!("{title}, line {line}: ")
            }
            None if title.is_empty() => String::new(),
            None => format!("{title}: "),
        }
    }
}
