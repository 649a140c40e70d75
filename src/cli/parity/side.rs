//! One side of a comparison: a namespace of a cluster, or files.

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::Error;
use crate::{
    audit::Object,
    cli::{
        ClusterError, ClusterOptions,
        cluster::{self, Api},
        cores,
        manifests::{
            input::{self, Problem},
            object::{Namespaces, Reader},
        },
    },
    facts::{Files, Live, live},
    policy::{
        facts::{Known, Query},
        parity::Environment,
        settings::Settings,
        workload::{Workload, WorkloadKind},
    },
};

/// What a person names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A namespace of the cluster.
    Namespace(String),
    /// A file, a folder, or `-`.
    Path(PathBuf),
}

/// What it holds, and who answers for the rest.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) environment: Environment,
    pub(super) source: Source,
}

/// Who knows the keys of what `envFrom` reads.
#[derive(Debug)]
pub(super) enum Source {
    Files(Box<Files>),
    Cluster(Live),
}

/// Answers to the questions of one workload.
pub(super) enum Answers<'s> {
    Files(&'s Files),
    Cluster(live::Facts),
}

/// The cluster, reached once it is asked for.
pub(super) struct Cluster<'a> {
    options: &'a ClusterOptions,
    reached: Option<Reached>,
}

struct Reached {
    api: Api,
    live: Live,
}

/// Hears of inputs that can't be read.
pub(super) type Told<'t> = dyn FnMut(&Problem) -> io::Result<()> + 't;

/// For what one workload reads; a person waits.
const PATIENCE: Duration = Duration::from_secs(10);

// === impl Side ===

impl Side {
    /// A namespace's name has neither `/` nor `.` (RFC 1123 label), so what has is a path.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "-" || text.contains(['/', '.']) {
            return Ok(Self::Path(text.into()));
        }
        // It goes into a path of the API.
        let is_label =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if text.is_empty() || !text.bytes().all(is_label) {
            return Err(format!(
                "no namespace has such a name; if it is a file or folder, write ./{text}"
            ));
        }
        Ok(Self::Namespace(text.to_owned()))
    }

    pub(super) fn is_stdin(&self) -> bool {
        *self == Self::Path("-".into())
    }

    /// Reads all of it; what can't be read is told and left out.
    pub(super) async fn load(
        &self,
        settings: &Settings,
        cluster: &mut Cluster<'_>,
        told: &mut Told<'_>,
    ) -> Result<Loaded, Error> {
        match self {
            Self::Path(path) => Ok(files(path, settings, told)?),
            Self::Namespace(namespace) => {
                let reached = cluster.reach().await?;
                let Reached { live, .. } = reached;
                Ok(Loaded {
                    environment: inhabitants(namespace, settings, reached, told).await?,
                    source: Source::Cluster(live.clone()),
                })
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(namespace) => f.write_str(namespace),
            Self::Path(_) if self.is_stdin() => f.write_str("stdin"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// The workloads among files, and what answers for the rest among them.
fn files(path: &Path, settings: &Settings, told: &mut Told<'_>) -> io::Result<Loaded> {
    let namespaces = Namespaces {
        default: "default".to_owned(),
        required: false,
    };
    let reader = Reader {
        settings,
        namespaces: &namespaces,
        keep: false,
    };
    let (inputs, problems) = input::inputs(&[path.to_owned()]);
    problems.iter().try_for_each(&mut *told)?;
    let mut files = Files::new(false);
    let mut environment = Environment::default();
    let read = |input: &_| reader.read(input);
    cores::spread(&inputs, read, |input, mut contents| {
        contents.index(input, &mut files);
        contents.problems.iter().try_for_each(&mut *told)?;
        for subject in &contents.subjects {
            match Workload::read(subject.kind, &subject.namespace, &subject.json) {
                Ok(Some(workload)) if !environment.add(&workload) => {
                    let message = format!(
                        "there are two of {} {}: name files of one environment, such as one overlay",
                        subject.kind.kind, subject.name,
                    );
                    told(&Problem {
                        file: Arc::clone(&subject.file),
                        position: Some(subject.positions(&[]).0),
                        message,
                    })?;
                }
                Ok(_) => {}
                Err(malformed) => told(&subject.problem(&malformed))?,
            }
        }
        io::Result::Ok(())
    })?;
    Ok(Loaded {
        environment,
        source: Source::Files(Box::new(files)),
    })
}

/// The workloads of a namespace, but for those that a controller makes and looks after.
async fn inhabitants(
    namespace: &str,
    settings: &Settings,
    Reached { api, live }: &Reached,
    told: &mut Told<'_>,
) -> Result<Environment, Error> {
    if api.lacks_namespace(namespace).await {
        let namespace = namespace.to_owned();
        return Err(Error::Missing { namespace });
    }
    let mut environment = Environment::default();
    for kind in settings.kinds().filter(|kind| kind.update) {
        let mut pages = live.list(kind, Some(namespace));
        let unseen = |why| Error::Unseen {
            namespace: namespace.to_owned(),
            why: format!("{}: {why}", kind.resource),
        };
        while let Some(page) = pages.next().await.map_err(unseen)? {
            for object in page.items() {
                if !Object::read(object).is_ok_and(|it| it.is_controlled()) {
                    let malformed = add(&mut environment, kind, namespace, object);
                    malformed.iter().try_for_each(&mut *told)?;
                }
            }
        }
    }
    Ok(environment)
}

/// Adds an object of the cluster, or says why it can't be read. Two of a name are never in one namespace.
fn add(
    environment: &mut Environment,
    kind: &WorkloadKind,
    namespace: &str,
    object: &RawValue,
) -> Option<Problem> {
    match Workload::read(kind, namespace, object) {
        Ok(workload) => {
            workload.map(|workload| environment.add(&workload));
            None
        }
        Err(malformed) => Some(Problem {
            file: namespace.into(),
            position: None,
            message: format!("not a {}: {malformed}", kind.kind),
        }),
    }
}

// === impl Source ===

impl Source {
    /// Answers all of `questions`.
    pub(super) async fn answer(&self, questions: BTreeSet<Query<'_>>) -> Answers<'_> {
        match self {
            Self::Files(files) => Answers::Files(files),
            Self::Cluster(live) => {
                let now = Instant::now();
                let mut facts = live.facts(now, now + PATIENCE);
                facts
                    .ask(questions.into_iter().map(Query::into_owned).collect())
                    .await;
                Answers::Cluster(facts)
            }
        }
    }
}

// === impl Answers ===

impl Answers<'_> {
    pub(super) fn known(&self) -> &dyn Known {
        match self {
            Self::Files(files) => *files,
            Self::Cluster(facts) => facts,
        }
    }
}

// === impl Cluster ===

impl<'a> Cluster<'a> {
    pub(super) fn new(options: &'a ClusterOptions) -> Self {
        Self {
            options,
            reached: None,
        }
    }

    async fn reach(&mut self) -> Result<&Reached, ClusterError> {
        let reached = if let Some(reached) = self.reached.take() {
            reached
        } else {
            let config = self.options.config().await?;
            Reached {
                live: cluster::facts(config.clone())?,
                api: Api::connect(config)?,
            }
        };
        Ok(self.reached.insert(reached))
    }
}
