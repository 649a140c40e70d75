//! The key names of a Secret or ConfigMap, read from its bytes as they pass.
//!
//! Values are never gathered: each byte of the answer is looked at once and forgotten, so a Secret of 1 MiB costs no
//! more memory than the names of its keys, and no value ever becomes a string of ours.

/// The maps whose keys are asked for. `stringData` is never served back by an API server; it stands here so that a
/// server that does keeps the promise too.
const SECTIONS: [&[u8]; 3] = [b"data", b"binaryData", b"stringData"];

/// The type of Secrets that are filled a moment after they are made, by the token controller, with [`TOKEN_KEYS`]
/// (kubernetes `pkg/controller/serviceaccount/tokens_controller.go`).
pub(super) const TOKEN_TYPE: &str = "kubernetes.io/service-account-token";

/// What a Secret of [`TOKEN_TYPE`] holds, or is about to hold.
pub(super) const TOKEN_KEYS: [&str; 3] = ["ca.crt", "namespace", "token"];

/// All key names together. An object holds at most 1 MiB (`MaxSecretSize`), and at most 1.5 MiB fit into etcd.
const MAX_KEY_BYTES: usize = 2 * 1024 * 1024;

/// Reads one JSON object, chunk by chunk, wherever the chunks are cut.
///
/// It trusts the API server to send well-formed JSON and only follows its structure; an answer that was cut short is
/// noticed by [`Keys::finish`].
#[derive(Debug, Default)]
pub(super) struct Keys {
    depth: usize,
    string: Option<Part>,
    /// The next string is a member's name.
    before_name: bool,
    /// We are inside one of [`SECTIONS`], and it is an object.
    in_section: bool,
    /// The object has begun.
    opened: bool,
    /// The name that is being read, or was read last.
    name: Vec<u8>,
    found: Vec<Box<str>>,
    found_bytes: usize,
    /// `type`, as far as it is like [`TOKEN_TYPE`].
    kind: Vec<u8>,
}

/// Which part of a string the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A name we may want.
    Name,
    /// The byte after a backslash in a name.
    NameEscape,
    /// `type` of a Secret.
    Type,
    /// Anything else: passed over.
    Other,
    /// The byte after a backslash in anything else.
    OtherEscape,
}

/// What came is not one whole object, or holds more key names than an object can.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not one whole JSON object")]
pub(super) struct NotAnObject(());

// === impl Keys ===

impl Keys {
    /// Looks at the next bytes of the answer.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), NotAnObject> {
        for &byte in chunk {
            match self.string {
                Some(part) => self.string = self.inside_string(part, byte)?,
                None => self.between(byte)?,
            }
        }
        Ok(())
    }

    /// The key names, sorted, each once.
    pub(super) fn finish(self) -> Result<Vec<Box<str>>, NotAnObject> {
        if !self.opened || self.depth > 0 || self.string.is_some() {
            return Err(NotAnObject(()));
        }
        let mut keys = self.found;
        if self.kind == TOKEN_TYPE.as_bytes() {
            keys.extend(TOKEN_KEYS.map(Box::from));
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    fn inside_string(&mut self, part: Part, byte: u8) -> Result<Option<Part>, NotAnObject> {
        Ok(match (part, byte) {
            (Part::Name, b'"') => {
                self.end_name()?;
                None
            }
            (Part::Other | Part::Type, b'"') => None,
            (Part::Type, _) if TOKEN_TYPE.as_bytes().get(self.kind.len()) == Some(&byte) => {
                self.kind.push(byte);
                Some(Part::Type)
            }
            (Part::Type, _) => {
                self.kind.clear();
                Some(if byte == b'\\' {
                    Part::OtherEscape
                } else {
                    Part::Other
                })
            }
            (Part::Other, b'\\') => Some(Part::OtherEscape),
            (Part::Other | Part::OtherEscape, _) => Some(Part::Other),
            (Part::Name | Part::NameEscape, _) => {
                self.name.push(byte);
                if self.found_bytes + self.name.len() > MAX_KEY_BYTES {
                    return Err(NotAnObject(()));
                }
                Some(if part == Part::Name && byte == b'\\' {
                    Part::NameEscape
                } else {
                    Part::Name
                })
            }
        })
    }

    fn between(&mut self, byte: u8) -> Result<(), NotAnObject> {
        match byte {
            b'"' if self.wants_name() => {
                self.name.clear();
                self.string = Some(Part::Name);
            }
            b'"' if self.depth == 1 && self.name == b"type" => {
                self.kind.clear();
                self.string = Some(Part::Type);
            }
            b'"' => self.string = Some(Part::Other),
            b':' => self.before_name = false,
            b',' => self.before_name = true,
            b'{' | b'[' => {
                if self.depth == 0 && (self.opened || byte == b'[') {
                    return Err(NotAnObject(()));
                }
                if self.depth == 1 {
                    self.in_section = byte == b'{' && SECTIONS.contains(&self.name.as_slice());
                }
                self.opened = true;
                self.depth += 1;
                self.before_name = true;
            }
            b'}' | b']' => {
                self.depth = self.depth.checked_sub(1).ok_or(NotAnObject(()))?;
                self.before_name = false;
            }
            _ if self.depth == 0 && !byte.is_ascii_whitespace() => return Err(NotAnObject(())),
            _ => {}
        }
        Ok(())
    }

    /// Members' names count on the first level, to find the sections, and on the second inside of one.
    fn wants_name(&self) -> bool {
        self.before_name && (self.depth == 1 || (self.depth == 2 && self.in_section))
    }

    fn end_name(&mut self) -> Result<(), NotAnObject> {
        if self.name.contains(&b'\\') {
            let quoted = [b"\"", self.name.as_slice(), b"\""].concat();
            let plain: String = serde_json::from_slice(&quoted).map_err(|_| NotAnObject(()))?;
            self.name = plain.into_bytes();
        }
        if self.depth == 2 {
            let key = str::from_utf8(&self.name).map_err(|_| NotAnObject(()))?;
            self.found_bytes += key.len();
            self.found.push(key.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn keys(bytes: &[u8], cut: usize) -> Result<Vec<Box<str>>, NotAnObject> {
        let mut keys = Keys::default();
        for chunk in bytes.chunks(cut) {
            keys.push(chunk)?;
        }
        keys.finish()
    }

    #[test]
    fn finds_the_keys_of_all_sections_and_of_nothing_else() {
        let secret = json!({
            "kind": "Secret",
            "metadata": {"name": "data", "data": {"not": "this"}, "managedFields": [{"data": {"nor": 1}}]},
            "data": {"url": "e30=", "ca.crt": "\"data\":{\"no\":1}"},
            "stringData": {"extra": "x"},
            "binaryData": {"logo.png": "AAAA"},
            "type": "Opaque",
        });
        let found = keys(secret.to_string().as_bytes(), 7).unwrap();
        assert_eq!(found, ["ca.crt", "extra", "logo.png", "url"].map(Box::from));
    }

    #[test]
    fn a_token_secret_counts_as_filled_from_the_start() {
        for (secret, token) in [
            (json!({"type": TOKEN_TYPE}), true),
            (json!({"data": {"token": "x"}, "type": TOKEN_TYPE}), true),
            (
                json!({"type": "kubernetes.io/service-account-tokens"}),
                false,
            ),
            (json!({"type": "kubernetes.io/service-account"}), false),
            (
                json!({"type": "x\\\"kubernetes.io/service-account-token"}),
                false,
            ),
            (json!({"metadata": {"type": TOKEN_TYPE}}), false),
            (json!({"data": {"type": TOKEN_TYPE}}), false),
        ] {
            for cut in [1, 5, 1000] {
                let found = keys(secret.to_string().as_bytes(), cut).unwrap();
                let is_token = found == TOKEN_KEYS.map(Box::from);
                assert_eq!(is_token, token, "{secret}: {found:?}");
            }
        }
    }

    #[test]
    fn takes_absent_null_and_empty_sections_for_no_keys() {
        for object in [
            json!({}),
            json!({"data": null}),
            json!({"data": {}}),
            json!({"data": ["a"]}),
        ] {
            let keys = keys(object.to_string().as_bytes(), 1).unwrap();
            assert!(keys.is_empty(), "{object}: {keys:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_one_whole_object() {
        let bodies: [&[u8]; 9] = [
            b"",
            b"null",
            b"[]",
            b"\"data\"",
            b"{\"data\":{\"a\"",
            b"{\"data\":{}",
            b"{}{}",
            b"}",
            b"{}x",
        ];
        for body in bodies {
            assert!(keys(body, 3).is_err(), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn keeps_no_byte_of_a_value() {
        let value = "s3cr3t".repeat(100_000);
        let body = json!({"data": {"key": value}}).to_string();
        let mut keys = Keys::default();
        keys.push(body.as_bytes()).unwrap();
        assert!(keys.name.capacity() < 64, "{}", keys.name.capacity());
        assert!(!format!("{keys:?}").contains("s3cr3t"));
    }

    #[test]
    fn bounds_the_names_that_it_gathers() {
        let body = json!({"data": {"k".repeat(MAX_KEY_BYTES + 1): ""}}).to_string();
        assert!(keys(body.as_bytes(), 4096).is_err());
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            let name = prop_oneof!["data", "stringData", "binaryData", "[a-z\"\\\\é]{0,4}"];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_parser_wherever_the_bytes_are_cut(
            value in any_json(), cut in 1_usize..40, pretty in any::<bool>(),
        ) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let found = keys(text.unwrap().as_bytes(), cut);
            let Value::Object(object) = value else {
                prop_assert!(found.is_err());
                return Ok(());
            };
            let expected: BTreeSet<Box<str>> = SECTIONS
                .iter()
                .filter_map(|section| object.get(str::from_utf8(section).unwrap())?.as_object())
                .flat_map(|section| section.keys().map(|key| key.as_str().into()))
                .collect();
            prop_assert_eq!(found.unwrap(), expected.into_iter().collect::<Vec<_>>());
        }
    }
}
