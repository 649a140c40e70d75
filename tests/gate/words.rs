//! What a person or a kubelet is told.

use std::{net::TcpListener, path::Path, sync::atomic::Ordering, time::Duration};

use portcullis::gate::metrics::{METRICS, PREFIX};
use tokio::{task::JoinSet, time::Instant};

use super::harness::{App, Gate, PATIENCE, exchange, free_port, program, said};

#[tokio::test]
async fn probe_exits_with_the_answer_and_prints_the_reason() {
    let port = free_port();
    let gate = Gate::start(port, r#""ramp": {"when": "never"}"#);
    gate.reaches("closed").await;
    gate.shows("the refusal", |status| status["cause"] == "app_refuses")
        .await;
    let shut = program(&["probe"], gate.folder.path()).await;
    assert_eq!(shut.status.code(), Some(1));
    let reason = format!("not ready: closed: app 127.0.0.1:{port}: connection refused\n");
    assert_eq!(said(&shut), reason);
    assert!(gate.admin("GET /ready").await.ends_with(&reason));
    let _app = App::on(port, std::sync::Arc::default());
    gate.reaches("open").await;
    let open = program(&["probe"], gate.folder.path()).await;
    assert_eq!(open.status.code(), Some(0));
    assert_eq!(said(&open), "ready: open: all checks pass\n");
    assert!(gate.admin("GET /ready").await.starts_with("HTTP/1.1 200"));
    assert!(gate.admin("GET /live").await.ends_with("live\n"));
}

#[tokio::test]
async fn probe_answers_in_time_while_the_gate_is_busy() {
    const CLIENTS: usize = 50;
    let app = App::start();
    let gate = Gate::start(app.port, r#""ramp": {"when": "never"}"#);
    gate.reaches("open").await;
    let mut load = JoinSet::new();
    for _ in 0..CLIENTS {
        let port = gate.listen;
        load.spawn(async move { while exchange(port, "GET / HTTP/1.1").await.is_some() {} });
    }
    let quickest = async {
        let mut quickest = PATIENCE;
        for _ in 0..5 {
            let began = Instant::now();
            let probe = program(&["probe"], gate.folder.path()).await;
            assert_eq!(probe.status.code(), Some(0), "{}", said(&probe));
            quickest = quickest.min(began.elapsed());
        }
        quickest
    }
    .await;
    // The kubelet gives a probe a second unless told otherwise.
    assert!(quickest < Duration::from_secs(1), "{quickest:?}");
    assert_eq!(load.len(), CLIENTS, "the gate was busy");
    assert!(app.seen.requests.load(Ordering::SeqCst) > 50);
}

#[tokio::test]
async fn commands_say_that_no_gate_answers() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["probe", "status", "drain"] {
        let asked = program(&[command], folder.path()).await;
        assert_eq!(asked.status.code(), Some(1), "{command}");
        let at = folder.path().display();
        let expected = format!("portcullis-gate: no gate answers in --state-dir {at}");
        assert!(said(&asked).starts_with(&expected), "{}", said(&asked));
    }
}

#[tokio::test]
async fn status_is_a_page_for_a_person() {
    let app = App::start();
    let gate = Gate::start(
        app.port,
        r#""checks": [{"name": "key", "env": {"name": "NO_SUCH"}}]"#,
    );
    gate.shows("a result", |status| status["cause"] == "checks_fail")
        .await;
    let page = said(&program(&["status"], gate.folder.path()).await);
    for line in [
        ", not ready\n  check key: env NO_SUCH is not set\n",
        "\nchecks\n  ✗ failing  key  env, startup  env NO_SUCH is not set after 0 ms, ",
        "\ntraffic\n  held 0 (0 B), in flight 0, streams 0, connections 0\n",
        "\ntimeline (UTC)\n",
    ] {
        assert!(page.contains(line), "{line:?} in {page}");
    }
    assert!(!page.contains('\u{1b}'), "no colours into a pipe");
    let json = said(&program(&["status", "--output", "json"], gate.folder.path()).await);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["cause"], "checks_fail");
    let html = gate.admin("GET /").await;
    for part in [
        "content-type: text/html; charset=utf-8\r\n",
        "content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n",
        "<h1>checking</h1>\n<p class=\"reason\">check key: env NO_SUCH is not set</p>",
    ] {
        assert!(html.contains(part), "{part:?} in {html}");
    }
}

#[tokio::test]
async fn bad_configuration_ends_with_64_and_names_the_field() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.json");
    let path = file.to_str().unwrap();
    for (document, expected) in [
        (
            "nonsense".to_owned(),
            "settings: expected ident at line 1 column 2".to_owned(),
        ),
        (
            r#"{"listen": 1, "app": 2, "checks": [{"name": "x", "ldap": {}}]}"#.to_owned(),
            "settings: checks[0]".to_owned(),
        ),
        (
            r#"{"listen": 1, "app": 2, "hold": {"maxRequests": "many"}}"#.to_owned(),
            "settings: hold.maxRequests: invalid type: string \"many\", expected u32".to_owned(),
        ),
        (
            format!(r#"{{"listen": "{taken}", "app": 2, "admin": "127.0.0.1:0"}}"#),
            format!("ports[0].listen: cannot listen on {taken}: Address already in use"),
        ),
        (
            format!(r#"{{"listen": "127.0.0.1:0", "app": 2, "admin": "{taken}"}}"#),
            format!("admin: cannot listen on {taken}: Address already in use"),
        ),
    ] {
        std::fs::write(&file, document).unwrap();
        let run = program(&["run", "--config", path], folder.path()).await;
        assert_eq!(run.status.code(), Some(64), "{}", said(&run));
        let expected = format!("portcullis-gate: {expected}");
        assert!(said(&run).starts_with(&expected), "{}", said(&run));
    }
    let run = program(&["run"], folder.path()).await;
    assert_eq!(
        said(&run),
        "portcullis-gate: no settings: give --config FILE, or the document itself in \
         PORTCULLIS_GATE_CONFIG\n"
    );
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_may_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gate.json");
    let document =
        r#"{"listen": "127.0.0.1:0", "app": "shop.invalid:8081", "admin": "127.0.0.1:0"}"#;
    std::fs::write(&file, document).unwrap();
    let run = program(&["run", "--config", file.to_str().unwrap()], folder.path()).await;
    assert_eq!(run.status.code(), Some(1), "{}", said(&run));
    let expected = "portcullis-gate: ports[0].app: \"shop.invalid\" cannot be resolved: ";
    assert!(said(&run).starts_with(expected), "{}", said(&run));
}

#[tokio::test]
async fn two_gates_never_share_a_folder() {
    let gate = Gate::start(free_port(), r#""hold": {}"#);
    gate.reaches("closed").await;
    let file = gate.folder.path().join("other.json");
    std::fs::write(
        &file,
        r#"{"listen": "127.0.0.1:0", "app": 1, "admin": "127.0.0.1:0"}"#,
    )
    .unwrap();
    let arguments = ["run", "--config", file.to_str().unwrap()];
    let other = program(&arguments, gate.folder.path()).await;
    assert_eq!(other.status.code(), Some(64));
    assert!(
        said(&other).contains("another gate runs with it"),
        "{}",
        said(&other)
    );
}

#[tokio::test]
async fn prints_its_schema_and_its_version() {
    let nowhere = Path::new("/nonexistent");
    let schema = program(&["settings", "--schema"], nowhere).await;
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["title"], "Settings of portcullis-gate");
    let version = program(&["--version"], nowhere).await;
    let expected = concat!("portcullis-gate ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(said(&version), expected);
}

#[tokio::test]
async fn every_metric_of_the_table_is_on_the_page_and_no_other() {
    let app = App::start();
    let gate = Gate::start(
        app.port,
        r#""checks": [{"name": "ready", "http": {}}],
           "warmup": {"requests": [{"path": "/"}], "target": {"p95": "1s"}, "rate": 1000},
           "ramp": {"when": "always"}"#,
    );
    gate.reaches("ramping").await;
    let page = gate.admin("GET /metrics").await;
    for metric in METRICS {
        // A drain's duration is there only when it is done.
        let absent = metric.name == "drain_duration_seconds";
        let sample = format!("\n{PREFIX}{}", metric.name);
        assert!(
            absent || page.contains(&sample),
            "{} has no value",
            metric.name
        );
    }
    let known = |line: &str| {
        METRICS
            .iter()
            .any(|metric| line.starts_with(&format!("{PREFIX}{}", metric.name)))
    };
    let body = page.split("\r\n\r\n").nth(1).unwrap();
    for line in body.lines().filter(|line| !line.starts_with('#')) {
        assert!(known(line), "{line} is in no table");
        let value = line.rsplit(' ').next().unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}
