//! Who asks for a gate: the pod by its label, else its namespace.

use std::fmt;

use super::draft::member;
use crate::{
    contract::{GATE_CONFIG_ANNOTATION, GATE_LABEL, GATE_PROFILE_ANNOTATION},
    policy::{
        facts::{EXEMPTIONS, Namespace},
        template::Template,
        workload::Workload,
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

/// The value of a pod's label that wants no gate.
const DISABLED: &str = "disabled";

// === impl Demand ===

impl Demand {
    /// As labels write it: `preferred`, `enabled`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preferred => "preferred",
            Self::Enabled => "enabled",
        }
    }

    pub(super) fn parse(value: &str) -> Option<Self> {
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

/// What the pod's label says, else its namespace's. A namespace asks for what lives; a Job's pods take no traffic.
pub(super) fn asked(template: &Template<'_>, namespace: Option<&Namespace>) -> Option<Asked> {
    let label = template.label(GATE_LABEL);
    if let Some(demand) = label.and_then(Demand::parse) {
        return Some(Asked {
            demand,
            by_pod: true,
        });
    }
    if label == Some(DISABLED) && namespace.is_none_or(may_opt_out) {
        return None;
    }
    let demand = of_namespace(namespace?).filter(|_| template.restarts_always())?;
    Some(Asked {
        demand,
        by_pod: false,
    })
}

/// What is wrong with the pod's label, if anything is.
pub(in crate::policy) fn misspelt(template: &Template<'_>) -> Option<String> {
    let value = template.label(GATE_LABEL)?;
    let known = value == DISABLED || Demand::parse(value).is_some();
    (!known).then(|| {
        format!("label {GATE_LABEL}: \"{value}\" is none of enabled, preferred and disabled")
    })
}

/// That the pod opts out of what its namespace asks for, if that does not count.
pub(in crate::policy) fn guarded_opt_out(
    template: &Template<'_>,
    namespace: Option<&Namespace>,
) -> Option<String> {
    let namespace = namespace?;
    let demand = of_namespace(namespace)?;
    let opts_out = template.label(GATE_LABEL) == Some(DISABLED) && !may_opt_out(namespace);
    opts_out.then(|| {
        format!(
            "label {GATE_LABEL}: disabled does not count: the namespace says {demand}, and allows no exceptions (label \
             {EXEMPTIONS}: allowed)"
        )
    })
}

/// What stands on the workload itself, where it does nothing, and belongs on its pod template: each with its place.
pub(in crate::policy) fn misplaced(workload: &Workload<'_>) -> Vec<(String, String)> {
    if workload.kind.is_pod() {
        return Vec::new();
    }
    let (template, own) = (&workload.template, workload.metadata());
    let known = [
        ("label", "labels", GATE_LABEL),
        ("annotation", "annotations", GATE_CONFIG_ANNOTATION),
        ("annotation", "annotations", GATE_PROFILE_ANNOTATION),
    ];
    let lost = known.into_iter().filter(|(noun, _, name)| match *noun {
        "label" => own.labels.get(name).is_some() && template.label(name).is_none(),
        _ => own.annotations.get(name).is_some() && template.annotation(name).is_none(),
    });
    lost.map(|(noun, map, name)| {
        let kind = &workload.kind.kind;
        (
            member(&format!("/metadata/{map}"), name),
            format!("{noun} {name} does nothing on the {kind} itself: put it on the pod template"),
        )
    })
    .collect()
}

/// What the label of a namespace asks for.
pub(super) fn of_namespace(namespace: &Namespace) -> Option<Demand> {
    let value = namespace.labels.get(GATE_LABEL)?;
    Demand::parse(value)
}

fn may_opt_out(namespace: &Namespace) -> bool {
    let exemptions = namespace.labels.get(EXEMPTIONS);
    of_namespace(namespace).is_none() || exemptions.is_some_and(|value| &**value == "allowed")
}
