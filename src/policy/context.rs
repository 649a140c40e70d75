//! What a rule sees, and where it puts its findings and questions.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use super::{
    facts::{Answer, Known, Namespace, Query, Unknown},
    finding::{Finding, Fix, Level},
    rules::RuleId,
    settings::Settings,
    template::Site,
    workload::Workload,
};

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
    known: &'a dyn Known,
    namespace: Option<Arc<Answer>>,
    questions: BTreeSet<Query<'static>>,
    findings: Vec<Finding>,
}

// === impl Context ===

impl<'a> Context<'a> {
    pub(super) fn new(
        workload: &'a Workload<'a>,
        known: &'a dyn Known,
        settings: &'a Settings,
    ) -> Self {
        let mut context = Self {
            workload,
            settings,
            known,
            namespace: None,
            questions: BTreeSet::new(),
            findings: Vec::new(),
        };
        context.namespace = context.ask(Query::Namespace {
            name: Cow::Borrowed(workload.namespace),
        });
        context
    }

    /// Findings, if all that was asked is known; otherwise the questions.
    pub(super) fn into_findings(self) -> Result<Vec<Finding>, Vec<Query<'static>>> {
        if self.questions.is_empty() {
            return Ok(self.findings);
        }
        Err(self.questions.into_iter().collect())
    }

    /// The answer to `query`. `None` when it is not known yet: the question is noted, the rule leaves this point and goes
    /// on with the next, and will be called again with the answer.
    pub fn ask(&mut self, query: Query<'_>) -> Option<Arc<Answer>> {
        let answer = self.known.get(&query);
        if answer.is_none() {
            self.questions.insert(query.into_owned());
        }
        answer
    }

    /// What the workload's namespace says of itself; `None` where it is not known (yet).
    pub fn namespace(&self) -> Option<&Namespace> {
        match self.namespace.as_deref() {
            Some(Answer::Namespace(namespace)) => Some(namespace),
            _ => None,
        }
    }

    /// The level of `rule` here: the lower of the rule's own and the namespace's.
    pub fn level(&self, rule: RuleId) -> Level {
        let enforced = match self.namespace.as_deref() {
            // Perhaps it is labelled `warn`: who can't read the label must not deny.
            Some(Answer::Unknown(Unknown::Deadline | Unknown::Refused(_))) => Level::Warn,
            _ => self
                .namespace()
                .and_then(Namespace::enforce)
                .unwrap_or(self.settings.enforce),
        };
        self.settings.level(rule).min(enforced)
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
