//! The metrics of `portcullis report`: one table, and the handles that count.

use metrics::{Counter, Gauge};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{
    audit::Report,
    policy::{finding::Level, rules::RuleId},
    webhook::metrics::{Family, Label, Metric, counter, describe, gauge, one, table},
};

const VIOLATIONS: Metric = gauge(
    "portcullis_audit_violations",
    &["rule", "level"],
    "Violations that the last audit found whose lists were all read; 0 where another replica audits.",
);
const WORKLOADS: Metric = gauge(
    "portcullis_audit_workloads",
    &[],
    "Workloads that it judged.",
);
const UNREAD: Metric = gauge(
    "portcullis_audit_unread",
    &[],
    "Reads that failed in the last audit. The log says which, and what helps.",
);
const LAST_SUCCESS: Metric = gauge(
    "portcullis_audit_last_success_timestamp_seconds",
    &[],
    "When an audit last read all lists and wrote what had changed, in seconds since 1970; 0 where none has. It goes on where no API for reports is served.",
);
const DURATION: Metric = gauge(
    "portcullis_audit_duration_seconds",
    &[],
    "How long the last audit took, without what was written.",
);
const WRITES: Metric = counter(
    "portcullis_audit_writes_total",
    &["object", "outcome"],
    "Reports and Events, by what came of them. Unchanged: nothing was written.",
);

/// All metrics of `portcullis report`, in the order of the README's table.
pub const METRICS: &[Metric] = &[
    VIOLATIONS,
    WORKLOADS,
    UNREAD,
    LAST_SUCCESS,
    DURATION,
    WRITES,
];

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A namespace's report.
    Report,
    /// The Event of a workload that breaks a rule.
    WorkloadEvent,
    /// The Event of a pod whose gate is closed.
    GateEvent,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Written,
    /// It was there and said the same.
    Unchanged,
    /// There was nothing to say any more.
    Deleted,
    /// The API server did not answer, or refused.
    Failed,
}

/// The handles that count.
#[derive(Debug)]
pub struct Metrics {
    violations: Family<Gauge, (RuleId, Level)>,
    workloads: Gauge,
    unread: Gauge,
    last_success: Gauge,
    duration: Gauge,
    writes: Family<Counter, (Object, Outcome)>,
    handle: PrometheusHandle,
}

/// The README's table of metrics.
pub fn markdown() -> String {
    table(METRICS)
}

// === impl Label ===

impl Label for Object {
    fn values() -> impl Iterator<Item = &'static str> {
        ["report", "workload_event", "gate_event"].into_iter()
    }

    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a fieldless enum"
    )]
    fn index(self) -> usize {
        self as usize
    }
}

impl Label for Outcome {
    fn values() -> impl Iterator<Item = &'static str> {
        ["written", "unchanged", "deleted", "failed"].into_iter()
    }

    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a fieldless enum"
    )]
    fn index(self) -> usize {
        self as usize
    }
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything with a recorder of its own.
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        describe(&recorder, METRICS);
        Self {
            violations: Family::register(&recorder, &VIOLATIONS),
            workloads: one(&recorder, &WORKLOADS, &[]),
            unread: one(&recorder, &UNREAD, &[]),
            last_success: one(&recorder, &LAST_SUCCESS, &[]),
            duration: one(&recorder, &DURATION, &[]),
            writes: Family::register(&recorder, &WRITES),
            handle: recorder.handle(),
        }
    }

    /// What renders them.
    pub fn handle(&self) -> PrometheusHandle {
        self.handle.clone()
    }

    /// What an audit found, and how long it took in seconds. Of one that is not whole only what it could not read
    /// counts: an old truth is better than a false all-clear.
    pub fn found(&self, report: &Report, seconds: f64) {
        self.duration.set(seconds);
        let unread = report.unread().map(|unread| unread.count).sum::<usize>();
        self.unread.set(number(unread));
        if report.is_whole() {
            self.workloads.set(number(report.records().len()));
            self.set_violations(report);
        }
    }

    /// All was read and written, at this time in seconds since 1970.
    pub fn succeeded(&self, at: f64) {
        self.last_success.set(at);
    }

    /// Another replica audits from now on: what was found here would be counted twice.
    pub fn hand_over(&self) {
        self.set_violations(&Report::default());
        for gauge in [&self.workloads, &self.unread, &self.duration] {
            gauge.set(0.0);
        }
    }

    /// So many more of these.
    pub fn count(&self, object: Object, outcome: Outcome, count: u64) {
        self.writes.handle((object, outcome)).increment(count);
    }

    fn set_violations(&self, report: &Report) {
        for rule in RuleId::ALL {
            for level in [Level::Warn, Level::Deny] {
                let violations = report
                    .records()
                    .iter()
                    .flat_map(|record| &record.violations);
                let count = violations.filter(|one| (one.rule, one.level) == (rule, level));
                let gauge = self.violations.handle((rule, level));
                gauge.set(number(count.count()));
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Exact up to four thousand million.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_of_the_table_is_rendered_from_the_start_and_no_other() {
        let page = Metrics::new().handle().render();
        let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let rendered: BTreeSet<_> = typed.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(rendered, METRICS.iter().map(|metric| metric.name).collect());
        for rule in RuleId::ALL {
            for level in ["warn", "deny"] {
                let series =
                    format!("portcullis_audit_violations{{rule=\"{rule}\",level=\"{level}\"}} 0");
                assert!(page.lines().any(|line| line == series), "{series}");
            }
        }
    }
}
