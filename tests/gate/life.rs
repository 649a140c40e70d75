//! From closed to drained, with real apps and a real database.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use portcullis::gate::control::Request;
use tokio::time::{Instant, timeout};

use super::harness::{App, Gate, PATIENCE, exchange, free_port, require_no_secret};
use crate::support::databases::{Certificates, Database};

/// A check of the app's own port that notices quickly, and a warm-up that is over quickly.
const WARM: &str = r#"
    "checks": [{"name": "ready", "http": {"path": "/ready"}, "period": "50ms"}],
    "warmup": {"requests": [{"path": "/catalog"}], "target": {"p95": "100ms"},
               "rate": 1000, "windowRequests": 10, "windows": 2}"#;

#[tokio::test]
async fn holds_requests_until_an_app_that_starts_slowly_is_warm() {
    let port = free_port();
    let gate = Gate::start(port, WARM);
    gate.reaches("closed").await;
    let held = gate.get("/early");
    let opened = async {
        gate.shows("a held request", |status| status["traffic"]["held"] == 1)
            .await;
        let app = App::on(port, Arc::default());
        gate.reaches("open").await;
        app
    };
    let (held, app) = tokio::join!(held, opened);
    assert_eq!(held, Some(200));
    assert!(
        app.seen.warmups.load(Ordering::SeqCst) >= 21,
        "1 in order, 2 windows of 10"
    );
    let status = gate.status().await;
    assert_eq!(status["cause"], "warm", "{status:#}");
    assert_eq!(status["warmup"]["verdict"], "warm");
    assert_eq!(status["warmup"]["numbers"]["errors"], 0);
}

#[tokio::test]
async fn waits_for_a_database_and_only_reports_it_afterwards() {
    let (app, certificates) = (App::start(), Certificates::new());
    let (port, tls_port) = (free_port(), free_port());
    let url = format!("redis://:hush@localhost:{port}");
    let gate = Gate::with_env(
        app.port,
        r#""checks": [{"name": "cache", "redis": {"urlFrom": {"env": "REDIS_URL"}}, "period": "50ms"}]"#,
        &[("REDIS_URL", url)],
    );
    let status = gate.reaches("checking").await;
    let status = gate
        .shows("the refusal", |status| {
            status["cause"] == "checks_fail" && status != &serde_json::Value::Null
        })
        .await
        .as_object()
        .map_or(status, |fresh| fresh.clone().into());
    let reason = format!("check cache: redis localhost:{port}: connection refused");
    assert_eq!(status["reason"], reason.as_str());
    let cache = Database::redis(&certificates, port, tls_port);
    gate.reaches("ramping").await;
    assert_eq!(gate.get("/").await, Some(200));
    drop(cache);
    assert_eq!(
        gate.get("/").await,
        Some(200),
        "a dependency never closes an open gate"
    );
    require_no_secret(&gate.status().await.to_string());
    require_no_secret(&gate.admin("GET /metrics").await);
    gate.terminate().await;
    let (code, log) = gate.ended().await;
    assert_eq!(code, Some(0), "{log}");
    require_no_secret(&log);
}

#[tokio::test]
async fn an_app_whose_first_requests_are_slow_meets_its_clients_warm() {
    let app = App::start();
    app.seen.slow.store(15, Ordering::SeqCst);
    let gate = Gate::start(app.port, WARM);
    gate.reaches("open").await;
    let status = gate.status().await;
    let numbers = &status["warmup"]["numbers"];
    let (cold, warm) = (numbers["coldP95Us"].as_u64(), numbers["warmP95Us"].as_u64());
    assert!(cold > Some(100_000) && warm < Some(100_000), "{status:#}");
    let client = gate.get("/catalog").await;
    assert_eq!(client, Some(200));
    assert_eq!(
        app.seen.slow.load(Ordering::SeqCst),
        0,
        "no client met a slow request"
    );
    let marked = app
        .seen
        .last
        .lock()
        .unwrap()
        .contains_key("x-portcullis-warmup");
    assert!(!marked, "a client's request is not marked");
}

#[tokio::test]
async fn a_warm_up_that_fails_says_why_and_is_tried_again() {
    let app = App::start();
    app.seen.unwell.store(true, Ordering::SeqCst);
    let gate = Gate::start(
        app.port,
        r#""warmup": {"requests": [{"path": "/catalog"}], "rate": 1000, "windowRequests": 10}"#,
    );
    let status = gate
        .shows("a failed attempt", |status| {
            status["cause"] == "not_warm_yet"
        })
        .await;
    assert_eq!(status["reason"], "not warm yet: GET /catalog: 503");
    app.seen.unwell.store(false, Ordering::SeqCst);
    gate.shows("the next one", |status| status["ready"] == true)
        .await;
}

#[tokio::test]
async fn not_warm_opens_in_the_end_and_is_counted() {
    let app = App::start();
    app.seen.slow.store(u64::MAX, Ordering::SeqCst);
    let gate = Gate::start(
        app.port,
        r#""warmup": {"requests": [{"path": "/"}], "maxP95": "10ms"}, "notWarm": {"after": "1s"}"#,
    );
    let status = gate.reaches("ramping").await;
    assert_eq!(status["cause"], "opened_cold");
    let page = gate.admin("GET /metrics").await;
    assert!(
        page.contains("portcullis_gate_fail_open_total{reason=\"opened_cold\"} 1\n"),
        "{page}"
    );
}

#[tokio::test]
async fn an_app_that_restarts_at_once_is_checked_and_warmed_again() {
    let app = App::start();
    let gate = Gate::start(app.port, WARM);
    gate.reaches("open").await;
    let before = app.seen.warmups.load(Ordering::SeqCst);
    let app = app.restarted().await;
    gate.shows("a second opening", |status| {
        let history = status["transitions"].as_array();
        let opened = |step: &&serde_json::Value| step["to"] == "open";
        history.is_some_and(|steps| steps.iter().filter(opened).count() == 2)
    })
    .await;
    assert!(app.seen.warmups.load(Ordering::SeqCst) > before);
}

#[tokio::test]
async fn an_app_that_falls_ill_closes_the_gate_and_reopens_it_without_a_warm_up() {
    let app = App::start();
    let gate = Gate::start(app.port, WARM);
    gate.reaches("open").await;
    let warmups = app.seen.warmups.load(Ordering::SeqCst);
    app.seen.unwell.store(true, Ordering::SeqCst);
    let status = gate.reaches("reclosed").await;
    assert_eq!(status["reason"], "check ready: GET /ready: 503");
    app.seen.unwell.store(false, Ordering::SeqCst);
    let status = gate.reaches("open").await;
    assert_eq!(status["cause"], "recovered");
    assert_eq!(app.seen.warmups.load(Ordering::SeqCst), warmups);
}

#[tokio::test]
async fn a_restarted_gate_opens_within_a_second_and_does_not_warm_up() {
    let app = App::start();
    let gate = Gate::start(app.port, WARM);
    gate.reaches("open").await;
    let warmups = app.seen.warmups.load(Ordering::SeqCst);
    let gate = gate.restarted().await;
    let status = gate.reaches("open").await;
    assert_eq!(status["cause"], "resumed");
    assert_eq!(app.seen.warmups.load(Ordering::SeqCst), warmups);
    let page = gate.admin("GET /metrics").await;
    let took = page
        .lines()
        .find_map(|line| line.strip_prefix("portcullis_gate_time_to_open_seconds "))
        .and_then(|seconds| seconds.parse::<f64>().ok());
    assert!(took < Some(1.0), "{took:?}");
}

#[tokio::test]
async fn a_gate_restarted_with_its_app_warms_up_again() {
    let app = App::start();
    let gate = Gate::start(app.port, WARM);
    gate.reaches("open").await;
    let _app = app.restarted().await;
    let gate = gate.restarted().await;
    let status = gate.reaches("open").await;
    assert_eq!(status["cause"], "warm");
}

#[tokio::test]
async fn sigterm_drains_and_ends_with_zero_in_every_state() {
    let app = App::start();
    let delay = r#""drain": {"delay": "100ms"}"#;
    let open = Gate::start(app.port, delay);
    open.shows("ready", |status| status["ready"] == true).await;
    let closed = Gate::start(free_port(), delay);
    closed.reaches("closed").await;
    let checking = Gate::start(
        app.port,
        &format!(r#""checks": [{{"name": "no", "env": {{"name": "NO_SUCH"}}}}], {delay}"#),
    );
    checking.reaches("checking").await;
    for gate in [open, closed, checking] {
        gate.terminate().await;
        let (code, log) = gate.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("\"to\":\"draining\""), "{log}");
    }
}

#[tokio::test]
async fn a_drain_by_command_returns_when_it_is_done_and_sigterm_then_ends_at_once() {
    let app = App::start();
    let gate = Gate::start(app.port, r#""drain": {"delay": "300ms"}"#);
    gate.shows("ready", |status| status["ready"] == true).await;
    let began = Instant::now();
    let (drained, served) = tokio::join!(gate.ask(Request::DrainDeleted), async {
        let status = gate.reaches("draining").await;
        assert_eq!(
            status["ready"], true,
            "a deleted pod stays ready while it accepts"
        );
        gate.get("/").await
    });
    assert_eq!(drained.as_deref(), Some("drained\n"));
    assert_eq!(served, Some(200), "it serves for as long as the delay");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(gate.status().await["ready"], false);
    gate.terminate().await;
    let (code, log) = gate.ended().await;
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_hook_waits_for_the_drain_and_without_one_is_taken_for_a_restart() {
    let app = App::start();
    let more = format!(r#"{WARM}, "drain": {{"delay": "50ms", "hookWait": "400ms"}}"#);
    let gate = Gate::start(app.port, &more);
    gate.reaches("open").await;
    let began = Instant::now();
    let (answer, served) =
        tokio::join!(exchange(gate.admin, "GET /drained HTTP/1.1"), gate.get("/"));
    assert_eq!(served, Some(200), "until then it serves as before");
    assert!(answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    assert!(began.elapsed() >= Duration::from_millis(400));
    let status = gate.reaches("reclosed").await;
    assert_eq!(status["cause"], "app_stopping");
    // The container's app goes, and another comes.
    let _app = app.restarted().await;
    let status = gate.reaches("open").await;
    assert_eq!(status["cause"], "warm");
    let (answer, drained) = tokio::join!(exchange(gate.admin, "GET /drained HTTP/1.1"), async {
        gate.ask(Request::DrainDeleted).await
    });
    assert!(answer.is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    assert_eq!(drained.as_deref(), Some("drained\n"));
}

#[tokio::test]
async fn nothing_on_the_admin_port_changes_state() {
    let app = App::start();
    let gate = Gate::start(app.port, WARM);
    let before = gate.reaches("open").await;
    for line in [
        "POST /drained",
        "POST /drain",
        "DELETE /status",
        "PUT /ready",
    ] {
        let answer = gate.admin(line).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{line}: {answer}");
    }
    // A caller that hangs up before its time leaves no trace.
    let gone = timeout(
        Duration::from_millis(50),
        exchange(gate.admin, "GET /drained HTTP/1.1"),
    );
    assert!(gone.await.is_err());
    assert_eq!(gate.status().await["since"], before["since"]);
    assert!(timeout(PATIENCE, gate.get("/")).await.is_ok());
}
