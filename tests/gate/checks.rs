//! What the checks of the network say of servers that are well, unwell and odd.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::{
    contract::Settings,
    gate::check::{self, Pace},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::harness::PATIENCE;
use crate::support::databases::Certificates;

#[tokio::test]
async fn one_run_of_a_check_is_in_flight_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let json = format!(
        r#"{{"listen": 1, "app": "{app}",
            "checks": [{{"name": "it", "http": {{}}, "timeout": "60s", "period": "50ms"}}]}}"#
    );
    let settings = Settings::decode(&json).unwrap();
    let (pace, paces) = watch::channel(Pace::default());
    let (reports, mut heard) = mpsc::channel(1);
    let _tasks = check::spawn(settings.checks(), &[app], &paces, &reports);
    let (mut first, _) = listener.accept().await.unwrap();
    pace.send_modify(|pace| pace.round += 1);
    let second = tokio::time::timeout(Duration::from_millis(200), listener.accept());
    assert!(
        second.await.is_err(),
        "a second run began before the first had ended"
    );
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    first.write_all(answer).await.unwrap();
    assert_eq!(heard.recv().await.unwrap().result, Ok(()));
    listener.accept().await.unwrap();
}

/// What the first run of this check finds; the app is at `app`. It has longer than any busy machine takes.
pub async fn run(kind: &str, app: SocketAddr) -> Result<(), String> {
    run_for("30s", kind, app).await
}

/// The same, of a check with this timeout.
async fn run_for(timeout: &str, kind: &str, app: SocketAddr) -> Result<(), String> {
    let json = format!(
        r#"{{"listen": 1, "app": "{app}",
            "checks": [{{"name": "it", {kind}, "timeout": "{timeout}", "period": "1h"}}]}}"#
    );
    let settings = Settings::decode(&json).unwrap();
    let (_pace, paces) = watch::channel(Pace::default());
    let (reports, mut heard) = mpsc::channel(1);
    let _tasks = check::spawn(settings.checks(), &[app], &paces, &reports);
    let report = tokio::time::timeout(PATIENCE, heard.recv()).await;
    report.unwrap().unwrap().result
}

/// A server that answers each connection with these bytes, once it has heard something.
async fn says(bytes: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    (address, server)
}

#[tokio::test]
async fn http_judges_the_status_and_the_body() {
    let ok: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"UP\"}";
    for (kind, answer, expected) in [
        (r#""http": {"path": "/ready"}"#, ok, Ok(())),
        (
            r#""http": {"bodyMatches": "\"status\": ?\"UP\""}"#,
            ok,
            Ok(()),
        ),
        (
            r#""http": {"bodyMatches": "DOWN"}"#,
            ok,
            Err("GET /: 200, but its body does not match DOWN"),
        ),
        (r#""http": {"status": [204]}"#, ok, Err("GET /: 200")),
        (
            r#""http": {"path": "/ready?token=hush"}"#,
            b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            Err("GET /ready: 503"),
        ),
        (
            r#""http": {}"#,
            b"HTTP/1.0 302 Found\r\nLocation: /login\r\n\r\n",
            Ok(()),
        ),
        (
            r#""http": {}"#,
            b"220 mail.shop ESMTP\r\n",
            Err("GET /: what it answers is not HTTP"),
        ),
        (
            r#""http": {}"#,
            b"",
            Err("GET /: connection closed in mid-answer"),
        ),
    ] {
        let (app, _server) = says(answer).await;
        let expected = expected.map_err(str::to_owned);
        assert_eq!(run(kind, app).await, expected, "{kind}");
    }
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_late() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let found = run_for("1s", r#""http": {"path": "/ready"}"#, app).await;
    assert_eq!(found, Err("GET /ready: no answer within 1s".to_owned()));
}

#[tokio::test]
async fn tcp_and_dns_name_what_they_could_not_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let port = app.port();
    let local = format!(r#""tcp": {{"host": "localhost", "port": {port}}}"#);
    assert_eq!(run(&local, app).await, Ok(()));
    drop(listener);
    assert_eq!(
        run(&local, app).await,
        Err(format!("tcp localhost:{port}: connection refused"))
    );
    assert_eq!(
        run(r#""tcp": {"host": "queue.invalid", "port": 5672}"#, app).await,
        Err("tcp queue.invalid:5672: \"queue.invalid\" cannot be resolved".to_owned())
    );
}

#[tokio::test]
async fn https_verifies_only_when_an_authority_is_given() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let cert = CertificateDer::from_pem_file(certificates.cert()).unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.key()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let port = app.port();
    let with = |more: &str| format!(r#""https": {{"host": "localhost", "port": {port}{more}}}"#);
    let trusting = |certificates: &Certificates| {
        with(&format!(
            r#", "caFile": "{}""#,
            certificates.authority().display()
        ))
    };
    assert_eq!(run(&with(""), app).await, Ok(()));
    assert_eq!(run(&trusting(&certificates), app).await, Ok(()));
    let subject = format!("GET https://localhost:{port}/");
    assert_eq!(
        run(&trusting(&others), app).await,
        Err(format!("{subject}: its certificate is not to be trusted"))
    );
    assert_eq!(
        run(&with(r#", "caFile": "/no/such/file""#), app).await,
        Err(format!(
            "{subject}: caFile /no/such/file holds no certificate in PEM that can be read"
        ))
    );
}

/// A gRPC server that answers every call with this message and status.
async fn grpc(message: &'static [u8], status: &'static str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let service = service_fn(
            move |request: http::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let trailers = http::HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static(status),
                )]);
                let body = Full::new(Bytes::from_static(message))
                    .with_trailers(async move { Some(Ok(trailers)) });
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            },
        );
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    (address, server)
}

#[tokio::test]
async fn grpc_asks_the_health_service() {
    for (message, status, expected) in [
        (&[0, 0, 0, 0, 2, 8, 1][..], "0", Ok(())),
        (&[0, 0, 0, 0, 2, 8, 2], "0", Err("NOT_SERVING")),
        (&[], "5", Err("it knows no such service")),
        (&[], "12", Err("it does not implement grpc.health.v1")),
        (
            b"garbage",
            "0",
            Err("what it answers is no health response"),
        ),
    ] {
        let (app, _server) = grpc(message, status).await;
        let found = run(r#""grpc": {"service": "shop.Catalog"}"#, app).await;
        let expected = expected.map_err(|why| format!("grpc health of shop.Catalog: {why}"));
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_is_read_only_so_far() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let service = service_fn(|_| async {
            let (sender, mut chunks) = mpsc::channel::<Bytes>(1);
            tokio::spawn(async move {
                while sender.send(Bytes::from(vec![b'x'; 8192])).await.is_ok() {}
            });
            let body = StreamBody::new(futures_util::stream::poll_fn(move |context| {
                chunks.poll_recv(context).map(|chunk| {
                    chunk.map(|chunk| Ok::<_, std::convert::Infallible>(Frame::data(chunk)))
                })
            }));
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let (stream, _) = listener.accept().await.unwrap();
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
    let waited = tokio::time::timeout(
        Duration::from_secs(4),
        run(r#""http": {"bodyMatches": "never"}"#, app),
    );
    assert_eq!(
        waited.await.expect("well before the check's own timeout"),
        Err("GET /: 200, but its body does not match never".to_owned())
    );
}
