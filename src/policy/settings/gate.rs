//! The settings of the traffic gate: what injection needs to know beside the pod.

use schemars::JsonSchema;
use serde::Deserialize;

/// What injection needs to know beside the pod.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// The gate's image. The server gives its own default where the file has none.
    pub image: Option<String>,
    /// When it is pulled.
    pub pull_policy: PullPolicy,
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
