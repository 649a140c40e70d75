//! How verdicts are written: for people, for programs, for CI.

use std::io::{self, Write};

use clap::ValueEnum;

use super::{super::terminal::Palette, Summary, input::Problem, object::Subject};
use crate::{
    policy::finding::{Finding, Level},
    yaml::Position,
};

mod text;

mod json;

mod sarif;

mod junit;

mod github;

/// A format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a block an object, with the YAML to paste
    Text,
    /// For programs: all findings and a summary
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML: a test case an object
    Junit,
    /// Workflow commands that annotate a pull request on GitHub
    Github,
}

/// An object that was judged.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) name: &'a str,
    /// Where it begins.
    pub(super) position: Position,
    /// What was found, and where.
    pub(super) findings: &'a [(Finding, Position)],
}

/// Writes verdicts one at a time, as they are given.
pub(super) trait Output {
    /// An object was judged, perhaps without a finding.
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()>;

    /// An input can't be checked. It is told on standard error too.
    fn problem(&mut self, problem: &Problem, out: &mut dyn Write) -> io::Result<()>;

    /// That was all.
    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()>;
}

// === impl Format ===

impl Format {
    /// Something that writes it.
    pub(super) fn output(self, palette: Palette) -> Box<dyn Output> {
        match self {
            Self::Text => Box::new(text::Text::new(palette)),
            Self::Json => Box::new(json::Json::default()),
            Self::Sarif => Box::new(sarif::Sarif::default()),
            Self::Junit => Box::new(junit::Junit::default()),
            Self::Github => Box::new(github::Github),
        }
    }
}

// === impl Judged ===

impl Judged<'_> {
    /// The weight of its worst finding.
    pub(super) fn level(&self) -> Level {
        self.findings
            .iter()
            .map(|(finding, _)| finding.level)
            .max()
            .unwrap_or(Level::None)
    }

    fn count(&self, level: Level) -> usize {
        self.findings
            .iter()
            .filter(|(finding, _)| finding.level == level)
            .count()
    }

    /// `Deployment shop/checkout`.
    fn title(&self) -> String {
        let Subject {
            kind, namespace, ..
        } = self.subject;
        format!("{} {namespace}/{}", kind.kind, self.name)
    }
}
