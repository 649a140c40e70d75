//! What the gate's container asks for, so that the pod is let in and keeps its QoS class.

use serde_json::{Map, Value, json};

use super::config::{self, Amounts, Config, Mistake};
use crate::contract::GATE_CONFIG_ANNOTATION;
use crate::policy::{
    budget::{Amount, Budget, Origin, PodBudget, Side},
    conflict,
    facts::LimitRange,
    quantity::Quantity,
};

/// A request and, where there has to be one, a limit.
#[derive(Clone, Copy, Debug)]
struct Need {
    resource: &'static str,
    request: Quantity,
    limit: Option<Quantity>,
    /// Where a limit is demanded.
    usual_limit: Quantity,
}

const CPU: Need = Need {
    resource: "cpu",
    request: Quantity::from_milli(10),
    // One that throttles the gate would slow every request.
    limit: None,
    // What its one thread can use at most, so that where there has to be a limit it never throttles.
    usual_limit: Quantity::from_milli(1000),
};

const MEMORY: Need = Need {
    resource: "memory",
    request: Quantity::from_mebibytes(32),
    limit: Some(Quantity::from_mebibytes(128)),
    usual_limit: Quantity::from_mebibytes(128),
};

/// In a pod of class Guaranteed, where what is asked for is what is given.
const GUARANTEED: [(&str, Quantity); 2] = [
    ("cpu", Quantity::from_milli(100)),
    ("memory", Quantity::from_mebibytes(64)),
];

/// What the gate asks for in a pod of this budget.
pub(super) fn budget(
    own: &Amounts,
    budget: &PodBudget<'_>,
    ranges: &[LimitRange],
) -> Budget<'static> {
    let guaranteed = is_guaranteed(budget);
    let best_effort = is_best_effort(budget);
    let mut gate = Budget::default();
    for mut need in [CPU, MEMORY] {
        let name = need.resource;
        if guaranteed {
            need.raise_to_class();
        } else if name == "cpu" && all_have_cpu_limits(budget) {
            // A ResourceQuota for limits.cpu lets no pod in of which one container has none.
            need.limit = Some(need.usual_limit);
        }
        need.fit(ranges);
        // Nothing where that alone would change the pod's class, and where what the pod has is for all of its containers.
        let by_itself = !best_effort && !is_of_pod(budget, name);
        let (request, limit) = match (told(&own.requests, name), told(&own.limits, name)) {
            (None, None) if by_itself => (Some(need.request), need.limit),
            (Some(amount), None) | (None, Some(amount)) if guaranteed => {
                (Some(amount), Some(amount))
            }
            (Some(request), None) if by_itself => {
                (Some(request), need.limit.map(|limit| limit.max(request)))
            }
            (None, Some(limit)) if by_itself => (Some(need.request.min(limit)), Some(limit)),
            told => told,
        };
        for (side, quantity) in [(Side::Request, request), (Side::Limit, limit)] {
            if quantity.is_some() {
                let origin = Origin::Patch;
                (gate.side_mut(side)).fill(name, Amount { quantity, origin });
            }
        }
    }
    gate
}

/// `resources` of a container.
pub(super) fn resources(budget: &Budget<'_>) -> Value {
    let amounts = |side: Side| {
        let amounts = budget.side(side).iter();
        let written = amounts.filter_map(|(name, amount)| {
            Some((name.to_owned(), json!(amount.quantity?.to_string())))
        });
        written.collect::<Map<_, _>>()
    };
    json!({"limits": amounts(Side::Limit), "requests": amounts(Side::Request)})
}

/// Why LimitRanger would refuse the pod with the gate, where it would let it in without.
pub(super) fn no_room(
    gate: &Budget<'static>,
    budget: &PodBudget<'_>,
    ranges: &[LimitRange],
) -> Option<String> {
    let without = conflict::of_pod(budget, &Budget::default(), ranges);
    let mut with = conflict::of_pod(budget, gate, ranges).into_iter();
    let known = |one: &conflict::Conflict<'_, '_>| {
        let mut without = without.iter();
        without.any(|other| (other.resource, other.bound) == (one.resource, one.bound))
    };
    let conflict = with.find(|conflict| !known(conflict))?;
    Some(format!(
        "with the gate it {}; leave room for it, or set its resources in {GATE_CONFIG_ANNOTATION}",
        conflict.reason()
    ))
}

/// Requests that are told and are more than the limits that are.
pub(super) fn mistakes(config: &Config) -> Vec<Mistake> {
    let Amounts { requests, limits } = &config.own.resources;
    let wrong = ["cpu", "memory"].into_iter().filter_map(|name| {
        let (request, limit) = (told(requests, name)?, told(limits, name)?);
        (request > limit).then(|| {
            let field = format!("resources.requests.{name}");
            config.mistake(
                &field,
                &format!("{request} is more than the limit, {limit}"),
            )
        })
    });
    wrong.collect()
}

fn told(amount: &config::Amount, name: &str) -> Option<Quantity> {
    match name {
        "cpu" => amount.cpu,
        _ => amount.memory,
    }
}

fn is_of_pod(budget: &PodBudget<'_>, name: &str) -> bool {
    let has = |pod: &Budget<'_>| {
        let mut sides = Side::BOTH.iter();
        sides.any(|side| pod.side(*side).get(name).is_some())
    };
    budget.pod.as_ref().is_some_and(has)
}

/// Requests and limits are set and equal, for every container or for the pod (`ComputePodQOS`).
fn is_guaranteed(budget: &PodBudget<'_>) -> bool {
    let equal = |budget: &Budget<'_>| {
        GUARANTEED.iter().all(|(name, _)| {
            let amount = |side: Side| {
                budget
                    .side(side)
                    .get(name)
                    .and_then(|amount| amount.quantity)
            };
            let limit = amount(Side::Limit).filter(|limit| !limit.is_zero());
            limit.is_some() && limit == amount(Side::Request)
        })
    };
    let containers = &budget.containers;
    !containers.is_empty() && containers.iter().all(|(_, budget)| equal(budget))
}

/// Nobody in the pod asks for anything, nor the pod itself (`ComputePodQOS`).
fn is_best_effort(budget: &PodBudget<'_>) -> bool {
    let asks = |budget: &Budget<'_>| {
        let sides = Side::BOTH.iter().map(|side| budget.side(*side));
        sides
            .flat_map(|amounts| [amounts.get("cpu"), amounts.get("memory")])
            .flatten()
            .any(|amount| amount.quantity.is_none_or(|quantity| !quantity.is_zero()))
    };
    let containers = budget.containers.iter().map(|(_, budget)| budget);
    !containers.chain(&budget.pod).any(asks)
}

fn all_have_cpu_limits(budget: &PodBudget<'_>) -> bool {
    let mut containers = budget.containers.iter();
    containers.all(|(_, budget)| budget.limits.get("cpu").is_some())
}

// === impl Need ===

impl Need {
    fn raise_to_class(&mut self) {
        let class = GUARANTEED.iter().find(|(name, _)| *name == self.resource);
        if let Some((_, amount)) = class {
            self.request = *amount;
            self.limit = Some(*amount);
        }
    }

    /// Keeps within what LimitRanger would refuse, and says what it would otherwise fill in.
    fn fit(&mut self, ranges: &[LimitRange]) {
        let equal = self.limit == Some(self.request);
        for range in ranges.iter().filter(|range| !range.pod) {
            let amount = |map: &std::collections::BTreeMap<Box<str>, Box<str>>| {
                let text = map.get(self.resource)?;
                Quantity::parse(text).ok()
            };
            let [default, max, min, ratio] = [
                &range.default,
                &range.max,
                &range.min,
                &range.max_limit_request_ratio,
            ]
            .map(amount);
            if default.or(max).or(ratio).is_some() {
                self.limit = self.limit.or(Some(self.usual_limit));
            }
            if let Some(max) = max {
                self.request = self.request.min(max);
                self.limit = self.limit.map(|limit| limit.min(max));
            }
            if let Some(min) = min {
                self.request = self.request.max(min);
                self.limit = self.limit.map(|limit| limit.max(min));
            }
            if let (Some(ratio), Some(limit)) = (ratio, self.limit) {
                self.request = self.request.max(limit.divided_by(ratio));
            }
            if equal && let Some(limit) = self.limit {
                self.request = limit;
            }
        }
    }
}
