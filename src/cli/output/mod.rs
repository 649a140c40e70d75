//! How verdicts are written, of files and of a cluster alike: for people, for programs, for CI.

use std::{
    fmt,
    io::{self, Write},
};

use crate::{
    policy::{
        finding::{Finding, Fingerprint, Fix, Level},
        rules::RuleId,
        workload::WorkloadKind,
    },
    yaml::Position,
};

mod text;

mod json;

mod sarif;

mod junit;

mod github;

pub(super) use github::Github;
pub(super) use json::Json;
pub(super) use junit::Junit;
pub(super) use sarif::Sarif;
pub(super) use text::Text;

/// An object that was judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged<'a> {
    pub(super) kind: &'a WorkloadKind,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// Where it begins, if it is from a file.
    pub(super) place: Option<Place<'a>>,
    pub(super) violations: &'a [Violation<'a>],
    /// Not all that it refers to could be read.
    pub(super) unknown: bool,
}

/// What breaks a rule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Violation<'a> {
    pub(super) rule: RuleId,
    pub(super) level: Level,
    pub(super) container: Option<&'a str>,
    /// JSON pointer into the object.
    pub(super) path: &'a str,
    pub(super) message: &'a str,
    pub(super) fix: Option<&'a Fix>,
    /// What it is recognised by in a later audit; none in a file.
    pub(super) fingerprints: &'a [Fingerprint],
    /// Where it stands, in the file of its object.
    pub(super) position: Option<Position>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) file: &'a str,
    pub(super) position: Option<Position>,
}

/// Something that could not be judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unjudged<'a> {
    /// What it is called where it is counted as a test case.
    pub(super) name: &'a str,
    pub(super) place: Option<Place<'a>>,
    pub(super) message: &'a str,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Summary {
    /// Objects that were judged.
    pub(super) objects: usize,
    /// Of these, objects with something denied.
    pub(super) denied: usize,
    /// Of these, objects with warnings only.
    pub(super) warned: usize,
    /// Of these, objects of which nothing is wrong that could be seen, but not all could be.
    pub(super) unknown: usize,
    /// Objects that are not judged: they make no pods.
    pub(super) skipped: usize,
    /// Inputs, or parts of one, that could not be read.
    pub(super) problems: usize,
}

/// Writes verdicts one at a time, as they are given.
pub(super) trait Output {
    /// An object was judged, perhaps without a finding.
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()>;

    /// Something can't be judged. It is told on standard error too.
    fn unjudged(&mut self, unjudged: &Unjudged<'_>, out: &mut dyn Write) -> io::Result<()>;

    /// That was all.
    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()>;
}

// === impl Judged ===

impl Judged<'_> {
    fn count(&self, level: Level) -> usize {
        let violations = self.violations.iter();
        violations
            .filter(|violation| violation.level == level)
            .count()
    }

    /// `Deployment shop/checkout`.
    fn title(&self) -> String {
        format!("{} {}/{}", self.kind.kind, self.namespace, self.name)
    }
}

// === impl Violation ===

impl<'a> Violation<'a> {
    /// What was found in a file, and where it stands.
    pub(super) fn of(finding: &'a Finding, position: Position) -> Self {
        let Finding {
            rule,
            level,
            container,
            path,
            message,
            fix,
            offences: _,
        } = finding;
        Self {
            rule: *rule,
            level: *level,
            container: container.as_deref(),
            path,
            message,
            fix: fix.as_ref(),
            fingerprints: &[],
            position: Some(position),
        }
    }

    /// `To fix, in PLACE:` and the YAML, after `before`; nothing where there is nothing to paste.
    fn remedy(&self, before: &str) -> String {
        self.fix.map_or_else(String::new, |Fix { at, yaml }| {
            format!("{before}To fix, in {at}:\n{}", yaml.trim_end())
        })
    }
}

// === impl Summary ===

impl Summary {
    /// One more object was judged; `unknown` says that not all of it could be.
    pub(super) fn count(&mut self, worst: Level, unknown: bool) {
        self.objects += 1;
        match (worst, unknown) {
            (Level::Deny, _) => self.denied += 1,
            (Level::Warn, _) => self.warned += 1,
            (Level::None, true) => self.unknown += 1,
            (Level::None, false) => {}
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            objects,
            denied,
            warned,
            unknown,
            skipped,
            problems,
        } = *self;
        let passed = objects - denied - warned - unknown;
        let s = |count| if count == 1 { "" } else { "s" };
        write!(
            f,
            "{objects} object{} judged: {denied} denied, {warned} warned, ",
            s(objects)
        )?;
        if unknown > 0 {
            write!(f, "{unknown} unknown, ")?;
        }
        write!(f, "{passed} passed")?;
        if skipped > 0 {
            write!(f, "; {skipped} without pods skipped")?;
        }
        if problems > 0 {
            write!(f, "; {problems} could not be read")?;
        }
        Ok(())
    }
}
