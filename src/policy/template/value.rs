//! Strings, scalars, lists and maps, borrowed from the bytes and blind to `null`.

use std::{borrow::Cow, fmt, marker::PhantomData, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// A string, borrowed unless it holds an escape.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(Cow<'a, str>);

/// A value that should be a string, or a quantity, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scalar<'a> {
    /// A string.
    Text(Text<'a>),
    /// A number, in the digits it was written with.
    Number(&'a str),
    /// `true` or `false`: what an unquoted `on`, `off`, `yes` or `no` becomes in kubectl's YAML.
    Bool(bool),
}

/// A list. `null` items keep their place and are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T>(Vec<Option<T>>);

/// A map with string keys, in the order it was written. Entries with a `null` value are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map<'a, V>(Vec<(Text<'a>, V)>);

/// Lets a derived struct be read from a map only. What serde derives would take a list for one too, field by field,
/// where the API server answers with an error.
pub(crate) struct OnlyMap<T>(pub(crate) T);

/// Implements `Deserialize` through [`OnlyMap`] for structs that derive it with `remote = "Self"`.
macro_rules! maps {
    ($($name:ident),+ $(,)?) => {$(
        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                // The derived function: an inherent one wins over the trait's.
                $name::deserialize($crate::policy::template::value::OnlyMap(deserializer))
            }
        }
    )+};
}

pub(crate) use maps;

// === impl Text ===

impl Text<'_> {
    /// The same string, borrowed from this one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a `Cow`, for a [`Query`](crate::policy::facts::Query).
    pub fn as_cow(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.0)
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own `Cow` copies unless a field attribute says otherwise, and none reaches inside an `Option`.
        struct Borrow;

        impl<'de> Visitor<'de> for Borrow {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Borrow).map(Self)
    }
}

// === impl Scalar ===

impl Scalar<'_> {
    /// The text of a string, or the digits of a number.
    pub fn as_written(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Number(digits) => digits,
            Self::Bool(true) => "true",
            Self::Bool(false) => "false",
        }
    }

    /// The string, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Bool(_) => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By way of the raw bytes, since only they keep a number as it was written.
        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw)
                .map(Self::Text)
                .map_err(de::Error::custom),
            Some(b'-' | b'0'..=b'9') => Ok(Self::Number(raw)),
            Some(b't') => Ok(Self::Bool(true)),
            Some(b'f') => Ok(Self::Bool(false)),
            Some(b'{') => Err(de::Error::custom("invalid type: map, expected a string")),
            Some(b'[') => Err(de::Error::custom(
                "invalid type: sequence, expected a string",
            )),
            _ => Err(de::Error::custom("invalid type: null, expected a string")),
        }
    }
}

// === impl List ===

impl<T> List<T> {
    /// The items that are there, each with its place in the list as it was written.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &T)> {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Some((index, item.as_ref()?)))
    }

    /// The items that are there.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// None are there.
    pub fn is_empty(&self) -> bool {
        self.items().next().is_none()
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|items| Self(items.unwrap_or_default()))
    }
}

// === impl Map ===

impl<V> Map<'_, V> {
    /// The value of `key`; of the last one where the key is given twice, as every JSON decoder of Kubernetes does.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.0
            .iter()
            .rev()
            .find(|(name, _)| &**name == key)
            .map(|(_, value)| value)
    }

    /// Keys and values in the order they were written.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(key, value)| (&**key, value))
    }

    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<V> Default for Map<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de: 'a, 'a, V: Deserialize<'de>> Deserialize<'de> for Map<'a, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = Vec<(Text<'de>, V)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Vec::new())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(key) = map.next_key()? {
                    if let Some(value) = map.next_value::<Option<V>>()? {
                        entries.push((key, value));
                    }
                }
                Ok(entries)
            }
        }

        deserializer.deserialize_any(Entries(PhantomData)).map(Self)
    }
}

// === impl OnlyMap ===

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyMap<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(OnlyMap(visitor))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for OnlyMap<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(map)
    }
}
