//! `http` and `https`: a `GET` whose status, and if asked for whose body, is as expected.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use regex_lite::Regex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::{Target, Trust, drive},
    failure::Failure,
};
use crate::contract::HttpCheck;

/// How much of a body is looked at for a match.
const MAX_BODY: usize = 64 * 1024;

/// An HTTP check, ready to run.
#[derive(Debug)]
pub(super) struct Http {
    target: Target,
    /// `Some` for `https`.
    trust: Option<Trust>,
    check: HttpCheck,
    body: Option<Regex>,
}

// === impl Http ===

impl Http {
    pub(super) fn new(check: &HttpCheck, tls: bool, target: Target) -> Self {
        let trust = tls.then(|| match &check.ca_file {
            Some(path) => Trust::File(path.clone()),
            None => Trust::Anybody,
        });
        let body = check.body_matches.as_deref();
        Self {
            target,
            trust,
            check: check.clone(),
            // The settings were refused if it were none.
            body: body.and_then(|pattern| Regex::new(pattern).ok()),
        }
    }

    /// `GET /ready`, with the host where it is not the app. A query may hold a token: it stays out.
    pub(super) fn subject(&self) -> String {
        let path = self.check.path.split('?').next().unwrap_or_default();
        match &self.target {
            Target::App(_) => format!("GET {path}"),
            Target::Host(..) => {
                let scheme = if self.trust.is_some() {
                    "https"
                } else {
                    "http"
                };
                format!("GET {scheme}://{}{path}", self.target.authority())
            }
        }
    }

    pub(super) async fn run(&self) -> Result<(), Failure> {
        let subject = self.subject();
        let stream = self.target.connect(&subject).await?;
        match &self.trust {
            None => self.exchange(stream, &subject).await,
            Some(trust) => {
                let stream = trust
                    .handshake(stream, &self.target.host(), &subject)
                    .await?;
                self.exchange(stream, &subject).await
            }
        }
    }

    async fn exchange<S>(&self, stream: S, subject: &str) -> Result<(), Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broken = |error: hyper::Error| Failure::new(subject, describe_http(&error));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answer = async {
            let response = sender.send_request(self.request()).await.map_err(broken)?;
            self.judge(response, subject).await
        };
        drive(answer, connection).await
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        // Paths and fields were found good when the settings were read.
        *request.uri_mut() = self.check.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        if let Ok(host) = HeaderValue::try_from(self.target.authority()) {
            headers.insert(header::HOST, host);
        }
        let agent = concat!("portcullis-gate/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        for (name, value) in &self.check.headers {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        }
        request
    }

    async fn judge(
        &self,
        response: http::Response<Incoming>,
        subject: &str,
    ) -> Result<(), Failure> {
        let status = response.status().as_u16();
        if !self.check.status.iter().any(|range| range.contains(status)) {
            return Err(Failure::new(subject, status));
        }
        let Some(pattern) = &self.body else {
            return Ok(());
        };
        let body = read(response.into_body())
            .await
            .map_err(|error| Failure::new(subject, describe_http(&error)))?;
        if pattern.is_match(&String::from_utf8_lossy(&body)) {
            Ok(())
        } else {
            let problem =
                format_args!("{status}, but its body does not match {}", pattern.as_str());
            Err(Failure::new(subject, problem))
        }
    }
}

/// The first [`MAX_BODY`] bytes.
async fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Vec<u8>, B::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() >= MAX_BODY {
            bytes.truncate(MAX_BODY);
            break;
        }
    }
    Ok(bytes)
}

/// Words for what can go wrong between two HTTP implementations.
pub(in crate::gate) fn describe_http(error: &hyper::Error) -> String {
    let io = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    match io {
        Some(io) => super::failure::describe(io),
        None if error.is_incomplete_message() => "connection closed in mid-answer".to_owned(),
        None if error.is_parse() => "what it answers is not HTTP".to_owned(),
        None => error.to_string(),
    }
}
