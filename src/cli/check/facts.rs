//! Where the judge's questions go: the given files, a cluster, or nowhere.

use std::{path::PathBuf, sync::Arc, time::Duration};

use kube::{
    Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::{
    runtime::{self, Runtime},
    time::Instant,
};

use crate::{
    facts::{Files, Live},
    policy::{
        Judgement, Request,
        facts::{Answer, Known, Query, Unknown},
        judge,
        settings::Settings,
        verdict::Verdict,
        workload::Workload,
    },
    webhook::metrics::Metrics,
};

/// For all questions that one object raises. A person waits, so longer than a review may take, not as long as a
/// cluster can be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Times that the judge may ask again: it asks for what a first answer leads to (a ServiceAccount's pull secrets, a
/// namespace's twin), which is two rounds.
const ROUNDS: usize = 8;

/// Who answers.
#[derive(Debug)]
pub(super) enum Source {
    /// The given files.
    Files(Files),
    /// A cluster.
    Cluster(Cluster),
    /// Nobody.
    Nobody,
}

/// A connection to a cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    runtime: Runtime,
    live: Live,
    namespace: String,
}

/// There is no cluster to ask.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A kubeconfig that was named can't be used.
    #[error("--kubeconfig {}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no kubeconfig, or it can't be used.
    #[error("--facts cluster: no cluster is configured; name a kubeconfig with --kubeconfig")]
    Infer(#[source] Box<InferConfigError>),
    /// The configuration makes no client.
    #[error("--facts cluster: the cluster's address or credentials can't be used")]
    Client(#[source] Box<kube::Error>),
    /// The system gives us no thread or timer.
    #[error("--facts cluster")]
    Runtime(#[from] std::io::Error),
}

/// Nobody is asked.
#[derive(Debug)]
struct Silence;

// === impl Source ===

impl Source {
    /// The last word on `workload`.
    pub(super) fn judge(&self, workload: &Workload<'_>, settings: &Settings) -> Verdict {
        match self {
            Self::Files(files) => settle(workload, settings, files),
            Self::Nobody => settle(workload, settings, &Silence),
            Self::Cluster(cluster) => cluster.judge(workload, settings),
        }
    }
}

/// The request as which objects are judged: by nobody in particular, in earnest.
const REQUEST: Request<'_> = Request {
    dry_run: false,
    user: None,
    groups: &[],
};

/// Judges by facts that have an answer to everything.
fn settle(workload: &Workload<'_>, settings: &Settings, known: &dyn Known) -> Verdict {
    let Judgement::Done(verdict) = judge(workload, &REQUEST, known, settings) else {
        unreachable!("these facts answer every question")
    };
    verdict
}

// === impl Cluster ===

impl Cluster {
    /// Finds the cluster as kubectl does, and makes ready to ask it. No connection is made yet.
    pub(super) fn connect(kubeconfig: Option<PathBuf>) -> Result<Self, ClusterError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let config = runtime.block_on(config(kubeconfig))?;
        let namespace = config.default_namespace.clone();
        let live = {
            let _runtime = runtime.enter();
            Live::connect(config, Arc::new(Metrics::new()))
                .map_err(|error| ClusterError::Client(Box::new(error)))?
        };
        Ok(Self {
            runtime,
            live,
            namespace,
        })
    }

    /// The namespace of the kubeconfig's context.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn judge(&self, workload: &Workload<'_>, settings: &Settings) -> Verdict {
        self.runtime.block_on(async {
            let now = Instant::now();
            let mut facts = self.live.facts(now, now + PATIENCE);
            for _ in 0..ROUNDS {
                match judge(workload, &REQUEST, &facts, settings) {
                    Judgement::Done(verdict) => return verdict,
                    Judgement::Ask(questions) => facts.ask(questions).await,
                }
            }
            facts.close();
            settle(workload, settings, &facts)
        })
    }
}

async fn config(kubeconfig: Option<PathBuf>) -> Result<Config, ClusterError> {
    let Some(file) = kubeconfig else {
        return Config::infer()
            .await
            .map_err(|error| ClusterError::Infer(Box::new(error)));
    };
    let read = async || {
        let contents = Kubeconfig::read_from(&file)?;
        Config::from_custom_kubeconfig(contents, &KubeConfigOptions::default()).await
    };
    read().await.map_err(|source| ClusterError::Kubeconfig {
        source: Box::new(source),
        file: file.clone(),
    })
}

// === impl Silence ===

impl Known for Silence {
    fn get(&self, _: &Query<'_>) -> Option<Arc<Answer>> {
        Some(Arc::new(Answer::Unknown(Unknown::NotAsked)))
    }
}
