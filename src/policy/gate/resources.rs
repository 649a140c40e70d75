//! What the gate's container asks for, so that the pod is let in and keeps its QoS class.

use serde_json::{Map, Value, json};

use super::config::{Amounts, Config, Mistake};
use crate::policy::{
    budget::{Budget, PodBudget, Side},
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
    usual_limit: Quantity::from_milli(500),
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

/// `resources` of the gate in a pod of this budget.
pub(super) fn resources(own: &Amounts, budget: &PodBudget<'_>, ranges: &[LimitRange]) -> Value {
    let guaranteed = is_guaranteed(budget);
    let mut requests = Map::new();
    let mut limits = Map::new();
    for mut need in [CPU, MEMORY] {
        let name = need.resource;
        let of_pod = budget.pod.as_ref();
        if of_pod.is_some_and(|pod| {
            Side::BOTH
                .iter()
                .any(|side| pod.side(*side).get(name).is_some())
        }) {
            continue; // what the pod has is for all of its containers
        }
        if guaranteed {
            need.raise_to_class();
        } else if name == "cpu" && all_have_cpu_limits(budget) {
            // A ResourceQuota for limits.cpu lets no pod in of which one container has none.
            need.limit = Some(need.usual_limit);
        }
        need.fit(ranges);
        requests.insert(name.to_owned(), json!(need.request.to_string()));
        if let Some(limit) = need.limit {
            limits.insert(name.to_owned(), json!(limit.to_string()));
        }
    }
    for (map, own) in [(&mut requests, &own.requests), (&mut limits, &own.limits)] {
        for (name, value) in [("cpu", &own.cpu), ("memory", &own.memory)] {
            if let Some(value) = value {
                map.insert(name.to_owned(), value.clone());
            }
        }
    }
    json!({"limits": limits, "requests": requests})
}

/// Amounts of the settings that are none.
pub(super) fn mistakes(config: &Config) -> Vec<Mistake> {
    let Amounts { requests, limits } = &config.own.resources;
    let amounts = [
        ("resources.requests.cpu", &requests.cpu),
        ("resources.requests.memory", &requests.memory),
        ("resources.limits.cpu", &limits.cpu),
        ("resources.limits.memory", &limits.memory),
    ];
    let wrong = amounts.into_iter().filter_map(|(field, value)| {
        let text = match value.as_ref()? {
            Value::String(text) => text.clone(),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Array(_)
            | Value::Object(_) => value.as_ref()?.to_string(),
        };
        let error = Quantity::parse(&text).err()?;
        Some(config.mistake(field, &format!("\"{text}\" is not a quantity: {error}")))
    });
    wrong.collect()
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
