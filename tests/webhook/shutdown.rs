//! Leaving: what is in flight is answered, and nobody is refused who could not know.

use std::time::Duration;

use portcullis::server::Limits;
use tokio::net::TcpStream;

use super::raw::{LIMITS, Server, within};

#[tokio::test]
async fn answers_what_is_in_flight_then_ends() {
    let mut server = Server::start(LIMITS).await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n").await;
    within(server.signals.begun.notified()).await;
    let mut idle = server.connect().await;
    assert!(idle.get("/").await.starts_with("http/1.1 200"));

    server.stop();
    assert!(
        idle.closed().await.is_empty(),
        "an idle connection closes at once"
    );
    server.signals.go_on.notify_one();
    let head = busy.head().await;
    assert!(
        head.starts_with("http/1.1 200") && head.contains("connection: close"),
        "{head}"
    );
    let address = server.address;
    server.ended().await;
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn serves_late_comers_while_it_drains() {
    let mut server = Server::start(Limits {
        drain_delay: Duration::from_secs(3600),
        ..LIMITS
    })
    .await;
    let mut early = server.connect().await;
    assert!(!early.get("/").await.contains("connection: close"));
    server.stop();
    // The signal is another task's: the answers say when it has been seen.
    let mut late = within(async {
        loop {
            let mut client = server.connect().await;
            let head = client.get("/").await;
            assert!(head.starts_with("http/1.1 200"));
            if head.contains("connection: close") {
                return client;
            }
        }
    })
    .await;
    assert!(late.closed().await.is_empty());
    assert!(
        early.get("/").await.contains("connection: close"),
        "old connections are sent away too"
    );
}

#[tokio::test]
async fn cuts_off_what_does_not_end() {
    let limits = Limits {
        shutdown_timeout: Duration::from_millis(200),
        ..LIMITS
    };
    let mut server = Server::start(limits).await;
    let mut stuck = server.connect().await;
    stuck.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n").await;
    within(server.signals.begun.notified()).await;
    server.stop();
    within(server.signals.dropped.notified()).await;
    server
        .until(
            r#"portcullis_webhook_connections_ended_total{how="cut_off"}"#,
            1,
        )
        .await;
    server.ended().await;
}
