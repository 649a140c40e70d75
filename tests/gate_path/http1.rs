//! HTTP/1 request by request.

use portcullis::gate::{reason::Reason, service::Protocol, switch::Passage, traffic::HoldEnd};

use super::harness::{App, Gate, header, until};

const GET: &str = "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test]
async fn a_held_request_is_answered_when_the_gate_opens() {
    let (app, seen) = App::listen().await.echo_heads();
    let gate = Gate::start(app, Protocol::Http);
    let mut client = gate.client().await;
    client.send(GET).await;
    until("held", || gate.traffic.held.value() == 1).await;
    assert!(
        seen.lock().unwrap().is_empty(),
        "a held request reached the app"
    );
    gate.switch.set(Passage::Open);
    let (head, body) = client.response().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, GET.as_bytes());
    assert_eq!(gate.traffic.held.value(), 0);
    assert_eq!(gate.traffic.holds(HoldEnd::Released).count(), 1);
    assert_eq!(gate.traffic.responses(2), 1);
    assert_eq!(gate.traffic.latency.snapshot().count(), 1);
}

#[tokio::test]
async fn many_requests_use_one_connection_each_way() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    for _ in 0..3 {
        assert_eq!(server.head().await, GET);
        server
            .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
        assert_eq!(client.response().await.1, b"ok");
        client.send(GET).await;
    }
    assert_eq!(gate.traffic.connections.value(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (app, seen) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    let mut client = gate.client().await;
    let requests: Vec<_> = (0..5)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: shop\r\n\r\n"))
        .collect();
    client.send(requests.concat()).await;
    for request in &requests {
        assert_eq!(client.response().await.1, request.as_bytes());
    }
    assert_eq!(*seen.lock().unwrap(), requests);
}

#[tokio::test]
async fn a_refusal_says_why_and_when_to_come_again() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::start(app, Protocol::Http);
    gate.switch.set(Passage::Refuse(Reason::Closed));
    let mut client = gate.client().await;
    client.send(GET).await;
    let (head, _) = client.response().await;
    assert!(
        head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{head}"
    );
    assert_eq!(header(&head, "x-portcullis-reason"), Some("closed"));
    assert_eq!(header(&head, "retry-after"), Some("1"));
    assert_eq!(gate.traffic.refusals(Reason::Closed), 1);
    // The connection is kept: the next request may pass.
    gate.switch.set(Passage::Open);
    client.send(GET).await;
    assert!(client.response().await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_held_client_that_leaves_frees_its_place() {
    let (app, seen) = App::listen().await.echo_heads();
    let gate = Gate::start(app, Protocol::Http);
    for leave_by_reset in [false, true] {
        let mut client = gate.client().await;
        // With a body that nobody has read, which must not hide the end behind it.
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nhello")
            .await;
        until("held", || gate.traffic.held.value() == 1).await;
        client.send(vec![b'x'; 5000]).await;
        if leave_by_reset {
            client.reset();
        } else {
            drop(client);
        }
        until("free", || gate.traffic.held.value() == 0).await;
    }
    assert_eq!(gate.traffic.held_bytes.value(), 0);
    assert_eq!(gate.traffic.holds(HoldEnd::ClientGone).count(), 2);
    assert!(seen.lock().unwrap().is_empty());
}
