//! Whether the API server waits for us.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `failurePolicy` of a webhook (k8s.io/api `admissionregistration/v1`): what becomes of an object when the API server
/// gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FailurePolicy {
    /// It is let in, unjudged.
    Ignore,
    /// It is refused.
    Fail,
}

// === impl FailurePolicy ===

impl FailurePolicy {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ignore => "Ignore",
            Self::Fail => "Fail",
        }
    }
}
