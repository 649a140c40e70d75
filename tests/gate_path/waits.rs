//! Clients that say nothing, or no more: how long the gate waits for them.

use std::time::Duration;

use portcullis::gate::{
    reason::Reason,
    service::{ClientWaits, Limits, Protocol},
    switch::Passage,
};
use tokio::time::Instant;

use super::harness::{App, Gate, LIMITS, header, until};

/// Short enough for a test, and long enough to be told from no wait at all.
const SHORT: Duration = Duration::from_millis(200);

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

fn open(app: &App, client: ClientWaits) -> Gate {
    let limits = Limits { client, ..LIMITS };
    let gate = Gate::with_limits(vec![app.address], Protocol::Http, &limits);
    gate.switch.set(Passage::Open);
    gate
}

#[tokio::test]
async fn a_head_that_does_not_end_is_answered_408_in_the_end() {
    let app = App::listen().await;
    let head = SHORT;
    let gate = open(
        &app,
        ClientWaits {
            head,
            ..LIMITS.client
        },
    );
    let mut client = gate.client().await;
    let start = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: sh").await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(header(&answer, "x-portcullis-reason"), Some("head_timeout"));
    assert_eq!(header(&answer, "connection"), Some("close"));
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(gate.traffic.refusals(Reason::HeadTimeout), 1);
    // What may become the preface of HTTP/2 waits no longer, and gets no answer that it could read.
    let mut client = gate.client().await;
    client.send("PRI * HTTP/2.0\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_in_the_end_and_each_request_puts_it_off() {
    let app = App::listen().await;
    let address = app.address;
    let idle = SHORT;
    let gate = open(
        &app,
        ClientWaits {
            idle,
            ..LIMITS.client
        },
    );
    let (echo, _) = app.echo_heads();
    assert_eq!(echo, address);
    let mut silent = gate.client().await;
    let start = Instant::now();
    silent.end().await.expect("no reset");
    assert!(start.elapsed() >= SHORT / 2, "{:?}", start.elapsed());
    let mut client = gate.client().await;
    let mut start = Instant::now();
    for _ in 0..2 {
        client.send(GET).await;
        client.response().await;
        start = Instant::now();
    }
    client.end().await.expect("no reset");
    // The gate's clock starts as it sends the answer: a little before the client has it.
    assert!(start.elapsed() >= SHORT / 2, "{:?}", start.elapsed());
    until("closed", || gate.traffic.connections.value() == 0).await;
}

#[tokio::test]
async fn a_client_that_closed_its_side_is_given_up_before_the_answer_and_within_it() {
    let app = App::listen().await;
    let half_closed = SHORT;
    let gate = open(
        &app,
        ClientWaits {
            half_closed,
            ..LIMITS.client
        },
    );
    for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"] {
        let mut client = gate.client().await;
        client.send(GET).await;
        let mut server = app.accept().await;
        server.head().await;
        server.send(begun).await;
        let start = Instant::now();
        client.finish().await;
        let _ = client.end().await;
        assert!(start.elapsed() >= SHORT, "{begun:?}: {:?}", start.elapsed());
        assert!(server.end().await.is_err(), "the app learns of it");
        until("forgotten", || gate.traffic.in_flight.value() == 0).await;
    }
}
