//! Parser events into a value with places: what `decode.go` of go.yaml.in/yaml/v2 does.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::{
    DEPTH_LIMIT, Document, Error, Position,
    place::{Places, Spots},
    resolve::{Scalar, resolve},
};

/// Values that a document may hold before the share that comes from aliases must shrink, and the number at which it
/// has shrunk to a tenth: `alias_ratio_range_low` and `_high` of yaml/v2, so that ten lines can't fill our memory.
const ALIAS_RANGE: (u64, u64) = (400_000, 4_000_000);

/// Makes one value of one document's events.
struct Composer<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Lines of the file before this document.
    lines_before: usize,
    /// What anchors stand for, once it is complete.
    anchors: HashMap<usize, Anchor>,
    /// Values made so far, keys too.
    made: u64,
    /// Of these, values that an alias brought in.
    aliased: u64,
    spots: Spots,
}

/// What an alias brings in.
struct Anchor {
    value: Value,
    /// Values within, itself too.
    size: u64,
}

/// What a mapping's key is.
enum Key {
    Name(String),
    Merge,
}

/// An event and where it stands.
type Placed<'a> = (Event<'a>, Position);

/// Reads the one document of `text`, whose first line is the file's `line`. `Ok(None)` when it is empty or null.
pub(super) fn read(text: &str, line: usize) -> Result<Option<Document>, Error> {
    // Most documents are ASCII, and are looked through in a moment.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\n' | b'\r');
    let mut chars = text.char_indices();
    if !text.bytes().all(is_plain)
        && let Some((offset, control)) = chars.find(|(_, char)| is_control(*char))
    {
        let position = Position::in_text(text, offset).below(line - 1);
        let message = format!(
            "control character U+{:04X}: is this a binary file?",
            u32::from(control)
        );
        return Err(Error { position, message });
    }
    let mut composer = Composer {
        parser: Parser::new_from_str(text),
        lines_before: line - 1,
        anchors: HashMap::new(),
        made: 0,
        aliased: 0,
        spots: Spots::default(),
    };
    composer.document()
}

/// Characters that YAML does not allow anywhere (YAML 1.1 section 4.1).
fn is_control(char: char) -> bool {
    match char {
        '\t' | '\n' | '\r' | '\u{85}' => false,
        '\u{FFFE}' | '\u{FFFF}' => true,
        _ => char.is_control(),
    }
}

// === impl Composer ===

impl<'a> Composer<'a> {
    fn document(&mut self) -> Result<Option<Document>, Error> {
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_), _) => {}
                (Event::StreamEnd, _) => return Ok(None),
                (event, at) => {
                    let value = self.value(event, at, 0)?;
                    self.end()?;
                    let places = Places::yaml(std::mem::take(&mut self.spots));
                    return Ok((!value.is_null()).then_some(Document { value, places }));
                }
            }
        }
    }

    /// Nothing may follow the document's value.
    fn end(&mut self) -> Result<(), Error> {
        loop {
            match self.next()? {
                (Event::DocumentEnd, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, position) => {
                    let message = "kubectl ignores what follows the end of a document (\"...\"): \
                                   begin the next one with \"---\"";
                    return Err(Error {
                        position,
                        message: message.into(),
                    });
                }
            }
        }
    }

    fn next(&mut self) -> Result<Placed<'a>, Error> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.position(span))),
            Some(Err(error)) => Err(self.syntax(&error)),
            // Asked for after StreamEnd, which `document` and `end` do not.
            None => Ok((Event::StreamEnd, Position::new(self.lines_before + 1, 1))),
        }
    }

    fn position(&self, span: Span) -> Position {
        Position::new(self.lines_before + span.start.line(), span.start.col() + 1)
    }

    fn syntax(&self, error: &ScanError) -> Error {
        let at = error.marker();
        let position = Position::new(self.lines_before + at.line(), at.col() + 1);
        Error {
            position,
            message: error.info().to_owned(),
        }
    }

    /// The value that begins with `event`.
    fn value(&mut self, event: Event<'a>, at: Position, depth: usize) -> Result<Value, Error> {
        let before = self.made;
        self.made += 1;
        let spot = self.spots.begin(at);
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = scalar(text, style, tag.as_deref(), at)?;
                (anchor, scalar.into_value().map_err(fault(at))?)
            }
            Event::SequenceStart(anchor, _) => (anchor, Value::Array(self.sequence(at, depth)?)),
            Event::MappingStart(anchor, _) => {
                (anchor, Value::Object(self.mapping(spot, at, depth)?))
            }
            Event::Alias(anchor) => (0, self.alias(anchor, at)?),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(fault(at)("a value is expected here".into())),
        };
        self.spots.end(spot);
        if anchor != 0 {
            let size = self.made - before;
            self.anchors.insert(
                anchor,
                Anchor {
                    value: value.clone(),
                    size,
                },
            );
        }
        Ok(value)
    }

    fn sequence(&mut self, at: Position, depth: usize) -> Result<Vec<Value>, Error> {
        let depth = deeper(depth, at)?;
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, at) => items.push(self.value(event, at, depth)?),
            }
        }
    }

    /// The mapping whose spot is `spot`.
    fn mapping(
        &mut self,
        spot: usize,
        at: Position,
        depth: usize,
    ) -> Result<Map<String, Value>, Error> {
        let depth = deeper(depth, at)?;
        let mut members = Map::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(members);
            }
            let key = self.key(event, at)?;
            let (event, value_at) = self.next()?;
            let alias = matches!(event, Event::Alias(_));
            let value_spot = self.spots.len();
            let value = self.value(event, value_at, depth)?;
            match key {
                Key::Name(name) => {
                    self.spots.move_to(value_spot, at);
                    self.put(&mut members, spot, value_spot, (name, value));
                }
                Key::Merge => {
                    self.spots.truncate(value_spot);
                    let sources = sources(value, alias).ok_or_else(|| {
                        fault(value_at)("<< takes a mapping, or a sequence of mappings".into())
                    })?;
                    for member in sources.into_iter().flatten() {
                        let member_spot = self.spots.begin(at);
                        self.spots.end(member_spot);
                        self.put(&mut members, spot, member_spot, member);
                    }
                }
            }
        }
    }

    /// Sets a member of the mapping at `spot`; its value's spots are the last ones, from `from` on. What comes later
    /// wins, merged or not, whatever stood there before: kubectl does the same.
    fn put(
        &mut self,
        members: &mut Map<String, Value>,
        spot: usize,
        from: usize,
        (name, value): (String, Value),
    ) {
        if members.contains_key(&name)
            && let Some(index) = members.keys().position(|key| *key == name)
        {
            self.spots.replace(spot, index, from);
        }
        members.insert(name, value);
    }

    fn key(&mut self, event: Event<'a>, at: Position) -> Result<Key, Error> {
        self.made += 1;
        let scalar = if let Event::Scalar(text, style, anchor, tag) = event {
            let scalar = scalar(text, style, tag.as_deref(), at)?;
            if anchor != 0 {
                let value = scalar.clone().into_value().map_err(fault(at))?;
                self.anchors.insert(anchor, Anchor { value, size: 1 });
            }
            scalar
        } else if let Event::Alias(anchor) = event {
            match self.alias(anchor, at)? {
                Value::String(text) => Scalar::Text(text.into()),
                Value::Bool(value) => Scalar::Bool(value),
                Value::Number(number) => Scalar::Text(number.to_string().into()),
                Value::Null => Scalar::Null,
                Value::Array(_) | Value::Object(_) => return Err(fault(at)(NO_KEY.into())),
            }
        } else {
            return Err(fault(at)(NO_KEY.into()));
        };
        if scalar == Scalar::Merge {
            return Ok(Key::Merge);
        }
        scalar.into_key().map(Key::Name).map_err(fault(at))
    }

    /// What `anchor` stands for, unless the document would grow out of proportion.
    fn alias(&mut self, anchor: usize, at: Position) -> Result<Value, Error> {
        let Some(Anchor { value, size }) = self.anchors.get(&anchor) else {
            return Err(fault(at)("this alias stands within its own anchor".into()));
        };
        self.made += size;
        self.aliased += size;
        if self.aliased > 100 && self.made > 1000 && self.aliased > allowed_aliases(self.made) {
            return Err(fault(at)(
                "too much of this document comes from aliases".into(),
            ));
        }
        Ok(value.clone())
    }
}

const NO_KEY: &str = "a key must be a scalar, not a mapping or a sequence";

/// How many of `made` values may come from aliases: 99 % of a small document, 10 % of a large one.
fn allowed_aliases(made: u64) -> u64 {
    let (low, high) = ALIAS_RANGE;
    let above = made.clamp(low, high) - low;
    let per_mille = 990 - 890 * above / (high - low);
    made.saturating_mul(per_mille) / 1000
}

fn scalar<'a>(
    text: std::borrow::Cow<'a, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    at: Position,
) -> Result<Scalar<'a>, Error> {
    resolve(text, style == ScalarStyle::Plain, tag).map_err(fault(at))
}

/// The mappings that a merge takes its members from, the strongest last. An alias may stand for one mapping only, as
/// yaml/v2 has it.
fn sources(value: Value, alias: bool) -> Option<Vec<Map<String, Value>>> {
    let members = |value| {
        if let Value::Object(members) = value {
            Some(members)
        } else {
            None
        }
    };
    if let Value::Array(items) = value {
        let items = (!alias).then_some(items)?;
        return items.into_iter().rev().map(members).collect();
    }
    members(value).map(|members| vec![members])
}

fn deeper(depth: usize, position: Position) -> Result<usize, Error> {
    if depth == DEPTH_LIMIT {
        let message = format!("nested more than {DEPTH_LIMIT} levels deep");
        return Err(Error { position, message });
    }
    Ok(depth + 1)
}

/// An error at `position`.
fn fault(position: Position) -> impl Fn(String) -> Error {
    move |message| Error { position, message }
}
