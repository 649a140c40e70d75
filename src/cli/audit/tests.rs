//! The formats of an audit, whole.

use std::sync::Arc;

use insta::assert_snapshot;
use serde_json::Value;

use super::{
    Outcome, Told,
    baseline::{Baseline, Change},
    json, output, text,
};
use crate::{
    audit::{Batch, Claim, Effect, Record, Report, Unread, Violation},
    cli::{
        doctor::Line,
        output::{Junit, Output, Sarif},
        terminal::{Color, Palette},
    },
    policy::{
        finding::{Finding, Fingerprint, Fix, Level, Offence},
        rules::RuleId,
        workload::{KINDS, WorkloadKind},
    },
};

fn violation(kind: &WorkloadKind, object: [&str; 2], rule: RuleId, level: Level) -> Violation {
    let finding = Finding {
        rule,
        level,
        container: Some("app".to_owned()),
        path: "/spec/template/spec/containers/0/resources".to_owned(),
        message: format!("container \"app\" breaks {rule}\u{1b}"),
        fix: Some(Fix {
            at: "spec.template.spec.containers[name=app]".to_owned(),
            yaml: "resources:\n  limits:\n    memory: 128Mi\n".to_owned(),
        }),
        offences: vec![Offence::new(Some("app"), "resources", "")],
    };
    Violation {
        fingerprints: Fingerprint::of(kind, object, &finding),
        rule,
        level,
        container: Some("app".into()),
        path: finding.path.into(),
        message: finding.message.into(),
        fix: finding.fix.map(Arc::new),
    }
}

fn record(object: [&str; 2], broken: &[(RuleId, Level)]) -> Record {
    let kind = &KINDS[1];
    let [namespace, name] = object;
    let violations = broken.iter();
    Record {
        kind: Arc::new(kind.clone()),
        namespace: namespace.into(),
        name: name.into(),
        uid: None,
        created: Some("2026-11-21T10:00:00Z".into()),
        enforce: Level::Deny,
        violations: violations
            .map(|(rule, level)| violation(kind, object, *rule, *level))
            .collect(),
        claims: [].into(),
        unknown: false,
    }
}

/// An audit that found something of each sort.
fn told() -> Told {
    let limit = (RuleId::MemoryLimit, Level::Deny);
    let claims = [
        (Some(RuleId::CpuLimit), "batch", Effect::Idle),
        (None, "there is no rule \"x\"", Effect::Mistaken),
        (Some(RuleId::MemoryLimit), "nightly", Effect::InForce),
        (Some(RuleId::CpuRequest), "old", Effect::NotAllowed),
    ];
    let claims = claims.map(|(rule, text, effect)| Claim {
        rule,
        text: text.into(),
        effect,
    });
    let records = vec![
        record(
            ["shop", "checkout"],
            &[limit, (RuleId::CpuLimit, Level::Warn)],
        ),
        record(["shop", "sound"], &[]),
        Record {
            claims: claims.into(),
            ..record(["blog", "batch"], &[(RuleId::MemoryLimit, Level::Warn)])
        },
        Record {
            unknown: true,
            ..record(["blog", "reads"], &[])
        },
    ];
    let mut report = Report::default();
    report.add(Batch {
        records,
        left_out: vec!["kube-system".into(), "kube-system".into()],
        through_owners: 3,
        unread: vec![Unread {
            verb: "get",
            resource: "secrets".into(),
            why: "403 Forbidden: no <you> may not".into(),
            count: 2,
        }],
        ..Batch::default()
    });
    Told {
        report: report.sorted(),
        change: None,
        registered: Some("2026-11-01T00:00:00Z".to_owned()),
        gates: vec![(
            "gates",
            Line::warn("pods without a gate: 1 (shop/x)", "restart it"),
        )],
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn as_text(told: &Told, by_namespace: bool) -> String {
    written(|out| text::write(told, by_namespace, Palette::new(Color::Never), out))
}

fn as_json(told: &Told) -> String {
    written(|out| json::write(told, out))
}

#[test]
fn text_is_a_block_a_workload_then_what_else_is_known() {
    assert_snapshot!(as_text(&told(), false));
}

#[test]
fn what_would_be_denied_is_a_line_a_namespace() {
    assert_snapshot!(as_text(&told(), true));
}

#[test]
fn json_is_one_object_whose_shape_is_a_promise() {
    let json = as_json(&told());
    let parsed: Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<_> = parsed.as_object().unwrap().keys().collect();
    let promised = [
        "findings",
        "namespaces",
        "exemptions",
        "letIn",
        "gates",
        "unread",
        "summary",
    ];
    assert_eq!(keys, promised);
    assert_snapshot!(json);
}

#[test]
fn sarif_names_the_object_in_place_of_a_file() {
    let written = written(|out| output::write(&told(), &mut Sarif::default(), out));
    let mut log: Value = serde_json::from_str(&written).unwrap();
    let run = &mut log["runs"][0];
    run["tool"]["driver"]["rules"].take();
    run["tool"]["driver"]["semanticVersion"].take();
    for result in run["results"].as_array_mut().unwrap() {
        result["ruleIndex"].take(); // moves with every new rule
    }
    assert_snapshot!(format!("{log:#}"));
}

#[test]
fn junit_is_a_suite_a_namespace_and_a_case_a_workload() {
    assert_snapshot!(written(|out| {
        let output: &mut dyn Output = &mut Junit::default();
        output::write(&told(), output, out)
    }));
}

#[test]
fn what_is_refused_counts_more_than_what_was_not_seen_and_that_more_than_warnings() {
    let mut told = told();
    assert_eq!(Outcome::of(&told), Outcome::Denied);
    told.report
        .retain(|violation| violation.level < Level::Deny);
    assert_eq!(Outcome::of(&told), Outcome::Unknown);
    let records = told.report.records().to_vec();
    told.report = Report::default();
    told.report.add(Batch {
        records,
        ..Batch::default()
    });
    assert_eq!(Outcome::of(&told), Outcome::Passed);
    told.gates
        .push(("gates", Line::unknown("pods and their gates", "403")));
    assert_eq!(Outcome::of(&told), Outcome::Unknown);
}

#[test]
fn a_baseline_takes_away_each_violation_once_and_tells_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known.json");
    let since = |told: &Told, written: &str| {
        std::fs::write(&file, written).unwrap();
        let baseline = Baseline::read(&file).unwrap();
        let mut report = Report::default();
        let records = told.report.records().to_vec();
        report.add(Batch {
            records,
            ..Batch::default()
        });
        let Change { known, gone } = baseline.subtract_from(&mut report);
        (report, known, gone)
    };
    let then = told();
    let left = |report: &Report| {
        report
            .records()
            .iter()
            .map(|record| record.violations.len())
            .sum::<usize>()
    };
    let (report, known, gone) = since(&then, &as_json(&then));
    assert_eq!((left(&report), known, gone), (0, 3, 0));

    // One more like one that was there, one that was not, and one that is gone.
    let mut records = then.report.records().to_vec();
    records.push(records[2].clone());
    records.push(record(
        ["shop", "new"],
        &[(RuleId::CpuRequest, Level::Deny)],
    ));
    records[0].violations = [].into();
    let mut now = told();
    now.report = Report::default();
    now.report.add(Batch {
        records,
        ..Batch::default()
    });
    let (report, known, gone) = since(&now, &as_json(&then));
    assert_eq!((left(&report), known, gone), (3, 2, 1));

    std::fs::write(&file, "{\"findings\": [{\"rule\": \"x\"}]}").unwrap();
    assert!(
        Baseline::read(&file).is_err(),
        "what check writes has no fingerprints"
    );
}
