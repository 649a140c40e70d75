//! The admin port: `/` for a person, `/live`, `/ready`, `/status`, `/metrics`, and `/drained` for the hooks of the
//! app's containers. Nothing here changes the gate's state, and all of it is safe for anybody in
//! the cluster to read.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue},
};
use http_body_util::Full;
use tower::Service;

use super::{keeper::Desk, metrics, page, traffic::Traffic};

/// The service of the admin port.
#[derive(Clone, Debug)]
pub struct Admin {
    desk: Desk,
    traffic: Arc<Traffic>,
}

const TEXT: &str = "text/plain; charset=utf-8";

const HTML: &str = "text/html; charset=utf-8";

const JSON: &str = "application/json";

/// The Prometheus text format names its version in the content type.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

// === impl Admin ===

impl Admin {
    /// Answers what the desk knows.
    pub fn new(desk: Desk, traffic: Arc<Traffic>) -> Self {
        Self { desk, traffic }
    }

    async fn answer(self, method: Method, path: String) -> Response<Full<Bytes>> {
        if !matches!(method, Method::GET | Method::HEAD) {
            let mut refusal = respond(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET is answered here\n",
            );
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        match path.as_str() {
            // Answered by the event loop that serves traffic, too: it turns.
            "/live" => respond(StatusCode::OK, TEXT, "live\n"),
            "/drained" => self.drained().await,
            "/" | "/ready" | "/status" | "/metrics" => self.show(&path).await,
            _ => respond(
                StatusCode::NOT_FOUND,
                TEXT,
                "here are /, /live, /ready, /status, /metrics and /drained\n",
            ),
        }
    }

    async fn show(&self, path: &str) -> Response<Full<Bytes>> {
        let Some(status) = self.desk.status().await else {
            return respond(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "the gate is ending\n",
            );
        };
        match path {
            "/status" => match serde_json::to_vec_pretty(&status) {
                Ok(json) => respond(StatusCode::OK, JSON, json),
                Err(error) => respond(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    TEXT,
                    format!("{error}\n"),
                ),
            },
            "/" => {
                let mut response = respond(StatusCode::OK, HTML, page::render(&status));
                let policy = HeaderValue::from_static(page::POLICY);
                response
                    .headers_mut()
                    .insert(CONTENT_SECURITY_POLICY, policy);
                response
            }
            "/metrics" => {
                let page = metrics::render(&status, &self.traffic);
                respond(StatusCode::OK, METRICS, page)
            }
            _ => {
                let code = if status.ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                respond(code, TEXT, format!("{}\n", status.line()))
            }
        }
    }

    /// Waits. A kubelet's hook looks at no status, so nothing but the end of waiting is an answer.
    async fn drained(&self) -> Response<Full<Bytes>> {
        if self.desk.hook().await {
            respond(StatusCode::OK, TEXT, "the container may stop\n")
        } else {
            respond(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "too many wait already\n",
            )
        }
    }
}

impl<B> Service<Request<B>> for Admin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = self.clone().answer(method, path);
        Box::pin(async { Ok(answer.await) })
    }
}

fn respond(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
