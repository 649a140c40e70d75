//! The ramp, and the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use portcullis::gate::{
    reason::Reason,
    service::Protocol,
    switch::{Drain, OnFull, Passage},
};
use tokio::{net::TcpStream, time::Instant};

use super::harness::{App, Gate, PATIENCE, header, until};

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n";
const UPGRADE: &str =
    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

fn ramp(limit: u32, on_full: OnFull) -> Passage {
    Passage::Ramp { limit, on_full }
}

fn draining(streams: Duration, deadline: Duration) -> Passage {
    let now = Instant::now();
    Passage::Draining(Drain {
        settle: now,
        stream_deadline: now + streams,
        deadline: now + deadline,
    })
}

/// An app that takes 2 ms a request, counts those it works on at once, and upgrades who asks.
fn working_app(app: App) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let (address, most) = (app.address, Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
    tokio::spawn(async move {
        loop {
            let stream = app.accept_or_wait().await;
            tokio::spawn(work(stream, Arc::clone(&now), Arc::clone(&peak)));
        }
    });
    (address, most)
}

async fn work(stream: TcpStream, now: Arc<AtomicUsize>, peak: Arc<AtomicUsize>) {
    let mut client = super::harness::Client::of(stream);
    while let Some(head) = client.next_head().await {
        if head.contains("Upgrade: websocket") {
            client
                .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
                .await;
            let _ = client.end().await;
            return;
        }
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(2)).await;
        now.fetch_sub(1, Ordering::SeqCst);
        client
            .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    }
}

#[tokio::test]
async fn fifty_websockets_and_a_constant_load_pass_a_ramp_with_none_refused() {
    let (app, most) = working_app(App::listen().await);
    let gate = Gate::start(app, Protocol::Http);
    let over = Arc::new(AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut client, over) = (gate.client().await, Arc::clone(&over));
        load.spawn(async move {
            let mut answered = 0;
            while !over.load(Ordering::SeqCst) {
                client.send(GET).await;
                let (head, _) = client.response().await;
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                answered += 1;
            }
            answered
        });
    }
    until("held", || gate.traffic.held.value() == 20).await;
    let mut sockets = Vec::new();
    for limit in [4, 16, 64] {
        gate.switch.set(ramp(limit, OnFull::Pass));
        for _ in 0..17 {
            let mut socket = gate.client().await;
            socket.send(UPGRADE).await;
            assert!(socket.head().await.starts_with("HTTP/1.1 101 "));
            sockets.push(socket);
        }
        until("slots came free", || gate.traffic.responses(2) > 100).await;
        if gate.traffic.ramp_overflows.value() == 0 && limit == 4 {
            assert!(
                most.load(Ordering::SeqCst) <= 4,
                "more than the step at once"
            );
        }
    }
    gate.switch.set(Passage::Open);
    over.store(true, Ordering::SeqCst);
    let mut answered = 0;
    while let Some(done) = load.join_next().await {
        answered += done.unwrap();
    }
    assert!(answered > 100);
    assert_eq!(gate.traffic.streams.value(), 51);
    assert_eq!(gate.traffic.ramp_slots.value(), 0);
    let refused: u64 = Reason::ALL
        .iter()
        .map(|reason| gate.traffic.refusals(*reason))
        .sum();
    assert_eq!(refused, 0);
}

#[tokio::test]
async fn a_full_step_that_refuses_says_so() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Http);
    gate.switch.set(ramp(1, OnFull::Refuse));
    let mut first = gate.client().await;
    first.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    let mut second = gate.client().await;
    second.send(GET).await;
    let (head, _) = second.response().await;
    assert_eq!(header(&head, "x-portcullis-reason"), Some("ramp_full"));
    // The slot is free with the head, though the body is not done.
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        .await;
    first.head().await;
    assert_eq!(gate.traffic.ramp_slots.value(), 0);
}

#[tokio::test]
async fn a_drain_waits_for_what_is_in_flight_and_says_close() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut slow = gate.client().await;
    slow.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        .await;
    slow.head().await;
    gate.drain(Instant::now());
    // New connections are served while the drain waits, and told to go elsewhere.
    let mut late = gate.client().await;
    late.send(GET).await;
    let mut second = app.accept().await;
    second.head().await;
    second
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(
        late.rest().await,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert!(!gate.run.is_finished(), "a body is under way");
    server.send("done").await;
    assert_eq!(slow.bytes(4).await, b"done");
    let address = gate.address;
    gate.drained().await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "still listening"
    );
}

#[tokio::test]
async fn a_drain_serves_what_was_held() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::start(app, Protocol::Http);
    let mut client = gate.client().await;
    client.send(GET).await;
    until("held", || gate.traffic.held.value() == 1).await;
    gate.drain(Instant::now());
    assert!(client.rest().await.starts_with("HTTP/1.1 200 OK\r\n"));
    gate.drained().await;
}

#[tokio::test]
async fn a_drain_accepts_until_it_has_settled() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    drop(gate.client().await);
    let settle = Duration::from_millis(400);
    let start = Instant::now();
    gate.drain(start + settle);
    let answer = gate.ask(GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    gate.drained().await;
    assert!(start.elapsed() >= settle);
}

#[tokio::test]
async fn streams_end_at_their_deadline_and_all_else_at_the_last() {
    let (app, _) = working_app(App::listen().await);
    let gate = Gate::open(app);
    let mut socket = gate.client().await;
    socket.send(UPGRADE).await;
    socket.head().await;
    gate.switch
        .set(draining(Duration::from_millis(100), PATIENCE));
    let start = Instant::now();
    assert!(
        socket.end().await.is_err(),
        "a cut stream is not a finished one"
    );
    gate.drained().await;
    assert!(start.elapsed() >= Duration::from_millis(90));
}

#[tokio::test]
async fn a_drain_always_ends() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    let deadline = Duration::from_millis(200);
    let start = Instant::now();
    gate.switch.set(draining(deadline, deadline));
    gate.drained().await;
    assert!(start.elapsed() >= deadline);
}
