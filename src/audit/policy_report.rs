//! What is wrong in a namespace, as the one object that tools for policy reports read.
//!
//! Two APIs carry the same content: `openreports.io`, where the working group's types live now, and `wgpolicyk8s.io`,
//! where they were before. Nothing in a report changes by itself, such as a time: what is equal is the same report.

use serde_json::{Map, Value, json};

use super::record::{Effect, Record, Violation};
use crate::{
    facts::access::REPORTS,
    policy::{finding::Level, rules::RuleId},
};

/// One of the two APIs.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    /// API group.
    pub group: &'static str,
    /// API version without the group.
    pub version: &'static str,
    /// Plural resource name.
    pub resource: &'static str,
    kind: &'static str,
    /// The report as a whole has a source, too.
    has_source: bool,
}

/// Reports API 0.2 (github.com/openreports/reports-api, `apis/openreports.io/v1alpha1`).
pub static OPEN_REPORTS: Format = Format {
    group: "openreports.io",
    version: "v1alpha1",
    resource: "reports",
    kind: "Report",
    has_source: true,
};

/// The API of the Kubernetes policy working group (github.com/kubernetes-sigs/wg-policy-prototypes), `v1alpha2`.
pub static POLICY_REPORTS: Format = Format {
    group: "wgpolicyk8s.io",
    version: "v1alpha2",
    resource: "policyreports",
    kind: "PolicyReport",
    has_source: false,
};

/// The name of our report in each namespace, and what reports call us.
pub const NAME: &str = REPORTS;

/// The label that all reports of ours have, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "portcullis");

/// The annotation that says how many results a report lacks, since there are too many.
pub const LEFT_OUT: &str = "portcullis.dev/results-left-out";

/// Results of one report. Each is about half a KiB, and etcd takes objects of 1.5 MiB.
pub const MAX_RESULTS: usize = 500;

/// All results together, as JSON.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Characters of one text. What our rules say is below a quarter of it, but for names that others have chosen.
const MAX_TEXT: usize = 1024;

/// What is told of one rule and one workload.
struct Entry<'r> {
    outcome: Outcome,
    record: &'r Record,
    rule: Option<RuleId>,
    message: &'r str,
    violation: Option<&'r Violation>,
}

/// `result` of the API, the worst first: where there are too many, the last are left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Fail,
    Error,
    Warn,
    Skip,
}

const OUTCOMES: [Outcome; 4] = [Outcome::Fail, Outcome::Error, Outcome::Warn, Outcome::Skip];

/// What is said of a workload that could not be judged to the end.
const UNKNOWN: &str = "not all that this rests on could be read";

// === impl Format ===

impl Format {
    /// The path of all reports.
    pub fn path(&self) -> String {
        format!("{}/{}", self.api(), self.resource)
    }

    /// The path of a namespace's report.
    pub fn path_in(&self, namespace: &str) -> String {
        let (api, resource) = (self.api(), self.resource);
        format!("{api}/namespaces/{namespace}/{resource}/{NAME}")
    }

    /// The path that tells whether the API is served.
    pub fn api(&self) -> String {
        format!("/apis/{}/{}", self.group, self.version)
    }

    /// The report on all records of one namespace; `None` where there is nothing to say.
    pub fn report(&self, records: &[Record]) -> Option<Value> {
        let namespace = &records.first()?.namespace;
        let mut entries: Vec<_> = records.iter().flat_map(entries).collect();
        if entries.is_empty() {
            return None;
        }
        entries.sort_by_key(|entry| entry.outcome); // stable: workloads stay in order
        let mut room = MAX_BYTES;
        let results = entries.iter().take(MAX_RESULTS).map(Entry::result);
        let results = results.take_while(|result| {
            let size = result.to_string().len();
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        let results: Vec<_> = results.collect();
        let mut metadata = json!({
            "name": NAME,
            "namespace": &**namespace,
            "labels": {MANAGED_BY.0: MANAGED_BY.1},
        });
        let left_out = entries.len() - results.len();
        if left_out > 0 {
            insert(
                &mut metadata,
                "annotations",
                json!({LEFT_OUT: left_out.to_string()}),
            );
        }
        let mut report = json!({
            "apiVersion": format!("{}/{}", self.group, self.version),
            "kind": self.kind,
            "metadata": metadata,
        });
        if self.has_source {
            insert(&mut report, "source", json!(NAME));
        }
        insert(&mut report, "summary", summary(&entries));
        insert(&mut report, "results", results.into());
        Some(report)
    }
}

/// True where `live`, as the API server has it, says what `report` says.
pub fn says_the_same(report: &Value, live: &Value) -> bool {
    let left_out = |object: &Value| -> Option<Value> {
        let annotations = object.get("metadata")?.get("annotations")?;
        annotations.get(LEFT_OUT).cloned()
    };
    let fields = ["source", "summary", "results"];
    let mut fields = fields.into_iter();
    fields.all(|field| report.get(field) == live.get(field)) && left_out(report) == left_out(live)
}

/// Counts all, also what there is no room for. Nothing passes: only what is wrong is told.
fn summary(entries: &[Entry<'_>]) -> Value {
    let counts = OUTCOMES.map(|outcome| {
        let of = entries.iter().filter(|entry| entry.outcome == outcome);
        (outcome.as_str().to_owned(), json!(of.count()))
    });
    let counts: Map<_, _> = [("pass".to_owned(), json!(0))]
        .into_iter()
        .chain(counts)
        .collect();
    counts.into()
}

fn entries(record: &Record) -> Vec<Entry<'_>> {
    let entry = |outcome, rule, message| Entry {
        outcome,
        record,
        rule,
        message,
        violation: None,
    };
    let violations = record.violations.iter().filter_map(|violation| {
        let outcome = match violation.level {
            Level::Deny => Outcome::Fail,
            Level::Warn => Outcome::Warn,
            Level::None => return None,
        };
        Some(Entry {
            violation: Some(violation),
            ..entry(outcome, Some(violation.rule), &violation.message)
        })
    });
    let claims = record.claims.iter();
    let exempt = claims.filter(|claim| claim.effect == Effect::InForce);
    let exempt = exempt.map(|claim| entry(Outcome::Skip, claim.rule, &claim.text));
    let unknown = record.unknown.then(|| entry(Outcome::Error, None, UNKNOWN));
    violations.chain(exempt).chain(unknown).collect()
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

/// The beginning of a text that is too long.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_TEXT);
    end.map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

// === impl Entry ===

impl Entry<'_> {
    fn result(&self) -> Value {
        let Record {
            kind,
            namespace,
            name,
            uid,
            ..
        } = self.record;
        let mut subject = json!({
            "apiVersion": kind.api_version(),
            "kind": &*kind.kind,
            "namespace": &**namespace,
            "name": &**name,
        });
        if let Some(uid) = uid {
            insert(&mut subject, "uid", json!(uid));
        }
        let mut result = json!({
            "source": NAME,
            "policy": NAME,
            "result": self.outcome.as_str(),
            "severity": self.outcome.severity(),
            "message": cut(self.message),
            "resources": [subject],
        });
        if let Some(rule) = self.rule {
            insert(&mut result, "rule", json!(rule.as_str()));
        }
        if let Some(Violation {
            container, path, ..
        }) = self.violation
        {
            let mut properties = json!({ "path": cut(path) });
            if let Some(container) = container {
                insert(&mut properties, "container", json!(cut(container)));
            }
            insert(&mut result, "properties", properties);
        }
        result
    }
}

// === impl Outcome ===

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Skip => "skip",
        }
    }

    /// One of the five that the API knows.
    const fn severity(self) -> &'static str {
        match self {
            Self::Fail => "high",
            Self::Error | Self::Warn => "medium",
            Self::Skip => "info",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use insta::assert_json_snapshot;

    use super::*;
    use crate::{audit::Claim, policy::workload::KINDS};

    fn violation(rule: RuleId, level: Level) -> Violation {
        Violation {
            rule,
            level,
            container: Some("app".into()),
            path: "/spec/template/spec/containers/0".into(),
            message: format!("container \"app\" breaks {rule}").into(),
            fix: None,
            fingerprints: [].into(),
        }
    }

    fn record(name: &str, violations: impl IntoIterator<Item = Violation>) -> Record {
        Record {
            kind: Arc::new(KINDS[1].clone()),
            namespace: "shop".into(),
            name: name.into(),
            uid: Some(format!("uid-of-{name}").into()),
            created: None,
            enforce: Level::Deny,
            violations: violations.into_iter().collect(),
            claims: [].into(),
            unknown: false,
        }
    }

    /// One namespace with something of each sort.
    fn records() -> Vec<Record> {
        let batch = Record {
            claims: [
                (Effect::InForce, "it takes what a night leaves"),
                (Effect::Idle, "old"),
            ]
            .map(|(effect, text)| Claim {
                rule: Some(RuleId::MemoryLimit),
                text: text.into(),
                effect,
            })
            .into(),
            ..record("batch", [violation(RuleId::CpuLimit, Level::Warn)])
        };
        let unread = Record {
            unknown: true,
            ..record("unread", [])
        };
        let web = record(
            "web",
            [
                violation(RuleId::ReadinessProbe, Level::Deny),
                violation(RuleId::CpuLimit, Level::Warn),
            ],
        );
        vec![batch, record("sound", []), unread, web]
    }

    #[test]
    fn a_report_tells_the_worst_first_and_what_is_well_not_at_all() {
        assert_json_snapshot!(OPEN_REPORTS.report(&records()));
    }

    #[test]
    fn both_apis_are_told_the_same() {
        let [open, former] = [&OPEN_REPORTS, &POLICY_REPORTS].map(|format| {
            let report = format.report(&records());
            report.expect("there is something to say")
        });
        assert_eq!(former["apiVersion"], "wgpolicyk8s.io/v1alpha2");
        assert_eq!(former["kind"], "PolicyReport");
        assert_eq!(former.get("source"), None, "it has no such field");
        for field in ["metadata", "summary", "results"] {
            assert_eq!(former[field], open[field]);
        }
    }

    #[test]
    fn where_all_is_well_there_is_nothing_to_say() {
        assert_eq!(OPEN_REPORTS.report(&[]), None);
        assert_eq!(OPEN_REPORTS.report(&[record("sound", [])]), None);
        let judged_at_none = record("a", [violation(RuleId::CpuLimit, Level::None)]);
        assert_eq!(OPEN_REPORTS.report(&[judged_at_none]), None);
    }

    #[test]
    fn too_many_results_are_counted_and_the_mildest_left_out() {
        let mild = |index| {
            record(
                &format!("a{index}"),
                [violation(RuleId::CpuLimit, Level::Warn)],
            )
        };
        let mut records: Vec<_> = (0..MAX_RESULTS).map(mild).collect();
        records.push(record("z", [violation(RuleId::MemoryLimit, Level::Deny)]));
        let report = OPEN_REPORTS.report(&records).unwrap();
        let results = report["results"].as_array().unwrap();
        assert_eq!(results.len(), MAX_RESULTS);
        assert_eq!(results[0]["resources"][0]["name"], "z");
        assert_eq!(report["summary"]["warn"], MAX_RESULTS);
        assert_eq!(report["summary"]["fail"], 1);
        assert_eq!(report["metadata"]["annotations"][LEFT_OUT], "1");
    }

    #[test]
    fn no_text_makes_a_report_larger_than_etcd_takes() {
        let long = Violation {
            message: "\u{1}".repeat(100_000).into(),
            path: "\u{e9}".repeat(100_000).into(),
            container: Some("c".repeat(100_000).into()),
            ..violation(RuleId::CpuLimit, Level::Deny)
        };
        let record = record("a", vec![long; MAX_RESULTS]);
        let report = POLICY_REPORTS.report(&[record]).unwrap();
        assert!(report.to_string().len() < MAX_BYTES + MAX_BYTES / 4);
        let shown = report["results"].as_array().unwrap().len();
        let left_out = report["metadata"]["annotations"][LEFT_OUT].as_str();
        assert!(shown > 50, "{shown}");
        assert_eq!(left_out, Some(&*(MAX_RESULTS - shown).to_string()));
    }

    #[test]
    fn a_live_report_says_the_same_whatever_the_api_server_adds() {
        let report = OPEN_REPORTS.report(&records()).unwrap();
        let mut live = report.clone();
        live["metadata"]["resourceVersion"] = json!("7");
        live["metadata"]["annotations"] = json!({"example.com/seen": "yes"});
        assert!(says_the_same(&report, &live));
        for (pointer, value) in [
            ("/results/0/message", json!("other")),
            ("/summary/fail", json!(0)),
            ("/source", json!("another")),
            ("/metadata/annotations", json!({LEFT_OUT: "3"})),
        ] {
            let mut live = live.clone();
            *live.pointer_mut(pointer).unwrap() = value;
            assert!(!says_the_same(&report, &live), "{pointer}");
        }
        let mut fewer = records();
        fewer.pop();
        let fewer = OPEN_REPORTS.report(&fewer).unwrap();
        assert!(!says_the_same(&fewer, &live));
    }
}
