//! A connection to the app, kept by one worker from request to request.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::gate::check::{describe, describe_http};

/// A connection to one port of the app.
pub(super) struct Connection {
    app: Vec<SocketAddr>,
    sender: Sender,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

// === impl Connection ===

impl Connection {
    pub(super) async fn open(app: &[SocketAddr], is_http2: bool) -> Result<Self, String> {
        let stream = TcpStream::connect(app)
            .await
            .map_err(|error| describe(&error))?;
        stream.set_nodelay(true).map_err(|error| describe(&error))?;
        let io = TokioIo::new(stream);
        let broken = |error: hyper::Error| describe_http(&error);
        // Each driver ends with its sender, which a worker holds; errors come out of the sender, too.
        let sender = if is_http2 {
            let (sender, driver) = http2::handshake(TokioExecutor::new(), io)
                .await
                .map_err(broken)?;
            tokio::spawn(driver);
            Sender::Http2(sender)
        } else {
            let (sender, driver) = http1::handshake(io).await.map_err(broken)?;
            tokio::spawn(driver);
            Sender::Http1(sender)
        };
        let app = app.to_vec();
        Ok(Self { app, sender })
    }

    /// Itself, if another request can be sent on it to this app in this protocol.
    pub(super) async fn reuse(mut self, app: &[SocketAddr], is_http2: bool) -> Option<Self> {
        let is_ready = match &mut self.sender {
            Sender::Http1(sender) => !is_http2 && sender.ready().await.is_ok(),
            Sender::Http2(sender) => is_http2 && sender.ready().await.is_ok(),
        };
        (is_ready && self.app == app).then_some(self)
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => sender.send_request(request).await,
            Sender::Http2(sender) => sender.send_request(request).await,
        }
    }
}
