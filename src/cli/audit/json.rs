//! JSON for other programs, and for the next audit's `--baseline`: its shape is a promise.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    Told, let_in,
    output::{mend, summary, write_records},
};
use crate::{
    audit::{Claim, NamespaceSummary, Record, Report, Unread},
    cli::{
        doctor::Line,
        output::{Json, Summary},
    },
    policy::rules::RuleId,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Namespace<'a> {
    name: &'a str,
    enforce: &'a str,
    objects: usize,
    denied: usize,
    warned: usize,
    unknown: usize,
    rules: BTreeMap<&'a str, usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exemption<'a> {
    api_version: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    rule: Option<&'a str>,
    text: &'a str,
    effect: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LetIn<'a> {
    api_version: String,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    created: Option<&'a str>,
    rules: Vec<&'a str>,
}

#[derive(Serialize)]
struct Gate<'a> {
    check: &'a str,
    #[serde(flatten)]
    line: &'a Line,
}

#[derive(Serialize)]
struct NotRead<'a> {
    verb: &'a str,
    resource: &'a str,
    why: &'a str,
    count: usize,
    fix: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    objects: usize,
    denied: usize,
    warned: usize,
    unknown: usize,
    through_owners: usize,
    left_out: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone: Option<usize>,
}

/// One object: `findings`, one a line, as `check` has them but without a file; then what an audit knows beside.
pub(super) fn write(told: &Told, out: &mut dyn Write) -> io::Result<()> {
    let Told {
        report,
        change,
        registered,
        gates,
    } = told;
    let mut json = Json::default();
    write_records(report, &mut json, out)?;
    json.end_findings(out)?;
    let namespaces = report.namespaces();
    members(out, "namespaces", namespaces.iter().map(namespace))?;
    exemptions(report, out)?;
    let since = registered.iter();
    let let_in = since.flat_map(|since| let_in::after(report, since));
    members(out, "letIn", let_in.map(let_in_item))?;
    let gates = gates.iter().map(|(check, line)| Gate { check, line });
    members(out, "gates", gates)?;
    let unread: Vec<_> = report.unread().collect();
    members(out, "unread", unread.iter().map(not_read))?;
    let Summary {
        objects,
        denied,
        warned,
        unknown,
        ..
    } = summary(report);
    write!(out, ",\"summary\":")?;
    let counts = Counts {
        objects,
        denied,
        warned,
        unknown,
        through_owners: report.through_owners(),
        left_out: report.left_out().map(|(_, count)| count).sum(),
        known: change.map(|change| change.known),
        gone: change.map(|change| change.gone),
    };
    serde_json::to_writer(&mut *out, &counts)?;
    writeln!(out, "}}")
}

/// A list, an item a line.
fn members<T: Serialize>(
    out: &mut dyn Write,
    name: &str,
    items: impl Iterator<Item = T>,
) -> io::Result<()> {
    write!(out, ",\"{name}\":[")?;
    let mut before = "\n";
    for item in items {
        write!(out, "{before}")?;
        serde_json::to_writer(&mut *out, &item)?;
        before = ",\n";
    }
    write!(out, "]")
}

fn exemptions(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let claims = report.records().iter().flat_map(|record| {
        let claims = record.claims.iter();
        claims.map(move |claim| (record, claim))
    });
    let claims: Vec<_> = claims
        .map(|(record, claim)| (record.kind.api_version(), record, claim))
        .collect();
    let items = claims.iter().map(|(api_version, record, claim)| {
        let Claim { rule, text, effect } = claim;
        Exemption {
            api_version,
            kind: &record.kind.kind,
            namespace: &record.namespace,
            name: &record.name,
            rule: rule.map(RuleId::as_str),
            text,
            effect: effect.as_str(),
        }
    });
    members(out, "exemptions", items)
}

fn let_in_item(record: &Record) -> LetIn<'_> {
    let rules = record.denied_rules();
    LetIn {
        api_version: record.kind.api_version(),
        kind: &record.kind.kind,
        namespace: &record.namespace,
        name: &record.name,
        created: record.created.as_deref(),
        rules: rules.into_iter().map(RuleId::as_str).collect(),
    }
}

fn namespace(summary: &NamespaceSummary) -> Namespace<'_> {
    let NamespaceSummary {
        name,
        enforce,
        objects,
        denied,
        warned,
        unknown,
        rules,
    } = summary;
    Namespace {
        name,
        enforce: enforce.as_str(),
        objects: *objects,
        denied: *denied,
        warned: *warned,
        unknown: *unknown,
        rules: rules
            .iter()
            .map(|(rule, count)| (rule.as_str(), *count))
            .collect(),
    }
}

fn not_read(unread: &Unread) -> NotRead<'_> {
    let Unread {
        verb,
        resource,
        why,
        count,
    } = unread;
    NotRead {
        verb,
        resource,
        why,
        count: *count,
        fix: mend(unread),
    }
}
