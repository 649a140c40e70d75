//! JUnit XML, as Jenkins, GitLab and their like read it: a suite a file or a namespace, a test case an object.

use std::io::{self, Write};

use super::{Judged, Output, Place, Summary, Unjudged, Violation};
use crate::policy::finding::Level;

/// What is not from a file and of no namespace.
const CLUSTER: &str = "cluster";

/// Holds one suite until the next begins, since a suite tells its counts first.
#[derive(Debug, Default)]
pub(in crate::cli) struct Junit {
    begun: bool,
    suite: String,
    cases: Vec<u8>,
    tests: usize,
    failures: usize,
    errors: usize,
}

// === impl Junit ===

impl Junit {
    /// Makes `name` the suite that is gathered.
    fn suite(&mut self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.suite != name {
            self.end_suite(out)?;
            name.clone_into(&mut self.suite);
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
            suite,
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
        let suite = escape(&suite);
        writeln!(
            out,
            "  <testsuite name=\"{suite}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\">"
        )?;
        out.write_all(&cases)?;
        writeln!(out, "  </testsuite>")
    }

    /// Adds a test case with some elements in it.
    fn case(
        &mut self,
        class: &str,
        name: &str,
        place: Option<Place<'_>>,
        inside: &[u8],
    ) -> io::Result<()> {
        let (class, name) = (escape(class), escape(name));
        write!(
            self.cases,
            "    <testcase classname=\"{class}\" name=\"{name}\""
        )?;
        if let Some(Place { file, position }) = place {
            let line = position.map_or(1, |position| position.line);
            write!(self.cases, " file=\"{}\" line=\"{line}\"", escape(file))?;
        }
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
        let file = judged.place.map(|place| place.file);
        self.suite(file.unwrap_or(judged.namespace), out)?;
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
        if judged.violations.is_empty() && judged.unknown {
            let message = "not all that it refers to could be read";
            writeln!(inside, "      <skipped message=\"{message}\"/>")?;
        }
        self.case(&judged.kind.kind, &judged.title(), judged.place, &inside)
    }

    fn unjudged(&mut self, unjudged: &Unjudged<'_>, out: &mut dyn Write) -> io::Result<()> {
        let Unjudged {
            name,
            place,
            message,
        } = *unjudged;
        self.suite(place.map_or(CLUSTER, |place| place.file), out)?;
        self.errors += 1;
        let message = escape(message);
        let inside = format!("      <error type=\"unreadable\" message=\"{message}\"/>\n");
        let class = place.map_or(CLUSTER, |_| "input");
        self.case(class, name, place, inside.as_bytes())
    }

    fn finish(&mut self, _: &Summary, out: &mut dyn Write) -> io::Result<()> {
        self.end_suite(out)?;
        writeln!(out, "</testsuites>")
    }
}

/// Findings of one weight, one a line, each with its fix.
fn lines(judged: &Judged<'_>, level: Level) -> String {
    let violations = judged.violations.iter();
    let lines = violations
        .filter(|violation| violation.level == level)
        .map(|violation| {
            let Violation {
                rule,
                message,
                position,
                ..
            } = violation;
            let line = position.map(|position| format!("line {}: ", position.line));
            let line = line.unwrap_or_default();
            let mut fix = violation.remedy("");
            if !fix.is_empty() {
                fix.push('\n');
            }
            format!("{rule}: {line}{message}\n{fix}")
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
