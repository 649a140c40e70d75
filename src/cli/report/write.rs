//! One write, and what it means that it is refused.

use http::{StatusCode, request::Builder};
use serde_json::Value;

use crate::cli::cluster::{Api, said};

/// Why something was not written.
#[derive(Debug)]
pub(super) enum Refused {
    /// The object or its namespace is gone, or about to go: nobody's fault, and nothing to mend.
    Going,
    /// In words that follow a colon.
    Because(String),
}

/// What the API server says of a namespace that is being deleted
/// (apiserver `pkg/admission/plugin/namespace/lifecycle/admission.go`).
const TERMINATED: &str = "because it is being terminated";

/// Sends an object.
pub(super) async fn write(api: &Api, request: Builder, object: &Value) -> Result<(), Refused> {
    let sent = api.send(request, Some(object)).await;
    let (status, body, _) = sent.map_err(Refused::Because)?;
    if status.is_success() {
        return Ok(());
    }
    let words = said(status, &body);
    if status == StatusCode::NOT_FOUND || words.contains(TERMINATED) {
        return Err(Refused::Going);
    }
    Err(Refused::Because(words))
}
