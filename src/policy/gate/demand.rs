//! Who asks for a gate: the pod by its label, else its namespace.

use std::fmt;

use crate::{
    contract::GATE_LABEL,
    policy::{
        facts::Namespace,
        template::{Scalar, Template},
    },
};

/// How much a gate is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Demand {
    /// Better without a gate than not at all.
    Preferred,
    /// A pod never starts without its gate.
    Enabled,
}

/// A demand and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) demand: Demand,
    /// By the pod's own label, not by its namespace's.
    pub(super) by_pod: bool,
}

// === impl Demand ===

impl Demand {
    /// As labels write it: `preferred`, `enabled`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Enabled => "enabled",
        }
    }

    fn parse(value: &str) -> Option<Self> {
        [Self::Preferred, Self::Enabled]
            .into_iter()
            .find(|demand| demand.as_str() == value)
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the pod's label says, else its namespace's.
pub(super) fn asked(template: &Template<'_>, namespace: Option<&Namespace>) -> Option<Asked> {
    let labels = template.metadata.as_ref().map(|metadata| &metadata.labels);
    let own = labels
        .and_then(|labels| labels.get(GATE_LABEL))
        .map(Scalar::as_written);
    let by_pod = own.is_some();
    let of_namespace = namespace.and_then(|namespace| namespace.labels.get(GATE_LABEL));
    let demand = match own {
        Some(own) => Demand::parse(own)?,
        None => Demand::parse(of_namespace?)?,
    };
    Some(Asked { demand, by_pod })
}
