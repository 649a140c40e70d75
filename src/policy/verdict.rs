//! Findings weighed into a decision and the text a person reads.

use crate::policy::{
    Request,
    finding::{Finding, Level},
    settings::Settings,
    workload::Workload,
};

/// What becomes of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing to say.
    Allow,
    /// Let in, with warnings.
    Warn,
    /// Refused.
    Deny,
}

/// The judge's last word.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What becomes of the object.
    pub decision: Decision,
    /// All findings, in the order of the rules.
    pub findings: Vec<Finding>,
    /// The refusal; empty unless refused.
    pub message: String,
    /// Warnings for the client.
    pub warnings: Vec<String>,
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn weigh(
        workload: &Workload<'_>,
        _request: &Request<'_>,
        _settings: &Settings,
        findings: Vec<Finding>,
    ) -> Self {
        let denied = findings
            .iter()
            .filter(|finding| finding.level == Level::Deny);
        let lines: Vec<_> = denied
            .map(|finding| format!("  {}", finding.message))
            .collect();
        let decision = match (lines.is_empty(), findings.is_empty()) {
            (false, _) => Decision::Deny,
            (true, false) => Decision::Warn,
            (true, true) => Decision::Allow,
        };
        let message = if lines.is_empty() {
            String::new()
        } else {
            format!(
                "portcullis: {} {}/{} refused\n{}",
                workload.kind.kind,
                workload.namespace,
                workload.name(),
                lines.join("\n")
            )
        };
        let warnings = findings
            .iter()
            .filter(|finding| finding.level == Level::Warn)
            .map(|finding| format!("{}: {}", finding.rule, finding.message))
            .collect();
        Self {
            decision,
            findings,
            message,
            warnings,
        }
    }
}
