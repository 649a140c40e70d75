//! Ports that the gate does not read.

use portcullis::gate::{
    service::{HoldLimits, Limits, Protocol},
    switch::Passage,
};
use tokio::net::TcpStream;

use super::harness::{App, Gate, LIMITS, until};

#[tokio::test]
async fn nobody_listens_before_the_first_opening() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Tcp);
    tokio::task::yield_now().await;
    assert!(TcpStream::connect(gate.address).await.is_err());
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    client.send("x").await;
    assert_eq!(app.accept().await.bytes(1).await, b"x");
}

#[tokio::test]
async fn an_http_port_may_do_the_same() {
    let (app, _) = App::listen().await.echo_heads();
    let hold = HoldLimits {
        refuse_to_accept: true,
        ..LIMITS.hold
    };
    let gate = Gate::with_limits(vec![app], Protocol::Http, &Limits { hold, ..LIMITS });
    tokio::task::yield_now().await;
    assert!(TcpStream::connect(gate.address).await.is_err());
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn the_server_may_speak_first_and_each_side_may_end_first() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Tcp);
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    let mut server = app.accept().await;
    server.send("220 ready\r\n").await;
    assert_eq!(client.until("\r\n").await, "220 ready\r\n");
    client.send("QUIT").await;
    client.finish().await;
    assert_eq!(server.rest().await, "QUIT");
    server.send("221 bye").await;
    server.finish().await;
    assert_eq!(client.rest().await, "221 bye");
    until("ended", || gate.traffic.streams.value() == 0).await;
}

#[tokio::test]
async fn any_bytes_pass_unread_and_whole() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Tcp);
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    let mut server = app.accept().await;
    // A TLS ClientHello's first bytes, a request that is none, and four megabytes.
    let mut sent = b"\x16\x03\x01\x02\x00GET / HTTP/1.1\nHost: a\n\n\0".to_vec();
    sent.extend((0..4_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]));
    let sender = async {
        client.send(&sent).await;
        client.finish().await;
    };
    let (received, ()) = tokio::join!(server.bytes(sent.len()), sender);
    assert!(received == sent, "other bytes than were sent");
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Tcp);
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    let mut server = app.accept().await;
    client.send("x").await;
    server.bytes(1).await;
    server.reset();
    assert!(client.end().await.is_err());
}

#[tokio::test]
async fn a_connection_to_a_closed_gate_waits_and_may_leave() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Tcp);
    gate.switch.set(Passage::Open);
    let first = gate.client().await;
    drop((first, app.accept().await));
    gate.switch.set(Passage::Hold);
    let (leaves, mut stays) = (gate.client().await, gate.client().await);
    stays.send("hello").await;
    until("held", || gate.traffic.held.value() == 2).await;
    drop(leaves);
    until("one left", || gate.traffic.held.value() == 1).await;
    gate.switch.set(Passage::Open);
    let mut server = app.accept().await;
    assert_eq!(server.bytes(5).await, b"hello");
}
