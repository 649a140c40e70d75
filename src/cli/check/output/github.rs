//! Workflow commands, by which GitHub annotates the lines of a pull request.
//!
//! Escaping as in `actions/toolkit`, `packages/core/src/command.ts`.

use std::io::{self, Write};

use super::{Judged, Output};
use crate::{
    cli::check::{Summary, input::Problem},
    policy::finding::Level,
};

/// One command a finding, and the summary as a line of the log.
#[derive(Debug)]
pub(super) struct Github;

impl Output for Github {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        for (finding, position) in judged.findings {
            let command = if finding.level == Level::Deny {
                "error"
            } else {
                "warning"
            };
            let fix = finding.fix.as_ref();
            let fix = fix.map(|fix| format!("\nTo fix, in {}:\n{}", fix.at, fix.yaml.trim_end()));
            let text = format!(
                "{}: {}{}",
                judged.title(),
                finding.message,
                fix.unwrap_or_default()
            );
            writeln!(
                out,
                "::{command} file={},line={},col={},title={}::{}",
                property(&judged.subject.file),
                position.line,
                position.column,
                property(finding.rule.as_str()),
                data(&text)
            )?;
        }
        Ok(())
    }

    fn problem(&mut self, problem: &Problem, out: &mut dyn Write) -> io::Result<()> {
        let Problem {
            file,
            position,
            message,
        } = problem;
        let place = position.map(|place| format!(",line={},col={}", place.line, place.column));
        let (file, place) = (property(file), place.unwrap_or_default());
        writeln!(
            out,
            "::error file={file}{place},title=can't be checked::{}",
            data(message)
        )
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{summary}")
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
