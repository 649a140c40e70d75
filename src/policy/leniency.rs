//! What breaks a rule and is let in all the same, with a warning: for which reasons, and how they are kept.

use super::{
    exemption::EXEMPT,
    finding::{Finding, Level},
    rules::RuleId,
};

/// Why a denial became a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leniency {
    /// Who asks is one of `warnOnlyUsers`.
    WarnOnlyUser,
    /// The object takes exception from the rule, and its namespace allows that.
    Exemption,
    /// The object had the same violation before this update.
    Ratchet,
    /// Somebody is about to make the Secret that is missing.
    Producer,
    /// The update goes back to a template that the workload's own controller keeps.
    Rollback,
    /// The Job is made by hand from a CronJob that has the same template.
    FromCronJob,
}

/// The findings about one object, and what is let in of them. Reasons speak in turn, each of what those before it left.
#[derive(Debug)]
pub(crate) struct Case {
    pub(super) findings: Vec<Finding>,
    /// Once a finding.
    pub(super) lowered: Vec<(RuleId, Leniency)>,
    /// Warnings about the judgement itself.
    pub(super) notes: Vec<String>,
}

// === impl Leniency ===

impl Leniency {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::WarnOnlyUser,
        Self::Exemption,
        Self::Ratchet,
        Self::Producer,
        Self::Rollback,
        Self::FromCronJob,
    ];

    /// As metrics and audit annotations write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WarnOnlyUser => "warn-only-user",
            Self::Exemption => "exemption",
            Self::Ratchet => "ratchet",
            Self::Producer => "producer",
            Self::Rollback => "rollback",
            Self::FromCronJob => "from-cron-job",
        }
    }

    /// What the person who asked should know beside the warnings themselves, of which there are `count`.
    fn note(self, count: usize) -> Option<String> {
        let (problems, warn) = match count {
            1 => ("1 problem".to_owned(), "warns"),
            _ => (format!("{count} problems"), "warn"),
        };
        match self {
            // Its message says it.
            Self::WarnOnlyUser | Self::Producer => None,
            Self::Exemption => Some(format!("{problems} only {warn} by the annotation {EXEMPT}")),
            Self::Ratchet => Some(format!(
                "{problems} that it had before this update only {warn}; new ones are refused"
            )),
            Self::Rollback => Some(format!(
                "{problems} only {warn}, since this goes back to an own revision"
            )),
            Self::FromCronJob => Some(format!(
                "{problems} only {warn}, since its CronJob has the same template"
            )),
        }
    }
}

// === impl Case ===

impl Case {
    /// `note` is a warning about the judgement itself.
    pub(crate) fn new(findings: Vec<Finding>, note: Option<String>) -> Self {
        Self {
            findings,
            lowered: Vec::new(),
            notes: note.into_iter().collect(),
        }
    }

    /// The same, with what the rules themselves have lowered.
    pub(super) fn spared(mut self, spared: Vec<(RuleId, Leniency)>) -> Self {
        self.lowered.extend(spared);
        self
    }

    /// What is about to be refused.
    pub(super) fn denials(&self) -> impl Iterator<Item = &Finding> {
        let findings = self.findings.iter();
        findings.filter(|finding| finding.level == Level::Deny)
    }

    /// Something is about to be refused.
    pub(super) fn denies(&self) -> bool {
        self.denials().next().is_some()
    }

    /// Makes warnings of those denials that `spares`.
    pub(super) fn lower(&mut self, why: Leniency, mut spares: impl FnMut(&Finding) -> bool) {
        let before = self.lowered.len();
        for finding in &mut self.findings {
            if finding.level == Level::Deny && spares(finding) {
                finding.level = Level::Warn;
                self.lowered.push((finding.rule, why));
            }
        }
        let count = self.lowered.len() - before;
        if count > 0 {
            self.notes.extend(why.note(count));
        }
    }
}
