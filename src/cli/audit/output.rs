//! Records as the outputs take verdicts.

use std::io::{self, Write};

use super::Told;
use crate::{
    audit::{Effect, Record, Report, Unread, Violation},
    cli::output::{self, Judged, Output, Summary, Unjudged},
};

/// Writes all that `output` has a shape for.
pub(super) fn write(
    Told { report, .. }: &Told,
    output: &mut dyn Output,
    out: &mut dyn Write,
) -> io::Result<()> {
    write_records(report, output, out)?;
    for unread in report.unread() {
        let name = format!("{} {}", unread.verb, unread.resource);
        let unjudged = Unjudged {
            name: &name,
            place: None,
            message: &told(&unread),
        };
        output.unjudged(&unjudged, out)?;
    }
    output.finish(&summary(report), out)
}

/// Writes the verdicts.
pub(super) fn write_records(
    report: &Report,
    output: &mut dyn Output,
    out: &mut dyn Write,
) -> io::Result<()> {
    for record in report.records() {
        let Record {
            kind,
            namespace,
            name,
            violations,
            unknown,
            ..
        } = record;
        let violations: Vec<_> = violations.iter().map(shown).collect();
        let judged = Judged {
            kind,
            namespace,
            name,
            place: None,
            violations: &violations,
            unknown: *unknown,
        };
        output.judged(&judged, out)?;
    }
    Ok(())
}

fn shown(violation: &Violation) -> output::Violation<'_> {
    let Violation {
        rule,
        level,
        container,
        path,
        message,
        fix,
        fingerprints,
    } = violation;
    output::Violation {
        rule: *rule,
        level: *level,
        container: container.as_deref(),
        path,
        message,
        fix: fix.as_deref(),
        fingerprints,
        position: None,
    }
}

/// What was counted.
pub(super) fn summary(report: &Report) -> Summary {
    let mut summary = Summary::default();
    for record in report.records() {
        summary.count(record.worst(), record.unknown);
    }
    summary.problems = report.unread().count();
    summary
}

/// What was not read, and why: `get secrets: 403 Forbidden: ... (12 times)`.
pub(in crate::cli) fn told(unread: &Unread) -> String {
    let Unread {
        verb,
        resource,
        why,
        count,
    } = unread;
    let times = if *count == 1 {
        "once".to_owned()
    } else {
        format!("{count} times")
    };
    format!("{verb} {resource}: {why} ({times})")
}

/// What an exemption is worth where that is not all of it, to stand behind its reason.
pub(super) fn consequence(effect: Effect) -> &'static str {
    match effect {
        Effect::InForce => "",
        Effect::NotAllowed => {
            " (counts for nothing: its namespace is not labelled portcullis.dev/exemptions: allowed)"
        }
        Effect::Idle => " (excuses nothing: the rule is kept)",
        Effect::Mistaken => " (counts for nothing)",
    }
}

/// What helps.
pub(in crate::cli) fn mend(unread: &Unread) -> &'static str {
    match (unread.verb, unread.is_forbidden()) {
        (_, true) => {
            "a right is missing: manifests/audit has a ClusterRole with all that an audit reads; bind it to who audits"
        }
        ("read", false) => {
            "the object is not what its kind should be: look at it with kubectl get -o yaml"
        }
        _ => "try again; if it stays, ask the API server yourself: kubectl get --raw",
    }
}
