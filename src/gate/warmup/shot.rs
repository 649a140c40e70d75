//! One declared request: loaded once, sent again and again.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};

use super::connection::Connection;
use crate::{
    contract::{StatusRange, Warmup, WarmupBody, WarmupRequest},
    gate::check::{describe, describe_http},
};

/// What a warm-up request carries, so that the app and its logs can tell it from a client's.
pub const MARK: HeaderName = HeaderName::from_static("x-portcullis-warmup");

/// A request, ready to be sent again and again.
#[derive(Debug)]
pub(super) struct Shot {
    app: Vec<SocketAddr>,
    is_http2: bool,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    status: Vec<StatusRange>,
    pub(super) weight: u32,
    /// `GET /catalog`, for reasons.
    pub(super) name: String,
}

/// A body from a file is at most this long.
const MAX_BODY: u64 = 1024 * 1024;

pub(super) async fn load(
    settings: &Warmup,
    ports: &[(String, Vec<SocketAddr>)],
) -> Result<Vec<Shot>, String> {
    let mut shots = Vec::with_capacity(settings.requests.len());
    for request in &settings.requests {
        let app = match &request.port {
            Some(name) => ports.iter().find(|(port, _)| port == name),
            None => ports.first(),
        };
        let app = app
            .map(|(_, addresses)| addresses.clone())
            .unwrap_or_default();
        let body = match &request.body {
            None => Bytes::new(),
            Some(WarmupBody::Text(text)) => Bytes::from(text.clone()),
            Some(WarmupBody::File(path)) => read(path).await?,
        };
        shots.push(Shot::new(request, app, body));
    }
    Ok(shots)
}

async fn read(path: &str) -> Result<Bytes, String> {
    let unreadable = |error: std::io::Error| format!("file {path}: {}", describe(&error));
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if length > MAX_BODY {
        return Err(format!("file {path}: is longer than 1 MiB"));
    }
    tokio::fs::read(path)
        .await
        .map(Bytes::from)
        .map_err(unreadable)
}

// === impl Shot ===

impl Shot {
    /// Of a request whose fields were found good when the settings were read.
    fn new(request: &WarmupRequest, app: Vec<SocketAddr>, body: Bytes) -> Self {
        let host = app.first().map_or_else(String::new, ToString::to_string);
        let agent = concat!("portcullis-gate/", env!("CARGO_PKG_VERSION"));
        let mut headers = HeaderMap::new();
        let given = request.headers.iter();
        let own = [("host", host.as_str()), ("user-agent", agent)].into_iter();
        for (name, value) in own.chain(given.map(|(name, value)| (name.as_str(), value.as_str()))) {
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::try_from(value))
            {
                headers.insert(name, value);
            }
        }
        headers.insert(MARK, HeaderValue::from_static("1"));
        let mut uri: Uri = request.path.parse().unwrap_or_default();
        // HTTP/2 names the host in `:authority`, which hyper takes from the target.
        if request.http2
            && let Some(host) = headers.remove(header::HOST)
            && let Ok(host) = host.to_str()
            && let Ok(whole) = format!("http://{host}{}", request.path).parse()
        {
            uri = whole;
        }
        let path = request.path.split('?').next().unwrap_or_default();
        Self {
            app,
            is_http2: request.http2,
            method: request.method.parse().unwrap_or_default(),
            uri,
            headers,
            body,
            status: request.status.clone(),
            weight: request.weight,
            name: format!("{} {path}", request.method),
        }
    }

    /// Sends it on the kept connection, or on a new one, and reads the answer to its end.
    pub(super) async fn send(&self, kept: &mut Option<Connection>) -> Result<(), String> {
        let fail = |why: String| format!("{}: {why}", self.name);
        let broken = |error: hyper::Error| fail(describe_http(&error));
        let reused = match kept.take() {
            Some(kept) => kept.reuse(&self.app, self.is_http2).await,
            None => None,
        };
        let mut connection = match reused {
            Some(reused) => reused,
            None => Connection::open(&self.app, self.is_http2)
                .await
                .map_err(fail)?,
        };
        let response = connection.send(self.request()).await.map_err(broken)?;
        let (head, mut body) = response.into_parts();
        let mut refusal = grpc_refusal(&head.headers);
        while let Some(frame) = body.frame().await {
            if let Ok(trailers) = frame.map_err(broken)?.into_trailers() {
                refusal = refusal.or_else(|| grpc_refusal(&trailers));
            }
        }
        *kept = Some(connection);
        let status = head.status.as_u16();
        if !self.status.iter().any(|range| range.contains(status)) {
            return Err(fail(status.to_string()));
        }
        refusal.map_or(Ok(()), |refusal| Err(fail(refusal)))
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// gRPC says in trailers, or in the head where there is no message, how a call ended; its status is always 200.
fn grpc_refusal(fields: &HeaderMap) -> Option<String> {
    let status = fields.get("grpc-status")?.to_str().ok()?;
    (status != "0").then(|| format!("grpc-status {status}"))
}

#[cfg(test)]
impl Shot {
    pub(super) fn weighing(weight: u32) -> Self {
        Self {
            app: Vec::new(),
            is_http2: false,
            method: Method::GET,
            uri: Uri::default(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            status: Vec::new(),
            weight,
            name: String::new(),
        }
    }
}
