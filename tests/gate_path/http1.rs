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

#[tokio::test]
async fn connection_fields_end_here_and_marks_of_clients_are_dropped() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    let mut client = gate.client().await;
    client
        .send(
            "GET / HTTP/1.1\r\nHoSt: shop\r\nConnection: X-Hop, Host, keep-alive\r\nX-Hop: 1\r\n\
             TE: trailers, gzip\r\nX-Portcullis-Warmup: 1\r\nx-MiXed: kept\r\n\r\n",
        )
        .await;
    let (_, body) = client.response().await;
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "GET / HTTP/1.1\r\nHoSt: shop\r\nx-MiXed: kept\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
    );
}

#[tokio::test]
async fn chunks_and_trailers_pass_both_ways() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel")
        .await;
    let mut server = app.accept().await;
    server.head().await;
    // What has come is passed on before the rest of the chunk has.
    assert_eq!(server.bytes(6).await, b"5\r\nhel");
    client
        .send("lo\r\n0\r\nX-Sum: 5\r\nContent-Length: 9\r\n\r\n")
        .await;
    assert_eq!(
        server.until("\r\n\r\n").await,
        "lo\r\n0\r\nX-Sum: 5\r\n\r\n"
    );
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n";
    server.send(answer).await;
    assert_eq!(client.head().await, answer);
    server.send("3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n").await;
    assert_eq!(
        client.until("\r\n\r\n").await,
        "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
    );
    // And the connection is in step.
    client.send(GET).await;
    assert_eq!(server.head().await, GET);
}

#[tokio::test]
async fn http10_gets_plain_bodies() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let mut server = app.accept().await;
    let head = server.head().await;
    assert!(
        head.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:"),
        "{head}"
    );
    server
        .send("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e\r\nde\r\n0\r\nT: 1\r\n\r\n")
        .await;
    assert_eq!(
        client.rest().await,
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde"
    );
}

#[tokio::test]
async fn http10_may_keep_its_connection() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    let mut client = gate.client().await;
    for _ in 0..2 {
        client
            .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await;
        let (head, _) = client.response().await;
        assert_eq!(header(&head, "connection"), Some("keep-alive"));
    }
}

#[tokio::test]
async fn expect_100_continue_is_between_client_and_app() {
    let app = App::listen().await;
    let gate = Gate::start(app.address, Protocol::Http);
    let mut client = gate.client().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.send(head).await;
    until("held", || gate.traffic.held.value() == 1).await;
    gate.switch.set(Passage::Open);
    let mut server = app.accept().await;
    assert_eq!(server.head().await, head);
    server.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    // Only the app's own word makes the client send.
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert_eq!(server.bytes(5).await, b"hello");
    server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 204 No Content\r\n\r\n");
    client.send(GET).await;
    assert_eq!(server.head().await, GET);
}

#[tokio::test]
async fn expect_100_continue_may_be_answered_at_once() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
        .await;
    // The client may or may not send its body now: the connection ends, so that nobody has to guess.
    let answer = client.rest().await;
    assert_eq!(
        answer,
        "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
}

#[tokio::test]
async fn early_hints_reach_the_client() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        .await;
    assert_eq!(
        client.head().await,
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    );
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(
        client.head().await,
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    );
}

#[tokio::test]
async fn an_early_response_is_passed_on_and_the_connection_ends() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\nbegin")
        .await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        .await;
    assert_eq!(
        client.rest().await,
        "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
    );
}

#[tokio::test]
async fn both_directions_flow_at_once() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    for _ in 0..3 {
        client.send("4\r\nping\r\n").await;
        assert_eq!(server.bytes(9).await, b"4\r\nping\r\n");
        server.send("4\r\npong\r\n").await;
        assert_eq!(client.bytes(9).await, b"4\r\npong\r\n");
    }
    client.send("0\r\n\r\n").await;
    server.until("0\r\n\r\n").await;
    server.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_that_closed_its_side_still_gets_its_answer() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    client.finish().await;
    let mut server = app.accept().await;
    assert_eq!(server.head().await, GET);
    server
        .send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        .await;
    client.head().await;
    server.send("ok").await;
    assert_eq!(client.rest().await, "ok");
}

#[tokio::test]
async fn a_head_response_has_no_body_and_the_connection_stays_in_step() {
    let (app, _) = App::listen().await.echo_heads();
    let gate = Gate::open(app);
    let mut client = gate.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(header(&client.head().await, "content-length").is_some());
    client.send(GET).await;
    assert_eq!(client.response().await.1, GET.as_bytes());
}

#[tokio::test]
async fn a_body_without_length_ends_with_the_connection() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    server.send("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    drop(server);
    assert_eq!(
        client.rest().await,
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it"
    );
}

#[tokio::test]
async fn a_websocket_is_a_tunnel_after_101_and_not_before() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    let upgrade =
        "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    // What follows the request before the 101 waits: it may yet be another request.
    client.send(format!("{upgrade}early")).await;
    let mut server = app.accept().await;
    assert!(
        server
            .head()
            .await
            .contains("Upgrade: websocket\r\nConnection: Upgrade\r\n")
    );
    assert_eq!(gate.traffic.in_flight.value(), 1);
    server
        .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
        .await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.bytes(5).await, b"hello");
    assert_eq!(server.bytes(5).await, b"early");
    until("a stream", || gate.traffic.streams.value() == 1).await;
    assert_eq!(gate.traffic.in_flight.value(), 0);
    // Half-close, one side after the other.
    client.send("bye").await;
    client.finish().await;
    assert_eq!(server.rest().await, "bye");
    server.send("still here").await;
    drop(server);
    assert_eq!(client.rest().await, "still here");
    until("ended", || gate.traffic.streams.value() == 0).await;
}

#[tokio::test]
async fn a_refused_upgrade_leaves_http() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        .await;
    client
        .send("GET /admin HTTP/1.1\r\nHost: a\r\nX-Portcullis-Warmup: 1\r\n\r\n")
        .await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.head().await;
    // The second is read as a request, not passed as bytes.
    assert_eq!(
        server.head().await,
        "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
    );
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_garbage() {
    let app = App::listen().await;
    let gate = Gate::open(app.address);
    let mut client = gate.client().await;
    client.send(GET).await;
    let mut server = app.accept().await;
    server.head().await;
    server
        .send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")
        .await;
    assert!(
        client
            .rest()
            .await
            .contains("X-Portcullis-Reason: app_garbage")
    );
}
