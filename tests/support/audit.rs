//! What the API server's audit log says: who was asked about a request, and what they answered.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

/// One request that the API server has answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub user: User,
    #[serde(default)]
    pub object_ref: Object,
    #[serde(default)]
    pub response_status: Status,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub code: u16,
}

/// Who asked.
#[derive(Clone, Debug, Deserialize)]
pub struct User {
    pub username: String,
}

/// About what.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

// === impl Event ===

impl Event {
    /// The answered writes in a namespace, oldest first.
    pub fn in_namespace(log: &Path, namespace: &str) -> Vec<Self> {
        let text = fs::read_to_string(log).expect("the API server writes an audit log");
        // The last line may be half written.
        text.lines()
            .filter_map(|line| serde_json::from_str::<Self>(line).ok())
            .filter(|event| event.object_ref.namespace == namespace)
            .collect()
    }

    /// What Portcullis answered, if it was asked: every answer of its carries audit annotations.
    pub fn decision(&self) -> Option<&str> {
        self.annotations.iter().find_map(|(key, decision)| {
            // A kind whose template stands elsewhere has an entry of its own, whose name ends in the same way.
            key.ends_with("validate.portcullis.dev/decision")
                .then_some(decision.as_str())
        })
    }
}
