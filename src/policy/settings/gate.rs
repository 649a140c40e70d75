//! The settings of the traffic gate: what injection needs to know beside the pod.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What injection needs to know beside the pod.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The gate's image. The server gives its own default where the file has none.
    pub image: Option<String>,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
    /// What every gate is told, unless its namespace or pod says otherwise: a document as in the annotation
    /// `portcullis.dev/gate-config`.
    pub defaults: Option<Map<String, Value>>,
    /// The same by name, for pods with the annotation `portcullis.dev/gate-profile`.
    pub profiles: BTreeMap<String, Map<String, Value>>,
}

/// `imagePullPolicy` of the gate's container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// `Always`
    Always,
    /// `IfNotPresent`
    #[default]
    IfNotPresent,
    /// `Never`
    Never,
}

// === impl PullPolicy ===

impl PullPolicy {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
