//! Where each value of a document stands.

use std::collections::BTreeMap;

use serde_json::{Value, value::RawValue};

use super::Position;

/// The places of a document's values. Some tens of bytes a value, so that they can be kept for later.
#[derive(Debug)]
pub struct Places(Kept);

#[derive(Debug)]
enum Kept {
    /// Noted while the document was composed.
    Yaml(Node),
    /// The JSON text itself, and where it begins: looked through when a place is asked for.
    Json {
        /// The value's text.
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
    pub(super) fn yaml(root: Node) -> Self {
        Self(Kept::Yaml(root))
    }

    /// Those of the value that stands between two offsets of a text.
    pub(super) fn json(text: &str, start: usize, end: usize) -> Self {
        let value = text.get(start..end).unwrap_or_default();
        let blank = value.len() - value.trim_start().len();
        let start = Position::in_text(text, start + blank);
        Self(Kept::Json {
            text: value.trim().into(),
            start,
        })
    }

    /// The place of the value at `pointer` (RFC 6901) of `value`, whose places these are, or of the nearest one above
    /// it that exists.
    pub fn find(&self, value: &Value, pointer: &str) -> Position {
        let mut tokens = pointer.split('/').skip(1).map(unescape);
        match &self.0 {
            Kept::Yaml(root) => {
                let mut here = (value, root);
                while let Some(below) = tokens.next().and_then(|token| here.1.below(here.0, &token))
                {
                    here = below;
                }
                here.1.at
            }
            Kept::Json { text, start } => {
                let mut here = &**text;
                while let Some(below) = tokens.next().and_then(|token| member(here, &token)) {
                    here = below;
                }
                start.plus(Position::in_text(text, offset(text, here)))
            }
        }
    }

    /// Those of each item of the sequence `key` of `value`.
    pub(super) fn of_items(self, value: &Value, key: &str) -> Vec<Self> {
        match self.0 {
            Kept::Yaml(root) => root.take(value, key).into_iter().map(Self::yaml).collect(),
            Kept::Json { text, start } => {
                let items = member(&text, key).and_then(|items| serde_json::from_str(items).ok());
                let items: Vec<&RawValue> = items.unwrap_or_default();
                // From item to item, since counting lines from the top for each would take the square of the time.
                let mut here = start;
                let mut counted = 0;
                let place = |item: &RawValue| {
                    let begin = offset(&text, item.get());
                    let between = text.get(counted..begin).unwrap_or_default();
                    here = here.plus(Position::in_text(between, between.len()));
                    counted = begin;
                    Self(Kept::Json {
                        text: item.get().into(),
                        start: here,
                    })
                };
                items.into_iter().map(place).collect()
            }
        }
    }
}

/// How many bytes into `text` its part `part` begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
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

    /// The places of the items of the sequence `key`.
    fn take(mut self, value: &Value, key: &str) -> Vec<Self> {
        let members = value.as_object().into_iter().flatten();
        let mut places = members.zip(&mut self.children);
        let Some(((_, items), place)) = places.find(|((name, _), _)| *name == key) else {
            return Vec::new();
        };
        let at = place.at;
        let mut children = std::mem::take(&mut place.children);
        // An alias brought them in: there are none, and all stand where the alias does.
        children.resize_with(items.as_array().map_or(0, Vec::len), || Self {
            at,
            children: Vec::new(),
        });
        children
    }
}
