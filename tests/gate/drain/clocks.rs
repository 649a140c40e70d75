//! What a drain of the real program waits for, and for how long.

use std::{io, time::Duration};

use http_body_util::BodyExt as _;
use portcullis::gate::control::Request;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    app::{App, DOWNLOAD, PACED, PIECE, PIECES},
    clients::{Outcome, exchange_message, get, open_http1, upgrade},
};
use crate::gate::harness::{Gate, PATIENCE, exchange};

/// A gate that is open, its app, and the word on which the app ends its downloads.
struct Stage {
    gate: Gate,
    finish: watch::Sender<bool>,
    _app: App,
}

impl Stage {
    /// With these settings of the drain.
    async fn set(drain: &str) -> Self {
        let (finish, finished) = watch::channel(false);
        let app = App::start(finished).await;
        let more = format!(r#""ramp": {{"when": "never"}}, "drain": {{{drain}}}"#);
        let gate = Gate::start(app.web, &more);
        gate.reaches("open").await;
        Self {
            gate,
            finish,
            _app: app,
        }
    }

    async fn ended(self) -> String {
        let (code, log) = self.gate.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("\"message\":\"drained\""), "{log}");
        log
    }
}

/// A download in equal pieces under which the gate goes away: what came of it.
async fn download(stage: &Stage, pause: Duration) -> Outcome<usize> {
    let mut sender = open_http1(stage.gate.listen).await?;
    let path = format!("{PACED}{}", pause.as_millis());
    let response = sender.send_request(get(&path)).await?;
    stage.gate.terminate().await;
    Ok(response.into_body().collect().await?.to_bytes().len())
}

async fn outlasts_the_delay(pause: Duration, drain: &str) {
    let stage = Stage::set(drain).await;
    let began = Instant::now();
    let length = download(&stage, pause).await.unwrap();
    assert_eq!(length, PIECES * PIECE.len());
    assert!(began.elapsed() >= pause * 29);
    stage.ended().await;
}

#[tokio::test]
async fn a_slow_download_outlasts_the_delay() {
    let drain = r#""delay": "100ms", "streamDeadline": "200ms", "deadline": "45s""#;
    outlasts_the_delay(Duration::from_millis(30), drain).await;
}

#[tokio::test]
#[ignore = "thirty seconds: make bench-drain"]
async fn a_download_of_thirty_seconds_outlasts_the_delay() {
    outlasts_the_delay(Duration::from_secs(1), r#""deadline": "45s""#).await;
}

#[tokio::test]
async fn a_download_that_outlasts_the_deadline_is_cut_and_does_not_look_whole() {
    let drain = r#""delay": "50ms", "streamDeadline": "100ms", "deadline": "500ms""#;
    let stage = Stage::set(drain).await;
    let began = Instant::now();
    let cut = download(&stage, Duration::from_secs(10)).await;
    assert!(cut.is_err(), "{cut:?}");
    assert!(began.elapsed() >= Duration::from_millis(500));
    stage.ended().await;
}

#[tokio::test]
async fn a_websocket_is_cut_at_its_own_deadline() {
    let limit = Duration::from_millis(400);
    let drain = r#""delay": "50ms", "streamDeadline": "400ms", "deadline": "10m""#;
    let stage = Stage::set(drain).await;
    let mut stream = upgrade(stage.gate.listen).await.unwrap();
    exchange_message(&mut stream).await.unwrap();
    let began = Instant::now();
    stage.gate.terminate().await;
    let talk = async {
        loop {
            if let Err(error) = exchange_message(&mut stream).await {
                return error;
            }
        }
    };
    let error = timeout(PATIENCE, talk).await.expect("never cut");
    let cut = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    assert!(cut.contains(&error.kind()), "{error}");
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    // Its deadline is not waited for once the last stream is cut.
    stage.ended().await;
}

#[tokio::test]
async fn sigterm_in_the_midst_of_a_drain_cuts_nothing() {
    let stage = Stage::set(r#""delay": "50ms", "deadline": "10m", "streamDeadline": "1m""#).await;
    let mut sender = open_http1(stage.gate.listen).await.unwrap();
    let response = sender.send_request(get("/download")).await.unwrap();
    let terminated = async {
        stage.gate.reaches("draining").await;
        stage.gate.terminate().await;
        // It still answers, and what is in flight goes on.
        let status = stage.gate.status().await;
        assert_eq!(status["state"], "draining", "{status:#}");
        stage.finish.send_replace(true);
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let (_, body) = tokio::join!(stage.gate.ask(Request::DrainDeleted), terminated);
    assert_eq!(body, DOWNLOAD.concat());
    let log = stage.ended().await;
    assert!(log.contains("asked to stop"), "{log}");
}

#[tokio::test]
async fn a_drain_that_comes_after_the_hook_was_answered_still_wins() {
    let stage = Stage::set(r#""delay": "50ms", "hookWait": "200ms""#).await;
    let gate = &stage.gate;
    let hook = exchange(gate.admin, "GET /drained HTTP/1.1").await;
    assert!(hook.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    let status = gate.reaches("reclosed").await;
    assert_eq!(status["cause"], "app_stopping");
    let (held, drained) = tokio::join!(gate.get("/"), async {
        gate.shows("a held request", |status| status["traffic"]["held"] == 1)
            .await;
        gate.ask(Request::DrainDeleted).await
    });
    assert_eq!(drained.as_deref(), Some("drained\n"));
    assert_eq!(held, Some(200), "what was held is served");
    gate.terminate().await;
    let log = stage.ended().await;
    let late = "\"from\":\"reclosed\",\"to\":\"draining\"";
    assert!(log.contains(late), "{log}");
}
