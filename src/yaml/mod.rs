//! Reads manifests exactly as kubectl does, and remembers where each value stands.
//!
//! ```text
//! bytes -> decode (byte order mark) -> documents (`---`) -> compose (aliases, merges) -> Document
//!                                                              |    ^
//!                                                              +-> resolve: is `on` a boolean?
//! ```
//!
//! kubectl reads YAML 1.1 by way of `sigs.k8s.io/yaml` and `go.yaml.in/yaml/v2`: unquoted `on`, `off`, `yes`, `no`,
//! `y` and `n` are booleans, `0644` is 420, a later key of the same name wins without a word, and `<<` merges. A
//! reader of YAML 1.2 would judge another object than the one that reaches the cluster. `tests/fixtures/yaml` holds
//! this module to what kubectl itself printed.
//!
//! Stricter than kubectl in two places, where it would lose something in silence: bytes that are not UTF-8 (it
//! replaces them) and text after a `...` line (it ignores it) are errors.

use std::fmt;

use serde_json::Value;

mod split;

mod compose;

mod resolve;

mod place;

pub use place::Places;
pub use split::{Documents, decode, documents};

/// Levels of nesting that are read: serde_json's own limit, so that what is read here can be judged.
const DEPTH_LIMIT: usize = 128;

/// One document of a file: the value as kubectl would send it, and where its parts stand.
#[derive(Debug)]
pub struct Document {
    /// The value. Object keys keep the order of the file.
    pub value: Value,
    /// Where its parts stand.
    pub places: Places,
}

/// A place in a file, counted from 1. Columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Text that kubectl would not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Where.
    pub position: Position,
    /// What is wrong, without the place.
    pub message: String,
}

// === impl Document ===

impl Document {
    /// Where the value at `pointer` (RFC 6901) stands: its key, or its first character within a sequence. Of a value
    /// that does not exist, where the nearest one above it stands.
    pub fn position(&self, pointer: &str) -> Position {
        self.places.find(&self.value, pointer)
    }

    /// The items of the sequence `key`, each as a document of its own; `None` if there is no such sequence.
    pub fn into_items(self, key: &str) -> Option<Vec<Self>> {
        let Self { mut value, places } = self;
        let places = places.of_items(&value, key);
        let Some(Value::Array(items)) = value.get_mut(key).map(Value::take) else {
            return None;
        };
        let documents = items.into_iter().zip(places);
        Some(
            documents
                .map(|(value, places)| Self { value, places })
                .collect(),
        )
    }
}

// === impl Position ===

impl Position {
    /// From counts as libraries keep them. A place beyond the four thousand millionth line is cut to it.
    fn new(line: usize, column: usize) -> Self {
        let cut = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            line: cut(line),
            column: cut(column),
        }
    }

    /// The place of the byte at `offset` in `text`.
    fn in_text(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        Self::new(lines + 1, column + 1)
    }

    /// The same place when `lines` lines stand before what it was counted in.
    fn below(self, lines: usize) -> Self {
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        Self {
            line: self.line.saturating_add(lines),
            ..self
        }
    }

    /// The place `inner`, counted from this one as if it were the first.
    fn plus(self, inner: Self) -> Self {
        let column = if inner.line == 1 {
            self.column + inner.column - 1
        } else {
            inner.column
        };
        Self {
            line: self.line + inner.line - 1,
            column,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
