//! What is kept of one workload: small, since there may be twenty thousand.

use std::{collections::BTreeSet, sync::Arc};

use super::texts::Texts;
use crate::policy::{
    exemption::Exemptions,
    finding::{Fingerprint, Fix, Level},
    leniency::Leniency,
    rules::RuleId,
    verdict::Verdict,
    workload::{Workload, WorkloadKind},
};

/// A workload that was judged.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its kind.
    pub kind: Arc<WorkloadKind>,
    /// Where it stands.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// `metadata.uid`.
    pub uid: Option<Box<str>>,
    /// `metadata.creationTimestamp`: RFC 3339, UTC, whole seconds.
    pub created: Option<Box<str>>,
    /// The level that its namespace is judged at.
    pub enforce: Level,
    /// What breaks a rule, in the order of the rules.
    pub violations: Box<[Violation]>,
    /// What it takes exception from.
    pub claims: Box<[Claim]>,
    /// Not all could be found out; what could is in the other fields.
    pub unknown: bool,
}

/// What breaks a rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: RuleId,
    /// Its weight here.
    pub level: Level,
    /// The container it is about, if it is about one.
    pub container: Option<Arc<str>>,
    /// JSON pointer (RFC 6901) into the object.
    pub path: Arc<str>,
    /// One line.
    pub message: Arc<str>,
    /// YAML to paste, if there is one.
    pub fix: Option<Arc<Fix>>,
    /// What it is recognised by in a later audit.
    pub fingerprints: Box<[Fingerprint]>,
}

/// What a workload takes exception from, by its annotation `portcullis.dev/exempt`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The rule; `None` for an entry that can't be understood.
    pub rule: Option<RuleId>,
    /// The reason that it gives; of an entry that can't be understood, what is wrong with it.
    pub text: Arc<str>,
    /// What comes of it.
    pub effect: Effect,
}

/// What comes of an exemption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Something that would be refused is let in by it.
    InForce,
    /// Its namespace allows none.
    NotAllowed,
    /// The rule is kept: it excuses nothing.
    Idle,
    /// It can't be understood.
    Mistaken,
}

// === impl Record ===

impl Record {
    /// What is kept of a verdict.
    pub(super) fn of(
        (kind, workload): (&Arc<WorkloadKind>, &Workload<'_>),
        verdict: Verdict,
        exemptions_allowed: bool,
        texts: &mut Texts,
    ) -> Self {
        let name = workload.name();
        let object = [workload.namespace, &*name];
        let claims = claims(workload, &verdict, exemptions_allowed, texts);
        let violations = verdict.findings.into_iter().map(|finding| Violation {
            fingerprints: Fingerprint::of(kind, object, &finding),
            rule: finding.rule,
            level: finding.level,
            container: finding.container.map(|name| texts.text(&name)),
            path: texts.text(&finding.path),
            message: texts.text(&finding.message),
            fix: finding.fix.map(|fix| texts.fix(fix)),
        });
        let violations = violations.collect();
        Self {
            kind: Arc::clone(kind),
            namespace: texts.text(workload.namespace),
            name: (*name).into(),
            uid: None,
            created: None,
            enforce: Level::None,
            violations,
            claims,
            unknown: false,
        }
    }

    /// The weight of its worst violation.
    pub fn worst(&self) -> Level {
        let levels = self.violations.iter().map(|violation| violation.level);
        levels.max().unwrap_or(Level::None)
    }

    /// The rules for which it would be refused, each once, in their order.
    pub fn denied_rules(&self) -> BTreeSet<RuleId> {
        let violations = self.violations.iter();
        let denials = violations.filter(|violation| violation.level == Level::Deny);
        denials.map(|violation| violation.rule).collect()
    }
}

fn claims(
    workload: &Workload<'_>,
    verdict: &Verdict,
    allowed: bool,
    texts: &mut Texts,
) -> Box<[Claim]> {
    let Exemptions { claims, mistakes } = Exemptions::of(workload);
    let claims = claims.into_iter().map(|(rule, reason)| {
        let lowered = (rule, Leniency::Exemption);
        let effect = match allowed {
            false => Effect::NotAllowed,
            true if verdict.lowered.contains(&lowered) => Effect::InForce,
            true => Effect::Idle,
        };
        (Some(rule), reason, effect)
    });
    let mistakes = mistakes
        .into_iter()
        .map(|mistake| (None, mistake, Effect::Mistaken));
    claims
        .chain(mistakes)
        .map(|(rule, text, effect)| Claim {
            rule,
            text: texts.text(&text),
            effect,
        })
        .collect()
}

// === impl Effect ===

impl Effect {
    /// As output writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::NotAllowed => "not-allowed",
            Self::Idle => "idle",
            Self::Mistaken => "mistaken",
        }
    }
}
