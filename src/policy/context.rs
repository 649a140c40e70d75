//! What a rule sees, and where it puts its findings and questions.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use super::{
    budget::PodBudget,
    facts::{Answer, Known, LimitRange, Namespace, Producer, Query, Unknown},
    finding::{Finding, Fix, Level},
    gate::Ground,
    leniency::Leniency,
    patch::readiness_port,
    rules::RuleId,
    settings::{FailurePolicy, Settings},
    template::Site,
    workload::Workload,
};

/// Looks facts up, and notes the questions that have no answer yet.
pub(super) struct Inquiry<'a> {
    known: &'a dyn Known,
    questions: BTreeSet<Query<'static>>,
}

/// What the rules have found, and what of it was lowered and why.
pub(super) type Findings = (Vec<Finding>, Vec<(RuleId, Leniency)>);

/// What is known of the workload's namespace.
#[derive(Debug)]
pub(super) struct Surroundings {
    namespace: Option<Arc<Answer>>,
    ranges: Option<Arc<Answer>>,
}

/// What a rule sees, and where it puts its findings and questions.
#[expect(
    missing_debug_implementations,
    reason = "holds a borrowed trait object; lives for one judgement"
)]
pub struct Context<'a> {
    /// The judged object.
    pub workload: &'a Workload<'a>,
    /// The settings in force.
    pub settings: &'a Settings,
    /// What its pods will ask for.
    pub budget: &'a PodBudget<'a>,
    /// The LimitRanges of its namespace; `None` where they could not be read.
    pub ranges: Option<&'a [LimitRange]>,
    surroundings: &'a Surroundings,
    inquiry: Inquiry<'a>,
    findings: Vec<Finding>,
    spared: Vec<(RuleId, Leniency)>,
}

// === impl Inquiry ===

impl<'a> Inquiry<'a> {
    pub(super) fn new(known: &'a dyn Known) -> Self {
        Self {
            known,
            questions: BTreeSet::new(),
        }
    }

    /// The answer to `query`; `None` when it is not known yet.
    pub(super) fn ask(&mut self, query: Query<'_>) -> Option<Arc<Answer>> {
        let answer = self.known.get(&query);
        if answer.is_none() {
            self.questions.insert(query.into_owned());
        }
        answer
    }

    /// `Err` with all that was asked in vain.
    pub(super) fn settle(self) -> Result<(), Vec<Query<'static>>> {
        if self.questions.is_empty() {
            Ok(())
        } else {
            Err(self.questions.into_iter().collect())
        }
    }
}

// === impl Surroundings ===

impl Surroundings {
    pub(super) fn ask(inquiry: &mut Inquiry<'_>, namespace: &str) -> Self {
        Self {
            namespace: inquiry.ask(Query::Namespace {
                name: Cow::Borrowed(namespace),
            }),
            ranges: inquiry.ask(Query::LimitRanges {
                namespace: Cow::Borrowed(namespace),
            }),
        }
    }

    /// What the namespace says of itself; `None` where that is not known (yet).
    pub(super) fn namespace(&self) -> Option<&Namespace> {
        match self.namespace.as_deref() {
            Some(Answer::Namespace(namespace)) => Some(namespace),
            _ => None,
        }
    }

    /// Its LimitRanges; `None` where they could not be read.
    pub(super) fn ranges(&self) -> Option<&[LimitRange]> {
        match self.ranges.as_deref() {
            Some(Answer::LimitRanges(ranges)) => Some(ranges),
            Some(Answer::Unknown(unknown)) if unknown.is_failure() => None,
            _ => Some(&[]),
        }
    }

    /// Its pods get the defaults of the settings.
    pub(super) fn is_patched(&self) -> bool {
        self.namespace().is_some_and(Namespace::is_patched)
    }

    /// Why the labels of the namespace could not be read, if they could not.
    pub(super) fn unreadable(&self) -> Option<&Unknown> {
        match self.namespace.as_deref() {
            Some(Answer::Unknown(unknown)) if unknown.is_failure() => Some(unknown),
            _ => None,
        }
    }
}

// === impl Context ===

impl<'a> Context<'a> {
    pub(super) fn new(
        workload: &'a Workload<'a>,
        settings: &'a Settings,
        budget: &'a PodBudget<'a>,
        surroundings: &'a Surroundings,
        inquiry: Inquiry<'a>,
    ) -> Self {
        let ranges = surroundings.ranges();
        Self {
            workload,
            settings,
            budget,
            ranges,
            surroundings,
            inquiry,
            findings: Vec::new(),
            spared: Vec::new(),
        }
    }

    /// Findings, and what was lowered among them, if all that was asked is known; otherwise the questions.
    pub(super) fn into_findings(self) -> Result<Findings, Vec<Query<'static>>> {
        let Self {
            inquiry,
            findings,
            spared,
            ..
        } = self;
        inquiry.settle().map(|()| (findings, spared))
    }

    /// The kind of an object whose controller makes that Secret here, which `rule` would refuse to miss.
    pub(super) fn producer(&mut self, rule: RuleId, secret: &str) -> Option<Producer> {
        if self.level(rule) < Level::Deny {
            return None; // nothing would be refused
        }
        let groups = self.ask(Query::Groups)?;
        let Answer::Groups(groups) = &*groups else {
            return None;
        };
        let namespace = self.workload.namespace;
        Producer::ALL.into_iter().find(|&producer| {
            let (group, _) = producer.resource();
            let mut served = groups.iter().filter_map(|served| served.rsplit_once('/'));
            let Some((_, version)) = served.find(|(name, _)| *name == group) else {
                return false;
            };
            let answer = self.ask(Query::Declared {
                namespace: Cow::Borrowed(namespace),
                producer,
                version: Cow::Borrowed(version),
                secret: Cow::Borrowed(secret),
            });
            matches!(answer.as_deref(), Some(Answer::Exists))
        })
    }

    /// Adds a finding as a warning, which without what speaks for it would have the level of its rule.
    pub(super) fn spare(&mut self, why: Leniency, mut finding: Finding) {
        if finding.level.min(self.level(finding.rule)) == Level::Deny {
            self.spared.push((finding.rule, why));
        }
        finding.level = finding.level.min(Level::Warn);
        self.report(finding);
    }

    /// The answer to `query`. `None` when it is not known yet: the question is noted, the rule leaves this point and goes
    /// on with the next, and will be called again with the answer.
    pub fn ask(&mut self, query: Query<'_>) -> Option<Arc<Answer>> {
        self.inquiry.ask(query)
    }

    /// What the workload's namespace says of itself; `None` where it is not known (yet).
    pub fn namespace(&self) -> Option<&'a Namespace> {
        self.surroundings.namespace()
    }

    /// What the plan of a traffic gate is made from.
    pub(super) fn ground(&self) -> Ground<'a> {
        let Self {
            workload,
            settings,
            budget,
            ranges,
            ..
        } = *self;
        Ground {
            template: &workload.template,
            is_pod: workload.kind.is_pod(),
            namespace: (workload.namespace, self.namespace()),
            budget,
            ranges: ranges.unwrap_or_default(),
            settings: &settings.gate,
        }
    }

    /// The level of `rule` here: the lower of the rule's own and the namespace's. Where nobody can tell the namespace's,
    /// `failurePolicy` says what is worse: to hold somebody up, or to let something through.
    pub fn level(&self, rule: RuleId) -> Level {
        if rule == RuleId::GateConfig {
            // The pod asked for a gate: what is wrong with that would only be found later, in a pod that is refused.
            return self.settings.level(rule);
        }
        let namespace = self.namespace().and_then(Namespace::enforce);
        let enforced = namespace.unwrap_or(self.settings.enforce);
        let enforced = match self.surroundings.unreadable() {
            // Perhaps it is labelled so.
            Some(_) if self.settings.failure_policy == FailurePolicy::Ignore => {
                enforced.min(Level::Warn)
            }
            _ => enforced,
        };
        self.settings.level(rule).min(enforced)
    }

    /// Settings will patch a readiness probe into this container's pods.
    pub fn patches_readiness(&self, site: Site<'_, '_>) -> bool {
        self.surroundings.is_patched()
            && readiness_port(self.workload, &self.settings.patches, site).is_some()
    }

    /// Adds a finding at the level of its rule here, but never above `finding.level`; drops it where the rule is off.
    pub fn report(&mut self, mut finding: Finding) {
        finding.level = finding.level.min(self.level(finding.rule));
        if finding.level > Level::None {
            self.findings.push(finding);
        }
    }

    /// A JSON pointer into the whole object: `below`, which begins with `/` or is empty, of the container at `site`.
    pub fn pointer(&self, site: Site<'_, '_>, below: &str) -> String {
        let Site { list, index, .. } = site;
        format!("{}/spec/{list}/{index}{below}", self.workload.kind.template)
    }

    /// YAML to paste into the container at `site`.
    pub fn fix(&self, site: Site<'_, '_>, yaml: impl Into<String>) -> Fix {
        Fix {
            at: self.dotted(site),
            yaml: yaml.into(),
        }
    }

    /// The container at `site` as `kubectl explain` would write it: `spec.template.spec.containers[name=app]`.
    fn dotted(&self, site: Site<'_, '_>) -> String {
        let template = self.workload.kind.template.replace('/', ".");
        let path = format!("{template}.spec.{}[name={}]", site.list, site.name());
        path.trim_start_matches('.').to_owned()
    }
}
