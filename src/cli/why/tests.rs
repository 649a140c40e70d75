//! What is told, as golden files.

use serde_json::{Value, json};

use super::{
    Outcome, Report,
    look::{Event, Seen, containers, told},
};
use crate::cli::terminal::{Color, Palette};
#[cfg(feature = "gate")]
use crate::gate::status::samples;

fn seen(name: &str, ready: bool, gate: Option<Value>) -> Seen {
    Seen {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        ready,
        gate,
        unanswered: None,
        notes: Vec::new(),
    }
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    report
        .write_text(Palette::new(Color::Never), &mut out)
        .unwrap();
    String::from_utf8(out).unwrap()
}

/// What the gate itself shows, so that the two programs can't come to differ.
#[cfg(feature = "gate")]
fn pods() -> Report {
    let shown = |status| Some(serde_json::to_value(status).unwrap());
    Report::new(vec![
        seen("checkout-5d9c", false, shown(samples::closed())),
        seen("checkout-77f1", true, shown(samples::open())),
    ])
}

#[cfg(feature = "gate")]
#[test]
fn tells_what_gates_say() {
    assert_eq!(pods().outcome(), Outcome::NotReady);
    insta::assert_snapshot!(text(&pods()));
}

#[cfg(feature = "gate")]
#[test]
fn json_carries_all_that_gates_say() {
    let mut out = Vec::new();
    pods().write_json(&mut out).unwrap();
    let json: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(json["summary"], json!({"ready": 1, "notReady": 1}));
    assert_eq!(
        json["pods"][0]["gate"],
        serde_json::to_value(samples::closed()).unwrap()
    );
}

#[test]
fn tells_what_the_cluster_says_where_no_gate_answers() {
    let status = json!({"status": {
        "initContainerStatuses": [{"name": "migrate", "state": {"terminated": {"exitCode": 0}}}],
        "containerStatuses": [
            {
                "name": "app",
                "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            },
            {"name": "other", "state": {"waiting": {"reason": "ContainerCreating"}}},
            {"name": "third", "state": {"running": {}}},
        ],
    }});
    let event = |kind: &str, second: u32, count: u32, message: &str| -> Event {
        let event = json!({
            "type": kind, "reason": "Unhealthy", "message": message, "count": count,
            "lastTimestamp": format!("2026-11-21T10:00:{second:02}Z"),
        });
        serde_json::from_value(event).unwrap()
    };
    let events = vec![
        event(
            "Warning",
            30,
            12,
            "Readiness probe failed: not ready: checking: check db: no answer\n",
        ),
        event("Warning", 10, 1, "first"),
        event("Normal", 40, 1, "Pulled"),
        event("Warning", 20, 1, "second \u{1b}[31m"),
        event("Warning", 5, 1, "too old"),
    ];
    let with_gate = Seen {
        unanswered: Some(
            "the API server answered 403 Forbidden: pods/proxy is forbidden".to_owned(),
        ),
        notes: told(events),
        ..seen("checkout-5d9c", false, None)
    };
    let without = Seen {
        notes: containers(&status),
        ..seen("checkout-77f1", false, None)
    };
    insta::assert_snapshot!(text(&Report::new(vec![with_gate, without])));
}

#[test]
fn of_no_pods_none_is_ready() {
    let none = Report::new(Vec::new());
    assert_eq!(none.outcome(), Outcome::NotReady);
    assert_eq!(text(&none), "it has no pods: kubectl describe says why\n");
    let ready = Report::new(vec![seen("a", true, None)]);
    assert_eq!(ready.outcome(), Outcome::Ready);
}
