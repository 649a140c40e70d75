//! What the API server is told: a verdict or a patch as an AdmissionReview, and everything else as a `Status`.
//!
//! kube's own `AdmissionResponse` is not used: it writes `patch` as a list of numbers and `auditAnnotations` in an order
//! that changes from run to run.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use serde::{Serialize, Serializer};

use super::{
    metrics::Rejection,
    review::{API_VERSION, KIND, NotAReview},
};
use crate::policy::{
    gate::Injection,
    operation::Operation,
    verdict::{Decision, Verdict},
    workload::Malformed,
};

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// A request that gets no verdict. Whether the object is let in is then for `failurePolicy` to say.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// Another path.
    #[error("there is nothing at {0}; reviews go to /validate, /mutate and /inject")]
    Path(String),
    /// Another method.
    #[error("reviews are sent by POST, not by {0}")]
    Method(http::Method),
    /// Another content type.
    #[error("reviews are application/json, not {0}")]
    ContentType(String),
    /// A body over the limit.
    #[error("the body is larger than 8 MiB, which no review can be")]
    TooLarge,
    /// A body that ended early.
    #[error("the body broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A body that is no review.
    #[error(transparent)]
    Review(#[from] NotAReview),
    /// An object that can't be read as its kind.
    #[error("the object can't be read as {kind}: {malformed}")]
    Object {
        /// What it should be.
        kind: String,
        /// Where it isn't, and why.
        malformed: Malformed,
    },
    /// Too much at once.
    #[error("too many reviews at once; try again")]
    Shed,
    /// Too slow.
    #[error("no verdict in time")]
    Timeout,
}

/// `AdmissionReview`, as it is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: AdmissionResponse<'a>,
}

/// `response` of a review (k8s.io/api `admission/v1`, `AdmissionResponse`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AdmissionResponse<'a> {
    uid: &'a str,
    allowed: bool,
    /// Read only where the object is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// JSON Patch (RFC 6902) in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    /// For the API server's audit log, which puts the webhook's name before each key.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    audit_annotations: Vec<(&'static str, String)>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

/// `Status` (apimachinery `meta/v1`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "status")]
    outcome: &'static str,
    message: &'a str,
    reason: &'static str,
    code: u16,
}

/// The judge's verdict.
pub(super) fn verdict(uid: &str, verdict: &Verdict) -> Answer {
    let refused = verdict.decision == Decision::Deny;
    review(AdmissionResponse {
        status: refused.then(|| Status::new(StatusCode::FORBIDDEN, &verdict.message)),
        audit_annotations: verdict.audit(),
        warnings: &verdict.warnings,
        ..AdmissionResponse::new(uid, !refused)
    })
}

/// A self-check refused, in these words. The connection ends with it, so that the next one has to be dialled: what is
/// proved is that the API server can, and not that it could once.
pub(super) fn self_check(uid: &str, refusal: &str) -> Answer {
    let mut answer = review(AdmissionResponse {
        status: Some(Status::new(StatusCode::FORBIDDEN, refusal)),
        audit_annotations: decided("self-check"),
        ..AdmissionResponse::new(uid, false)
    });
    let close = HeaderValue::from_static("close");
    answer.headers_mut().insert(CONNECTION, close);
    answer
}

/// Let in without a verdict; `decision` tells the audit log why.
pub(super) fn allowed(uid: &str, decision: &str, warnings: &[String]) -> Answer {
    review(AdmissionResponse {
        audit_annotations: decided(decision),
        warnings,
        ..AdmissionResponse::new(uid, true)
    })
}

/// Let in, with the defaults of the settings.
pub(super) fn patched(uid: &str, operations: &[Operation]) -> Answer {
    review(AdmissionResponse {
        audit_annotations: decided("patched"),
        ..AdmissionResponse::patched(uid, operations)
    })
}

/// Let in, with a gate.
pub(super) fn injected(uid: &str, injection: &Injection) -> Answer {
    let Injection {
        demand,
        takeover,
        operations,
        warnings,
    } = injection;
    review(AdmissionResponse {
        audit_annotations: vec![
            ("decision", "injected".to_owned()),
            ("demand", demand.as_str().to_owned()),
            ("takeover", takeover.as_str().to_owned()),
        ],
        warnings,
        ..AdmissionResponse::patched(uid, operations)
    })
}

/// `auditAnnotations` of an answer that rests on no rule.
fn decided(decision: &str) -> Vec<(&'static str, String)> {
    vec![("decision", decision.to_owned())]
}

/// No verdict.
pub(super) fn rejected(rejected: &Rejected) -> Answer {
    let code = rejected.status();
    let mut answer = json(code, &Status::new(code, &rejected.to_string()));
    let headers = answer.headers_mut();
    match code {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        // The API server waits that long and asks again, perhaps another replica, while its own timeout allows
        // (client-go `rest/with_retry.go`).
        StatusCode::TOO_MANY_REQUESTS => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    answer
}

fn review(response: AdmissionResponse<'_>) -> Answer {
    json(
        StatusCode::OK,
        &Body {
            api_version: API_VERSION,
            kind: KIND,
            response,
        },
    )
}

/// Pairs as a JSON object, in their order.
fn as_map<S: Serializer>(
    pairs: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

fn json(code: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(body).expect("strings and numbers are JSON");
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

// === impl Rejected ===

impl Rejected {
    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(_) | Self::Review(_) => StatusCode::BAD_REQUEST,
            Self::Object { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Shed => StatusCode::TOO_MANY_REQUESTS,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The label that it is counted with; `None` for shed requests, which have a counter of their own.
    pub fn label(&self) -> Option<Rejection> {
        Some(match self {
            Self::Path(_) => Rejection::Path,
            Self::Method(_) => Rejection::Method,
            Self::ContentType(_) => Rejection::ContentType,
            Self::TooLarge => Rejection::TooLarge,
            Self::Body(_) => Rejection::Body,
            Self::Review(NotAReview::Utf8(_) | NotAReview::Json(_)) => Rejection::Json,
            Self::Review(NotAReview::Version(_)) => Rejection::Version,
            Self::Review(NotAReview::Lacks("request.object")) | Self::Object { .. } => {
                Rejection::Object
            }
            Self::Review(NotAReview::Kind(_) | NotAReview::Lacks(_)) => Rejection::NotReview,
            Self::Timeout => Rejection::Timeout,
            Self::Shed => return None,
        })
    }
}

// === impl AdmissionResponse ===

impl<'a> AdmissionResponse<'a> {
    fn new(uid: &'a str, allowed: bool) -> Self {
        Self {
            uid,
            allowed,
            status: None,
            patch_type: None,
            patch: None,
            audit_annotations: Vec::new(),
            warnings: &[],
        }
    }

    fn patched(uid: &'a str, operations: &[Operation]) -> Self {
        let patch = serde_json::to_vec(operations).expect("strings and JSON values are JSON");
        Self {
            patch_type: Some("JSONPatch"),
            patch: Some(STANDARD.encode(patch)),
            ..Self::new(uid, true)
        }
    }
}

// === impl Status ===

impl<'a> Status<'a> {
    fn new(code: StatusCode, message: &'a str) -> Self {
        let reason = match code {
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
            StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
            StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
            StatusCode::GATEWAY_TIMEOUT => "Timeout",
            _ => "BadRequest",
        };
        Self {
            api_version: "v1",
            kind: "Status",
            outcome: "Failure",
            message,
            reason,
            code: code.as_u16(),
        }
    }
}
