//! An object as it was written: every field of it, known to us or not.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::template::{List, Map};

/// A part of an object, unread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a>(pub(super) &'a RawValue);

// === impl Source ===

impl<'a> Source<'a> {
    /// What stands at a JSON pointer (RFC 6901).
    pub(super) fn at(self, pointer: &str) -> Option<Self> {
        pointer
            .split('/')
            .skip(1)
            .try_fold(self, |Self(part), token| {
                let members: Map<'a, &'a RawValue> = serde_json::from_str(part.get()).ok()?;
                let token = token.replace("~1", "/").replace("~0", "~");
                members.get(&token).copied().map(Self)
            })
    }

    /// All of it, if it is a `T`.
    pub(super) fn read<T: Deserialize<'a>>(self) -> Option<T> {
        serde_json::from_str(self.0.get()).ok()
    }

    /// An item of a list.
    pub(super) fn item(self, index: usize) -> Option<Self> {
        let items: List<&'a RawValue> = serde_json::from_str(self.0.get()).ok()?;
        let (_, item) = items.iter().find(|(at, _)| *at == index)?;
        Some(Self(item))
    }

    /// The members of a map but for `key`, with their values as text.
    pub(super) fn without(self, key: &str) -> Option<Vec<(String, &'a str)>> {
        let members: Map<'a, &'a RawValue> = serde_json::from_str(self.0.get()).ok()?;
        let others = members.iter().filter(|(name, _)| *name != key);
        Some(
            others
                .map(|(name, value)| (name.to_owned(), value.get()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::testing::raw;

    #[test]
    fn finds_what_a_json_pointer_names_and_keeps_its_text() {
        let object = raw(&json!({"a/b": {"~": [null, {"name": "x", "deep": {"n": 1.50}}]}}));
        let list = Source(&object).at("/a~1b/~0").unwrap();
        let item = list.item(1).unwrap();
        assert_eq!(
            item.without("name").unwrap(),
            [("deep".to_owned(), r#"{"n":1.5}"#)]
        );
        assert!(list.item(0).is_none() && list.item(2).is_none());
        assert!(Source(&object).at("/a~1b/none").is_none());
        assert!(list.at("/name").is_none() && list.without("name").is_none());
        assert_eq!(Source(&object).at("").unwrap().0.get(), object.get());
    }
}
