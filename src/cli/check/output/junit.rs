//! JUnit XML, as Jenkins, GitLab and their like read it: a suite a file, a test case an object.

use std::io::{self, Write};

use super::{Judged, Output};
use crate::{
    cli::check::{Summary, input::Problem},
    policy::finding::{Finding, Level},
    yaml::Position,
};

/// Holds the suite of one file until the next begins, since a suite tells its counts first.
#[derive(Debug, Default)]
pub(super) struct Junit {
    begun: bool,
    file: String,
    cases: Vec<u8>,
    tests: usize,
    failures: usize,
    errors: usize,
}

// === impl Junit ===

impl Junit {
    /// Makes `file` the one whose suite is gathered.
    fn suite(&mut self, file: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.file != file {
            self.end_suite(out)?;
            file.clone_into(&mut self.file);
        }
        self.tests += 1;
        Ok(())
    }

    fn end_suite(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
            writeln!(out, "<testsuites name=\"portcullis\">")?;
        }
        let Self {
            file,
            cases,
            tests,
            failures,
            errors,
            ..
        } = std::mem::take(self);
        self.begun = true;
        if tests == 0 {
            return Ok(());
        }
        let file = escape(&file);
        writeln!(
            out,
            "  <testsuite name=\"{file}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
        )?;
        out.write_all(&cases)?;
        writeln!(out, "  </testsuite>")
    }

    /// Adds a test case with some elements in it.
    fn case(&mut self, class: &str, name: &str, line: u32, inside: &[u8]) -> io::Result<()> {
        let (class, name, file) = (escape(class), escape(name), escape(&self.file));
        write!(
            self.cases,
            "    <testcase classname=\"{class}\" name=\"{name}\" file=\"{file}\" line=\"{line}\""
        )?;
        if inside.is_empty() {
            return writeln!(self.cases, "/>");
        }
        writeln!(self.cases, ">")?;
        self.cases.write_all(inside)?;
        writeln!(self.cases, "    </testcase>")
    }
}

impl Output for Junit {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        self.suite(&judged.subject.file, out)?;
        let (denied, warned) = (judged.count(Level::Deny), judged.count(Level::Warn));
        let mut inside = Vec::new();
        if denied > 0 {
            self.failures += 1;
            let lines = escape(&lines(judged, Level::Deny));
            writeln!(
                inside,
                "      <failure type=\"deny\" message=\"{denied} denied, {warned} warned\">{lines}</failure>"
            )?;
        }
        if warned > 0 {
            let lines = escape(&lines(judged, Level::Warn));
            writeln!(inside, "      <system-out>{lines}</system-out>")?;
        }
        let class = &judged.subject.kind.kind;
        self.case(class, &judged.title(), judged.position.line, &inside)
    }

    fn problem(&mut self, problem: &Problem, out: &mut dyn Write) -> io::Result<()> {
        let Problem {
            file,
            position,
            message,
        } = problem;
        self.suite(file, out)?;
        self.errors += 1;
        let message = escape(message);
        let inside = format!("      <error type=\"unreadable\" message=\"{message}\"/>\n");
        let line = position.map_or(1, |place| place.line);
        self.case("input", file, line, inside.as_bytes())
    }

    fn finish(&mut self, _: &Summary, out: &mut dyn Write) -> io::Result<()> {
        self.end_suite(out)?;
        writeln!(out, "</testsuites>")
    }
}

/// Findings of one weight, one a line, each with its fix.
fn lines(judged: &Judged<'_>, level: Level) -> String {
    let findings = judged
        .findings
        .iter()
        .filter(|(finding, _)| finding.level == level);
    let lines = findings.map(|(finding, Position { line, .. })| {
        let Finding {
            rule, message, fix, ..
        } = finding;
        let fix = fix
            .as_ref()
            .map(|fix| format!("To fix, in {}:\n{}\n", fix.at, fix.yaml.trim_end()));
        format!(
            "{rule}: line {line}: {message}\n{}",
            fix.unwrap_or_default()
        )
    });
    lines.collect()
}

/// Text for XML 1.0, which has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(char),
            char if char.is_control() || matches!(char, '\u{FFFE}' | '\u{FFFF}') => {
                escaped.push('\u{FFFD}');
            }
            char => escaped.push(char),
        }
    }
    escaped
}
