//! The gate's metrics: one table of names and meanings, and the page made by it.
//!
//! The page is written by hand rather than through a recorder: everything on it is counted
//! elsewhere already, and a sidecar's memory is counted in megabytes.

mod page;

use std::fmt::Write as _;

pub(super) use self::page::render;

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, in base units.
    pub name: &'static str,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// Its labels, separated by commas; empty for none.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

/// All metrics, in the order of the page.
pub const METRICS: &[Metric] = &[
    gauge(
        "build_info",
        "version",
        "Always 1; the label tells the version",
    ),
    gauge("start_timestamp_seconds", "", "When the gate started"),
    gauge(
        "state",
        "state",
        "1 for the state the gate is in, 0 for all others",
    ),
    gauge("ready", "", "1 when the pod should get traffic"),
    gauge(
        "blocking",
        "reason",
        "1 for the reason that keeps the gate shut, 0 for all others",
    ),
    counter(
        "state_transitions_total",
        "from,to,reason",
        "Changes of state",
    ),
    counter(
        "phase_duration_seconds_total",
        "state",
        "Time spent in each state",
    ),
    counter(
        "reclosed_total",
        "reason",
        "Times the gate closed after it had been open",
    ),
    counter(
        "fail_open_total",
        "reason",
        "Times a policy opened the gate without evidence: opened_unchecked, opened_cold",
    ),
    gauge(
        "opened_timestamp_seconds",
        "",
        "When the gate last opened; absent before",
    ),
    gauge(
        "time_to_open_seconds",
        "",
        "From the gate's start to its first opening; absent before",
    ),
    gauge(
        "check_up",
        "check,kind",
        "1 when the check passes by its thresholds, 0 when not",
    ),
    gauge(
        "check_duration_seconds",
        "check",
        "How long the check's last run took",
    ),
    counter("check_runs_total", "check", "Runs of the check"),
    counter(
        "check_failures_total",
        "check",
        "Runs of the check that failed",
    ),
    counter(
        "warmup_requests_total",
        "result",
        "Warm-up requests: passed, failed",
    ),
    gauge(
        "warmup_cold_p95_seconds",
        "",
        "p95 of the first pass of the last warm-up",
    ),
    gauge(
        "warmup_p95_seconds",
        "",
        "p95 of the last window of the last warm-up",
    ),
    gauge(
        "warmup_target_p95_seconds",
        "",
        "The p95 that counts as warm, if one is set",
    ),
    gauge(
        "ramp_limit_requests",
        "",
        "Requests in flight that the ramp lets through; absent outside it",
    ),
    counter(
        "ramp_overflows_total",
        "",
        "Requests that waited for a full step and then passed",
    ),
    gauge("connections", "", "Client connections that are open"),
    gauge(
        "inflight_requests",
        "",
        "Requests at the app, bodies included",
    ),
    gauge(
        "streams",
        "",
        "Upgraded streams and TCP connections that are open",
    ),
    gauge("held_requests", "", "Requests that are held"),
    gauge("held_bytes", "", "Bytes that the held requests take"),
    histogram(
        "held_duration_seconds",
        "outcome",
        "Time that requests were held, by how it ended",
    ),
    counter(
        "rejected_total",
        "reason",
        "Answers that the gate made itself",
    ),
    counter(
        "responses_total",
        "code",
        "Responses by class of status: 1xx to 5xx, other",
    ),
    histogram(
        "request_duration_seconds",
        "",
        "From a request's passing the gate to its response's headers",
    ),
    counter(
        "retries_total",
        "",
        "Requests sent again after the app had closed a kept connection",
    ),
    counter(
        "upstream_connect_failures_total",
        "reason",
        "Connections to the app that failed: refused, other",
    ),
    gauge(
        "drain_duration_seconds",
        "",
        "How long the drain took; absent before it is done",
    ),
];

/// Every name begins with this.
pub const PREFIX: &str = "portcullis_gate_";

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: "gauge",
        labels,
        help,
    }
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: "counter",
        labels,
        help,
    }
}

const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: "histogram",
        labels,
        help,
    }
}

/// The table of the README.
pub fn table() -> String {
    let mut table =
        String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let labels = match metric.labels {
            "" => String::new(),
            labels => format!("`{}`", labels.replace(',', "`, `")),
        };
        let (name, kind, help) = (metric.name, metric.kind, metric.help);
        let _ = writeln!(table, "| `{PREFIX}{name}` | {kind} | {labels} | {help} |");
    }
    table
}
