//! What clients do wrong, and that nobody else notices.

use std::{convert::Infallible, future::pending, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use portcullis::server::{Limits, serve};
use portcullis::webhook::metrics::Metrics;
use tokio::net::{TcpListener, TcpStream};
use tower::service_fn;

use super::raw::{Client, LIMITS, Server, within};

/// Long enough for a loaded machine to do what is asked, short enough to wait for.
const SHORT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn keeps_a_connection_alive_over_many_requests() {
    let server = Server::start(LIMITS).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert!(client.get("/").await.starts_with("http/1.1 200"));
    }
    assert_eq!(server.metric("portcullis_webhook_connections"), 1);
    drop(client);
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="closed"}"#,
            1,
        )
        .await;
    assert_eq!(server.metric("portcullis_webhook_connections"), 0);
}

#[tokio::test]
async fn resumes_a_session_by_ticket() {
    let server = Server::start(LIMITS).await;
    let connector = server.client();
    for _ in 0..2 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = "127.0.0.1".try_into().unwrap();
        let mut client = Client(within(connector.connect(name, stream)).await.unwrap());
        client.get("/").await; // the ticket comes with the first answer
    }
    assert_eq!(
        server.metric(r#"portcullis_webhook_tls_handshakes_total{kind="full"}"#),
        1
    );
    assert_eq!(
        server.metric(r#"portcullis_webhook_tls_handshakes_total{kind="resumed"}"#),
        1
    );
}

#[tokio::test]
async fn a_panic_answers_500_and_only_to_its_own_request() {
    let server = Server::start(LIMITS).await;
    let mut client = server.connect().await;
    assert!(client.get("/panic").await.starts_with("http/1.1 500"));
    assert!(
        client.get("/").await.starts_with("http/1.1 200"),
        "on the same connection"
    );
    assert!(
        server
            .connect()
            .await
            .get("/")
            .await
            .starts_with("http/1.1 200")
    );
    assert_eq!(server.metric("portcullis_webhook_panics_total"), 1);
}

#[tokio::test]
async fn rejects_what_is_not_tls() {
    let server = Server::start(LIMITS).await;
    let mut plain = Client(TcpStream::connect(server.address).await.unwrap());
    plain.send("GET / HTTP/1.1\r\n\r\n").await;
    plain.closed().await;
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="handshake_failed"}"#,
            1,
        )
        .await;
    assert!(
        server
            .connect()
            .await
            .get("/")
            .await
            .starts_with("http/1.1 200")
    );
}

#[tokio::test]
async fn gives_up_on_a_handshake_that_never_comes() {
    let server = Server::start(Limits {
        handshake_timeout: SHORT,
        ..LIMITS
    })
    .await;
    let mut silent = Client(TcpStream::connect(server.address).await.unwrap());
    assert!(silent.closed().await.is_empty());
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="handshake_timeout"}"#,
            1,
        )
        .await;
}

#[tokio::test]
async fn gives_up_on_a_head_that_dribbles_in() {
    let server = Server::start(Limits {
        header_timeout: SHORT,
        ..LIMITS
    })
    .await;
    let mut slow = server.connect().await;
    slow.send("POST /validate HTTP/1.1\r\nHost: te").await;
    slow.closed().await;
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="header_timeout"}"#,
            1,
        )
        .await;
}

#[tokio::test]
async fn gives_up_on_a_later_head_when_the_idle_time_is_over() {
    let server = Server::start(Limits {
        idle_timeout: Some(SHORT),
        ..LIMITS
    })
    .await;
    let mut slow = server.connect().await;
    assert!(slow.get("/").await.starts_with("http/1.1 200"));
    slow.send("POST /validate HTTP/1.1\r\n").await;
    slow.closed().await;
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="idle"}"#,
            1,
        )
        .await;
}

#[tokio::test]
async fn rejects_a_head_over_the_limit() {
    let server = Server::start(LIMITS).await;
    let mut client = server.connect().await;
    let long = "x".repeat(LIMITS.header_bytes);
    client
        .send(&format!("GET / HTTP/1.1\r\nX-Long: {long}\r\n\r\n"))
        .await;
    assert!(client.head().await.starts_with("http/1.1 431"));
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="bad_request"}"#,
            1,
        )
        .await;
}

#[tokio::test]
async fn rejects_what_is_not_http() {
    let server = Server::start(LIMITS).await;
    let mut client = server.connect().await;
    client
        .send("\u{1}\u{2}\u{3} this is no request\r\n\r\n")
        .await;
    assert!(client.head().await.starts_with("http/1.1 400"));
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="bad_request"}"#,
            1,
        )
        .await;
}

#[tokio::test]
async fn drops_the_work_of_a_client_that_leaves() {
    let server = Server::start(LIMITS).await;
    let mut client = server.connect().await;
    client
        .send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    within(server.signals.begun.notified()).await;
    drop(client);
    within(server.signals.dropped.notified()).await;
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="client_left"}"#,
            1,
        )
        .await;
}

#[tokio::test]
async fn leaves_connections_over_the_bound_to_the_kernel() {
    let server = Server::start(Limits {
        connections: 1,
        ..LIMITS
    })
    .await;
    let mut first = server.connect().await;
    assert!(first.get("/").await.starts_with("http/1.1 200"));
    let second = server.connect();
    let mut second = std::pin::pin!(second);
    assert!(
        tokio::time::timeout(SHORT, second.as_mut()).await.is_err(),
        "not before there is room"
    );
    drop(first);
    assert!(
        within(second)
            .await
            .get("/")
            .await
            .starts_with("http/1.1 200")
    );
}

/// Without TLS, whose records are small enough by themselves: a connection keeps what it has read, and there may be a
/// thousand.
#[tokio::test]
async fn reads_a_body_in_pieces_no_larger_than_the_buffer() {
    const BUFFER: usize = 8 * 1024;
    let limits = Limits {
        buffer_bytes: BUFFER,
        ..LIMITS
    };
    let largest = |request: Request<Incoming>| async move {
        let (mut body, mut largest) = (request.into_body(), 0);
        while let Some(frame) = body.frame().await {
            largest = largest.max(frame.unwrap().into_data().unwrap().len());
        }
        let largest = largest.to_string().into_bytes();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(largest)))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = (limits, Metrics::new().server.clone());
    tokio::spawn(serve(
        listener,
        None,
        service_fn(largest),
        limits,
        pending(),
    ));
    let mut client = Client(TcpStream::connect(address).await.unwrap());
    let body = "x".repeat(1024 * 1024);
    let length = body.len();
    let head =
        format!("POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}");
    client.send(&format!("{head}\r\n\r\n{body}")).await;
    let answer = String::from_utf8(client.closed().await).unwrap();
    let (_, largest) = answer.rsplit_once("\r\n\r\n").unwrap();
    let largest: usize = largest.parse().unwrap();
    assert!((1..=BUFFER).contains(&largest), "{largest}");
}
