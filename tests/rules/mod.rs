//! The rules from outside: what they say of themselves is true, and every case they must get right.

/// What `portcullis explain` prints, and the fields that a rule says it reads.
pub mod explained;

/// The cases of the rules, one by one.
mod cases;

use std::{collections::HashMap, sync::Arc};

use portcullis::{
    policy::{
        Judgement, Request,
        facts::{Answer, Known, LimitRange, Namespace, Query, Unknown},
        finding::Finding,
        judge,
        settings::Settings,
        workload::Workload,
    },
    yaml,
};
use serde_json::{Value, value::to_raw_value};

/// A namespace `shop` in which little exists, and the settings in force.
#[derive(Default)]
pub struct World {
    pub answers: HashMap<Query<'static>, Answer>,
    pub settings: Settings,
    pub dry_run: bool,
}

/// The one document of a YAML text, read as kubectl reads it.
pub fn parse(text: &str) -> Value {
    let mut documents = yaml::documents(text);
    let document = documents.next().expect("a document").expect("YAML");
    assert!(documents.next().is_none(), "one document");
    document.value
}

// === impl World ===

impl World {
    pub fn with(mut self, query: Query<'static>, answer: Answer) -> Self {
        self.answers.insert(query, answer);
        self
    }

    pub fn secret(self, name: &'static str, keys: &[&str]) -> Self {
        let query = Query::Secret {
            namespace: "shop".into(),
            name: name.into(),
        };
        self.with(
            query,
            Answer::Keys(keys.iter().map(|&key| key.into()).collect()),
        )
    }

    pub fn config_map(self, name: &'static str, keys: &[&str]) -> Self {
        let query = Query::ConfigMap {
            namespace: "shop".into(),
            name: name.into(),
        };
        self.with(
            query,
            Answer::Keys(keys.iter().map(|&key| key.into()).collect()),
        )
    }

    pub fn service_account(self, name: &'static str, pull_secrets: &[&str]) -> Self {
        let query = Query::ServiceAccount {
            namespace: "shop".into(),
            name: name.into(),
        };
        let secrets = pull_secrets.iter().map(|&secret| secret.into()).collect();
        self.with(query, Answer::ServiceAccount(secrets))
    }

    pub fn annotated(self, key: &str, value: &str) -> Self {
        let namespace = Namespace {
            annotations: [(key.into(), value.into())].into(),
            ..Namespace::default()
        };
        self.with(
            Query::Namespace {
                name: "shop".into(),
            },
            Answer::Namespace(namespace),
        )
    }

    pub fn limited(self, item: LimitRange) -> Self {
        self.with(
            Query::LimitRanges {
                namespace: "shop".into(),
            },
            Answer::LimitRanges(vec![item]),
        )
    }

    /// The findings about an object of any kind that the settings know.
    pub fn judge(&self, object: &Value) -> Vec<Finding> {
        let version = object["apiVersion"].as_str().expect("apiVersion");
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let kind = object["kind"].as_str().expect("kind");
        let kind = self
            .settings
            .kind(group, version, kind)
            .expect("a judged kind");
        let bytes = to_raw_value(object).expect("JSON");
        let workload = Workload::read(kind, "shop", &bytes).expect("well formed");
        let workload = workload.expect("a pod template");
        let request = Request {
            dry_run: self.dry_run,
            user: None,
            groups: &[],
            old: None,
        };
        match judge(&workload, &request, self, &self.settings) {
            Judgement::Done(verdict) => verdict.findings,
            Judgement::Ask(questions) => panic!("every question has an answer: {questions:?}"),
        }
    }
}

impl Known for World {
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>> {
        let given = self.answers.get(&query.clone().into_owned()).cloned();
        let nothing = match query {
            Query::Namespace { .. } => Answer::Namespace(Namespace::default()),
            Query::LimitRanges { .. } => Answer::LimitRanges(Vec::new()),
            Query::Services { .. } => Answer::Services(Vec::new()),
            Query::NetworkPolicies { .. } => Answer::NetworkPolicies(Vec::new()),
            Query::Versions | Query::Groups | Query::Declared { .. } | Query::Template { .. } => {
                Answer::Unknown(Unknown::NotAsked)
            }
            Query::Secret { .. }
            | Query::ConfigMap { .. }
            | Query::ServiceAccount { .. }
            | Query::Twin { .. } => Answer::Missing,
        };
        Some(Arc::new(given.unwrap_or(nothing)))
    }
}
