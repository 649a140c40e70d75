//! Bodies and tunnels that are long enough to pass through the kernel only.

use std::time::Duration;

use bytes::Bytes;
use portcullis::gate::{
    service::Protocol,
    switch::{Drain, Passage},
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use super::harness::{App, Client, Gate, PATIENCE, header, until};

/// More than all buffers between a client and an app can take: a receiver that does not read stops
/// its sender.
const LONG: usize = 16 << 20;

/// More receivers at a time than there are pipes (64).
const MANY: usize = 80;

/// Bytes without a pattern that a lost, doubled or misplaced piece would leave intact.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let next = || {
        // SplitMix64's step: a sum, and a mix of its bits.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).to_le_bytes()
    };
    let words = std::iter::repeat_with(next).take(length / 8 + 1);
    Bytes::from(words.collect::<Vec<_>>().concat()).slice(..length)
}

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

fn ok(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n")
}

/// Compares without printing megabytes.
fn same(got: &[u8], sent: &[u8], what: &str) {
    if got != sent {
        let at = got.iter().zip(sent).position(|(got, sent)| got != sent);
        panic!(
            "{what}: {} of {} bytes, first other at {at:?}",
            got.len(),
            sent.len()
        );
    }
}

/// An app that sends back every body, for as long as the test runs.
fn mirror(app: App) {
    tokio::spawn(async move {
        loop {
            let mut client = Client::of(app.accept_or_wait().await);
            tokio::spawn(async move {
                while let Some(head) = client.next_head().await {
                    let length = header(&head, "content-length").unwrap().parse().unwrap();
                    let body = client.bytes(length).await;
                    client.send([ok(length).as_bytes(), &body].concat()).await;
                }
            });
        }
    });
}

/// A client whose request for a long body was answered, and which has read no more than the head.
async fn asks(gate: &Gate, app: &App, body: Bytes) -> Client {
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut server = app.accept().await;
    server.head().await;
    tokio::spawn(async move {
        let answer = [ok(body.len()).as_bytes(), &body].concat();
        // Fails where the client leaves before the end.
        let _ = server.stream.write_all(&answer).await;
        server.next_head().await
    });
    client.head().await;
    client
}

#[tokio::test]
async fn bodies_of_every_size_arrive_whole_both_ways() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    mirror(app);
    let mut client = gate.client().await;
    let lengths = [
        0, 1, 16_383, 16_384, 16_385, 32_768, 65_536, 65_537, 262_145, LONG,
    ];
    for (seed, length) in (1..).zip(lengths) {
        let body = noise(length, seed);
        client.send(post(length)).await;
        client.send(&body).await;
        let (_, answer) = client.response().await;
        same(&answer, &body, &format!("a body of {length} bytes"));
    }
}

#[tokio::test]
async fn what_follows_a_long_body_is_no_part_of_it() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    mirror(app);
    let mut client = gate.client().await;
    let bodies = [noise(300_000, 1), noise(70_000, 2)];
    let requests = bodies
        .each_ref()
        .map(|body| [post(body.len()).as_bytes(), body].concat());
    client.send(requests.concat()).await;
    for body in &bodies {
        same(&client.response().await.1, body, "a pipelined body");
    }
}

#[tokio::test]
async fn more_slow_readers_than_there_are_pipes_get_all_of_it() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let body = noise(LONG, 3);
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(asks(&gate, &app, body.clone()).await);
    }
    // By then each of them has stopped its sender.
    for mut client in clients {
        same(&client.bytes(body.len()).await, &body, "a slow reader");
    }
}

#[tokio::test]
async fn an_app_that_ends_short_cuts_the_client_off() {
    for reset in [false, true] {
        let app = App::listen().await;
        let gate = Gate::open(app.address);
        let mut client = gate.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut server = app.accept().await;
        server.head().await;
        let part = noise(1_000_000, 4);
        let sent = async {
            server.send(ok(part.len() + 1)).await;
            server.send(&part).await;
        };
        let ((), (head, got)) = tokio::join!(sent, async {
            (client.head().await, client.bytes(part.len()).await)
        });
        assert!(head.starts_with("HTTP/1.1 200 "));
        same(&got, &part, "what had come");
        if reset {
            server.reset();
        } else {
            drop(server);
        }
        assert!(client.end().await.is_err(), "a short body looks whole");
        until("ended", || gate.traffic.in_flight.value() == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_ends_short_cuts_the_app_off() {
    for reset in [false, true] {
        let app = App::listen().await;
        let gate = Gate::open(app.address);
        let mut client = gate.client().await;
        let part = noise(1_000_000, 5);
        client.send(post(part.len() + 1)).await;
        let mut server = app.accept().await;
        server.head().await;
        let ((), got) = tokio::join!(client.send(&part), server.bytes(part.len()));
        same(&got, &part, "what had come");
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        assert!(server.end().await.is_err(), "a short body looks whole");
        until("ended", || gate.traffic.in_flight.value() == 0).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_a_body_leaves_nothing_to_the_next() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let body = noise(LONG, 12);
    for turn in 0..MANY {
        let leaves = asks(&gate, &app, body.clone()).await;
        if turn % 2 == 0 {
            leaves.reset();
        } else {
            drop(leaves);
        }
    }
    until("all gone", || gate.traffic.in_flight.value() == 0).await;
    let body = noise(LONG, 6);
    let mut client = asks(&gate, &app, body.clone()).await;
    same(&client.bytes(body.len()).await, &body, "the next one's");
}

#[tokio::test]
async fn an_answer_in_the_middle_of_a_long_body_is_passed_on() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(post(LONG)).await;
    client.send(noise(1_000_000, 7)).await;
    let mut server = app.accept().await;
    server.head().await;
    server.bytes(500_000).await;
    server
        .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    until("ended", || gate.traffic.in_flight.value() == 0).await;
}

#[tokio::test]
async fn a_tunnel_carries_long_streams_both_ways_and_each_end_by_itself() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Tcp);
    gate.switch.set(Passage::Open);
    let (mut client, mut server) = (gate.client().await, app.accept().await);
    let (up, down) = (noise(LONG, 8), noise(LONG + 1, 9));
    let (mut from_client, mut to_client) = client.stream.split();
    let (mut from_server, mut to_server) = server.stream.split();
    let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
    let upward = async {
        to_client.write_all(&up).await.unwrap();
        to_client.shutdown().await.unwrap();
    };
    let downward = async {
        // Only when the client's end has come: the other direction outlives it.
        read_to_end(&mut from_server, &mut got_up).await;
        to_server.write_all(&down).await.unwrap();
        to_server.shutdown().await.unwrap();
    };
    tokio::join!(
        upward,
        downward,
        read_to_end(&mut from_client, &mut got_down)
    );
    same(&got_up, &up, "up");
    same(&got_down, &down, "down");
    until("ended", || gate.traffic.streams.value() == 0).await;
}

async fn read_to_end(from: &mut (impl tokio::io::AsyncRead + Unpin), to: &mut Vec<u8>) {
    let read = tokio::io::AsyncReadExt::read_to_end(from, to);
    timeout(PATIENCE, read).await.expect("never ended").unwrap();
}

#[tokio::test]
async fn a_drain_lets_a_long_body_end() {
    let app = App::listen().await;
    let mut gate = Gate::open(app.address);
    let body = noise(LONG, 10);
    let mut client = asks(&gate, &app, body.clone()).await;
    gate.drain(Instant::now());
    // Nothing but the body keeps the gate from ending.
    assert!(
        timeout(Duration::from_millis(100), &mut gate.run)
            .await
            .is_err()
    );
    same(&client.bytes(body.len()).await, &body, "under a drain");
    drop(client);
    gate.drained().await;
}

#[tokio::test]
async fn a_drain_cuts_a_body_that_nobody_reads_at_its_deadline() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = asks(&gate, &app, noise(LONG, 11)).await;
    let now = Instant::now();
    let deadline = now + Duration::from_millis(50);
    gate.switch.set(Passage::Draining(Drain {
        settle: now,
        stream_deadline: deadline,
        deadline,
    }));
    gate.drained().await;
    let read = client.end().await;
    assert!(read.is_err() || read.is_ok_and(|length| length < LONG));
}
