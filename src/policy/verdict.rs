//! Findings weighed into a decision, and the text that a person reads.

use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Request,
    finding::{Finding, Level},
    leniency::{Case, Leniency},
    paste,
    rules::RuleId,
    workload::Workload,
};

/// What becomes of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// All findings, in the order of the rules, at the level they had in the end.
    pub findings: Vec<Finding>,
    /// The refusal, at most 64 KiB; empty unless refused.
    pub message: String,
    /// Warnings for the client, within the API server's bounds: 256 characters each, 4,096 together.
    pub warnings: Vec<String>,
    /// Denials that became warnings, and why: once a finding, for the counter.
    pub lowered: Vec<(RuleId, Leniency)>,
}

/// What the API server keeps of one warning, and of all together, in characters; what is longer it cuts without a word
/// (k8s.io/apiserver pkg/endpoints/filters/warning.go: `truncateItemRunes`, `truncateAtTotalRunes`).
const WARNING_LIMIT: usize = 256;
const WARNINGS_LIMIT: usize = 4096;

/// More problems than a person will read at once; a pod may have 500 containers.
const PROBLEMS_LISTED: usize = 40;

/// Places with YAML to paste below a refusal.
const PLACES_LISTED: usize = 20;

/// Where lines of a refusal are broken: what fits a terminal beside kubectl's own words.
const WIDTH: usize = 110;

/// A refusal travels in an HTTP answer and ends in the audit log.
const MESSAGE_LIMIT: usize = 64 * 1024;

// === impl Decision ===

impl Decision {
    /// As metrics, logs and audit annotations write it: `allow`, `warn`, `deny`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// The verdict on what was found.
    pub(crate) fn of(workload: &Workload<'_>, request: &Request<'_>, case: Case) -> Self {
        let Case {
            findings,
            lowered,
            notes,
        } = case;
        let denied = findings.iter().any(|finding| finding.level == Level::Deny);
        let warnings = warnings(workload, &findings, notes);
        Self {
            decision: match (denied, warnings.is_empty()) {
                (true, _) => Decision::Deny,
                (false, false) => Decision::Warn,
                (false, true) => Decision::Allow,
            },
            message: if denied {
                refusal(workload, request, &findings)
            } else {
                String::new()
            },
            findings,
            warnings,
            lowered,
        }
    }

    /// For `auditAnnotations`: the decision, and the rules behind it by level. Bounded by the number of rules.
    pub fn audit(&self) -> Vec<(&'static str, String)> {
        let rules = |level| {
            let of_level = self
                .findings
                .iter()
                .filter(move |finding| finding.level == level);
            let rules: BTreeSet<_> = of_level.map(|finding| finding.rule).collect();
            rules
                .into_iter()
                .map(RuleId::as_str)
                .collect::<Vec<_>>()
                .join(",")
        };
        let lowered: BTreeSet<_> = self.lowered.iter().map(|(rule, _)| *rule).collect();
        let lowered: Vec<_> = lowered.into_iter().map(RuleId::as_str).collect();
        let by: BTreeSet<_> = self.lowered.iter().map(|(_, why)| *why).collect();
        let by: Vec<_> = by.into_iter().map(Leniency::as_str).collect();
        let annotations = [
            ("decision", self.decision.as_str().to_owned()),
            ("denied", rules(Level::Deny)),
            ("warned", rules(Level::Warn)),
            ("lowered", lowered.join(",")),
            ("lowered-by", by.join(",")),
        ];
        annotations
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

/// `Deployment shop/checkout`.
fn title(workload: &Workload<'_>) -> String {
    format!(
        "{} {}/{}",
        workload.kind.kind,
        workload.namespace,
        workload.name()
    )
}

fn warnings(workload: &Workload<'_>, findings: &[Finding], notes: Vec<String>) -> Vec<String> {
    let title = title(workload);
    let warned = findings
        .iter()
        .filter(|finding| finding.level == Level::Warn);
    let texts = warned.map(|Finding { rule, message, .. }| format!("{rule}: {message}"));
    let mut left = WARNINGS_LIMIT - WARNING_LIMIT; // room for the one that counts the rest
    let mut kept = Vec::new();
    let mut dropped = 0;
    for text in notes.into_iter().chain(texts) {
        let warning = shorten(&format!("portcullis: {title}: {text}"), WARNING_LIMIT);
        let length = warning.chars().count();
        if dropped == 0 && length <= left {
            left -= length;
            kept.push(warning);
        } else {
            dropped += 1;
        }
    }
    if dropped > 0 {
        let noun = if dropped == 1 { "warning" } else { "warnings" };
        let rest =
            format!("portcullis: and {dropped} more {noun}: `portcullis check` lists them all");
        kept.push(rest);
    }
    kept
}

fn refusal(workload: &Workload<'_>, request: &Request<'_>, findings: &[Finding]) -> String {
    let problems: Vec<_> = findings
        .iter()
        .filter(|finding| finding.level == Level::Deny)
        .collect();
    let count = problems.len();
    let noun = if count == 1 { "problem" } else { "problems" };
    let mut text = format!("portcullis: {} refused, {count} {noun}\n", title(workload));
    let listed = || problems.iter().take(PROBLEMS_LISTED);
    let column = 3 + listed()
        .map(|finding| finding.rule.as_str().len())
        .max()
        .unwrap_or(0);
    for Finding { rule, message, .. } in listed() {
        let _ = write!(text, "  {rule:column$}");
        push_wrapped(&mut text, message, column + 2);
    }
    if count > PROBLEMS_LISTED {
        let _ = writeln!(text, "  ... and {} more", count - PROBLEMS_LISTED);
    }
    let mut places = paste::merge(listed().filter_map(|finding| finding.fix.as_ref()));
    places.truncate(PLACES_LISTED);
    for (at, yaml) in places {
        let _ = writeln!(text, "To fix, in {at}:");
        for line in yaml.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if problems.iter().any(|finding| finding.rule.is_reference()) {
        text.push_str(
            "What does not exist yet may come later in this same apply: if so, run it again.\n",
        );
    }
    if let (true, Some(user)) = (workload.kind.is_pod(), request.user) {
        let _ = writeln!(
            text,
            "For tools that make Pods themselves (restore, operators, kubectl debug): warnOnlyUsers in the settings\n\
             only warns those it names; this Pod was sent by \"{user}\"."
        );
    }
    let text = text.trim_end();
    if text.len() <= MESSAGE_LIMIT {
        return text.to_owned();
    }
    shorten(text, MESSAGE_LIMIT / 4) // a character has at most four bytes
}

/// Breaks `message` between words; lines after the first begin at `indent`.
fn push_wrapped(text: &mut String, message: &str, indent: usize) {
    let mut column = indent;
    for (index, word) in message.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 {
            if column + 1 + width > WIDTH {
                let _ = write!(text, "\n{:indent$}", "");
                column = indent;
            } else {
                text.push(' ');
                column += 1;
            }
        }
        text.push_str(word);
        column += width;
    }
    text.push('\n');
}

/// At most `limit` characters, the last three of them dots where something was cut.
fn shorten(text: &str, limit: usize) -> String {
    if text.chars().nth(limit).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit - 3).collect();
    short.push_str("...");
    short
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{
        finding::Fix,
        testing::{deployment, kind_of, raw},
    };

    const REQUEST: Request<'static> = Request {
        dry_run: false,
        user: Some("kim"),
        groups: &[],
        old: None,
    };

    fn weigh(
        object: &Value,
        findings: Vec<Finding>,
        only_warn: bool,
        note: Option<String>,
    ) -> Verdict {
        let bytes = raw(object);
        let workload = Workload::read(kind_of(object), "shop", &bytes)
            .unwrap()
            .unwrap();
        let mut case = Case::new(findings, note);
        if only_warn {
            case.lower(Leniency::WarnOnlyUser, |_| true);
        }
        Verdict::of(&workload, &REQUEST, case)
    }

    fn checkout() -> Value {
        deployment(json!({"containers": [{"name": "app"}]}))
    }

    fn finding(level: Level, rule: RuleId, message: &str, yaml: Option<&str>) -> Finding {
        Finding {
            rule,
            level,
            container: Some(String::from("app")),
            path: String::from("/spec/template/spec/containers/0"),
            message: message.to_owned(),
            fix: yaml.map(|yaml| Fix {
                at: String::from("spec.template.spec.containers[name=app]"),
                yaml: yaml.to_owned(),
            }),
            offences: Vec::new(),
        }
    }

    fn memory_limit(level: Level) -> Finding {
        let yaml = "resources:\n  limits:\n    memory: 256Mi\n";
        finding(
            level,
            RuleId::MemoryLimit,
            "container \"app\" has no memory limit",
            Some(yaml),
        )
    }

    fn cpu_limit() -> Finding {
        finding(
            Level::Warn,
            RuleId::CpuLimit,
            "container \"app\" has no CPU limit",
            None,
        )
    }

    #[test]
    fn nothing_found_is_allowed_in_silence() {
        let verdict = weigh(&checkout(), Vec::new(), false, None);
        assert_eq!(verdict.decision, Decision::Allow);
        assert!(verdict.message.is_empty() && verdict.warnings.is_empty());
        assert_eq!(verdict.audit(), [("decision", String::from("allow"))]);
    }

    #[test]
    fn a_refusal_names_the_object_every_problem_and_the_yaml_to_paste() {
        let probe = "readinessProbe:\n  httpGet: {path: /ready, port: http}\n";
        let request = "resources:\n  requests:\n    cpu: 100m\n";
        let findings = vec![
            finding(
                Level::Deny,
                RuleId::ReadinessProbe,
                "container \"app\" has no readinessProbe",
                Some(probe),
            ),
            finding(
                Level::Deny,
                RuleId::CpuRequest,
                "container \"app\" has no CPU request",
                Some(request),
            ),
            memory_limit(Level::Deny),
            cpu_limit(),
            finding(
                Level::Deny,
                RuleId::LimitRange,
                "the pod has a memory limit of 8Gi; LimitRange \"bounds\" allows at most 2Gi, and this sentence goes on \
                 until it no longer fits a line",
                None,
            ),
        ];
        let verdict = weigh(&checkout(), findings, false, None);
        assert_eq!(verdict.decision, Decision::Deny);
        insta::assert_snapshot!(verdict.message, @r#"
        portcullis: Deployment shop/checkout refused, 4 problems
          readiness-probe   container "app" has no readinessProbe
          cpu-request       container "app" has no CPU request
          memory-limit      container "app" has no memory limit
          limit-range       the pod has a memory limit of 8Gi; LimitRange "bounds" allows at most 2Gi, and this
                            sentence goes on until it no longer fits a line
        To fix, in spec.template.spec.containers[name=app]:
          readinessProbe:
            httpGet: {path: /ready, port: http}
          resources:
            requests:
              cpu: 100m
            limits:
              memory: 256Mi
        "#);
        assert_eq!(
            verdict.warnings,
            ["portcullis: Deployment shop/checkout: cpu-limit: container \"app\" has no CPU limit"]
        );
        let denied = "readiness-probe,cpu-request,memory-limit,limit-range";
        assert_eq!(
            verdict.audit(),
            [
                ("decision", "deny"),
                ("denied", denied),
                ("warned", "cpu-limit")
            ]
            .map(|(key, value)| (key, value.to_owned()))
        );
    }

    #[test]
    fn the_refusal_of_a_bare_pod_names_the_way_out() {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "debug-"}});
        let verdict = weigh(&pod, vec![memory_limit(Level::Deny)], false, None);
        insta::assert_snapshot!(verdict.message, @r#"
        portcullis: Pod shop/debug-* refused, 1 problem
          memory-limit   container "app" has no memory limit
        To fix, in spec.template.spec.containers[name=app]:
          resources:
            limits:
              memory: 256Mi
        For tools that make Pods themselves (restore, operators, kubectl debug): warnOnlyUsers in the settings
        only warns those it names; this Pod was sent by "kim".
        "#);
    }

    #[test]
    fn a_user_of_warn_only_users_is_warned_and_counted() {
        let verdict = weigh(
            &checkout(),
            vec![memory_limit(Level::Deny), cpu_limit()],
            true,
            None,
        );
        assert_eq!(verdict.decision, Decision::Warn);
        assert!(verdict.message.is_empty());
        assert_eq!(verdict.warnings.len(), 2);
        let lowered = (RuleId::MemoryLimit, Leniency::WarnOnlyUser);
        assert_eq!(verdict.lowered, [lowered]);
        for told in [
            ("lowered", "memory-limit"),
            ("lowered-by", "warn-only-user"),
        ] {
            let told = (told.0, String::from(told.1));
            assert!(verdict.audit().contains(&told), "{told:?}");
        }
    }

    #[test]
    fn a_note_about_the_judgement_comes_first() {
        let note = Some(String::from("labels unknown"));
        let verdict = weigh(&checkout(), vec![cpu_limit()], false, note);
        assert_eq!(
            verdict.warnings[0],
            "portcullis: Deployment shop/checkout: labels unknown"
        );
    }

    #[test]
    fn warnings_keep_to_the_bounds_of_the_api_server() {
        let long = "ä".repeat(1000);
        let findings = vec![finding(Level::Warn, RuleId::CpuLimit, &long, None); 100];
        let verdict = weigh(&checkout(), findings, false, None);
        let lengths: Vec<_> = verdict
            .warnings
            .iter()
            .map(|text| text.chars().count())
            .collect();
        assert!(
            lengths.iter().all(|&length| length <= WARNING_LIMIT),
            "{lengths:?}"
        );
        assert!(
            lengths.iter().sum::<usize>() <= WARNINGS_LIMIT,
            "{lengths:?}"
        );
        let shown = verdict.warnings.len() - 1;
        assert_eq!(
            verdict.warnings[shown],
            format!(
                "portcullis: and {} more warnings: `portcullis check` lists them all",
                100 - shown
            )
        );
    }

    #[test]
    fn a_refusal_is_bounded_and_counts_what_it_leaves_out() {
        let verdict = weigh(
            &checkout(),
            vec![memory_limit(Level::Deny); 1000],
            false,
            None,
        );
        assert!(verdict.message.contains("refused, 1000 problems"));
        assert!(verdict.message.contains("... and 960 more"));
        let endless = finding(Level::Deny, RuleId::MemoryLimit, &"ä".repeat(1 << 20), None);
        assert!(weigh(&checkout(), vec![endless], false, None).message.len() <= MESSAGE_LIMIT);
    }

    #[test]
    fn a_missing_reference_may_come_later_in_the_same_apply() {
        let references: Vec<_> = RuleId::ALL
            .into_iter()
            .filter(|rule| rule.is_reference())
            .collect();
        for rule in references {
            let verdict = weigh(
                &checkout(),
                vec![finding(Level::Deny, rule, "x", None)],
                false,
                None,
            );
            assert!(verdict.message.ends_with("if so, run it again."), "{rule}");
        }
        let user: Cow<'_, str> = Cow::Borrowed("kim");
        assert!(
            !weigh(&checkout(), vec![memory_limit(Level::Deny)], false, None)
                .message
                .contains(&*user)
        );
    }
}
