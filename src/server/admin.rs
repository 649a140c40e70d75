//! The plain-text admin endpoints: `/live`, `/ready` and `/metrics`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use metrics_exporter_prometheus::PrometheusHandle;
use tower::Service;

use super::Readiness;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The Prometheus text format names its version in the content type.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers probes and scrapes. It reads no body and changes nothing, so it may be exposed to the whole cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    readiness: Readiness,
    metrics: PrometheusHandle,
}

// === impl Admin ===

impl Admin {
    /// Endpoints that report this readiness and render these metrics.
    pub fn new(readiness: Readiness, metrics: PrometheusHandle) -> Self {
        Self { readiness, metrics }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut response = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET is answered here\n",
            );
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => self.ready(),
            "/metrics" => respond(StatusCode::OK, METRICS, self.metrics.render().into()),
            _ => text(
                StatusCode::NOT_FOUND,
                "here are /live, /ready and /metrics\n",
            ),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let awaited = self.readiness.awaited();
        if awaited.is_empty() {
            text(StatusCode::OK, "ready\n")
        } else {
            let body = format!("not ready: waiting for {}\n", awaited.join(", "));
            respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, body.into())
        }
    }
}

impl<B> Service<Request<B>> for Admin {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request.method(), request.uri().path())))
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, TEXT, Bytes::from_static(body.as_bytes()))
}

fn respond(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use metrics_exporter_prometheus::PrometheusBuilder;
    use tower::ServiceExt as _;

    use super::*;

    fn admin(readiness: &Readiness) -> Admin {
        Admin::new(
            readiness.clone(),
            PrometheusBuilder::new().build_recorder().handle(),
        )
    }

    async fn ask(admin: &Admin, method: Method, path: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        let (head, body) = admin.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn ready_says_what_it_waits_for() {
        let readiness = Readiness::default();
        let admin = admin(&readiness);
        let latch = readiness.latch("a serving certificate");
        assert_eq!(
            ask(&admin, Method::GET, "/ready").await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: waiting for a serving certificate\n".to_owned()
            )
        );
        drop(latch);
        assert_eq!(ask(&admin, Method::GET, "/ready").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn live_whether_ready_or_not() {
        let readiness = Readiness::default();
        let _latch = readiness.latch("something");
        assert_eq!(
            ask(&admin(&readiness), Method::GET, "/live").await.0,
            StatusCode::OK
        );
    }

    #[tokio::test]
    async fn refuses_other_paths_and_methods() {
        let admin = admin(&Readiness::default());
        assert_eq!(
            ask(&admin, Method::GET, "/debug").await.0,
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            ask(&admin, Method::POST, "/live").await.0,
            StatusCode::METHOD_NOT_ALLOWED
        );
    }
}
