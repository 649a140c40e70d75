//! Verdicts for people: one block an object, the fix to paste, a last line that counts.

use std::io::{self, Write};

use super::{Judged, Output, Place, Summary, Unjudged};
use crate::{
    cli::terminal::{Palette, Shown, Style},
    policy::{finding::Level, paste},
};

/// Text, coloured or not.
#[derive(Debug)]
pub(in crate::cli) struct Text {
    palette: Palette,
}

// === impl Text ===

impl Text {
    pub(in crate::cli) fn new(palette: Palette) -> Self {
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

    /// The object, and where it stands.
    fn title(&self, judged: &Judged<'_>) -> String {
        let title = self.palette.paint(Style::Bold, Shown(&judged.title()));
        let Some(Place { file, position }) = judged.place else {
            return title;
        };
        let line = position.map_or(1, |position| position.line);
        let place = format!("{}:{line}", Shown(file));
        format!("{title}  {}", self.palette.paint(Style::Dim, place))
    }

    /// What to paste, place by place.
    fn fixes(&self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        let fixes = judged
            .violations
            .iter()
            .filter_map(|violation| violation.fix);
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
        if judged.violations.is_empty() {
            return Ok(());
        }
        writeln!(out, "{}", self.title(judged))?;
        let rules = judged
            .violations
            .iter()
            .map(|violation| violation.rule.as_str().len());
        let width = rules.max().unwrap_or_default();
        for violation in judged.violations {
            let level = self.level(violation.level);
            write!(out, "  {level}  {:width$}  ", violation.rule)?;
            if let Some(position) = violation.position {
                let line = format_args!("line {}:", position.line);
                write!(out, "{} ", self.palette.paint(Style::Dim, line))?;
            }
            writeln!(out, "{}", Shown(violation.message))?;
        }
        self.fixes(judged, out)?;
        writeln!(out)
    }

    fn unjudged(&mut self, _: &Unjudged<'_>, _: &mut dyn Write) -> io::Result<()> {
        Ok(()) // on standard error, which a person sees too
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        let style = match summary {
            Summary {
                problems: 0,
                denied: 0,
                warned: 0,
                unknown: 0,
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
