//! The page that a scraper reads.

use std::{
    fmt::{Display, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{METRICS, PREFIX};
use crate::gate::{
    reason::Reason,
    state::{Cause, State},
    status::Status,
    traffic::{HoldEnd, Snapshot, Traffic},
};

/// A page under way.
struct Page<'a> {
    text: String,
    status: &'a Status,
    traffic: &'a Traffic,
}

/// The page in Prometheus' text format.
pub(in crate::gate) fn render(status: &Status, traffic: &Traffic) -> String {
    let mut page = Page {
        text: String::with_capacity(16 * 1024),
        status,
        traffic,
    };
    for metric in METRICS {
        let (name, kind, help) = (metric.name, metric.kind, metric.help);
        page.line(format_args!("# HELP {PREFIX}{name} {help}."));
        page.line(format_args!("# TYPE {PREFIX}{name} {kind}"));
        let _ = page.gate(name) || page.checks(name) || page.warmup(name) || page.traffic(name);
    }
    page.text
}

// === impl Page ===

impl Page<'_> {
    fn line(&mut self, line: impl Display) {
        let _ = writeln!(self.text, "{line}"); // writing to a String cannot fail
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.text, "{PREFIX}{name}");
        for (index, (label, of)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            // Values are names from enums and settings, which hold nothing to be escaped.
            let _ = write!(self.text, "{before}{label}=\"{of}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{after} {value}"));
    }

    fn maybe(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.value(name, &[], value);
        }
    }

    /// Values about the gate itself; `false` when `name` is none of them.
    fn gate(&mut self, name: &str) -> bool {
        let (status, counts) = (self.status, &self.status.counts);
        match name {
            "build_info" => self.value(name, &[("version", env!("CARGO_PKG_VERSION"))], 1),
            "start_timestamp_seconds" => self.maybe(name, counts.started.map(timestamp)),
            "state" => {
                for state in State::ALL {
                    let is = u8::from(state == status.state);
                    self.value(name, &[("state", state.name())], is);
                }
            }
            "ready" => self.value(name, &[], u8::from(status.ready)),
            "blocking" => {
                let passes = matches!(status.state, State::Ramping | State::Open);
                for reason in Cause::LABELS {
                    let is = u8::from(!passes && reason == status.cause);
                    self.value(name, &[("reason", reason)], is);
                }
            }
            "state_transitions_total" => {
                for ((from, to, reason), count) in &counts.transitions {
                    let labels = [
                        ("from", state_name(*from)),
                        ("to", state_name(*to)),
                        ("reason", reason),
                    ];
                    self.value(name, &labels, count);
                }
            }
            "phase_duration_seconds_total" => {
                for (state, spent) in State::ALL.iter().zip(&counts.spent) {
                    self.value(name, &[("state", state.name())], spent.as_secs_f64());
                }
            }
            "reclosed_total" => {
                let reasons = [
                    "app_refuses",
                    "app_restarted",
                    "app_stopping",
                    "check_fails",
                ];
                self.transitions(name, &reasons, |to| to == State::Reclosed);
            }
            "fail_open_total" => {
                let opens = |to| matches!(to, State::Ramping | State::Open);
                self.transitions(name, &["opened_unchecked", "opened_cold"], opens);
            }
            "opened_timestamp_seconds" => self.maybe(name, counts.opened.map(timestamp)),
            "time_to_open_seconds" => self.maybe(name, counts.time_to_open.map(seconds)),
            "drain_duration_seconds" => self.maybe(name, counts.drain_took.map(seconds)),
            _ => return false,
        }
        true
    }

    /// Sums of the transitions into some states, by cause. The step from the ramp to the open
    /// state keeps its cause and is no second opening.
    fn transitions(&mut self, name: &str, reasons: &[&str], into: impl Fn(State) -> bool) {
        let ramping = State::ALL.iter().position(|state| *state == State::Ramping);
        for reason in reasons {
            let of = self.status.counts.transitions.iter();
            let count: u64 = of
                .filter(|((from, to, cause), _)| {
                    let to = State::ALL.get(*to).copied();
                    let step = Some(*from) == ramping && to == Some(State::Open);
                    cause == reason && !step && to.is_some_and(&into)
                })
                .map(|(_, count)| count)
                .sum();
            self.value(name, &[("reason", reason)], count);
        }
    }

    fn checks(&mut self, name: &str) -> bool {
        let status = self.status;
        for check in &status.checks {
            let label = ("check", check.name.as_str());
            let last = check.last.as_ref();
            match name {
                "check_up" => {
                    let is = u8::from(check.standing == "passing");
                    self.value(name, &[label, ("kind", check.kind)], is);
                }
                "check_duration_seconds" => {
                    if let Some(run) = last {
                        self.value(name, &[label], run.took.as_secs_f64());
                    }
                }
                "check_runs_total" => self.value(name, &[label], check.runs),
                "check_failures_total" => self.value(name, &[label], check.failures),
                _ => return false,
            }
        }
        name.starts_with("check_")
    }

    fn warmup(&mut self, name: &str) -> bool {
        let (status, counts) = (self.status, &self.status.counts);
        let warmup = status.warmup.as_ref();
        let numbers = warmup.map(|warmup| &warmup.numbers);
        match name {
            "warmup_requests_total" => {
                self.value(name, &[("result", "passed")], counts.warmup_passed);
                self.value(name, &[("result", "failed")], counts.warmup_failed);
            }
            "warmup_cold_p95_seconds" => {
                let cold = numbers.and_then(|numbers| numbers.cold_p95_us);
                self.maybe(name, cold.map(from_micros));
            }
            "warmup_p95_seconds" => {
                let warm = numbers.and_then(|numbers| numbers.warm_p95_us);
                self.maybe(name, warm.map(from_micros));
            }
            "warmup_target_p95_seconds" => {
                let target = warmup.and_then(|warmup| warmup.target_p95_us);
                self.maybe(name, target.map(from_micros));
            }
            "ramp_limit_requests" => self.maybe(name, status.ramp.map(|ramp| ramp.limit)),
            _ => return false,
        }
        true
    }

    fn traffic(&mut self, name: &str) -> bool {
        let traffic = self.traffic;
        match name {
            "ramp_overflows_total" => self.value(name, &[], traffic.ramp_overflows.value()),
            "connections" => self.value(name, &[], traffic.connections.value()),
            "inflight_requests" => self.value(name, &[], traffic.in_flight.value()),
            "streams" => self.value(name, &[], traffic.streams.value()),
            "held_requests" => self.value(name, &[], traffic.held.value()),
            "held_bytes" => self.value(name, &[], traffic.held_bytes.value()),
            "held_duration_seconds" => {
                for end in HoldEnd::ALL {
                    self.histogram(name, &[("outcome", end.as_str())], &traffic.holds(end));
                }
            }
            "rejected_total" => {
                for reason in Reason::ALL {
                    let count = traffic.refusals(reason);
                    self.value(name, &[("reason", reason.as_str())], count);
                }
            }
            "responses_total" => {
                for (class, code) in (0..).zip(["other", "1xx", "2xx", "3xx", "4xx", "5xx"]) {
                    self.value(name, &[("code", code)], traffic.responses(class));
                }
            }
            "request_duration_seconds" => {
                self.histogram(name, &[], &traffic.latency.snapshot());
            }
            "retries_total" => self.value(name, &[], traffic.retries.value()),
            "upstream_connect_failures_total" => {
                self.value(
                    name,
                    &[("reason", "refused")],
                    traffic.connects_refused.value(),
                );
                self.value(
                    name,
                    &[("reason", "other")],
                    traffic.connects_failed.value(),
                );
            }
            _ => return false,
        }
        true
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], of: &Snapshot) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in of.cumulative() {
            let bound = if bound.is_finite() {
                bound.to_string()
            } else {
                "+Inf".to_owned()
            };
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.value(&bucket, &labels, count);
        }
        self.value(&format!("{name}_sum"), labels, of.sum().as_secs_f64());
        self.value(&format!("{name}_count"), labels, of.count());
    }
}

fn state_name(place: usize) -> &'static str {
    State::ALL.get(place).map_or("", |state| state.name())
}

fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, seconds)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

fn from_micros(micros: u64) -> f64 {
    seconds(Duration::from_micros(micros))
}
