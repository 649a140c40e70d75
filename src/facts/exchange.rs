//! One exchange with the API server: a request, and what it says in place of an answer.

use http::{Request, StatusCode, header::ACCEPT};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::{Client, client::Body};
use serde::Deserialize;

use super::page::ListMetadata;
use crate::{policy::template::Text, telemetry::innermost};

/// No object that an API server serves is larger: etcd takes requests of 1.5 MiB (`--max-request-bytes`), JSON of the
/// same object can be larger, and the API server itself takes no body above 3 MiB
/// (`MaxRequestBodyBytes`). A page of a list stays below.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;

/// What objects and lists are asked for as.
pub(super) const JSON: &str = "application/json";

/// Of a refusal only the message is read, and it is short.
const MAX_REFUSAL: usize = 64 * 1024;

/// `Status`, as far as it says why.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    kind: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    message: Option<Text<'a>>,
    metadata: ListMetadata<'a>,
}

/// What the API server says in place of what was asked for.
pub(super) struct Refusal {
    /// None where there was no answer at all.
    pub(super) status: Option<StatusCode>,
    /// It says clearly that the object is not there.
    pub(super) is_missing: bool,
    /// Its status and message, or what went wrong on the way.
    pub(super) words: Box<str>,
    /// What goes on with a list whose token has expired.
    pub(super) token: Option<Box<str>>,
}

/// An answer that can't be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is larger than any object can be")]
    TooLarge,
    #[error("the answer is not the object that was asked for")]
    Content,
}

/// One request. `Err` unless the API server answers with what was asked for.
pub(super) async fn send(
    client: &Client,
    path: &str,
    accept: &'static str,
) -> Result<Body, Refusal> {
    let request = Request::get(path)
        .header(ACCEPT, accept)
        .body(Body::empty())
        .expect("a path of letters, digits, dots and dashes");
    let response = client.send(request).await;
    let response = response.map_err(|error| Refusal::unanswered(&innermost(&error)))?;
    let status = response.status();
    let body = response.into_body();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let refusal = whole(body, MAX_REFUSAL).await.unwrap_or_default();
    Err(Refusal::read(status, &refusal))
}

/// All of a body, if it is text of `limit` bytes at most.
pub(super) async fn whole(body: Body, limit: usize) -> Result<String, Unreadable> {
    let bytes = Limited::new(body, limit)
        .collect()
        .await
        .map_err(Unreadable::body)?
        .to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| Unreadable::Content)
}

/// The path of a list's first page.
pub(super) fn first_page(path: &str, limit: u32) -> String {
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}limit={limit}")
}

/// The path of the page that `token` stands for: base64 as URLs have it
/// (apiserver `pkg/storage/continue.go`, `EncodeContinue`).
pub(super) fn next_page(path: &str, limit: u32, token: &str) -> Result<String, Unreadable> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    if token.bytes().all(plain) {
        Ok(format!("{}&continue={token}", first_page(path, limit)))
    } else {
        Err(Unreadable::Content)
    }
}

// === impl Refusal ===

impl Refusal {
    fn read(status: StatusCode, body: &str) -> Self {
        let Status {
            kind,
            reason,
            message,
            metadata,
        } = serde_json::from_str(body).unwrap_or_default();
        let says = |field: &Option<Text<'_>>, word| field.as_deref() == Some(word);
        let is_missing =
            status == StatusCode::NOT_FOUND && says(&kind, "Status") && says(&reason, "NotFound");
        Self {
            status: Some(status),
            is_missing,
            words: match message.as_deref() {
                Some(message) => format!("{status}: {message}"),
                None => status.to_string(),
            }
            .into(),
            token: metadata.next().map(Into::into),
        }
    }

    pub(super) fn unanswered(words: &str) -> Self {
        Self {
            status: None,
            is_missing: false,
            words: format!("no answer: {words}").into(),
            token: None,
        }
    }
}

// === impl Unreadable ===

impl Unreadable {
    pub(super) fn body(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        if error.is::<LengthLimitError>() {
            Self::TooLarge
        } else {
            Self::Body(error)
        }
    }
}
