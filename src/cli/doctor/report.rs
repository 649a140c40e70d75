//! What was found, a line each, and how it is written.

use std::io::{self, Write};

use serde::Serialize;

use super::Outcome;
use crate::cli::terminal::{Palette, Shown, Style};

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::cli) enum Level {
    Ok,
    Warn,
    Fail,
    /// It could not be looked at.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Line {
    pub(in crate::cli) level: Level,
    pub(in crate::cli) message: String,
    pub(in crate::cli) fix: Option<String>,
}

/// All lines, each with the name of its check.
#[derive(Debug, Default)]
pub(super) struct Report(Vec<(&'static str, Line)>);

#[derive(Serialize)]
struct Json<'a> {
    server: &'a str,
    lines: Vec<JsonLine<'a>>,
    summary: Summary,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    check: &'a str,
    #[serde(flatten)]
    line: &'a Line,
}

#[derive(Serialize)]
struct Summary {
    ok: usize,
    warn: usize,
    fail: usize,
    unknown: usize,
}

// === impl Line ===

impl Line {
    pub(super) fn ok(message: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            message: message.into(),
            fix: None,
        }
    }

    pub(in crate::cli) fn warn(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    pub(super) fn fail(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            message: message.into(),
            fix: Some(fix.into()),
        }
    }

    /// `what` could not be looked at, and why.
    pub(in crate::cli) fn unknown(what: &str, why: &str) -> Self {
        Self {
            level: Level::Unknown,
            message: format!("{what}: not checked: {why}"),
            fix: None,
        }
    }

    /// With a way to find it out after all.
    pub(super) fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

// === impl Report ===

impl Report {
    pub(super) fn push(&mut self, check: &'static str, line: Line) {
        self.0.push((check, line));
    }

    pub(super) fn outcome(&self) -> Outcome {
        let Summary { fail, unknown, .. } = self.summary();
        match (fail, unknown) {
            (1.., _) => Outcome::Broken,
            (0, 1..) => Outcome::Unknown,
            (0, 0) => Outcome::Sound,
        }
    }

    pub(super) fn write_text(
        &self,
        server: &str,
        palette: Palette,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        writeln!(out, "Portcullis on {}\n", Shown(server))?;
        let widest = self.0.iter().map(|(check, _)| check.len()).max();
        let column = widest.unwrap_or_default();
        for (check, line) in &self.0 {
            let level = palette.paint(
                line.level.style(),
                format_args!("{:7}", line.level.as_str()),
            );
            writeln!(out, "{level}  {check:column$}  {}", Shown(&line.message))?;
            if let Some(fix) = &line.fix {
                let indent = 7 + 2 + column + 2;
                writeln!(out, "{:indent$}-> {}", "", Shown(fix))?;
            }
        }
        let Summary {
            ok,
            warn,
            fail,
            unknown,
        } = self.summary();
        writeln!(
            out,
            "\n{ok} ok, {warn} to look at, {fail} broken, {unknown} not checked"
        )
    }

    pub(super) fn write_json(&self, server: &str, out: &mut dyn Write) -> io::Result<()> {
        let lines = self.0.iter().map(|(check, line)| JsonLine { check, line });
        let json = Json {
            server,
            lines: lines.collect(),
            summary: self.summary(),
        };
        serde_json::to_writer_pretty(&mut *out, &json)?;
        writeln!(out)
    }

    fn summary(&self) -> Summary {
        let count = |level| {
            let of_level = self.0.iter().filter(|(_, line)| line.level == level);
            of_level.count()
        };
        Summary {
            ok: count(Level::Ok),
            warn: count(Level::Warn),
            fail: count(Level::Fail),
            unknown: count(Level::Unknown),
        }
    }
}

// === impl Level ===

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Ok => Style::Green,
            Self::Warn => Style::Yellow,
            Self::Fail => Style::Red,
            Self::Unknown => Style::Dim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Color;

    fn report() -> Report {
        let mut report = Report::default();
        report.push("versions", Line::ok("Kubernetes 1.34"));
        report.push(
            "rights",
            Line::unknown("the server's rights", "403 Forbidden"),
        );
        report
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        let palette = Palette::new(Color::Never);
        report
            .write_text("https://k8s/", palette, &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn is_written_for_people_and_for_programs() {
        let mut report = report();
        report.push("reach", Line::fail("nobody\u{1b} answers", "start it"));
        insta::assert_snapshot!(text(&report), @r"
        Portcullis on https://k8s/

        ok       versions  Kubernetes 1.34
        unknown  rights    the server's rights: not checked: 403 Forbidden
        fail     reach     nobody\u{1b} answers
                           -> start it

        1 ok, 0 to look at, 1 broken, 1 not checked
        ");
        let mut out = Vec::new();
        report.write_json("https://k8s/", &mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            json["lines"][2],
            serde_json::json!({"check": "reach", "level": "fail", "message": "nobody\u{1b} answers", "fix": "start it"})
        );
        assert_eq!(json["summary"]["unknown"], 1);
    }

    #[test]
    fn what_is_broken_counts_more_than_what_was_not_seen() {
        let mut report = report();
        assert_eq!(report.outcome(), Outcome::Unknown);
        report.push("gates", Line::fail("a pod without its gate", "restart it"));
        assert_eq!(report.outcome(), Outcome::Broken);
        let mut sound = Report::default();
        sound.push("services", Line::warn("one walks past", "name the port"));
        assert_eq!(sound.outcome(), Outcome::Sound);
    }
}
