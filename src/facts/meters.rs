//! What lookups are counted by. The names of the metrics belong to who serves.

use std::{collections::BTreeMap, time::Duration};

use metrics::{Counter, Histogram};

use crate::policy::facts::{Answer, Lookup, Query, Unknown};

/// What a question is about, as a metric's label.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fact {
    /// Labels and annotations of a Namespace.
    Namespace,
    /// A Secret's keys.
    Secret,
    /// A ConfigMap's keys.
    ConfigMap,
    /// A ServiceAccount's pull secrets.
    ServiceAccount,
    /// LimitRanges of a namespace.
    LimitRanges,
    /// The same workload in a twin namespace.
    Twin,
    /// Services of a namespace.
    Services,
    /// NetworkPolicies of a namespace.
    NetworkPolicies,
    /// The releases of the API server and of the nodes.
    Versions,
    /// The API groups of those who make Secrets.
    Groups,
    /// Those who make a Secret.
    Producer,
    /// A template among the revisions of a workload.
    Template,
}

/// How a question was answered, as a metric's label.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// From the cache.
    Cached,
    /// By a request of another review that was under way.
    Joined,
    /// By the API server: it exists.
    Found,
    /// By the API server: it does not exist.
    Missing,
    /// The API server answered with an error.
    Refused,
    /// No answer before the review's deadline.
    Deadline,
    /// Neither of the API server nor in time: what was last known of the namespace counted. Beside one of the others.
    LastKnown,
}

/// What lookups count.
#[derive(Clone, Debug)]
pub struct Meters {
    lookups: BTreeMap<(Fact, Outcome), Counter>,
    durations: BTreeMap<Fact, Histogram>,
}

// === impl Fact ===

impl Fact {
    /// Everything that may be asked about.
    pub const ALL: [Self; 12] = [
        Self::Namespace,
        Self::Secret,
        Self::ConfigMap,
        Self::ServiceAccount,
        Self::LimitRanges,
        Self::Twin,
        Self::Services,
        Self::NetworkPolicies,
        Self::Versions,
        Self::Groups,
        Self::Producer,
        Self::Template,
    ];

    /// The label's value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
            Self::ServiceAccount => "serviceaccount",
            Self::LimitRanges => "limitranges",
            Self::Twin => "twin",
            Self::Services => "services",
            Self::NetworkPolicies => "networkpolicies",
            Self::Versions => "versions",
            Self::Groups => "groups",
            Self::Producer => "producer",
            Self::Template => "template",
        }
    }

    pub(super) fn of(query: &Query<'_>) -> Self {
        match query {
            Query::Namespace { .. } => Self::Namespace,
            Query::Secret { .. } => Self::Secret,
            Query::ConfigMap { .. } => Self::ConfigMap,
            Query::ServiceAccount { .. } => Self::ServiceAccount,
            Query::LimitRanges { .. } => Self::LimitRanges,
            Query::Twin { .. } => Self::Twin,
            Query::Services { .. } => Self::Services,
            Query::NetworkPolicies { .. } => Self::NetworkPolicies,
            Query::Versions => Self::Versions,
            Query::Groups => Self::Groups,
            Query::Declared { .. } => Self::Producer,
            Query::Template { .. } => Self::Template,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Every way to answer.
    pub const ALL: [Self; 7] = [
        Self::Cached,
        Self::Joined,
        Self::Found,
        Self::Missing,
        Self::Refused,
        Self::Deadline,
        Self::LastKnown,
    ];

    /// The label's value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Joined => "joined",
            Self::Found => "found",
            Self::Missing => "missing",
            Self::Refused => "refused",
            Self::Deadline => "deadline",
            Self::LastKnown => "last_known",
        }
    }

    pub(super) fn of(answer: &Answer) -> Self {
        match answer.lookup() {
            Lookup::Missing => Self::Missing,
            Lookup::Unknown(Unknown::Deadline) => Self::Deadline,
            Lookup::Unknown(_) => Self::Refused,
            Lookup::Found(_) => Self::Found,
        }
    }
}

// === impl Meters ===

impl Meters {
    /// Handles from the side that names them: one of each label's value.
    pub fn new(
        lookups: impl Fn(Fact, Outcome) -> Counter,
        durations: impl Fn(Fact) -> Histogram,
    ) -> Self {
        let pairs = Fact::ALL
            .into_iter()
            .flat_map(|fact| Outcome::ALL.map(|outcome| (fact, outcome)));
        Self {
            lookups: pairs.map(|pair| (pair, lookups(pair.0, pair.1))).collect(),
            durations: Fact::ALL.map(|fact| (fact, durations(fact))).into(),
        }
    }

    /// Counts nothing: for lookups that nobody needs to watch.
    pub fn unwatched() -> Self {
        Self::new(|_, _| Counter::noop(), |_| Histogram::noop())
    }

    pub(super) fn count(&self, fact: Fact, outcome: Outcome) {
        if let Some(counter) = self.lookups.get(&(fact, outcome)) {
            counter.increment(1);
        }
    }

    pub(super) fn took(&self, fact: Fact, duration: Duration) {
        if let Some(histogram) = self.durations.get(&fact) {
            histogram.record(duration);
        }
    }
}
