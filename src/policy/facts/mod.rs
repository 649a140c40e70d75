//! What may be asked of the cluster, as data.

mod network;

mod producer;

mod release;

mod revision;

mod twin;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fmt,
    hash::BuildHasher,
    sync::Arc,
};

pub use self::{
    network::{Expression, IngressPort, NetworkPolicy, PortRef, Selector, Service, ServicePort},
    producer::Producer,
    release::{NotARelease, Release, Versions},
    revision::Revision,
    twin::{Bundle, TwinEnv},
};
use super::{finding::Level, template::reference::Object, workload::WorkloadKind};

/// Namespace label: the level of its rules, `deny`, `warn` or `none`.
pub const ENFORCE: &str = "portcullis.dev/enforce";
/// Namespace label: `enabled` lets settings patch its pods.
pub const PATCH: &str = "portcullis.dev/patch";
/// Namespace label: `allowed` lets its workloads take exception from what it demands.
pub const EXEMPTIONS: &str = "portcullis.dev/exemptions";
/// Namespace label: the namespace it is compared with by `env-parity`. Both must name each other.
pub const TWIN: &str = "portcullis.dev/twin";
/// Namespace annotation: env names that every workload in it must set, separated by commas.
pub const REQUIRED_ENV: &str = "portcullis.dev/required-env";

/// A question about the cluster. Borrowed while it is looked up, owned once it must be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Query<'a> {
    /// Labels and annotations of a Namespace.
    Namespace {
        /// Its name.
        name: Cow<'a, str>,
    },
    /// Does a Secret exist, and which keys does it hold? Never its values.
    Secret {
        /// Where it stands.
        namespace: Cow<'a, str>,
        /// Its name.
        name: Cow<'a, str>,
    },
    /// Does a ConfigMap exist, and which keys does it hold?
    ConfigMap {
        /// Where it stands.
        namespace: Cow<'a, str>,
        /// Its name.
        name: Cow<'a, str>,
    },
    /// Does a ServiceAccount exist, and which pull secrets does it bring?
    ServiceAccount {
        /// Where it stands.
        namespace: Cow<'a, str>,
        /// Its name.
        name: Cow<'a, str>,
    },
    /// The LimitRanges of a namespace.
    LimitRanges {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// The env names and sources of the same workload in a twin namespace.
    Twin {
        /// The twin namespace.
        namespace: Cow<'a, str>,
        /// Its kind, which says where its API and its template are.
        kind: Cow<'a, WorkloadKind>,
        /// Name, the same as that of the judged workload.
        name: Cow<'a, str>,
    },
    /// The Services of a namespace.
    Services {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// The NetworkPolicies of a namespace that say who may come in.
    NetworkPolicies {
        /// The namespace.
        namespace: Cow<'a, str>,
    },
    /// The releases of the API server and of the nodes.
    Versions,
    /// Which groups of [`Producer`]s are served?
    Groups,
    /// Does an object of that kind declare this Secret?
    Declared {
        /// Where the Secret would stand.
        namespace: Cow<'a, str>,
        /// The kind.
        producer: Producer,
        /// The version of its API.
        version: Cow<'a, str>,
        /// The Secret's name.
        secret: Cow<'a, str>,
    },
    /// Is there a revision with exactly this template?
    Template {
        /// The namespace.
        namespace: Cow<'a, str>,
        /// Where it would be.
        revision: Revision<'a>,
        /// What pods are made from, as canonical JSON.
        template: Cow<'a, str>,
    },
}

/// An answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The object does not exist; confirmed live.
    Missing,
    /// It could not be found out. A warning, never a denial.
    Unknown(Unknown),
    /// To [`Query::Groups`], with the version of each: `cert-manager.io/v1`.
    Groups(Vec<Box<str>>),
    /// To [`Query::Declared`] and [`Query::Template`]: there is one. Never remembered.
    Exists,
    /// To [`Query::Namespace`].
    Namespace(Namespace),
    /// To [`Query::Secret`] and [`Query::ConfigMap`]: key names, sorted.
    Keys(Vec<Box<str>>),
    /// To [`Query::ServiceAccount`]: the names of its `imagePullSecrets`.
    ServiceAccount(Vec<Box<str>>),
    /// To [`Query::LimitRanges`].
    LimitRanges(Vec<LimitRange>),
    /// To [`Query::Twin`].
    Twin(Vec<TwinEnv>),
    /// To [`Query::Services`].
    Services(Vec<Service>),
    /// To [`Query::NetworkPolicies`].
    NetworkPolicies(Vec<NetworkPolicy>),
    /// To [`Query::Versions`].
    Versions(Versions),
}

/// What every [`Answer`] says, whatever was asked.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'a> {
    /// [`Answer::Missing`].
    Missing,
    /// [`Answer::Unknown`].
    Unknown(&'a Unknown),
    /// Any other.
    Found(&'a Answer),
}

/// Why something could not be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The API server did not answer before the deadline of the review.
    Deadline,
    /// The API server answered with something else than the object; its status in words.
    Refused(Box<str>),
    /// Files only: not among the given files; it may be in the cluster.
    NotAmongFiles,
    /// Files only: an object of that name is among the given files, in another namespace.
    Elsewhere {
        /// The namespace it stands in.
        namespace: Box<str>,
        /// The file it was read from.
        file: Box<str>,
    },
    /// References are not looked up (`--facts none`).
    NotAsked,
}

/// What the judge reads of a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.labels` under `portcullis.dev/`.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// `metadata.annotations` under `portcullis.dev/`.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
}

/// One item of a LimitRange's `spec.limits`, of type Container or Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitRange {
    /// `metadata.name`, for the message.
    pub name: Box<str>,
    /// `type` is `Pod`; otherwise `Container`.
    pub pod: bool,
    /// `default`: limits for containers that set none, by resource name, as written.
    pub default: BTreeMap<Box<str>, Box<str>>,
    /// `defaultRequest`.
    pub default_request: BTreeMap<Box<str>, Box<str>>,
    /// `min`.
    pub min: BTreeMap<Box<str>, Box<str>>,
    /// `max`.
    pub max: BTreeMap<Box<str>, Box<str>>,
    /// `maxLimitRequestRatio`.
    pub max_limit_request_ratio: BTreeMap<Box<str>, Box<str>>,
}

/// The facts gathered so far.
pub trait Known {
    /// The answer to `query`, if it is known now.
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>>;
}

// === impl Query ===

impl<'a> Query<'a> {
    /// Does this Secret or ConfigMap exist, and which keys does it hold?
    pub fn keys(object: Object, namespace: &'a str, name: &'a str) -> Self {
        let (namespace, name) = (Cow::Borrowed(namespace), Cow::Borrowed(name));
        match object {
            Object::Secret => Self::Secret { namespace, name },
            Object::ConfigMap => Self::ConfigMap { namespace, name },
        }
    }

    /// The same question, independent of what it was borrowed from.
    pub fn into_owned(self) -> Query<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Query::Namespace { name } => Query::Namespace { name: own(name) },
            Query::Secret { namespace, name } => Query::Secret {
                namespace: own(namespace),
                name: own(name),
            },
            Query::ConfigMap { namespace, name } => Query::ConfigMap {
                namespace: own(namespace),
                name: own(name),
            },
            Query::ServiceAccount { namespace, name } => Query::ServiceAccount {
                namespace: own(namespace),
                name: own(name),
            },
            Query::LimitRanges { namespace } => Query::LimitRanges {
                namespace: own(namespace),
            },
            Query::Twin {
                namespace,
                kind,
                name,
            } => Query::Twin {
                namespace: own(namespace),
                kind: Cow::Owned(kind.into_owned()),
                name: own(name),
            },
            Query::Services { namespace } => Query::Services {
                namespace: own(namespace),
            },
            Query::NetworkPolicies { namespace } => Query::NetworkPolicies {
                namespace: own(namespace),
            },
            Query::Versions => Query::Versions,
            Query::Groups => Query::Groups,
            Query::Declared {
                namespace,
                producer,
                version,
                secret,
            } => Query::Declared {
                namespace: own(namespace),
                producer,
                version: own(version),
                secret: own(secret),
            },
            Query::Template {
                namespace,
                revision,
                template,
            } => Query::Template {
                namespace: own(namespace),
                revision: revision.into_owned(),
                template: own(template),
            },
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Whether it was found out, and what.
    pub fn lookup(&self) -> Lookup<'_> {
        match self {
            Self::Missing => Lookup::Missing,
            Self::Unknown(unknown) => Lookup::Unknown(unknown),
            Self::Groups(_)
            | Self::Exists
            | Self::Namespace(_)
            | Self::Keys(_)
            | Self::ServiceAccount(_)
            | Self::LimitRanges(_)
            | Self::Twin(_)
            | Self::Services(_)
            | Self::NetworkPolicies(_)
            | Self::Versions(_) => Lookup::Found(self),
        }
    }
}

// === impl Unknown ===

impl Unknown {
    /// The cluster was asked and did not say. Otherwise the caller chose to judge without that knowledge.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Deadline | Self::Refused(_) => true,
            Self::NotAmongFiles | Self::Elsewhere { .. } | Self::NotAsked => false,
        }
    }

    /// Why, in words that follow `was not checked: `; `None` where it was never to be found out.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::NotAsked => None,
            Self::Deadline | Self::Refused(_) | Self::NotAmongFiles | Self::Elsewhere { .. } => {
                Some(self.to_string())
            }
        }
    }
}

impl fmt::Display for Unknown {
    /// As it ends a sentence: `the API server did not answer in time`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("the API server did not answer in time"),
            Self::Refused(status) => write!(f, "the API server answered {status}"),
            Self::NotAmongFiles => {
                f.write_str("it is not among the given files, but may be in the cluster")
            }
            Self::Elsewhere { namespace, file } => {
                write!(
                    f,
                    "among the given files it stands only in namespace \"{namespace}\" ({file})"
                )
            }
            Self::NotAsked => f.write_str("it was not looked up"),
        }
    }
}

// === impl Namespace ===

impl Namespace {
    /// What its label `portcullis.dev/enforce` asks for. A value that is none of `deny`, `warn`, `none` asks for nothing,
    /// as if the label were not there, so that a slip of the pen never switches the rules off.
    pub fn enforce(&self) -> Option<Level> {
        self.labels
            .get(ENFORCE)
            .and_then(|value| Level::parse(value))
    }

    /// Its label `portcullis.dev/exemptions` is `allowed`.
    pub fn allows_exemptions(&self) -> bool {
        self.labels
            .get(EXEMPTIONS)
            .is_some_and(|value| &**value == "allowed")
    }

    /// Its label `portcullis.dev/patch` is `enabled`.
    pub fn is_patched(&self) -> bool {
        self.labels
            .get(PATCH)
            .is_some_and(|value| &**value == "enabled")
    }
}

// === impl Known ===

impl<S: BuildHasher> Known for HashMap<Query<'static>, Arc<Answer>, S> {
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>> {
        // A map of 'static questions answers shorter-lived ones: HashMap is covariant in its key.
        let shorter: &HashMap<Query<'_>, Arc<Answer>, S> = self;
        shorter.get(query).cloned()
    }
}
