//! Which workloads are told of by an Event, and in which words.

use std::collections::{BTreeSet, HashSet};

use super::events::{Notice, Subject};
use crate::{
    audit::{Record, Report},
    policy::{finding::Level, rules::RuleId},
};

/// One notice for each workload that breaks a rule, those that would be refused first.
pub(super) fn notices(report: &Report) -> Vec<Notice> {
    let records = report.records().iter();
    let mut broken: Vec<_> = records
        .filter(|record| record.worst() > Level::None)
        .collect();
    broken.sort_by_key(|record| std::cmp::Reverse(record.worst()));
    broken.into_iter().filter_map(notice).collect()
}

/// The uids of all workloads that break a rule.
pub(super) fn uids(notices: &[Notice]) -> HashSet<&str> {
    let uids = notices.iter().map(|notice| notice.subject.uid.as_str());
    uids.collect()
}

/// `None` for an object without a uid, which no API server serves.
fn notice(record: &Record) -> Option<Notice> {
    let parts = [
        ("would be refused now", Level::Deny),
        ("warned of", Level::Warn),
    ];
    let parts = parts.into_iter().filter_map(|(words, level)| {
        let rules = rules(record, level);
        (!rules.is_empty()).then(|| format!("{words}: {}", rules.join(", ")))
    });
    let parts: Vec<_> = parts.collect();
    let namespace = &record.namespace;
    Some(Notice {
        message: format!(
            "{}; portcullis audit -n {namespace} says more",
            parts.join("; ")
        ),
        subject: Subject {
            api_version: record.kind.api_version(),
            kind: record.kind.kind.to_string(),
            namespace: namespace.to_string(),
            name: record.name.to_string(),
            uid: record.uid.as_deref()?.to_owned(),
        },
    })
}

/// The rules that are broken at this level, each once, in their order.
fn rules(record: &Record, level: Level) -> Vec<&'static str> {
    let violations = record.violations.iter();
    let of_level = violations.filter(|violation| violation.level == level);
    let rules: BTreeSet<RuleId> = of_level.map(|violation| violation.rule).collect();
    rules.into_iter().map(RuleId::as_str).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        audit::{Batch, Violation},
        policy::workload::KINDS,
    };

    fn record(name: &str, broken: &[(RuleId, Level)]) -> Record {
        let violations = broken.iter().map(|&(rule, level)| Violation {
            rule,
            level,
            container: None,
            path: "".into(),
            message: "".into(),
            fix: None,
            fingerprints: [].into(),
        });
        Record {
            kind: Arc::new(KINDS[1].clone()),
            namespace: "shop".into(),
            name: name.into(),
            uid: Some(format!("uid-of-{name}").into()),
            created: None,
            enforce: Level::Deny,
            violations: violations.collect(),
            claims: [].into(),
            unknown: false,
        }
    }

    #[test]
    fn those_that_would_be_refused_come_first_each_with_its_rules_once() {
        let limit = (RuleId::CpuLimit, Level::Warn);
        let probe = (RuleId::ReadinessProbe, Level::Deny);
        let nameless = Record {
            uid: None,
            ..record("nameless", &[probe])
        };
        let mut report = Report::default();
        report.add(Batch {
            records: vec![
                record("a", &[limit]),
                nameless,
                record("b", &[probe, probe, limit]),
                record("sound", &[]),
            ],
            ..Batch::default()
        });
        let notices = notices(&report.sorted());
        let told: Vec<_> = notices
            .iter()
            .map(|notice| (notice.subject.name.as_str(), notice.message.as_str()))
            .collect();
        let expected = [
            (
                "b",
                "would be refused now: readiness-probe; warned of: cpu-limit; portcullis audit -n shop says more",
            ),
            (
                "a",
                "warned of: cpu-limit; portcullis audit -n shop says more",
            ),
        ];
        assert_eq!(told, expected);
        let uids = uids(&notices);
        assert!(uids.contains("uid-of-a") && uids.len() == 2, "{uids:?}");
    }
}
