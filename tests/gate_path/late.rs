//! Clients that come at the very end of a drain: who has got a connection gets an answer.

use std::{num::NonZeroUsize, time::Duration};

use portcullis::gate::{
    service::{Limits, Protocol},
    switch::Passage,
};
use tokio::time::{Instant, timeout};

use super::{
    harness::{App, Client, Gate, LIMITS, PATIENCE, until},
    http2::echo,
};

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n";

/// The only thing in flight: when it is answered, nothing holds up the drain but who came late.
struct Last {
    client: Client,
    app: Client,
}

impl Last {
    async fn ask(gate: &Gate, app: &App) -> Self {
        let mut client = gate.client().await;
        client.send(GET).await;
        let mut app = app.accept().await;
        app.head().await;
        Self { client, app }
    }

    async fn end(mut self) {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        self.app.send(answer).await;
        let answer = self.client.rest().await;
        assert!(answer.contains("Connection: close"), "{answer}");
    }
}

#[tokio::test]
async fn who_has_connected_but_not_asked_yet_is_answered() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let last = Last::ask(&gate, &app).await;
    gate.drain(Instant::now());
    let mut late = gate.client().await;
    until("accepted", || gate.traffic.connections.value() == 2).await;
    last.end().await;
    until("gone", || gate.traffic.connections.value() == 1).await;
    late.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(
        late.rest().await,
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
    );
    gate.drained().await;
}

#[tokio::test]
async fn who_speaks_http2_and_has_not_asked_yet_is_answered() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let last = Last::ask(&gate, &app).await;
    gate.drain(Instant::now());
    let late = gate.client().await.stream;
    let (sender, mut connection) = h2::client::handshake::<_>(late).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let driven = tokio::spawn(connection);
    // The gate has read its preface by now.
    pings.ping(h2::Ping::opaque()).await.unwrap();
    last.end().await;
    until("gone", || gate.traffic.connections.value() == 1).await;
    let request = http::Request::get("http://shop/").body(()).unwrap();
    let mut sender = sender.ready().await.unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    // The app goes on as one of HTTP/2.
    echo(app);
    let response = timeout(PATIENCE, response).await.expect("never answered");
    assert_eq!(response.unwrap().status(), 200);
    timeout(PATIENCE, driven).await.unwrap().unwrap().unwrap();
    gate.drained().await;
}

#[tokio::test]
async fn who_waits_in_the_backlog_is_answered() {
    let (app, heads) = App::listen().await.echo_heads();
    let limits = Limits {
        max_connections: NonZeroUsize::MIN,
        ..LIMITS
    };
    let gate = Gate::with_limits(vec![app], Protocol::Http, &limits);
    gate.switch.set(Passage::Open);
    let mut first = gate.client().await;
    first.send(GET).await;
    first.response().await;
    // There is no place for it.
    let mut late = gate.client().await;
    late.send(GET).await;
    gate.drain(Instant::now());
    let answer = late.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(heads.lock().unwrap().len(), 2);
    gate.drained().await;
}

/// As after a time without a core: what was sent meanwhile is in the kernel, and nobody has looked.
#[tokio::test]
async fn who_has_asked_on_a_kept_connection_is_answered_though_nobody_has_read_it() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    let mut kept = gate.client().await;
    kept.send(GET).await;
    kept.response().await;
    // So long ago that no clock has to be waited for.
    gate.drain(Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
    // Without an await: all that the gate does comes later.
    assert_eq!(kept.stream.try_write(GET.as_bytes()).unwrap(), GET.len());
    let answer = kept.rest().await;
    assert!(answer.contains("Connection: close"), "{answer}");
    gate.drained().await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_ever_for_who_never_asks() {
    let mut limits = LIMITS;
    limits.client.idle = 10 * PATIENCE;
    let app = App::listen().await.address;
    let gate = Gate::with_limits(vec![app], Protocol::Http, &limits);
    let _silent = gate.client().await;
    until("accepted", || gate.traffic.connections.value() == 1).await;
    gate.drain(Instant::now());
    gate.drained().await;
}
