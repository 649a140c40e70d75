//! One question to the API server: the request, and what its answer means.

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::{Client, client::Body};
use serde::Deserialize;

use super::{access, decode, keys::Keys};
use crate::policy::{
    facts::{Answer, Query, Unknown},
    template::Text,
};

/// No object that an API server serves is larger: etcd takes requests of 1.5 MiB (`--max-request-bytes`), JSON of the
/// same object can be larger, and the API server itself takes no body above 3 MiB
/// (`MaxRequestBodyBytes`). A list of LimitRanges stays far below.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Of a refusal only the message is read, and it is short.
const MAX_REFUSAL: usize = 64 * 1024;

/// As much of a refusal's message as fits into a warning of 256 characters with what the judge says round it.
const MAX_WORDS: usize = 120;

/// `Status`, as far as it says why.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Status<'a> {
    kind: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    message: Option<Text<'a>>,
}

/// An answer that can't be understood.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer is larger than any object can be")]
    TooLarge,
    #[error("the answer is not the object that was asked for")]
    Content,
}

/// Asks once. Everything but the object itself and a clear "not found" is [`Answer::Unknown`].
pub(super) async fn answer(client: &Client, query: &Query<'_>) -> Answer {
    let Some(path) = access::path(query) else {
        return Answer::Missing;
    };
    let request = Request::get(path)
        .body(Body::empty())
        .expect("a path of letters, digits, dots and dashes");
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) => return unknown(&format!("no answer: {}", innermost(&error))),
    };
    let status = response.status();
    let body = response.into_body();
    if status == StatusCode::OK {
        return found(query, body)
            .await
            .unwrap_or_else(|error| unknown(&error.to_string()));
    }
    let refusal = whole(body, MAX_REFUSAL).await.unwrap_or_default();
    let Status {
        kind,
        reason,
        message,
    } = serde_json::from_str(&refusal).unwrap_or_default();
    let says = |field: &Option<Text<'_>>, word| field.as_deref() == Some(word);
    if status == StatusCode::NOT_FOUND && says(&kind, "Status") && says(&reason, "NotFound") {
        return Answer::Missing;
    }
    match message.as_deref() {
        Some(message) => unknown(&format!("{status}: {message}")),
        None => unknown(&status.to_string()),
    }
}

async fn found(query: &Query<'_>, body: Body) -> Result<Answer, Unreadable> {
    match query {
        Query::Secret { .. } | Query::ConfigMap { .. } => keys(body).await.map(Answer::Keys),
        Query::Namespace { .. } => Ok(Answer::Namespace(decode::namespace(
            &whole(body, MAX_BODY).await?,
        )?)),
        Query::ServiceAccount { .. } => Ok(Answer::ServiceAccount(decode::service_account(
            &whole(body, MAX_BODY).await?,
        )?)),
        Query::LimitRanges { .. } => Ok(Answer::LimitRanges(decode::limit_ranges(
            &whole(body, MAX_BODY).await?,
        )?)),
        Query::Twin {
            namespace, kind, ..
        } => {
            let object = whole(body, MAX_BODY).await?;
            let twin = decode::twin(kind, namespace, serde_json::from_str(&object)?);
            twin.map(Answer::Twin).ok_or(Unreadable::Content)
        }
    }
}

/// The key names, read while the bytes pass.
async fn keys(body: Body) -> Result<Vec<Box<str>>, Unreadable> {
    let mut body = Limited::new(body, MAX_BODY);
    let mut keys = Keys::default();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame.map_err(Unreadable::body)?.into_data() {
            keys.push(&chunk).map_err(|_| Unreadable::Content)?;
        }
    }
    keys.finish().map_err(|_| Unreadable::Content)
}

async fn whole(body: Body, limit: usize) -> Result<String, Unreadable> {
    let bytes = Limited::new(body, limit)
        .collect()
        .await
        .map_err(Unreadable::body)?
        .to_bytes();
    String::from_utf8(bytes.into()).map_err(|_| Unreadable::Content)
}

fn unknown(words: &str) -> Answer {
    let words: String = words.chars().take(MAX_WORDS).collect();
    Answer::Unknown(Unknown::Refused(words.into()))
}

/// What went wrong at the bottom: "Connection refused", not "client error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

// === impl Unreadable ===

impl Unreadable {
    fn body(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        if error.is::<LengthLimitError>() {
            Self::TooLarge
        } else {
            Self::Body(error)
        }
    }
}

impl From<serde_json::Error> for Unreadable {
    fn from(_: serde_json::Error) -> Self {
        Self::Content
    }
}
