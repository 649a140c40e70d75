//! Injection: a pod that asks for a traffic gate gets one.
//!
//! ```text
//! labels -> demand -> config -> plan (ports, settings, what is shared) -> draft of the pod -> operations
//! ```
//!
//! A workload is judged by the same plan that its pods will get ([`predict`]), so that a mistake is refused when it is
//! applied, and not found in a pod later.

// Who asks.
mod demand;

// What the gate is told.
mod config;

mod layer;

// What follows from the pod and from what surrounds it.
mod plan;

mod ports;

mod takeover;

mod services;

mod checks;

mod waits;

mod borrow;

mod drain;

mod resources;

// The pod, changed.
mod write;

mod container;

mod draft;

use serde_json::{Map, Value};

use self::{config::Config, container::Image, demand::Asked, plan::Hindrance};
pub(super) use self::{
    config::Mistake,
    demand::{guarded_opt_out, misplaced, misspelt},
    plan::{Ground, Plan},
    services::shut_out,
};
pub use self::{demand::Demand, takeover::Takeover};
use super::{
    budget::PodBudget,
    context::{Inquiry, Surroundings},
    facts::{Known, Query},
    finding::{Finding, Level},
    operation::Operation,
    rules::RuleId,
    settings::Settings,
    template::{Site, Template},
    workload::Workload,
};
use crate::contract::{GATE_CONTAINER, GATE_LABEL, GATE_TAKEOVER_ANNOTATION};

/// What becomes of a pod: questions first.
#[derive(Debug)]
pub enum Injecting {
    /// Facts are missing. Answer all of these, then call [`inject`] again.
    Ask(Vec<Query<'static>>),
    /// Nobody asks for a gate, the pod has one, or it takes no traffic.
    Nothing,
    /// It asks for a gate and cannot have one; it goes without.
    Left {
        /// How much it was wanted.
        demand: Demand,
        /// Why, for the client.
        warnings: Vec<String>,
    },
    /// It must have a gate and cannot.
    Refuse(Vec<Finding>),
    /// It gets one.
    Done(Injection),
}

/// A gate for a pod.
#[derive(Debug)]
pub struct Injection {
    /// How much it was wanted.
    pub demand: Demand,
    /// How the gate takes over the app's ports.
    pub takeover: Takeover,
    /// In the order in which they must be applied.
    pub operations: Vec<Operation>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// What will become of the pods of a workload.
#[derive(Debug)]
pub(super) enum Prediction<'a> {
    /// Nothing: no gate is asked for, or they have one, or they take no traffic.
    Nothing,
    /// They get a gate.
    Gate(Box<Plan<'a>>),
    /// They can have none: what is wrong with what they are told.
    Mistaken(Vec<Mistake>),
    /// They can have none, whatever they are told.
    Unfit {
        /// They start without one.
        demand: Demand,
        /// Why.
        why: String,
    },
}

/// The gate that a Pod, read from `object`, gets. Nothing for any other kind: templates stay as they were written.
pub fn inject(
    workload: &Workload<'_>,
    object: &Value,
    known: &dyn Known,
    settings: &Settings,
) -> Injecting {
    let template = &workload.template;
    if !workload.kind.is_pod() {
        return Injecting::Nothing;
    }
    let mut inquiry = Inquiry::new(known);
    let surroundings = Surroundings::ask(&mut inquiry, workload.namespace);
    let asked = match (
        demand::asked(template, surroundings.namespace()),
        surroundings.unreadable(),
    ) {
        (Some(asked), _) => asked,
        // Only a label brought it here. It is the namespace's, then, and nobody knows which.
        (None, Some(_)) if template.label(GATE_LABEL).is_none() => Asked {
            demand: Demand::Preferred,
            by_pod: false,
        },
        _ => {
            return inquiry
                .settle()
                .map_or_else(Injecting::Ask, |()| Injecting::Nothing);
        }
    };
    if has_gate(template) {
        return completed(workload, object, asked);
    }
    let budget = PodBudget::defaulted(template, surroundings.ranges().unwrap_or_default());
    let ground = Ground {
        template,
        is_pod: true,
        namespace: (workload.namespace, surroundings.namespace()),
        budget: &budget,
        ranges: surroundings.ranges().unwrap_or_default(),
        settings: &settings.gate,
    };
    let plan = plan::plan(&ground, &mut |query| inquiry.ask(query));
    if let Err(questions) = inquiry.settle() {
        return Injecting::Ask(questions);
    }
    let image = settings.gate.image.as_deref();
    match (plan, image) {
        (Ok(plan), Some(name)) => {
            let pull_policy = settings.gate.pull_policy;
            Injecting::Done(Injection {
                demand: asked.demand,
                takeover: Takeover::of(&plan.ports),
                operations: write::inject(object, template, &plan, Image { name, pull_policy }),
                warnings: plan.warnings,
            })
        }
        (Ok(_), None) => hindered(asked, vec![Mistake::no_image()]),
        (Err(Hindrance::Mistakes(mistakes)), _) => hindered(asked, mistakes),
        (Err(Hindrance::Idle(_)), _) if !asked.by_pod => Injecting::Nothing,
        (Err(Hindrance::Idle(why) | Hindrance::Unfit(why)), _) => {
            hindered(asked, vec![Mistake::unfit(&why)])
        }
    }
}

/// A pod with a gate of ours that other webhooks have changed since.
fn completed(workload: &Workload<'_>, object: &Value, asked: Asked) -> Injecting {
    let template = &workload.template;
    let Some(takeover) = template.annotation(GATE_TAKEOVER_ANNOTATION) else {
        return Injecting::Nothing; // its owner put one there by hand
    };
    let operations = write::complete(object, template, takeover);
    if operations.is_empty() {
        return Injecting::Nothing;
    }
    Injecting::Done(Injection {
        demand: asked.demand,
        takeover: Takeover::read(takeover),
        operations,
        warnings: Vec::new(),
    })
}

fn hindered(asked: Asked, mistakes: Vec<Mistake>) -> Injecting {
    let demand = asked.demand;
    match demand {
        Demand::Preferred => Injecting::Left {
            demand,
            warnings: mistakes.into_iter().map(|mistake| mistake.text).collect(),
        },
        Demand::Enabled => {
            let finding = |mistake: Mistake| Finding {
                rule: RuleId::GateConfig,
                level: Level::Deny,
                container: None,
                path: String::new(),
                message: mistake.text,
                fix: None,
                offences: Vec::new(),
            };
            Injecting::Refuse(mistakes.into_iter().map(finding).collect())
        }
    }
}

/// What will become of the pods of a workload.
pub(super) fn predict<'a>(ground: &Ground<'a>, ask: borrow::Ask<'_>) -> Prediction<'a> {
    let asked = match demand::asked(ground.template, ground.namespace.1) {
        Some(asked) if !has_gate(ground.template) => asked,
        _ => return Prediction::Nothing,
    };
    match plan::plan(ground, ask) {
        Ok(plan) => Prediction::Gate(Box::new(plan)),
        Err(Hindrance::Mistakes(mistakes)) => Prediction::Mistaken(mistakes),
        Err(Hindrance::Idle(_)) if !asked.by_pod => Prediction::Nothing,
        Err(Hindrance::Idle(why) | Hindrance::Unfit(why)) => Prediction::Unfit {
            demand: asked.demand,
            why: Mistake::unfit(&why).text,
        },
    }
}

/// Checks a document of the settings file by itself: defaults, or a profile.
pub(super) fn check(document: Map<String, Value>) -> Result<(), Vec<Mistake>> {
    Config::check(document)
}

fn has_gate(template: &Template<'_>) -> bool {
    let named = |site: Site<'_, '_>| site.name() == GATE_CONTAINER;
    template.containers().any(named)
}

// === impl Mistake ===

impl Mistake {
    fn no_image() -> Self {
        Self {
            pointer: String::new(),
            text: "no image for the gate is configured: set gate.image in the settings".to_owned(),
        }
    }

    fn unfit(why: &str) -> Self {
        Self {
            pointer: String::new(),
            text: format!("the pod can have no gate: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
