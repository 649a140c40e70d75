//! Where the judge's questions go: the given files, a cluster, or nowhere.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Runtime, time::Instant};

use crate::{
    cli::{
        cluster::{self, ClusterError},
        options::ClusterChoice,
    },
    facts::{Files, Live, Step},
    policy::{
        Judgement, Request,
        facts::{Answer, Known, Query, Unknown},
        judge,
        operation::Operation,
        patch::{Patching, patches},
        settings::Settings,
        verdict::Verdict,
        workload::Workload,
    },
};

/// For all questions that one object raises. A person waits, so longer than a review may take, not as long as a
/// cluster can be gone.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Nobody is asked.
#[derive(Debug)]
struct Silence;

/// The request as which objects are judged: by nobody in particular, in earnest.
const REQUEST: Request<'_> = Request {
    dry_run: false,
    user: None,
    groups: &[],
    old: None,
};

// === impl Source ===

impl Source {
    /// The last word on `workload`.
    pub(super) fn judge(&self, workload: &Workload<'_>, settings: &Settings) -> Verdict {
        self.settle(|known| match judge(workload, &REQUEST, known, settings) {
            Judgement::Ask(questions) => Step::Ask(questions),
            Judgement::Done(verdict) => Step::Done(verdict),
        })
    }

    /// What settings add to `pod`.
    pub(super) fn patches(&self, pod: &Workload<'_>, settings: &Settings) -> Vec<Operation> {
        self.settle(|known| match patches(pod, known, settings) {
            Patching::Ask(questions) => Step::Ask(questions),
            Patching::Done(operations) => Step::Done(operations),
        })
    }

    /// Answers what `step` asks until it is done.
    fn settle<T>(&self, step: impl Fn(&dyn Known) -> Step<T>) -> T {
        match self {
            Self::Files(files) => last(&step, files),
            Self::Nobody => last(&step, &Silence),
            Self::Cluster(cluster) => cluster.settle(step),
        }
    }
}

/// The step that is taken with facts that have an answer to everything.
fn last<T>(step: &impl Fn(&dyn Known) -> Step<T>, known: &dyn Known) -> T {
    let Step::Done(done) = step(known) else {
        unreachable!("these facts answer every question")
    };
    done
}

// === impl Cluster ===

impl Cluster {
    /// Finds the cluster as kubectl does, and makes ready to ask it. No connection is made yet.
    pub(super) fn connect(choice: &ClusterChoice) -> Result<Self, ClusterError> {
        let runtime = cluster::runtime()?;
        let config = runtime.block_on(cluster::config(choice))?;
        let namespace = config.default_namespace.clone();
        let live = {
            let _runtime = runtime.enter();
            cluster::facts(config)?
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

    fn settle<T>(&self, step: impl Fn(&dyn Known) -> Step<T>) -> T {
        self.runtime.block_on(async {
            let now = Instant::now();
            let mut facts = self.live.facts(now, now + PATIENCE);
            facts.settle(step).await
        })
    }
}

// === impl Silence ===

impl Known for Silence {
    fn get(&self, _: &Query<'_>) -> Option<Arc<Answer>> {
        Some(Arc::new(Answer::Unknown(Unknown::NotAsked)))
    }
}
