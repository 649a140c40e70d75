//! What an app sees of a warm-up, and what a warm-up says of an app.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};

use super::harness::{App, Gate};

/// An app that writes down what it is sent.
#[derive(Default)]
struct Recorder {
    /// Method, whole target, fields and body.
    heard: Mutex<Vec<(String, HeaderMap, Bytes)>>,
    /// Calls end with `UNAVAILABLE`.
    unwell: AtomicBool,
}

impl Recorder {
    /// Serves one protocol until the set is dropped.
    async fn serve(self: &Arc<Self>, is_http2: bool) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mut server, recorder) = (JoinSet::new(), Arc::clone(self));
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let io = TokioIo::new(listener.accept().await.unwrap().0);
                let recorder = Arc::clone(&recorder);
                let service = service_fn(move |request| answer(request, Arc::clone(&recorder)));
                connections.spawn(async move {
                    let _ = if is_http2 {
                        let server = http2::Builder::new(TokioExecutor::new());
                        server.serve_connection(io, service).await
                    } else {
                        http1::Builder::new().serve_connection(io, service).await
                    };
                });
            }
        });
        (address, server)
    }
}

async fn answer(
    request: Request<Incoming>,
    recorder: Arc<Recorder>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let (fields, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let line = format!("{} {}", fields.method, fields.uri);
    let mut heard = recorder.heard.lock().unwrap();
    heard.push((line, fields.headers, body));
    drop(heard);
    let is_unwell = recorder.unwell.load(Ordering::SeqCst);
    let status = if is_unwell { "14" } else { "0" };
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static(status),
    )]);
    let body =
        Full::new(Bytes::from_static(b"ok")).with_trailers(async move { Some(Ok(trailers)) });
    Ok(Response::new(body))
}

#[tokio::test]
async fn requests_are_sent_as_declared_and_in_order_first() {
    let recorder = Arc::new(Recorder::default());
    let (app, _server) = recorder.serve(false).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("order.json");
    std::fs::write(&file, r#"{"sku": 7}"#).unwrap();
    let gate = Gate::start(
        app.port(),
        &format!(
            r#""warmup": {{"requests": [
                 {{"path": "/catalog?page=1", "headers": {{"Host": "shop", "X-Tenant": "a"}}}},
                 {{"method": "POST", "path": "/price", "safe": true, "body": {{"text": "sku=7"}}}},
                 {{"method": "PUT", "path": "/order", "safe": true, "body": {{"file": "{}"}}}}],
               "target": {{"p95": "10s"}}, "rate": 1000, "minRequests": 1}}"#,
            file.display()
        ),
    );
    gate.reaches("open").await;
    let heard = recorder.heard.lock().unwrap();
    let lines: Vec<_> = heard.iter().map(|(line, ..)| line.as_str()).collect();
    assert_eq!(
        lines[..3],
        ["GET /catalog?page=1", "POST /price", "PUT /order"]
    );
    let bodies: Vec<_> = heard.iter().map(|(.., body)| body.as_ref()).collect();
    assert_eq!(bodies[..3], [&b""[..], b"sku=7", br#"{"sku": 7}"#]);
    let (first, second) = (&heard[0].1, &heard[1].1);
    assert_eq!(
        (&first["host"], &first["x-tenant"]),
        (
            &HeaderValue::from_static("shop"),
            &HeaderValue::from_static("a")
        )
    );
    assert_eq!(second["host"], app.to_string());
    for (line, fields, _) in heard.iter() {
        assert_eq!(fields["x-portcullis-warmup"], "1", "{line}");
    }
}

#[tokio::test]
async fn an_app_that_speaks_only_http2_is_warmed_by_grpc_calls() {
    let recorder = Arc::new(Recorder::default());
    recorder.unwell.store(true, Ordering::SeqCst);
    let (app, _server) = recorder.serve(true).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list.bin");
    let message = [0, 0, 0, 0, 2, 8, 7];
    std::fs::write(&file, message).unwrap();
    let gate = Gate::start(
        app.port(),
        &format!(
            r#""warmup": {{"requests": [
                 {{"method": "POST", "path": "/shop.Catalog/List", "http2": true, "safe": true,
                   "headers": {{"Host": "shop", "content-type": "application/grpc", "te": "trailers"}},
                   "body": {{"file": "{}"}}}}],
               "target": {{"p95": "10s"}}, "rate": 1000, "minRequests": 1}}"#,
            file.display()
        ),
    );
    let status = gate
        .shows("a failed attempt", |status| {
            status["cause"] == "not_warm_yet"
        })
        .await;
    let reason = "not warm yet: POST /shop.Catalog/List: grpc-status 14";
    assert_eq!(status["reason"], reason);
    recorder.unwell.store(false, Ordering::SeqCst);
    gate.reaches("open").await;
    let heard = recorder.heard.lock().unwrap();
    let (line, fields, body) = &heard[0];
    assert_eq!(line, "POST http://shop/shop.Catalog/List");
    assert_eq!(
        (&fields["te"], body.as_ref()),
        (&HeaderValue::from_static("trailers"), &message[..])
    );
}

#[tokio::test]
async fn an_attempt_ends_at_its_hard_maximum_and_says_what_was_missing() {
    let app = App::start();
    app.seen.slow.store(u64::MAX, Ordering::SeqCst);
    let gate = Gate::start(
        app.port,
        r#""warmup": {"requests": [{"path": "/"}], "maxP95": "10ms", "maxDuration": "1s"}"#,
    );
    let status = gate
        .shows("a failed attempt", |status| {
            status["cause"] == "not_warm_yet"
        })
        .await;
    let reason = "not warm yet: p95 was above 10ms or still falling after 1s";
    assert_eq!(status["reason"], reason);
    let took = status["warmup"]["numbers"]["tookMs"].as_u64();
    assert!(took >= Some(1000), "{status:#}");
}
