//! An app that fails, clients that misbehave, and a process that runs out of something.

use std::time::Duration;

use portcullis::gate::{
    reason::Reason,
    service::{HoldLimits, Limits, Protocol},
    switch::{LossKind, Passage},
};
use tokio::time::Instant;

use super::harness::{App, Client, Gate, LIMITS, header, until};

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nhi";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn waits_at_most(max_wait: Duration) -> Limits {
    Limits {
        hold: HoldLimits {
            max_wait,
            ..LIMITS.hold
        },
        ..LIMITS
    }
}

#[tokio::test]
async fn an_absent_app_is_waited_for_and_then_named() {
    let app = App::listen().await;
    let (address, limits) = (app.address, waits_at_most(Duration::from_millis(300)));
    drop(app);
    let mut gate = Gate::with_limits(vec![address], Protocol::Http, &limits);
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    let start = Instant::now();
    client.send(GET).await;
    let (head, _) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(header(&head, "x-portcullis-reason"), Some("app_refused"));
    assert_eq!(header(&head, "retry-after"), Some("1"));
    assert!(start.elapsed() > Duration::from_millis(100));
    let loss = gate.losses.recv().await.unwrap();
    assert_eq!((loss.app, loss.kind), (address, LossKind::Refused));
    assert!(gate.traffic.connects_refused.value() > 1);
}

#[tokio::test]
async fn an_app_that_is_back_soon_is_missed_by_nobody() {
    let app = App::listen().await;
    let address = app.address;
    drop(app);
    let gate = Gate::open(address);
    let mut client = gate.client().await;
    client.send(POST).await;
    until("refused once", || gate.traffic.connects_refused.value() > 0).await;
    let (_, seen) = App::listen_at(address).await.echo_heads();
    assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn every_address_of_the_app_is_tried() {
    let absent = App::listen().await.address;
    let (app, _) = App::listen().await.echo_heads();
    let mut gate = Gate::with_limits(vec![absent, app], Protocol::Http, &LIMITS);
    gate.switch.set(Passage::Open);
    let mut client = gate.client().await;
    client.send(GET).await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    assert!(
        gate.losses.try_recv().is_err(),
        "an app that answers somewhere is not lost"
    );
}

#[tokio::test]
async fn a_response_cut_short_is_seen_as_cut_short() {
    let app = App::listen().await;
    let mut gate = Gate::open(app.address);
    for (head, by_reset) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\npart",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\npart", true),
    ] {
        let mut client = gate.client().await;
        client.send(GET).await;
        let mut server = app.accept().await;
        server.head().await;
        server.send(head).await;
        client.until("part").await;
        if by_reset {
            server.reset();
        } else {
            drop(server);
        }
        assert!(client.end().await.is_err(), "{head:?} looks whole");
        let kind = gate.losses.recv().await.unwrap().kind;
        assert_eq!(
            kind,
            if by_reset {
                LossKind::Reset
            } else {
                LossKind::ClosedBusy
            }
        );
    }
    until("nothing in flight", || gate.traffic.in_flight.value() == 0).await;
}

#[tokio::test]
async fn an_app_that_closes_without_a_word_is_named() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    for answer in ["", "HTTP/1.1 200 OK\r\nConten"] {
        let mut client = gate.client().await;
        client.send(GET).await;
        let mut server = app.accept().await;
        server.head().await;
        server.send(answer).await;
        drop(server);
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(header(&answer, "x-portcullis-reason"), Some("app_reset"));
    }
    assert_eq!(gate.traffic.refusals(Reason::AppReset), 2);
    assert_eq!(
        gate.traffic.retries.value(),
        0,
        "sent again on a new connection"
    );
}

#[tokio::test]
async fn garbage_becomes_502() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    for garbage in [
        "220 smtp.example ESMTP\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let mut client = gate.client().await;
        client.send(GET).await;
        let mut server = app.accept().await;
        server.head().await;
        server.send(garbage).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(header(&answer, "x-portcullis-reason"), Some("app_garbage"));
    }
}

#[tokio::test]
async fn a_request_that_is_never_answered_ends_when_its_client_gives_up() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    assert_eq!(gate.traffic.in_flight.value(), 1);
    client.reset();
    assert!(server.end().await.is_err(), "the app works on for nobody");
    until("nothing in flight", || gate.traffic.in_flight.value() == 0).await;
}

#[tokio::test]
async fn an_idle_connection_that_the_app_closed_costs_no_request() {
    let app = App::listen().await;
    let mut gate = Gate::open(app.address);
    let mut client = gate.client().await;
    for request in [GET, POST, GET] {
        client.send(request).await;
        let mut server = app.accept().await;
        server.head().await;
        server.send(OK).await;
        client.head().await;
        drop(server);
        assert_eq!(gate.losses.recv().await.unwrap().kind, LossKind::ClosedIdle);
    }
}

#[tokio::test]
async fn a_repeatable_request_that_met_a_closing_app_is_sent_again() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    server.send(OK).await;
    client.head().await;
    // The app reads the second request and closes without an answer.
    client.send(GET).await;
    server.head().await;
    drop(server);
    let mut again = app.accept().await;
    assert_eq!(again.head().await, GET);
    again.send(OK).await;
    client.head().await;
    assert_eq!(gate.traffic.retries.value(), 1);
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_not() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(POST).await;
    let mut server = app.accept().await;
    server.until("hi").await;
    server.send(OK).await;
    client.head().await;
    client.send(POST).await;
    // On the kept connection, or, when the test was slow, on a new one.
    let mut server = match server.next_head().await {
        Some(_) => server,
        None => app.accept().await,
    };
    server.until("hi").await;
    server.reset();
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(gate.traffic.retries.value(), 0);
}

#[tokio::test]
async fn a_client_that_breaks_off_its_body_breaks_off_at_the_app() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    for head in [
        "Content-Length: 100\r\n\r\npart",
        "Transfer-Encoding: chunked\r\n\r\n64\r\npart",
    ] {
        let mut client = gate.client().await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"))
            .await;
        let mut server = app.accept().await;
        server.until("part").await;
        drop(client);
        assert!(server.end().await.is_err(), "{head:?} looks whole");
    }
}

#[tokio::test]
async fn bad_chunks_become_400_and_never_look_whole() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    for bad in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "0\r\nbad\r\n\r\n",
    ] {
        let mut client = gate.client().await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        let mut server = app.accept().await;
        server.head().await;
        client.send(bad).await;
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad:?}: {answer}");
        assert!(server.end().await.is_err(), "{bad:?} looks whole");
    }
    assert_eq!(gate.traffic.refusals(Reason::BadRequest), 4);
}

#[tokio::test]
async fn a_thousand_slow_heads_hold_nobody_up() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    let mut slow = Vec::new();
    for _ in 0..1000 {
        let mut client = gate.client().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Slow").await;
        slow.push(client);
    }
    until("connected", || gate.traffic.connections.value() == 1000).await;
    let mut client = gate.client().await;
    client.send(GET).await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    let mut last = slow.pop().unwrap();
    last.send(": 1\r\n\r\n").await;
    assert!(last.response().await.0.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn too_many_connections_wait_in_the_kernel() {
    let (app, _) = App::listen().await.echo_heads();
    let limits = Limits {
        max_connections: 2.try_into().unwrap(),
        ..LIMITS
    };
    let gate = Gate::with_limits(vec![app], Protocol::Http, &limits);
    gate.switch.set(Passage::Open);
    let first = gate.client().await;
    let _second = gate.client().await;
    until("two", || gate.traffic.connections.value() == 2).await;
    let mut third = gate.client().await;
    third.send(GET).await;
    drop(first);
    assert!(third.response().await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!(gate.traffic.connections.value(), 2);
}

#[tokio::test]
async fn two_thousand_held_clients_are_all_answered_by_steps() {
    let (app, seen) = App::listen().await.echo_heads();
    let hold = HoldLimits {
        max_requests: 2000,
        max_wait: Duration::from_secs(60),
        ..LIMITS.hold
    };
    let gate = Gate::with_limits(vec![app], Protocol::Http, &Limits { hold, ..LIMITS });
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..2000 {
        let mut client = gate.client().await;
        client.send(GET).await;
        clients.push(client);
    }
    until("held", || gate.traffic.held.value() == 2000).await;
    let mut one_too_many = gate.client().await;
    one_too_many.send(GET).await;
    let (head, _) = one_too_many.response().await;
    assert_eq!(header(&head, "x-portcullis-reason"), Some("hold_full"));
    gate.switch.set(Passage::Open);
    for client in &mut clients {
        assert!(client.response().await.0.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(seen.lock().unwrap().len(), 2000);
    assert_eq!(gate.traffic.held.value(), 0);
    assert_eq!(gate.traffic.ramp_slots.value(), 0);
}
