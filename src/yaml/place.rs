//! Where each value of a document stands.

use std::{borrow::Cow, collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::Position;

/// The places of a document's values. A dozen bytes a value, so that they can be kept for later.
#[derive(Debug)]
pub struct Places(Kept);

#[derive(Debug)]
enum Kept {
    /// Noted while the document was composed.
    Yaml(Box<[Spot]>),
    /// The JSON text itself, and where it begins: looked through when a place is asked for.
    Json {
        /// The value's text.
        text: Box<str>,
        /// Where its first character stands.
        start: Position,
    },
}

/// The places of a value and all that is in it: its own, then those of its members or items in the order of the
/// value's own, each followed by what is in it.
#[derive(Debug, Default)]
pub(super) struct Spots(Vec<Spot>);

/// The place of one value.
#[derive(Clone, Copy, Debug)]
struct Spot {
    at: Position,
    /// How many spots are its own and of what is in it. One for a scalar, and for what an alias brought in: all of that
    /// stands where the alias does.
    size: u32,
}

/// What is in the values of a JSON text, each looked through once, however often it is asked for. Known by the address
/// where each begins.
#[derive(Default)]
struct Parts<'a>(HashMap<usize, Part<'a>>);

/// What is in a value.
enum Part<'a> {
    Members(Members<'a>),
    Items(Vec<&'a RawValue>),
}

/// The members of a JSON object, in its order.
#[derive(Default)]
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

// === impl Places ===

impl Places {
    pub(super) fn yaml(Spots(spots): Spots) -> Self {
        Self(Kept::Yaml(spots.into()))
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
        match &self.0 {
            Kept::Yaml(spots) => walk(spots, value, pointer, |value, token| match value {
                Value::Object(members) => {
                    let index = members.keys().position(|key| key == token)?;
                    Some((index, members.get(token)?))
                }
                Value::Array(items) => {
                    let index = token.parse().ok()?;
                    Some((index, items.get(index)?))
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            }),
            Kept::Json { text, start } => Parts::default().find(text, *start, pointer),
        }
    }

    /// The same of the text of `value`, for each of `pointers`.
    pub fn find_in<'p>(
        &self,
        json: &RawValue,
        pointers: impl IntoIterator<Item = &'p str>,
    ) -> Vec<Position> {
        let mut parts = Parts::default();
        let pointers = pointers.into_iter();
        match &self.0 {
            Kept::Yaml(spots) => pointers
                .map(|pointer| {
                    let below = |text, token: &str| parts.member(text, token);
                    walk(spots, json.get(), pointer, below)
                })
                .collect(),
            Kept::Json { text, start } => pointers
                .map(|pointer| parts.find(text, *start, pointer))
                .collect(),
        }
    }

    /// Those of each item of the sequence `key` of `value`.
    pub(super) fn of_items(self, value: &Value, key: &str) -> Vec<Self> {
        match self.0 {
            Kept::Yaml(spots) => of_items(&spots, value, key)
                .map(|spots| Self(Kept::Yaml(spots)))
                .collect(),
            Kept::Json { text, start } => {
                let items = Parts::default().member(&text, key);
                let items = items.and_then(|(_, items)| serde_json::from_str(items).ok());
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

/// The tokens of a JSON pointer, as the keys that they stand for.
fn tokens(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(unescape)
}

/// Goes down `pointer`; `below` gives what a value has under a token, and at which index.
fn walk<'v, T: ?Sized>(
    spots: &[Spot],
    value: &'v T,
    pointer: &str,
    mut below: impl FnMut(&'v T, &str) -> Option<(usize, &'v T)>,
) -> Position {
    let mut here = (value, spots);
    let mut tokens = tokens(pointer);
    while let Some(next) = tokens.next().and_then(|token| {
        let (index, value) = below(here.0, &token)?;
        Some((value, children(here.1).nth(index)?))
    }) {
        here = next;
    }
    // A document has a value, and a value a place.
    (here.1.first()).map_or_else(|| Position::new(1, 1), |spot| spot.at)
}

/// A token of a JSON pointer as the key it stands for.
fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The spots of each member or item of a value.
fn children(spots: &[Spot]) -> impl Iterator<Item = &[Spot]> {
    let mut rest = spots.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (child, others) = rest.split_at_checked(rest.first()?.size())?;
        rest = others;
        Some(child)
    })
}

/// The spots of the items of the sequence `key`.
fn of_items(spots: &[Spot], value: &Value, key: &str) -> impl Iterator<Item = Box<[Spot]>> {
    let mut members = value.as_object().into_iter().flatten().zip(children(spots));
    let sequence = members.find(|((name, _), _)| *name == key);
    let (items, spots) = match sequence {
        Some(((_, items), spots)) => (items.as_array().map_or(0, Vec::len), spots),
        None => (0, spots),
    };
    // What an alias brought in has no spots of its own, and stands where the alias does.
    let alias = spots.first().map(|spot| Spot { size: 1, ..*spot });
    let own: Vec<_> = children(spots).map(Box::from).collect();
    let brought = std::iter::repeat_n(alias, items.saturating_sub(own.len()));
    own.into_iter()
        .take(items)
        .chain(brought.map(|alias| alias.into_iter().collect()))
}

// === impl Spots ===

impl Spots {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// A value at `at`: what is added until [`Self::end`] is in it. Gives its index.
    pub(super) fn begin(&mut self, at: Position) -> usize {
        self.0.push(Spot { at, size: 1 });
        self.0.len() - 1
    }

    /// Nothing more is in the value whose spot is `spot`.
    pub(super) fn end(&mut self, spot: usize) {
        let size = self.0.len() - spot;
        if let Some(spot) = self.0.get_mut(spot) {
            spot.size = u32::try_from(size).unwrap_or(u32::MAX);
        }
    }

    /// The value whose spot is `spot` is to be found at `at`.
    pub(super) fn move_to(&mut self, spot: usize, at: Position) {
        if let Some(spot) = self.0.get_mut(spot) {
            spot.at = at;
        }
    }

    /// Forgets all from `spot` on.
    pub(super) fn truncate(&mut self, spot: usize) {
        self.0.truncate(spot);
    }

    /// Puts the last spots, from `from` on, in the place of child `index` of the value at `parent`.
    pub(super) fn replace(&mut self, parent: usize, index: usize, from: usize) {
        let new = self.0.split_off(from);
        // The parent has not ended, so it goes to the end.
        let before = children(self.0.get(parent..).unwrap_or_default()).take(index);
        let begin = parent + 1 + before.map(<[Spot]>::len).sum::<usize>();
        let size = self.0.get(begin).map_or(0, Spot::size);
        self.0.splice(begin..begin + size, new);
    }
}

// === impl Spot ===

impl Spot {
    fn size(&self) -> usize {
        usize::try_from(self.size).unwrap_or(usize::MAX)
    }
}

// === impl Parts ===

impl<'a> Parts<'a> {
    /// The member or item `token` of a JSON text, and which one it is.
    fn member(&mut self, text: &'a str, token: &str) -> Option<(usize, &'a str)> {
        let part = self.0.entry(text.as_ptr().addr());
        match part.or_insert_with(|| Part::of(text)) {
            Part::Members(Members(members)) => {
                // Of two members of a name the last one counts, and stands where the first does.
                let index = members.iter().position(|(name, _)| name == token)?;
                let (_, value) = members.iter().rfind(|(name, _)| name == token)?;
                Some((index, value.get()))
            }
            Part::Items(items) => {
                let index = token.parse().ok()?;
                Some((index, items.get(index)?.get()))
            }
        }
    }

    /// The place of the value at `pointer` of `text`, which begins at `start`.
    fn find(&mut self, text: &'a str, start: Position, pointer: &str) -> Position {
        let mut here = text;
        let mut tokens = tokens(pointer);
        while let Some((_, next)) = tokens.next().and_then(|token| self.member(here, &token)) {
            here = next;
        }
        start.plus(Position::in_text(text, offset(text, here)))
    }
}

// === impl Part ===

impl<'a> Part<'a> {
    /// Of a scalar, nothing is in it.
    fn of(text: &'a str) -> Self {
        if text.starts_with('{') {
            Self::Members(serde_json::from_str(text).unwrap_or_default())
        } else {
            Self::Items(serde_json::from_str(text).unwrap_or_default())
        }
    }
}

// === impl Members ===

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        /// Borrowed where it has no escapes.
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        deserializer.deserialize_map(InOrder)
    }
}
