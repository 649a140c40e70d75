//! Allows every review: the answer until the judge is wired in.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tower::Service;

/// The API server takes objects of 3 MiB, and an UPDATE's review carries two of them.
const BODY_BYTES: usize = 8 * 1024 * 1024;

/// Allows every review.
#[derive(Clone, Debug)]
pub(super) struct Allow;

// === impl Allow ===

impl Service<Request<Incoming>> for Allow {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        Box::pin(async move { Ok(allow(request).await.unwrap_or_else(refused)) })
    }
}

async fn allow(request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
    let body = Limited::new(request.into_body(), BODY_BYTES)
        .collect()
        .await
        .ok()?
        .to_bytes();
    let review: Value = serde_json::from_slice(&body).ok()?;
    let response = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": review.pointer("/request/uid")?, "allowed": true},
    });
    Some(Response::new(Full::new(response.to_string().into())))
}

fn refused() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"not an AdmissionReview\n")));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}
