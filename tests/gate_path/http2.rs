//! HTTP/2 and gRPC by prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{Reason as Reset, RecvStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use portcullis::gate::{
    reason::Reason,
    service::{GrpcRefusal, Limits, Protocol},
    switch::Passage,
    traffic::HoldEnd,
};
use tokio::{io::AsyncWriteExt, time::Instant};

use super::harness::{App, Gate, LIMITS, PATIENCE, until};

/// A client's connection; driven in the background.
async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = super::harness::Client::connect(address).await.stream;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str) -> Request<()> {
    Request::post(format!("http://shop{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("x-portcullis-warmup", "1")
        .body(())
        .unwrap()
}

/// An app that answers each call with what it was sent, twice, and with trailers.
pub(super) fn echo(app: App) -> SocketAddr {
    let address = app.address;
    tokio::spawn(async move {
        loop {
            let stream = app.accept_or_wait().await;
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(call(request, respond));
                }
            });
        }
    });
    address
}

async fn call(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let te = request.headers().get("te").cloned();
    let marked = request.headers().contains_key("x-portcullis-warmup");
    let uri = request.uri().to_string();
    let mut body = request.into_body();
    let head = Response::builder()
        .header("x-te", te.unwrap_or(HeaderValue::from_static("none")))
        .header("x-marked", marked.to_string())
        .header("x-uri", uri)
        .body(())
        .unwrap();
    let Ok(mut send) = respond.send_response(head, false) else {
        return;
    };
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        for _ in 0..2 {
            if send.send_data(data.clone(), false).is_err() {
                return;
            }
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let _ = send.send_trailers(trailers);
}

async fn read(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (all, body.trailers().await.unwrap())
}

#[tokio::test]
async fn a_call_passes_both_ways_with_trailers() {
    let gate = Gate::open(echo(App::listen().await));
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, mut body) = sender
        .send_request(request("/shop.Cart/Add"), false)
        .unwrap();
    // Both ways at once: the response begins before the request has ended.
    let response = response.await.unwrap();
    assert_eq!(response.headers()["x-te"], "trailers");
    assert_eq!(
        response.headers()["x-marked"],
        "false",
        "a client may not mark its requests"
    );
    assert_eq!(response.headers()["x-uri"], "http://shop/shop.Cart/Add");
    body.send_data(Bytes::from_static(b"ping"), false).unwrap();
    body.send_data(Bytes::from_static(b"pong"), true).unwrap();
    let (data, trailers) = read(response.into_body()).await;
    assert_eq!(data, b"pingpingpongpong");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    until("nothing in flight", || gate.traffic.in_flight.value() == 0).await;
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let gate = Gate::open(echo(App::listen().await));
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, mut body) = sender.send_request(request("/"), false).unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    body.send_data(Bytes::from(sent.clone()), true).unwrap();
    let (data, _) = read(response.await.unwrap().into_body()).await;
    assert_eq!(data.len(), 2 * sent.len());
}

#[tokio::test]
async fn held_streams_are_answered_when_the_gate_opens() {
    let gate = Gate::start(echo(App::listen().await), Protocol::Http);
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let mut held = Vec::new();
    for n in 0..50 {
        let (response, mut body) = sender
            .send_request(request(&format!("/{n}")), false)
            .unwrap();
        body.send_data(Bytes::from_static(b"x"), true).unwrap();
        held.push(response);
        sender = sender.ready().await.unwrap();
    }
    until("held", || gate.traffic.held.value() == 50).await;
    // One that leaves frees its place.
    drop(held.pop());
    until("freed", || {
        gate.traffic.holds(HoldEnd::ClientGone).count() == 1
    })
    .await;
    gate.switch.set(Passage::Open);
    for (n, response) in held.into_iter().enumerate() {
        let response = response.await.unwrap();
        assert_eq!(response.headers()["x-uri"], format!("http://shop/{n}"));
        assert_eq!(read(response.into_body()).await.0, b"xx");
    }
}

#[tokio::test]
async fn a_refused_stream_says_that_it_may_be_sent_again() {
    let gate = Gate::start(echo(App::listen().await), Protocol::Http);
    gate.switch.set(Passage::Refuse(Reason::Closed));
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, _) = sender.send_request(request("/"), true).unwrap();
    let error = response.await.unwrap_err();
    assert_eq!(error.reason(), Some(Reset::REFUSED_STREAM));
    assert_eq!(gate.traffic.refusals(Reason::Closed), 1);
}

#[tokio::test]
async fn grpc_is_told_unavailable_if_the_settings_say_so() {
    let limits = Limits {
        grpc_refusal: GrpcRefusal::Unavailable,
        ..LIMITS
    };
    let app = echo(App::listen().await);
    let gate = Gate::with_limits(vec![app], Protocol::Http, &limits);
    gate.switch.set(Passage::Refuse(Reason::Closed));
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, _) = sender.send_request(request("/"), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "14");
    assert_eq!(response.headers()["x-portcullis-reason"], "closed");
    // What is not gRPC is refused as ever.
    let plain = Request::get("http://shop/").body(()).unwrap();
    let (response, _) = sender
        .ready()
        .await
        .unwrap()
        .send_request(plain, true)
        .unwrap();
    assert_eq!(
        response.await.unwrap_err().reason(),
        Some(Reset::REFUSED_STREAM)
    );
}

#[tokio::test]
async fn connect_is_refused() {
    let gate = Gate::open(echo(App::listen().await));
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let request = Request::connect("shop:80").body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["x-portcullis-reason"], "connect");
}

#[tokio::test]
async fn an_authority_that_is_none_or_two_is_refused() {
    let gate = Gate::open(echo(App::listen().await));
    let mut sender = connect(gate.address).await;
    for (uri, host) in [("http://u@shop/", None), ("http://shop/", Some("other"))] {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        sender = sender.ready().await.unwrap();
        let (response, _) = sender
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        assert_eq!(
            response.await.unwrap().status(),
            StatusCode::BAD_REQUEST,
            "{uri} {host:?}"
        );
    }
}

#[tokio::test]
async fn a_drain_says_goaway_twice_and_loses_no_stream() {
    let gate = Gate::open(echo(App::listen().await));
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, mut body) = sender.send_request(request("/"), false).unwrap();
    let response = response.await.unwrap();
    gate.drain(Instant::now());
    // The connection takes no more streams, and says so without an error for the one it has.
    let closed = async {
        while let Ok(next) = sender.clone().ready().await {
            sender = next;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("no GOAWAY");
    body.send_data(Bytes::from_static(b"late"), true).unwrap();
    let (data, trailers) = read(response.into_body()).await;
    assert_eq!(data, b"latelate");
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    gate.drained().await;
}

#[tokio::test]
async fn an_app_that_takes_no_more_streams_is_dialled_anew() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut sender = connect(gate.address).await;
    for _ in 0..3 {
        sender = sender.ready().await.unwrap();
        let (response, _) = sender.send_request(request("/"), true).unwrap();
        // One call for each of the app's connections, as with a maximum connection age.
        let mut server = h2::server::handshake(app.accept().await.stream)
            .await
            .unwrap();
        let (_, mut respond) = server.accept().await.unwrap().unwrap();
        respond.send_response(Response::new(()), true).unwrap();
        server.graceful_shutdown();
        while server.accept().await.is_some() {}
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn an_app_that_speaks_no_http2_is_named() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, _) = sender.send_request(request("/"), true).unwrap();
    let mut server = app.accept().await;
    server.until("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    server
        .send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        .await;
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(response.headers()["x-portcullis-reason"], "app_garbage");
}

#[tokio::test]
async fn rapid_reset_ends_the_connection_and_nothing_else() {
    let gate = Gate::start(echo(App::listen().await), Protocol::Http);
    let stream = super::harness::Client::connect(gate.address).await.stream;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driven = tokio::spawn(connection);
    // Ten times as many as the gate endures; the pauses let the connection send them.
    for _ in 0..2000 {
        let Ok(mut ready) = sender.clone().ready().await else {
            break;
        };
        let Ok((response, mut body)) = ready.send_request(request("/"), false) else {
            break;
        };
        tokio::task::yield_now().await;
        body.send_reset(Reset::CANCEL);
        drop(response);
    }
    let driven = tokio::time::timeout(PATIENCE, driven)
        .await
        .expect("endures resets for ever");
    let error = driven.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reset::ENHANCE_YOUR_CALM), "{error}");
    gate.switch.set(Passage::Open);
    let mut sender = connect(gate.address).await.ready().await.unwrap();
    let (response, _) = sender.send_request(request("/"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    until("none held", || gate.traffic.held.value() == 0).await;
}

#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let gate = Gate::open(echo(App::listen().await));
    let mut client = gate.client().await;
    let frame = |kind: u8, stream: u8, payload: &[u8]| {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, stream]);
        frame.extend(payload);
        frame
    };
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.send(frame(4, 0, &[])).await;
    // A head that never ends: literal fields `a: b`, without END_HEADERS.
    let fields = [0, 1, b'a', 1, b'b'].repeat(3000);
    client.send(frame(1, 1, &fields)).await;
    let flood = async { while client.stream.write_all(&frame(9, 1, &fields)).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("reads a head without end");
    until("closed", || gate.traffic.connections.value() == 0).await;
}
