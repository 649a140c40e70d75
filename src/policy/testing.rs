//! What the rules' tests share: facts to hand, and one call from JSON to verdict.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Deref,
    sync::Arc,
};

use serde_json::{Value, json, value::RawValue};

use super::{
    Judgement, Request,
    facts::{Answer, Known, LimitRange, Namespace, Query, Unknown},
    finding::Finding,
    judge,
    settings::Settings,
    verdict::Verdict,
    workload::{KINDS, Malformed, Workload, WorkloadKind},
};
use crate::yaml::documents;

/// The namespace that test objects stand in.
pub(crate) const NAMESPACE: &str = "shop";

/// Facts and settings to judge by. What is not given is answered with what an empty namespace would say.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) answers: HashMap<Query<'static>, Arc<Answer>>,
    pub(crate) settings: Settings,
    pub(crate) dry_run: bool,
}

/// A verdict that tells its findings in one line each.
#[derive(Debug)]
pub(crate) struct Judged(Verdict);

/// A Deployment named `checkout` whose pods have this spec.
pub(crate) fn deployment(spec: impl Into<Value>) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "checkout", "namespace": NAMESPACE},
        "spec": {"template": {"metadata": {}, "spec": spec.into()}},
    })
}

/// A container named `app` with these fields.
pub(crate) fn container(fields: impl Into<Value>) -> Value {
    let mut container = json!({"name": "app"});
    if let (Value::Object(container), Value::Object(fields)) = (&mut container, fields.into()) {
        container.extend(fields);
    }
    container
}

/// An item of a LimitRange named `bounds`, as `spec.limits` would write it; of type Container unless it says so.
pub(crate) fn limit_range(item: &Value) -> LimitRange {
    let amounts = |field: &str| {
        let Some(amounts) = item[field].as_object() else {
            return BTreeMap::new();
        };
        amounts
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().unwrap().into()))
            .collect()
    };
    LimitRange {
        name: "bounds".into(),
        pod: item["type"] == "Pod",
        default: amounts("default"),
        default_request: amounts("defaultRequest"),
        min: amounts("min"),
        max: amounts("max"),
        max_limit_request_ratio: amounts("maxLimitRequestRatio"),
    }
}

/// Pastes a finding's fix where it says it belongs, as a person would: what is there already stays.
pub(crate) fn mend(object: &mut Value, finding: &Finding) {
    let fix = finding.fix.as_ref().expect("a fix");
    let yaml = documents(&fix.yaml)
        .next()
        .expect("a document")
        .expect("YAML")
        .value;
    let target = fix.at.split('.').fold(object, |below, step| {
        let Some((field, name)) = step.split_once("[name=") else {
            return &mut below[step];
        };
        let items = below[field].as_array_mut().expect("a list");
        let name = name.trim_end_matches(']');
        items
            .iter_mut()
            .find(|item| item["name"] == name)
            .expect("an item of that name")
    });
    merge(target, yaml);
}

fn merge(target: &mut Value, fix: Value) {
    match (target, fix) {
        (Value::Object(fields), Value::Object(fix)) => {
            for (key, value) in fix {
                merge(fields.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, fix) => *target = fix,
    }
}

/// The row of [`KINDS`] that an object's `apiVersion` and `kind` name.
pub(crate) fn kind_of(object: &Value) -> &'static WorkloadKind {
    let version = object["apiVersion"].as_str().expect("apiVersion");
    let kind = object["kind"].as_str().expect("kind");
    KINDS
        .iter()
        .find(|row| row.kind == kind && row.api_version() == version)
        .expect("a built-in kind")
}

/// The bytes of an object.
pub(crate) fn raw(object: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(object).expect("JSON")
}

// === impl Facts ===

impl Facts {
    /// With one more answer.
    pub(crate) fn with(mut self, query: Query<'static>, answer: Answer) -> Self {
        self.answers.insert(query, Arc::new(answer));
        self
    }

    /// With labels on the namespace [`NAMESPACE`].
    pub(crate) fn with_labels(self, labels: &[(&str, &str)]) -> Self {
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.into(), value.into()))
            .collect();
        let namespace = Namespace {
            labels,
            ..Namespace::default()
        };
        self.with(
            Query::Namespace {
                name: NAMESPACE.into(),
            },
            Answer::Namespace(namespace),
        )
    }

    /// Judges an object of a built-in kind.
    pub(crate) fn judge(&self, object: &Value) -> Judged {
        self.judge_as(kind_of(object), object)
            .expect("well formed")
            .expect("has a template")
    }

    /// Judges an object of any kind.
    pub(crate) fn judge_as(
        &self,
        kind: &WorkloadKind,
        object: &Value,
    ) -> Result<Option<Judged>, Malformed> {
        self.judge_change(kind, None, object)
    }

    /// Judges an update of an object of a built-in kind.
    pub(crate) fn judge_update(&self, old: &Value, object: &Value) -> Judged {
        self.judge_change(kind_of(object), Some(old), object)
            .expect("well formed")
            .expect("has a template")
    }

    fn judge_change(
        &self,
        kind: &WorkloadKind,
        old: Option<&Value>,
        object: &Value,
    ) -> Result<Option<Judged>, Malformed> {
        let (bytes, old) = (raw(object), old.map(raw));
        let Some(workload) = Workload::read(kind, NAMESPACE, &bytes)? else {
            return Ok(None);
        };
        let request = Request {
            dry_run: self.dry_run,
            user: None,
            groups: &[],
            old: old.as_deref(),
        };
        match judge(&workload, &request, self, &self.settings) {
            Judgement::Done(verdict) => Ok(Some(Judged(verdict))),
            Judgement::Ask(questions) => panic!("every question has an answer, but: {questions:?}"),
        }
    }
}

impl Known for Facts {
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>> {
        let empty = match query {
            Query::Namespace { .. } => Answer::Namespace(Namespace::default()),
            Query::LimitRanges { .. } => Answer::LimitRanges(Vec::new()),
            Query::Services { .. } => Answer::Services(Vec::new()),
            Query::NetworkPolicies { .. } => Answer::NetworkPolicies(Vec::new()),
            Query::Versions => Answer::Unknown(Unknown::NotAsked),
            Query::Secret { .. }
            | Query::ConfigMap { .. }
            | Query::ServiceAccount { .. }
            | Query::Twin { .. }
            | Query::Declared { .. }
            | Query::Template { .. } => Answer::Missing,
            Query::Groups => Answer::Groups(Vec::new()),
        };
        Some(Known::get(&self.answers, query).unwrap_or_else(|| Arc::new(empty)))
    }
}

// === impl Judged ===

impl Judged {
    /// The findings of one rule, as `LEVEL CONTAINER PATH`.
    pub(crate) fn of(&self, rule: &str) -> Vec<String> {
        let of_rule = self
            .findings
            .iter()
            .filter(|finding| finding.rule.as_str() == rule);
        of_rule
            .map(|finding| {
                let container = finding.container.as_deref().unwrap_or("-");
                format!("{} {container} {}", finding.level, finding.path)
            })
            .collect()
    }
}

impl Deref for Judged {
    type Target = Verdict;

    fn deref(&self) -> &Verdict {
        &self.0
    }
}
