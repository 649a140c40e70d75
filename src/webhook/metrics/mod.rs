//! Every metric of the admission gate: one table, and the handles that count.
//!
//! All series are registered at the start, so that none appears only with its first event (an alert on a rate
//! needs the zero before it), and so that counting allocates nothing.

mod family;

mod labels;

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Recorder as _};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::time::{MissedTickBehavior, interval};

pub(crate) use family::one;
pub use family::{Family, Handle, Labels};
pub use labels::{
    Aim, Certificate, Checked, Configuration, Entry, Gating, KindOf, Label, NO_ANSWER, Operation,
    Outcome, Patched, Rejection, Unjudged, Webhook, WriteOutcome,
};

use crate::facts;
use crate::policy::{
    finding::Level,
    gate::{Demand, Takeover},
    leniency::Leniency,
    rules::RuleId,
    verdict::Decision,
};
use crate::server::{Ended, Handshake, Meters};

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// One row of [`METRICS`].
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, its unit included.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Label names; their values come from enums and tables only.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

/// Bounds of the duration histograms, in seconds: from a tenth of the 1 ms that p99 aims at, to the 3 s after
/// which the API server gives up (`timeoutSeconds` in the webhook configurations).
const DURATION_BUCKETS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0,
    3.0,
];

/// How often histograms are emptied into their buckets. Between two scrapes nothing else does it, and every
/// sample would be kept (metrics#467).
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

pub(crate) const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

pub(crate) const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const fn seconds(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        labels,
        help,
    }
}

/// Declares the constants and [`METRICS`] from one list, so that the table can miss none.
macro_rules! metrics {
    ($($constant:ident = $metric:expr;)*) => {
        $(const $constant: Metric = $metric;)*

        /// All metrics of the admission gate, in the order of the README's table.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    BUILD_INFO = gauge("portcullis_webhook_build_info", &["version"], "Always 1; the label says which version runs.");
    REVIEWS = counter("portcullis_webhook_reviews_total", &["kind", "operation", "decision"], "Objects judged, by what became of them.");
    UNJUDGED = counter("portcullis_webhook_unjudged_total", &["reason"], "Objects let in without being judged. Where it grows, a webhook configuration sends what it should not.");
    PATCHES = counter("portcullis_webhook_patches_total", &["outcome"], "Pods seen by the patching webhook.");
    INJECTIONS = counter("portcullis_webhook_injections_total", &["demand", "outcome"], "Pods that asked for a gate and had none. Where left grows, pods run that wanted a gate and can't have one.");
    TAKEOVERS = counter("portcullis_webhook_takeovers_total", &["takeover"], "Gates injected, by how they take over the app's ports.");
    FINDINGS = counter("portcullis_webhook_findings_total", &["rule", "level"], "Violations found.");
    LOWERED = counter("portcullis_webhook_lowered_total", &["rule", "reason"], "Violations that would have been refused and were let in, by what spoke for them.");
    REVIEW_DURATION = seconds("portcullis_webhook_review_duration_seconds", &["webhook"], "From the end of a request's head to its answer, fact lookups included.");
    IN_FLIGHT = gauge("portcullis_webhook_requests_in_flight", &[], "Requests being answered now.");
    SHED = counter("portcullis_webhook_requests_shed_total", &[], "Requests answered 429 because too many were in flight.");
    REJECTED = counter("portcullis_webhook_requests_rejected_total", &["reason"], "Requests answered 4xx or 5xx without a verdict.");
    PANICS = counter("portcullis_webhook_panics_total", &[], "Requests answered 500 because of a bug. The log has the place.");
    LOOKUPS = counter("portcullis_webhook_fact_lookups_total", &["fact", "outcome"], "Questions about the cluster.");
    LOOKUP_DURATION = seconds("portcullis_webhook_fact_lookup_duration_seconds", &["fact"], "How long the API server took to answer a question.");
    CONNECTIONS = gauge("portcullis_webhook_connections", &[], "Connections open now.");
    CONNECTIONS_ENDED = counter("portcullis_webhook_connections_ended_total", &["how"], "Connections, by how they ended.");
    HANDSHAKES = counter("portcullis_webhook_tls_handshakes_total", &["kind"], "TLS handshakes that succeeded.");
    ACCEPT_ERRORS = counter("portcullis_webhook_accept_errors_total", &[], "Connections not accepted for want of file descriptors or memory.");
    CERTIFICATE_EXPIRY = gauge("portcullis_webhook_certificate_expiry_timestamp_seconds", &["certificate"], "When the certificate is over, in seconds since 1970; 0 where there is none.");
    CERTIFICATE_RELOADS = counter("portcullis_webhook_certificate_reloads_total", &["outcome"], "Contents of --tls-cert and --tls-key, the first included. Rejected: the last good pair is served on.");
    SETTINGS_RELOADS = counter("portcullis_webhook_settings_reloads_total", &["outcome"], "Contents of the settings file, the first included. Rejected: the last good settings stay in force.");
    REGISTRATIONS = counter("portcullis_webhook_registrations_total", &["configuration", "outcome"], "Looks at our webhook configurations, and what came of them. Left: another replica writes.");
    FAIL_CLOSED = gauge("portcullis_webhook_fail_closed", &["entry", "which"], "1 where the failurePolicy of an entry is Fail, as the settings want it and as it is now.");
    SELF_CHECKS = counter("portcullis_webhook_self_checks_total", &["entry", "outcome"], "Dry runs of our own that an entry must refuse, by what came of them. Only the replica that holds the Lease makes them.");
    BREAK_GLASS_UNTIL = gauge("portcullis_webhook_break_glass_until_timestamp_seconds", &[], "Until when somebody has broken the glass, in seconds since 1970; 0 where nobody has.");
}

/// The handles that count.
#[derive(Debug)]
pub struct Metrics {
    /// Objects judged.
    pub reviews: Family<Counter, (KindOf, Operation, Decision)>,
    /// Objects let in without being judged.
    pub unjudged: Family<Counter, (Unjudged,)>,
    /// Pods seen by the patching webhook.
    pub patches: Family<Counter, (Patched,)>,
    /// Pods that asked for a gate and had none.
    pub injections: Family<Counter, (Demand, Gating)>,
    /// Gates injected.
    pub takeovers: Family<Counter, (Takeover,)>,
    /// Violations found.
    pub findings: Family<Counter, (RuleId, Level)>,
    /// Violations let in.
    pub lowered: Family<Counter, (RuleId, Leniency)>,
    /// Seconds from head to answer.
    pub review_duration: Family<Histogram, (Webhook,)>,
    /// Requests being answered.
    pub in_flight: Gauge,
    /// Requests shed.
    pub shed: Counter,
    /// Requests answered without a verdict.
    pub rejected: Family<Counter, (Rejection,)>,
    /// Questions about the cluster.
    pub facts: facts::Meters,
    /// Changes of the settings file.
    pub settings_reloads: Family<Counter, (Outcome,)>,
    /// Changes of the certificate files.
    pub certificate_reloads: Family<Counter, (Outcome,)>,
    /// Ends of certificates, in seconds since 1970.
    pub certificate_expiry: Family<Gauge, (Certificate,)>,
    /// Looks at our webhook configurations.
    pub registrations: Family<Counter, (Configuration, WriteOutcome)>,
    /// Whether entries are Fail.
    pub fail_closed: Family<Gauge, (Entry, Aim)>,
    /// Dry runs of our own.
    pub self_checks: Family<Counter, (Entry, Checked)>,
    /// When broken glass ends, in seconds since 1970.
    pub break_glass_until: Gauge,
    /// What the listener counts.
    pub server: Meters,
    /// Renders all of the above.
    handle: PrometheusHandle,
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything with a recorder of its own: nothing is global, so tests need not share.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new().set_buckets(DURATION_BUCKETS);
        let recorder = builder
            .expect("the list of buckets is not empty")
            .build_recorder();
        describe(&recorder, METRICS);
        one::<Gauge>(&recorder, &BUILD_INFO, &[env!("CARGO_PKG_VERSION")]).set(1.0);
        Self {
            reviews: Family::register(&recorder, &REVIEWS),
            unjudged: Family::register(&recorder, &UNJUDGED),
            patches: Family::register(&recorder, &PATCHES),
            injections: Family::register(&recorder, &INJECTIONS),
            takeovers: Family::register(&recorder, &TAKEOVERS),
            findings: Family::register(&recorder, &FINDINGS),
            lowered: Family::register(&recorder, &LOWERED),
            review_duration: Family::register(&recorder, &REVIEW_DURATION),
            in_flight: one(&recorder, &IN_FLIGHT, &[]),
            shed: one(&recorder, &SHED, &[]),
            rejected: Family::register(&recorder, &REJECTED),
            facts: facts::Meters::new(
                |fact, outcome| one(&recorder, &LOOKUPS, &[fact.label(), outcome.label()]),
                |fact| one(&recorder, &LOOKUP_DURATION, &[fact.label()]),
            ),
            settings_reloads: Family::register(&recorder, &SETTINGS_RELOADS),
            certificate_reloads: Family::register(&recorder, &CERTIFICATE_RELOADS),
            certificate_expiry: Family::register(&recorder, &CERTIFICATE_EXPIRY),
            registrations: Family::register(&recorder, &REGISTRATIONS),
            fail_closed: Family::register(&recorder, &FAIL_CLOSED),
            self_checks: Family::register(&recorder, &SELF_CHECKS),
            break_glass_until: one(&recorder, &BREAK_GLASS_UNTIL, &[]),
            server: meters(&recorder),
            handle: recorder.handle(),
        }
    }

    /// What renders them.
    pub fn handle(&self) -> PrometheusHandle {
        self.handle.clone()
    }

    /// Empties histograms into their buckets, for ever.
    pub async fn upkeep(handle: PrometheusHandle) {
        let mut ticks = interval(UPKEEP_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            handle.run_upkeep();
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn meters(recorder: &PrometheusRecorder) -> Meters {
    let mut meters = Meters::new(
        |how: Ended| one(recorder, &CONNECTIONS_ENDED, &[how.label()]),
        |kind: Handshake| one(recorder, &HANDSHAKES, &[kind.label()]),
    );
    meters.open = one(recorder, &CONNECTIONS, &[]);
    meters.accept_errors = one(recorder, &ACCEPT_ERRORS, &[]);
    meters.panics = one(recorder, &PANICS, &[]);
    meters
}

/// Gives each metric its help text.
pub(crate) fn describe(recorder: &PrometheusRecorder, metrics: &[Metric]) {
    for metric in metrics {
        let (name, help) = (metric.name.into(), metric.help.into());
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram => recorder.describe_histogram(name, None, help),
        }
    }
}

/// The README's table of metrics.
pub fn markdown() -> String {
    table(METRICS)
}

/// Metrics as a table for people.
pub(crate) fn table(metrics: &[Metric]) -> String {
    let rows = metrics.iter().map(|metric| {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        format!(
            "| `{}` | {kind} | {} | {} |\n",
            metric.name,
            labels.join(", "),
            metric.help
        )
    });
    let head = "| metric | type | labels | what it says |\n| --- | --- | --- | --- |\n";
    std::iter::once(head.to_owned()).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::workload::KINDS;

    #[test]
    fn every_metric_of_the_table_is_rendered_from_the_start_and_no_other() {
        let page = Metrics::new().handle().render();
        let typed = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let rendered: BTreeSet<_> = typed.filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(rendered, METRICS.iter().map(|metric| metric.name).collect());
    }

    #[test]
    fn series_carry_the_labels_of_the_table() {
        let page = Metrics::new().handle().render();
        for metric in METRICS {
            for series in page
                .lines()
                .filter(|line| line.starts_with(&format!("{}{{", metric.name)))
            {
                let (labels, _) = series[metric.name.len() + 1..].split_once('}').unwrap();
                let names: Vec<_> = labels
                    .split(',')
                    .filter_map(|label| label.split('=').next())
                    .collect();
                assert_eq!(names, metric.labels, "{series}");
            }
        }
    }

    #[test]
    fn counts_by_kind_operation_and_decision() {
        let metrics = Metrics::new();
        let deployment = KINDS.iter().find(|kind| kind.kind == "Deployment").unwrap();
        let mut rollout = deployment.clone();
        rollout.kind = "Rollout".into();
        metrics
            .reviews
            .count((deployment.into(), Operation::Update, Decision::Deny));
        metrics
            .reviews
            .count(((&rollout).into(), Operation::Create, Decision::Allow));
        let page = metrics.handle().render();
        for series in [
            r#"portcullis_webhook_reviews_total{kind="Deployment",operation="update",decision="deny"} 1"#,
            r#"portcullis_webhook_reviews_total{kind="other",operation="create",decision="allow"} 1"#,
            r#"portcullis_webhook_reviews_total{kind="Pod",operation="create",decision="deny"} 0"#,
        ] {
            assert!(
                page.lines().any(|line| line == series),
                "{series} is not in\n{page}"
            );
        }
    }
}
