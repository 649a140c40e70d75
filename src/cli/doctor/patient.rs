//! What the caller of the doctor may see of the cluster, each thing looked at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Request, StatusCode};
use kube::Config;
use serde_json::{Value, value::RawValue};
use tokio::{sync::OnceCell, time::Instant};

use super::{ClusterError, gates::Census};
use crate::{
    cli::cluster::{self, Api, message, read, said},
    facts::{Live, Step},
    policy::facts::{Answer, Known, Query, Release},
    webhook::metrics::Configuration,
};

/// For all questions that one pod raises.
const FACTS_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster and what is known of it so far.
pub(super) struct Patient {
    pub(super) api: Api,
    live: Live,
    /// Where Portcullis is installed.
    pub(super) namespace: String,
    /// Where dry runs go.
    pub(super) dry_run_in: String,
    /// The namespaces that are looked at; none means all.
    only: Vec<String>,
    namespaces: OnceCell<Result<BTreeMap<String, Labels>, String>>,
    census: OnceCell<Result<Census, String>>,
}

/// Labels of an object.
pub(super) type Labels = BTreeMap<String, String>;

/// What came of a dry run.
pub(super) struct DryRun {
    pub(super) status: StatusCode,
    /// The API server's words where it refused.
    pub(super) message: String,
    /// Of the header `Warning`, all of them.
    pub(super) warnings: Vec<String>,
}

// === impl Patient ===

impl Patient {
    pub(super) fn new(
        config: Config,
        namespace: &str,
        dry_run_in: &str,
    ) -> Result<Self, ClusterError> {
        Ok(Self {
            api: Api::connect(config.clone())?,
            live: cluster::facts(config)?,
            namespace: namespace.to_owned(),
            dry_run_in: dry_run_in.to_owned(),
            only: Vec::new(),
            namespaces: OnceCell::new(),
            census: OnceCell::new(),
        })
    }

    /// The same, but for what stands elsewhere than in these namespaces.
    pub(super) fn only_in(mut self, namespaces: &[String]) -> Self {
        self.only = namespaces.to_vec();
        self
    }

    /// The release of the API server, which anybody may ask.
    pub(super) async fn release(&self) -> Result<Release, String> {
        let version: Value = self.api.get("/version").await?.unwrap_or_default();
        let text = version.get("gitVersion").and_then(Value::as_str);
        let text = text.unwrap_or_default();
        text.parse()
            .map_err(|error| format!("\"{text}\" is {error}"))
    }

    /// A webhook configuration of ours, if it is there.
    pub(super) async fn configuration(
        &self,
        configuration: Configuration,
    ) -> Result<Option<Value>, String> {
        let kind = match configuration {
            Configuration::Validating => "validatingwebhookconfigurations",
            Configuration::Mutating => "mutatingwebhookconfigurations",
        };
        let name = crate::facts::access::CONFIGURATION;
        self.api
            .get(&format!(
                "/apis/admissionregistration.k8s.io/v1/{kind}/{name}"
            ))
            .await
    }

    /// All namespaces that are looked at, and their labels.
    pub(super) async fn namespaces(&self) -> Result<&BTreeMap<String, Labels>, String> {
        let look = async || {
            let mut found = BTreeMap::new();
            let mut take = |namespace: &Value| {
                let metadata = namespace.get("metadata");
                let name = metadata.and_then(|metadata| metadata.get("name"));
                let name = name.and_then(Value::as_str).unwrap_or_default();
                found.insert(name.to_owned(), labels(metadata));
            };
            if self.only.is_empty() {
                self.api.each("/api/v1/namespaces", &mut take).await?;
            }
            for name in &self.only {
                let path = format!("/api/v1/namespaces/{name}");
                self.api.get(&path).await?.iter().for_each(&mut take);
            }
            Ok(found)
        };
        let found = self.namespaces.get_or_init(look).await;
        found.as_ref().map_err(Clone::clone)
    }

    /// The pods that ask for a gate, and those that have one.
    pub(super) async fn census(&self) -> Result<&Census, String> {
        let found = self.census.get_or_init(async || Census::take(self).await);
        found.await.as_ref().map_err(Clone::clone)
    }

    /// Every pod of the namespaces that are looked at.
    pub(super) async fn each_pod(&self, mut take: impl FnMut(&Value)) -> Result<(), String> {
        if self.only.is_empty() {
            return self.api.each("/api/v1/pods", take).await;
        }
        for name in &self.only {
            let path = format!("/api/v1/namespaces/{name}/pods");
            self.api.each(&path, &mut take).await?;
        }
        Ok(())
    }

    /// What the API server answers to one question of the judge.
    pub(super) async fn ask(&self, query: Query<'static>) -> Arc<Answer> {
        let known = |known: &dyn Known| match known.get(&query) {
            Some(answer) => Step::Done(answer),
            None => Step::Ask(vec![query.clone()]),
        };
        self.settle(known).await
    }

    /// Answers what `step` asks until it is done.
    pub(super) async fn settle<T>(&self, step: impl Fn(&dyn Known) -> Step<T>) -> T {
        let now = Instant::now();
        let mut facts = self.live.facts(now, now + FACTS_TIMEOUT);
        facts.settle(step).await
    }

    /// Asks the API server to review something: the answer is the same object with a status.
    pub(super) async fn review(&self, path: &str, object: &Value) -> Result<Value, String> {
        let (status, body, _) = self.api.send(Request::post(path), Some(object)).await?;
        if status.is_success() {
            read(&body)
        } else {
            Err(said(status, &body))
        }
    }

    /// Has the API server go through the creation of an object, and store nothing.
    pub(super) async fn dry_run(&self, path: &str, object: &Value) -> Result<DryRun, String> {
        let path = format!("{path}?dryRun=All&fieldManager=portcullis-doctor");
        let (status, body, warnings) = self.api.send(Request::post(path), Some(object)).await?;
        Ok(DryRun {
            status,
            message: message(&body).unwrap_or_default(),
            warnings,
        })
    }
}

/// `labels` of some metadata.
pub(super) fn labels(metadata: Option<&Value>) -> Labels {
    let labels = metadata.and_then(|metadata| metadata.get("labels")?.as_object());
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

/// The bytes of an object that was read before.
pub(super) fn raw(object: &Value) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(object).ok()
}
