//! One step of a JSON Patch.

use serde::Serialize;
use serde_json::Value;

/// One operation of a JSON Patch (RFC 6902), as it is serialized there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Sets a member of an object, or inserts an item into a list.
    Add {
        /// JSON pointer (RFC 6901) to the new value.
        path: String,
        /// The new value.
        value: Value,
    },
    /// Puts another value where there is one.
    Replace {
        /// JSON pointer to the value.
        path: String,
        /// The new value.
        value: Value,
    },
    /// Takes a value away.
    Remove {
        /// JSON pointer to the value.
        path: String,
    },
}

// === impl Operation ===

impl Operation {
    /// JSON pointer to what it changes.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Replace { path, .. } | Self::Remove { path } => path,
        }
    }

    /// Does it to `object`. Where the parent of its place is missing, nothing is done: operations come with parents first.
    pub fn apply(&self, object: &mut Value) {
        let Some((parent, token)) = self.path().rsplit_once('/') else {
            return;
        };
        match (object.pointer_mut(parent), self) {
            (
                Some(Value::Object(members)),
                Self::Add { value, .. } | Self::Replace { value, .. },
            ) => {
                members.insert(unescape(token), value.clone());
            }
            (Some(Value::Object(members)), Self::Remove { .. }) => {
                members.shift_remove(&unescape(token));
            }
            (Some(Value::Array(items)), _) => {
                let Ok(index) = token.parse::<usize>() else {
                    return;
                };
                match self {
                    Self::Add { value, .. } if index <= items.len() => {
                        items.insert(index, value.clone());
                    }
                    Self::Replace { value, .. } => {
                        if let Some(item) = items.get_mut(index) {
                            *item = value.clone();
                        }
                    }
                    Self::Remove { .. } if index < items.len() => {
                        items.remove(index);
                    }
                    Self::Add { .. } | Self::Remove { .. } => {}
                }
            }
            _ => {}
        }
    }
}

/// A key as a token of a JSON pointer.
pub(super) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn does_what_a_json_patch_does() {
        let before = json!({"a/b": {"list": [1, 2]}, "gone": 1, "other": {}});
        let operations = [
            json!({"op": "add", "path": "/a~1b/list/1", "value": 9}),
            json!({"op": "add", "path": "/a~1b/list/3", "value": 10}),
            json!({"op": "remove", "path": "/a~1b/list/0"}),
            json!({"op": "replace", "path": "/a~1b/list/0", "value": 8}),
            json!({"op": "remove", "path": "/gone"}),
            json!({"op": "replace", "path": "/other", "value": {"~": 1}}),
            json!({"op": "add", "path": "/other/~0", "value": 2}),
        ];
        let published: json_patch::Patch = serde_json::from_value(json!(operations)).unwrap();
        let mut expected = before.clone();
        json_patch::patch(&mut expected, &published).unwrap();

        let mut after = before;
        for operation in operations {
            let value = operation.get("value").cloned().unwrap_or_default();
            let path = operation["path"].as_str().unwrap().to_owned();
            let ours = match operation["op"].as_str().unwrap() {
                "add" => Operation::Add { path, value },
                "replace" => Operation::Replace { path, value },
                _ => Operation::Remove { path },
            };
            assert_eq!(serde_json::to_value(&ours).unwrap(), operation);
            ours.apply(&mut after);
        }
        assert_eq!(after, expected);
    }
}
