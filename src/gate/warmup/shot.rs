//! One declared request: loaded once, sent again and again.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    contract::{StatusRange, Warmup, WarmupBody},
    gate::check::{describe, describe_http},
};

/// What a warm-up request carries, so that the app and its logs can tell it from a client's.
pub const MARK: HeaderName = HeaderName::from_static("x-portcullis-warmup");

/// A request, ready to be sent again and again.
#[derive(Debug)]
pub(super) struct Shot {
    app: Vec<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
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
        let host = app.first().map_or_else(String::new, ToString::to_string);
        let agent = concat!("portcullis-gate/", env!("CARGO_PKG_VERSION"));
        let own = [(header::HOST, host.as_str()), (header::USER_AGENT, agent)];
        let given = request.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        });
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
        let path = request.path.split('?').next().unwrap_or_default();
        shots.push(Shot {
            app,
            // Both were found good when the settings were read.
            method: request.method.parse().unwrap_or_default(),
            uri: request.path.parse().unwrap_or_default(),
            headers: own
                .chain(given)
                .chain([(MARK, HeaderValue::from_static("1"))])
                .collect(),
            body,
            status: request.status.clone(),
            weight: request.weight,
            name: format!("{} {path}", request.method),
        });
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
    /// Sends it on the kept connection, or on a new one, and reads the answer to its end.
    pub(super) async fn send(
        &self,
        kept: &mut Option<(Vec<SocketAddr>, SendRequest<Full<Bytes>>)>,
    ) -> Result<(), String> {
        let fail = |why: String| format!("{}: {why}", self.name);
        let broken = |error: hyper::Error| fail(describe_http(&error));
        let reusable = match kept.take() {
            Some((app, mut sender)) if app == self.app => {
                sender.ready().await.is_ok().then_some(sender)
            }
            _ => None,
        };
        let mut sender = match reusable {
            Some(sender) => sender,
            None => self.connect().await.map_err(fail)?,
        };
        let response = sender.send_request(self.request()).await.map_err(broken)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(broken)?;
        }
        *kept = Some((self.app.clone(), sender));
        if self.status.iter().any(|range| range.contains(status)) {
            Ok(())
        } else {
            Err(fail(status.to_string()))
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(self.app.as_slice())
            .await
            .map_err(|error| describe(&error))?;
        stream.set_nodelay(true).map_err(|error| describe(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| describe_http(&error))?;
        // Ends with its sender, which its worker holds; errors come out of the sender, too.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request
    }
}

#[cfg(test)]
impl Shot {
    pub(super) fn weighing(weight: u32) -> Self {
        Self {
            app: Vec::new(),
            method: Method::GET,
            uri: Uri::default(),
            headers: Vec::new(),
            body: Bytes::new(),
            status: Vec::new(),
            weight,
            name: String::new(),
        }
    }
}
