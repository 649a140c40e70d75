//! What a workload takes exception from, in words of its own, where its namespace allows that.

use super::{
    facts::EXEMPTIONS,
    leniency::{Case, Leniency},
    rules::RuleId,
    template::Scalar,
    workload::Workload,
};

/// Annotation of a workload: the rules that it may break and why, `cpu-limit: batch worker`, one a line or separated
/// by semicolons.
pub(super) const EXEMPT: &str = "portcullis.dev/exempt";

/// More mistakes in one annotation than a person will read at once.
const MISTAKES_TOLD: usize = 3;

/// What the annotation says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exemptions {
    /// The rules it takes exception from, and why, in the order they are written.
    pub claims: Vec<(RuleId, String)>,
    /// What is written there and counts for nothing anywhere.
    pub mistakes: Vec<String>,
}

// === impl Exemptions ===

impl Exemptions {
    /// What `workload` says, whether it may say so or not.
    pub fn of(workload: &Workload<'_>) -> Self {
        let annotation = workload.metadata().annotations.get(EXEMPT);
        let text = annotation.map(Scalar::as_written).unwrap_or_default();
        let mut exemptions = Self::default();
        for entry in text.split(['\n', ';']).map(str::trim) {
            let (rule, reason) = entry.split_once(':').unwrap_or((entry, ""));
            match (RuleId::parse(rule.trim()), reason.trim()) {
                _ if entry.is_empty() => {}
                (Some(rule @ RuleId::GateConfig), _) => exemptions.mistakes.push(format!(
                    "there is no exemption from {rule}: its pods could not start"
                )),
                (Some(rule), "") => exemptions.mistakes.push(format!(
                    "an exemption needs a reason: \"{rule}: why it may\""
                )),
                (Some(rule), reason) => exemptions.claims.push((rule, reason.to_owned())),
                (None, _) => exemptions
                    .mistakes
                    .push(format!("there is no rule {rule:?}")),
            }
        }
        exemptions
    }

    /// It takes exception from this rule.
    pub(super) fn names(&self, rule: RuleId) -> bool {
        self.claims.iter().any(|(claimed, _)| *claimed == rule)
    }

    /// Lets in what it takes exception from, if that is allowed here, and says what counts for nothing.
    pub(super) fn lower(&self, case: &mut Case, allowed: bool) {
        let told = self.mistakes.iter().take(MISTAKES_TOLD);
        let told = told.map(|mistake| format!("annotation {EXEMPT}: {mistake}"));
        case.notes.extend(told);
        if allowed {
            case.lower(Leniency::Exemption, |finding| self.names(finding.rule));
        } else if case.denials().any(|finding| self.names(finding.rule)) {
            case.notes.push(format!(
                "annotation {EXEMPT} counts for nothing in a namespace without the label {EXEMPTIONS}: allowed"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{
        testing::{Facts, deployment},
        verdict::Decision,
    };

    /// A Deployment that breaks the rules about resources, and says this of it.
    fn saying(exempt: &str) -> Value {
        let mut object = deployment(json!({"containers": [{
            "name": "app",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
            "resources": {"limits": {"cpu": "1"}},
        }]}));
        object["metadata"]["annotations"] = json!({EXEMPT: exempt});
        object
    }

    fn allowing() -> Facts {
        Facts::default().with_labels(&[(EXEMPTIONS, "allowed")])
    }

    const BOTH: &str = "memory-limit: batch; memory-request: batch";

    #[test]
    fn an_exemption_counts_for_the_rules_it_names_where_the_namespace_allows_it() {
        let verdict = allowing().judge(&saying(BOTH));
        assert_eq!(verdict.decision, Decision::Warn);
        assert!(
            verdict.warnings[0].contains("2 problems only warn"),
            "{:?}",
            verdict.warnings
        );
        assert!(
            verdict
                .audit()
                .contains(&("lowered-by", "exemption".to_owned()))
        );
        for (facts, exempt) in [
            (Facts::default(), BOTH),
            (Facts::default().with_labels(&[(EXEMPTIONS, "yes")]), BOTH),
            (allowing(), "memory-limit: batch"),
            (
                allowing(),
                "memory-limit; memory-request:\nmemory-request: ",
            ),
            (allowing(), "all: batch"),
        ] {
            let verdict = facts.judge(&saying(exempt));
            assert_eq!(verdict.decision, Decision::Deny, "{exempt}");
        }
    }

    #[test]
    fn what_counts_for_nothing_is_said() {
        for (facts, exempt, said) in [
            (
                Facts::default(),
                BOTH,
                "counts for nothing in a namespace without the label",
            ),
            (
                allowing(),
                "memory-limit",
                "an exemption needs a reason: \"memory-limit: why it may\"",
            ),
            (
                allowing(),
                "memory-limt: batch",
                "there is no rule \"memory-limt\"",
            ),
            (
                allowing(),
                "gate-config: x",
                "there is no exemption from gate-config",
            ),
        ] {
            let verdict = facts.judge(&saying(exempt));
            let told = verdict
                .warnings
                .iter()
                .any(|warning| warning.contains(said));
            assert!(told, "{exempt}: {:?}", verdict.warnings);
        }
        let many = "x: y\n".repeat(100);
        let notes = allowing().judge(&saying(&many)).warnings.clone();
        let told = notes.iter().filter(|warning| warning.contains("no rule"));
        assert_eq!(told.count(), MISTAKES_TOLD);
    }

    #[test]
    fn what_stood_under_an_exemption_excuses_nothing() {
        let plain = saying("");
        for facts in [allowing(), Facts::default()] {
            // Without the exemption it is judged as if it were new,
            let verdict = facts.judge_update(&saying(BOTH), &plain);
            assert_eq!(verdict.decision, Decision::Deny);
            // and of one rule without a word about the other.
            let verdict = facts.judge_update(&saying("memory-limit: batch"), &plain);
            assert!(verdict.of("memory-limit")[0].starts_with("deny"));
            assert!(verdict.of("memory-request")[0].starts_with("warn"));
        }
        // Neither where the namespace has taken its leave back.
        let verdict = Facts::default().judge_update(&saying(BOTH), &saying(BOTH));
        assert_eq!(verdict.decision, Decision::Deny);
        assert_eq!(
            allowing().judge_update(&plain, &saying(BOTH)).decision,
            Decision::Warn
        );
    }
}
