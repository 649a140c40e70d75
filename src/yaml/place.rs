//! Where each value of a document stands.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use super::Position;

/// The places of a document's values.
#[derive(Debug)]
pub(super) enum Places {
    /// Noted while the document was composed.
    Yaml(Node),
    /// The JSON text itself, and where it begins: looked through when a place is asked for.
    Json {
        /// The object's text.
        text: Box<str>,
        /// Where its first character stands.
        start: Position,
    },
}

/// The place of one value and, in the order of the value's own, those of its members or items.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it stands.
    pub(super) at: Position,
    /// Empty for a scalar, and for what an alias brought in: all of that stands where the alias does.
    pub(super) children: Vec<Self>,
}

// === impl Places ===

impl Places {
    /// Those of the object that stands between two offsets of a text.
    pub(super) fn json(text: &str, start: usize, end: usize) -> Self {
        let object = text.get(start..end).unwrap_or_default();
        let blank = object.len() - object.trim_start().len();
        let start = Position::in_text(text, start + blank);
        Self::Json {
            text: object.trim().into(),
            start,
        }
    }

    /// The place of the value at `pointer`, or of the nearest one above it that exists.
    pub(super) fn find(&self, value: &Value, pointer: &str) -> Position {
        let mut tokens = pointer.split('/').skip(1).map(unescape);
        match self {
            Self::Yaml(root) => {
                let mut here = (value, root);
                while let Some(below) = tokens.next().and_then(|token| here.1.below(here.0, &token))
                {
                    here = below;
                }
                here.1.at
            }
            Self::Json { text, start } => {
                let mut here = &**text;
                while let Some(below) = tokens.next().and_then(|token| member(here, &token)) {
                    here = below;
                }
                // `here` is a part of `text`, so their addresses tell how far into it.
                let offset = here.as_ptr().addr() - text.as_ptr().addr();
                start.plus(Position::in_text(text, offset))
            }
        }
    }
}

/// The text of the member or item `token` of a JSON text.
fn member<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let below = if text.starts_with('{') {
        let members: BTreeMap<String, &'a RawValue> = serde_json::from_str(text).ok()?;
        members.get(token).copied()?
    } else {
        let items: Vec<&'a RawValue> = serde_json::from_str(text).ok()?;
        items.get(token.parse::<usize>().ok()?).copied()?
    };
    Some(below.get())
}

/// A token of a JSON pointer as the key it stands for.
fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

// === impl Node ===

impl Node {
    fn below<'a>(&'a self, value: &'a Value, token: &str) -> Option<(&'a Value, &'a Self)> {
        let (index, value) = match value {
            Value::Object(members) => {
                let index = members.keys().position(|key| key == token)?;
                (index, members.get(token)?)
            }
            Value::Array(items) => {
                let index = token.parse().ok()?;
                (index, items.get(index)?)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
        };
        Some((value, self.children.get(index)?))
    }
}
