//! A real Prometheus that scrapes two gates and the metrics of an admission gate and of a periodic audit: every value of a label that is asked
//! for exists, and every panel has something to show.

use std::{fmt::Write as _, path::Path, process::Stdio, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use portcullis::{
    cli::report,
    gate::control::Request,
    policy::{finding::Level, rules::RuleId, verdict::Decision, workload::KINDS},
    webhook::metrics::{Metrics, Operation},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{alerts, expression::selectors, queries};
use crate::gate::harness::{App, Gate, PATIENCE, exchange, free_port};

struct Prometheus {
    port: u16,
    _child: Child,
}

impl Prometheus {
    /// Scrapes these ports, each as the pod of this name.
    fn start(folder: &Path, targets: &[(u16, &str)]) -> Self {
        let targets = targets.iter().map(|(port, pod)| {
            json!({"targets": [format!("127.0.0.1:{port}")], "labels": {
                "namespace": "shop", "workload": "checkout", "pod": pod, "container": "portcullis-gate"}})
        });
        let config = json!({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{"job_name": "portcullis", "static_configs": targets.collect::<Vec<_>>()}],
        });
        let file = folder.join("prometheus.yaml");
        std::fs::write(&file, config.to_string()).unwrap();
        let port = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus, of the package of that name");
        Self {
            port,
            _child: child,
        }
    }

    /// The series that an expression gives now; `None` while nobody answers.
    async fn ask(&self, expr: &str) -> Option<Vec<Value>> {
        let mut encoded = String::new();
        for byte in expr.bytes() {
            write!(encoded, "%{byte:02x}").unwrap();
        }
        let line = format!("GET /api/v1/query?query={encoded} HTTP/1.0");
        let answer = exchange(self.port, &line).await?;
        let body = answer.split("\r\n\r\n").nth(1)?;
        let mut body: Value = serde_json::from_str(body).ok()?;
        assert_ne!(body["status"], "error", "{expr}: {body:#}");
        let Value::Array(series) = body["data"]["result"].take() else {
            panic!("{expr}: {body:#}");
        };
        Some(series)
    }

    /// Waits until an expression gives something.
    async fn shows(&self, place: &str, expr: &str) {
        let wait = async {
            while self.ask(expr).await.is_none_or(|series| series.is_empty()) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let shown = timeout(PATIENCE, wait).await;
        assert!(shown.is_ok(), "{place} shows nothing: {expr}");
    }
}

/// Serves the page of these metrics to whoever asks, whatever they ask.
async fn serve(metrics: PrometheusHandle) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let page = metrics.render();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
        }
    });
    (port, server)
}

/// As Grafana would fill it in.
fn filled(expr: &str) -> String {
    expr.replace("$__rate_interval", "1m")
        .replace("$__range", "1m")
        .replace("$namespace", ".*")
        .replace("$workload", ".*")
}

#[tokio::test]
async fn every_value_asked_for_exists_and_every_panel_shows_something() {
    let app = App::start();
    let settings = r#""checks": [{"name": "ready", "http": {}}],
        "warmup": {"requests": [{"path": "/"}], "target": {"p95": "10s"}, "rate": 1000},
        "ramp": {"when": "always", "duration": "1h"}, "drain": {"delay": "0s"}"#;
    let (ramping, drained) = (
        Gate::start(app.port, settings),
        Gate::start(app.port, settings),
    );
    ramping.reaches("ramping").await;
    drained.reaches("ramping").await;
    assert_eq!(
        drained.ask(Request::DrainDeleted).await.as_deref(),
        Some("drained\n")
    );
    let (metrics, audit) = (Metrics::new(), report::metrics::Metrics::new());
    let (port, _server) = serve(metrics.handle()).await;
    let (audit_port, _audit) = serve(audit.handle()).await;
    let folder = tempfile::tempdir().unwrap();
    let pods = [
        (ramping.admin, "a"),
        (drained.admin, "b"),
        (port, "c"),
        (audit_port, "d"),
    ];
    let prometheus = Prometheus::start(folder.path(), &pods);
    prometheus.shows("four pods", "count(up == 1) == 4").await;
    // What happens from now on is an increase.
    assert_eq!(ramping.get("/").await, Some(200));
    let kind = KINDS.first().unwrap();
    metrics
        .reviews
        .count((kind.into(), Operation::Create, Decision::Deny));
    metrics.findings.count((RuleId::ALL[0], Level::Deny));
    for (place, expr, _) in queries() {
        for selector in selectors(&expr) {
            prometheus.shows(&place, selector.name).await;
            for (label, values) in selector.matchers {
                for value in values.split('|').filter(|value| !value.starts_with('$')) {
                    let one = format!("{}{{{label}=\"{value}\"}}", selector.name);
                    prometheus.shows(&place, &one).await;
                }
            }
        }
        if alerts().iter().any(|alert| alert.name == place) {
            assert!(prometheus.ask(&expr).await.is_some(), "{place}");
        } else {
            prometheus.shows(&place, &filled(&expr)).await;
        }
    }
}
