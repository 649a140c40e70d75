//! Bytes into text, text into documents: what `YAMLOrJSONDecoder` of k8s.io/apimachinery does.

use serde_json::{Value, de::StrRead};

use super::{Document, Error, Position, compose, place::Places};

/// What a line begins with that ends a document, for kubectl: even within a block scalar.
const SEPARATOR: &str = "---";

/// The documents of a text, one at a time. Goes on after a document that can't be read; empty ones are left out.
#[derive(Debug)]
pub struct Documents<'a> {
    text: &'a str,
    json: Option<JsonStream<'a>>,
    chunks: Chunks<'a>,
    failed: Option<Error>,
}

/// Objects one after the other, as long as the text is JSON.
struct JsonStream<'a> {
    values: serde_json::StreamDeserializer<'a, StrRead<'a>, Value>,
    count: usize,
}

/// The pieces of a text between lines that begin with `---`.
#[derive(Debug)]
struct Chunks<'a> {
    rest: &'a str,
    /// Number of the line that `rest` begins with, from 1.
    line: usize,
}

/// One piece, and the number of its first line.
type Chunk<'a> = Result<(&'a str, usize), Error>;

/// Bytes as text. A byte order mark chooses UTF-8 or UTF-16, as kubectl has it, and is dropped.
pub fn decode(bytes: Vec<u8>) -> Result<String, Error> {
    match bytes.as_slice() {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest.to_vec()),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        _ => utf8(bytes),
    }
}

/// The documents of `text`: JSON objects one after the other if it begins with `{`, otherwise (or as soon as it
/// turns out not to be JSON) YAML.
pub fn documents(text: &str) -> Documents<'_> {
    let json = text.trim_start().starts_with('{').then(|| JsonStream {
        values: serde_json::Deserializer::from_str(text).into_iter(),
        count: 0,
    });
    Documents {
        text,
        json,
        chunks: Chunks {
            rest: text,
            line: 1,
        },
        failed: None,
    }
}

fn utf8(bytes: Vec<u8>) -> Result<String, Error> {
    String::from_utf8(bytes).map_err(|error| {
        let valid = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let valid = String::from_utf8_lossy(valid);
        Error {
            position: Position::in_text(&valid, valid.len()),
            message: "not UTF-8 text: is this a binary file?".into(),
        }
    })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, Error> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let mut text = String::with_capacity(bytes.len());
    let units = pairs.iter().map(|pair| unit(*pair));
    let whole = char::decode_utf16(units).all(|char| char.map(|char| text.push(char)).is_ok());
    if whole && odd.is_empty() {
        Ok(text)
    } else {
        Err(Error {
            position: Position::in_text(&text, text.len()),
            message: "not UTF-16 text, although it begins with the byte order mark of UTF-16"
                .into(),
        })
    }
}

// === impl Documents ===

impl Documents<'_> {
    /// The next object of a JSON stream; `None` when the stream is at its end or is no JSON.
    fn next_json(&mut self) -> Option<Result<Document, Error>> {
        let stream = self.json.as_mut()?;
        let start = stream.values.byte_offset();
        match stream.values.next() {
            Some(Ok(value)) => {
                stream.count += 1;
                let end = stream.values.byte_offset();
                Some(Ok(Document {
                    value,
                    places: Places::json(self.text, start, end),
                }))
            }
            // Only a text whose first two objects are JSON is JSON beyond doubt, says YAMLOrJSONDecoder.
            Some(Err(error)) if stream.count > 1 => {
                self.json = None;
                self.chunks.rest = "";
                Some(Err(json_error(&error)))
            }
            Some(Err(error)) => {
                self.json = None;
                self.failed = Some(json_error(&error));
                self.chunks.pass(start);
                None
            }
            None => {
                self.json = None;
                self.chunks.rest = "";
                None
            }
        }
    }
}

impl Iterator for Documents<'_> {
    type Item = Result<Document, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(document) = self.next_json() {
            return Some(document);
        }
        let failed = self.failed.take();
        loop {
            let document = self
                .chunks
                .next()?
                .and_then(|(text, line)| compose::read(text, line));
            match document {
                Ok(None) => {}
                Ok(Some(document)) => return Some(Ok(document)),
                // Neither JSON nor YAML: it is meant to be what it could be read as for longer.
                Err(error) => {
                    let failed = failed.filter(|failed| failed.position >= error.position);
                    return Some(Err(failed.unwrap_or(error)));
                }
            }
        }
    }
}

// === impl JsonStream ===

impl std::fmt::Debug for JsonStream<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonStream")
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

fn json_error(error: &serde_json::Error) -> Error {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = said.strip_suffix(&place).map(str::to_owned).unwrap_or(said);
    Error {
        position: Position::new(error.line(), error.column().max(1)),
        message,
    }
}

// === impl Chunks ===

impl<'a> Chunks<'a> {
    /// Takes the first `length` bytes, and counts their lines.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .unwrap_or((self.rest, ""));
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
        taken
    }

    /// Takes a line with the newline that ends it.
    fn take_line(&mut self) -> &'a str {
        self.take(
            self.rest
                .find('\n')
                .map_or(self.rest.len(), |newline| newline + 1),
        )
    }

    /// Drops the first `length` bytes, then white space up to the end of its line.
    fn pass(&mut self, length: usize) {
        self.take(length);
        let blank = self
            .rest
            .find(|char: char| char == '\n' || !char.is_whitespace());
        self.take(blank.unwrap_or(self.rest.len()));
        self.take(usize::from(self.rest.starts_with('\n')));
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let position = Position::new(self.line, SEPARATOR.len() + 1);
        let separator = if self.rest.starts_with(SEPARATOR) {
            self.take_line()
        } else {
            SEPARATOR
        };
        let beside = separator.strip_prefix(SEPARATOR).unwrap_or_default().trim();
        let line = self.line;
        let end = if self.rest.starts_with(SEPARATOR) {
            Some(0)
        } else {
            self.rest.find("\n---").map(|newline| newline + 1)
        };
        let chunk = self.take(end.unwrap_or(self.rest.len()));
        if beside.is_empty() || beside.starts_with('#') {
            // Files that were joined bring the byte order mark of each.
            Some(Ok((chunk.strip_prefix('\u{FEFF}').unwrap_or(chunk), line)))
        } else {
            Some(Err(Error {
                position,
                message: format!(
                    "kubectl takes nothing but a comment after \"---\", and here stands {beside:?}: write it on the next line"
                ),
            }))
        }
    }
}
