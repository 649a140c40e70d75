//! An audit for people: a block a workload (or, of `--would-deny`, a line a namespace), then what else is known.

use std::io::{self, Write};

use super::{
    Change, Told, let_in,
    output::{consequence, mend, summary, told, write_records},
};
use crate::{
    audit::{NamespaceSummary, Report},
    cli::{
        doctor::Line,
        output::{Output as _, Text},
        terminal::{Palette, Shown, Style},
    },
    policy::rules::RuleId,
};

/// Rules that a line of a namespace names.
const RULES: usize = 5;

/// Writes all of it; the namespaces in place of the workloads if `by_namespace`.
pub(super) fn write(
    all: &Told,
    by_namespace: bool,
    palette: Palette,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Told {
        report,
        change,
        registered,
        gates,
    } = all;
    let mut text = Text::new(palette);
    if by_namespace {
        write_namespaces(&report.namespaces(), palette, out)?;
    } else {
        write_records(report, &mut text, out)?;
    }
    write_exemptions(report, palette, out)?;
    if let Some(since) = registered {
        write_let_in(report, since, palette, out)?;
    }
    write_gates(gates, palette, out)?;
    write_unread(report, palette, out)?;
    let left_out: Vec<_> = report
        .left_out()
        .map(|(name, count)| format!("{name} ({count})"))
        .collect();
    if !left_out.is_empty() {
        writeln!(
            out,
            "Left out, since nothing is judged there: {}\n",
            left_out.join(", ")
        )?;
    }
    if let Some(Change { known, gone }) = change {
        writeln!(
            out,
            "New since the baseline; {known} findings of it stand as before, {gone} violations are gone"
        )?;
    }
    text.finish(&summary(report), out)
}

fn write_namespaces(
    summaries: &[NamespaceSummary],
    palette: Palette,
    out: &mut dyn Write,
) -> io::Result<()> {
    let broken: Vec<_> = summaries
        .iter()
        .filter(|summary| summary.denied > 0)
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    let widest = broken.iter().map(|summary| summary.name.len()).max();
    let width = widest.unwrap_or_default().max("namespace".len());
    let head = format!("{:width$}  refused  of     by", "namespace");
    writeln!(out, "{}", palette.paint(Style::Dim, head))?;
    for NamespaceSummary {
        name,
        denied,
        objects,
        rules,
        ..
    } in broken
    {
        let first = rules.iter().take(RULES);
        let mut by: Vec<_> = first
            .map(|(rule, count)| format!("{rule} {count}"))
            .collect();
        if rules.len() > RULES {
            by.push(format!("and {} more", rules.len() - RULES));
        }
        let denied = palette.paint(Style::Red, format_args!("{denied:7}"));
        writeln!(
            out,
            "{name:width$}  {denied}  {objects:<5}  {}",
            by.join(", ")
        )?;
    }
    writeln!(out)
}

fn write_exemptions(report: &Report, palette: Palette, out: &mut dyn Write) -> io::Result<()> {
    let mut claims: Vec<_> = report
        .records()
        .iter()
        .flat_map(|record| record.claims.iter().map(move |claim| (record, claim)))
        .collect();
    if claims.is_empty() {
        return Ok(());
    }
    claims.sort_by_key(|(_, claim)| claim.effect);
    writeln!(out, "{}", palette.paint(Style::Bold, "Exemptions"))?;
    for (record, claim) in claims {
        let effect = consequence(claim.effect);
        let rule = claim
            .rule
            .map(|rule| format!("{rule}: "))
            .unwrap_or_default();
        writeln!(
            out,
            "  {} {}/{}  {rule}{}{effect}",
            record.kind.kind,
            record.namespace,
            Shown(&record.name),
            Shown(&claim.text)
        )?;
    }
    writeln!(out)
}

fn write_let_in(
    report: &Report,
    since: &str,
    palette: Palette,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut records = let_in::after(report, since).peekable();
    if records.peek().is_none() {
        return Ok(());
    }
    let title = "Let in, though it would be refused now";
    writeln!(out, "{}", palette.paint(Style::Bold, title))?;
    for record in records {
        let rules: Vec<_> = record
            .denied_rules()
            .into_iter()
            .map(RuleId::as_str)
            .collect();
        writeln!(
            out,
            "  {} {}/{}  {}: {}",
            record.kind.kind,
            record.namespace,
            Shown(&record.name),
            record.created.as_deref().unwrap_or_default(),
            rules.join(", ")
        )?;
    }
    for line in let_in::causes(since) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out)
}

fn write_gates(gates: &[(&str, Line)], palette: Palette, out: &mut dyn Write) -> io::Result<()> {
    if gates.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", palette.paint(Style::Bold, "Gates"))?;
    for (_, Line { message, fix, .. }) in gates {
        writeln!(out, "  {}", Shown(message))?;
        if let Some(fix) = fix {
            writeln!(out, "    -> {}", Shown(fix))?;
        }
    }
    writeln!(out)
}

fn write_unread(report: &Report, palette: Palette, out: &mut dyn Write) -> io::Result<()> {
    let mut unread = report.unread().peekable();
    if unread.peek().is_none() {
        return Ok(());
    }
    let title = "Unknown, since it could not be read";
    writeln!(out, "{}", palette.paint(Style::Bold, title))?;
    for unread in unread {
        writeln!(out, "  {}", Shown(&told(&unread)))?;
        writeln!(out, "    -> {}", mend(&unread))?;
    }
    writeln!(out)
}
