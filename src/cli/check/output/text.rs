//! Verdicts for people: one block an object, the fix to paste, a last line that counts.

use std::io::{self, Write};

use super::{Judged, Output};
use crate::{
    cli::{
        check::{Summary, input::Problem},
        terminal::{Palette, Shown, Style},
    },
    policy::{finding::Level, paste},
};

/// Text, coloured or not.
#[derive(Debug)]
pub(super) struct Text {
    palette: Palette,
}

// === impl Text ===

impl Text {
    pub(super) fn new(palette: Palette) -> Self {
        Self { palette }
    }

    fn level(&self, level: Level) -> String {
        let style = if level == Level::Deny {
            Style::Red
        } else {
            Style::Yellow
        };
        self.palette.paint(style, level)
    }

    /// What to paste, place by place.
    fn fixes(&self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        let fixes = judged
            .findings
            .iter()
            .filter_map(|(finding, _)| finding.fix.as_ref());
        for (at, yaml) in paste::merge(fixes) {
            let title = format!("To fix, in {}:", Shown(at));
            writeln!(out, "  {}", self.palette.paint(Style::Green, title))?;
            for line in yaml.lines() {
                writeln!(out, "{}", format!("    {}", Shown(line)).trim_end())?;
            }
        }
        Ok(())
    }
}

impl Output for Text {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        if judged.findings.is_empty() {
            return Ok(());
        }
        let file = &judged.subject.file;
        let title = self.palette.paint(Style::Bold, Shown(&judged.title()));
        let place = format!("{}:{}", Shown(file), judged.position.line);
        writeln!(out, "{title}  {}", self.palette.paint(Style::Dim, place))?;
        let rules = judged
            .findings
            .iter()
            .map(|(finding, _)| finding.rule.as_str().len());
        let width = rules.max().unwrap_or_default();
        for (finding, position) in judged.findings {
            let level = self.level(finding.level);
            let message = Shown(&finding.message);
            let line = self
                .palette
                .paint(Style::Dim, format_args!("line {}:", position.line));
            writeln!(out, "  {level}  {:width$}  {line} {message}", finding.rule)?;
        }
        self.fixes(judged, out)?;
        writeln!(out)
    }

    fn problem(&mut self, _: &Problem, _: &mut dyn Write) -> io::Result<()> {
        Ok(()) // on standard error, which a person sees too
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        let style = match summary {
            Summary {
                problems: 0,
                denied: 0,
                warned: 0,
                ..
            } => Style::Green,
            Summary {
                problems: 0,
                denied: 0,
                ..
            } => Style::Yellow,
            _ => Style::Red,
        };
        writeln!(out, "{}", self.palette.paint(style, summary))
    }
}
