//! The lists of the page: a row for each thing that is wrong.

use std::io;

use crate::{
    audit::{NamespaceSummary, Record, Report, Violation},
    cli::{
        audit::{
            Told, let_in,
            output::{consequence, mend, told},
        },
        doctor::Line,
        page::{Column, Page, Role, Tone},
    },
    policy::rules::RuleId,
};

const LEVELS: &[(&str, Tone)] = &[("deny", Tone::Bad), ("warn", Tone::Wait)];

/// Writes those that have a row.
pub(super) fn put(
    page: &mut Page<'_>,
    told: &Told,
    namespaces: &[NamespaceSummary],
) -> io::Result<()> {
    put_findings(page, &told.report, namespaces)?;
    if let Some(since) = &told.registered {
        put_let_in(page, &told.report, since)?;
    }
    put_gates(page, &told.gates)?;
    put_exemptions(page, &told.report)?;
    put_unread(page, &told.report)
}

fn put_findings(
    page: &mut Page<'_>,
    report: &Report,
    namespaces: &[NamespaceSummary],
) -> io::Result<()> {
    let records = report.records();
    let total = records.iter().map(|record| record.violations.len()).sum();
    if total == 0 {
        return Ok(());
    }
    let columns = [
        Column {
            tones: LEVELS,
            ..Column::new("Level", Role::Choice)
        },
        Column::new("Namespace", Role::Group),
        Column::new("Workload", Role::Name),
        Column::new("Rule", Role::Choice),
        Column::new("Problem", Role::Text),
        Column::new("Fix", Role::Fix),
    ];
    let mut list = page.list("Findings", &columns, total)?;
    for NamespaceSummary { name, .. } in namespaces {
        // They are in the order of their namespaces' names.
        let first = records.partition_point(|record| record.namespace < *name);
        let rest = records.get(first..).unwrap_or_default();
        for record in rest.iter().take_while(|record| record.namespace == *name) {
            let workload = workload(record);
            for Violation {
                rule,
                level,
                message,
                fix,
                ..
            } in &record.violations
            {
                let (level, rule) = (level.as_str(), rule.as_str());
                let fix = fix.as_ref().map(|fix| format!("{}\n{}", fix.at, fix.yaml));
                list.row([
                    level,
                    name,
                    &workload,
                    rule,
                    message,
                    &fix.unwrap_or_default(),
                ])?;
            }
        }
    }
    list.end("")
}

fn put_let_in(page: &mut Page<'_>, report: &Report, since: &str) -> io::Result<()> {
    let records: Vec<_> = let_in::after(report, since).collect();
    if records.is_empty() {
        return Ok(());
    }
    let columns = [
        Column::new("Namespace", Role::Group),
        Column::new("Workload", Role::Name),
        Column::new("Made", Role::Name),
        Column::new("Rules", Role::Text),
    ];
    let heading = "Let in, though it would be refused now";
    let mut list = page.list(heading, &columns, records.len())?;
    for record in records {
        let rules = record.denied_rules().into_iter().map(RuleId::as_str);
        let rules: Vec<_> = rules.collect();
        let made = record.created.as_deref().unwrap_or_default();
        list.row([
            &record.namespace,
            &workload(record),
            made,
            &rules.join(", "),
        ])?;
    }
    list.end(&let_in::causes(since).join(" "))
}

fn put_gates(page: &mut Page<'_>, gates: &[(&str, Line)]) -> io::Result<()> {
    if gates.is_empty() {
        return Ok(());
    }
    let columns = [
        Column::new("Check", Role::Choice),
        Column::new("What is wrong", Role::Text),
        Column::new("What helps", Role::Text),
    ];
    let mut list = page.list("Gates", &columns, gates.len())?;
    for (check, Line { message, fix, .. }) in gates {
        list.row([check, message, fix.as_deref().unwrap_or_default()])?;
    }
    list.end("")
}

fn put_exemptions(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let records = report.records();
    let total = records.iter().map(|record| record.claims.len()).sum();
    if total == 0 {
        return Ok(());
    }
    let columns = [
        Column::new("Effect", Role::Choice),
        Column::new("Namespace", Role::Group),
        Column::new("Workload", Role::Name),
        Column::new("Rule", Role::Choice),
        Column::new("Reason", Role::Text),
    ];
    let mut list = page.list("Exemptions", &columns, total)?;
    for record in records {
        let workload = workload(record);
        for claim in &record.claims {
            let rule = claim.rule.map_or("none", RuleId::as_str);
            let reason = format!("{}{}", claim.text, consequence(claim.effect));
            let effect = claim.effect.as_str();
            list.row([effect, &record.namespace, &workload, rule, &reason])?;
        }
    }
    list.end("")
}

fn put_unread(page: &mut Page<'_>, report: &Report) -> io::Result<()> {
    let unread: Vec<_> = report.unread().collect();
    if unread.is_empty() {
        return Ok(());
    }
    let columns = [
        Column::new("What", Role::Text),
        Column::new("What helps", Role::Text),
    ];
    let heading = "Unknown, since it could not be read";
    let mut list = page.list(heading, &columns, unread.len())?;
    for unread in &unread {
        list.row([&told(unread), mend(unread)])?;
    }
    list.end("")
}

/// `Deployment checkout`.
fn workload(record: &Record) -> String {
    format!("{} {}", record.kind.kind, record.name)
}
