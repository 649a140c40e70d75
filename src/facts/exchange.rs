//! One exchange with the API server: a request, and what it says in place of an answer.

use std::{error::Error, io};

use http::{Request, StatusCode, header::ACCEPT};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::{Client, client::Body};
use serde::Deserialize;

use super::page::ListMetadata;
use crate::{
    policy::template::Text,
    telemetry::{causes, innermost},
};

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
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("the answer is larger than any object can be")]
    TooLarge,
    #[error("the answer is not the object that was asked for")]
    Content,
}

/// One request. `Err` unless the API server answers with what was asked for.
///
/// Sent once more where its connection broke before there was an answer, which may be done with what only reads
/// (RFC 9112, section 9.3.1). An API server closes a connection after 90 s in which nothing was asked on it
/// (apiserver `pkg/server/secure_serving.go`, `IdleTimeout`); so do the load balancers before it, after a time of their
/// own; and either may do it just when something is asked again.
pub(super) async fn send(
    client: &Client,
    path: &str,
    accept: &'static str,
) -> Result<Body, Refusal> {
    let request = || {
        Request::get(path)
            .header(ACCEPT, accept)
            .body(Body::empty())
            .expect("a path of letters, digits, dots and dashes")
    };
    let response = match client.send(request()).await {
        Err(error) if broke_off(&error) => client.send(request()).await,
        answered => answered,
    };
    let response = response.map_err(|error| Refusal::unanswered(&innermost(&error)))?;
    let status = response.status();
    let body = response.into_body();
    if status == StatusCode::OK {
        return Ok(body);
    }
    let refusal = whole(body, MAX_REFUSAL).await.unwrap_or_default();
    Err(Refusal::read(status, &refusal))
}

/// Whether the connection ended without an answer, as it does when it was closed while a request was on its way.
fn broke_off(error: &kube::Error) -> bool {
    causes(error).any(|cause| {
        let incomplete = cause.downcast_ref::<hyper::Error>();
        let reset = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        incomplete.is_some_and(hyper::Error::is_incomplete_message)
            || matches!(
                reset,
                Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            )
    })
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
    pub(super) fn body(error: Box<dyn Error + Send + Sync>) -> Self {
        if error.is::<LengthLimitError>() {
            Self::TooLarge
        } else {
            Self::Body(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    /// An API server, and a client of it.
    async fn server() -> (TcpListener, Client) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}", server.local_addr().unwrap());
        let mut config = kube::Config::new(uri.parse().unwrap());
        config.default_retry = false;
        (server, Client::try_from(config).unwrap())
    }

    async fn ask(client: &Client) -> Result<String, Box<str>> {
        let body = send(client, "/version", JSON).await;
        let body = body.map_err(|refusal| refusal.words)?;
        Ok(whole(body, MAX_BODY).await.unwrap())
    }

    async fn read_request(stream: &mut TcpStream) {
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
    }

    #[tokio::test]
    async fn who_is_asked_on_a_connection_that_he_is_closing_is_asked_on_another() {
        let (server, client) = server().await;
        let serve = async {
            let (mut kept, _) = server.accept().await.unwrap();
            read_request(&mut kept).await;
            kept.write_all(ANSWER).await.unwrap();
            read_request(&mut kept).await;
            drop(kept);
            let (mut another, _) = server.accept().await.unwrap();
            read_request(&mut another).await;
            another.write_all(ANSWER).await.unwrap();
        };
        let twice = async { [ask(&client).await, ask(&client).await] };
        let ((), answers) = tokio::join!(serve, twice);
        assert_eq!(answers, [(); 2].map(|()| Ok("{}".to_owned())));
    }

    #[tokio::test]
    async fn who_never_answers_is_asked_twice_and_no_more() {
        let (server, client) = server().await;
        let serve = async {
            for _ in 0..2 {
                let (mut stream, _) = server.accept().await.unwrap();
                read_request(&mut stream).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = serve => {}
            answer = ask(&client) => {
                let words = answer.unwrap_err();
                assert_eq!(&*words, "no answer: connection closed before message completed");
            }
        }
    }
}
