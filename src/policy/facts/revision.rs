//! Templates that the cluster keeps beside the workload that they are for.

use std::borrow::Cow;

/// Where a template is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision<'a> {
    /// The ReplicaSets of a Deployment.
    ReplicaSet {
        /// The Deployment's UID.
        owner: Cow<'a, str>,
        /// A label selector that they match, `app=web,tier=front`; empty for any.
        selector: Cow<'a, str>,
    },
    /// The ControllerRevisions of a StatefulSet or DaemonSet.
    ControllerRevision {
        /// Its UID.
        owner: Cow<'a, str>,
        /// A label selector that they match; empty for any.
        selector: Cow<'a, str>,
    },
    /// A CronJob.
    CronJob {
        /// Its name.
        name: Cow<'a, str>,
    },
}

// === impl Revision ===

impl Revision<'_> {
    /// The same, independent of what it was borrowed from.
    pub fn into_owned(self) -> Revision<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Revision::ReplicaSet { owner, selector } => Revision::ReplicaSet {
                owner: own(owner),
                selector: own(selector),
            },
            Revision::ControllerRevision { owner, selector } => Revision::ControllerRevision {
                owner: own(owner),
                selector: own(selector),
            },
            Revision::CronJob { name } => Revision::CronJob { name: own(name) },
        }
    }
}
