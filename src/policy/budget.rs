//! What a pod will ask for once the API server has defaulted it.
//!
//! A Pod reaches us defaulted; a template does not, and is judged as its pods will be. The order is the API server's:
//!
//! ```text
//! written -> SetDefaults_Pod -> LimitRanger defaults -> our patch -> SetDefaults_Pod -> LimitRanger checks
//! ```

use super::{
    facts::LimitRange,
    quantity::Quantity,
    template::{Map, Resources, Scalar, Site, Template},
};

/// Limits and requests of a pod and of its containers.
#[derive(Clone, Debug)]
pub struct PodBudget<'a> {
    /// Those of the containers, `containers` first, then `initContainers`.
    pub containers: Vec<(Site<'a, 'a>, Budget<'a>)>,
    /// Those of the pod as a whole (`spec.resources`), where it has them.
    pub pod: Option<Budget<'a>>,
}

/// Limits and requests.
#[derive(Clone, Debug, Default)]
pub struct Budget<'a> {
    /// `limits`.
    pub limits: Amounts<'a>,
    /// `requests`.
    pub requests: Amounts<'a>,
}

/// Amounts by resource name.
#[derive(Clone, Debug, Default)]
pub struct Amounts<'a> {
    cpu: Option<Amount>,
    memory: Option<Amount>,
    /// `ephemeral-storage`, `hugepages-2Mi`, `nvidia.com/gpu` and their like: seldom any.
    others: Vec<(&'a str, Amount)>,
}

/// One amount and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// `None` if what is written is not a quantity.
    pub quantity: Option<Quantity>,
    /// Who set it.
    pub origin: Origin,
}

/// Who set an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The manifest.
    Written,
    /// The API server: a limit without a request is its own request.
    Limit,
    /// The defaults of a LimitRange.
    LimitRange,
    /// Our own patch.
    Patch,
}

/// One half of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `limits`.
    Limit,
    /// `requests`.
    Request,
}

/// The resources that `spec.resources` of a pod may give besides huge pages.
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];

/// A resource's name in a sentence.
pub(super) fn word(resource: &str) -> &str {
    if resource == "cpu" { "CPU" } else { resource }
}

// === impl PodBudget ===

impl<'a> PodBudget<'a> {
    /// What the pods of this template will have before anything of ours touches them.
    pub fn defaulted(template: &'a Template<'a>, ranges: &'a [LimitRange]) -> Self {
        let pod = template
            .spec
            .as_ref()
            .and_then(|spec| spec.resources.as_ref());
        let mut budget = Self {
            containers: template
                .containers()
                .map(|site| (site, Budget::written(site.container.resources.as_ref())))
                .collect(),
            pod: pod.map(|resources| Budget::written(Some(resources))),
        };
        budget.set_defaults();
        budget.apply(ranges);
        budget
    }

    /// `SetDefaults_Pod`: limits become requests where there are none.
    pub fn set_defaults(&mut self) {
        for (_, budget) in &mut self.containers {
            for (name, limit) in budget.limits.iter() {
                budget.requests.fill(
                    name,
                    Amount {
                        origin: Origin::Limit,
                        ..limit
                    },
                );
            }
        }
        let Some(mut pod) = self.pod.take() else {
            return;
        };
        // `defaultPodRequests`: only if the pod has any limit, what the containers request together, else its limit.
        if pod.limits.iter().next().is_some() {
            let containers = self.total(Side::Request);
            for name in POD_LEVEL {
                if let Some(total) = containers.get(name).or_else(|| pod.limits.get(name)) {
                    pod.requests.fill(
                        name,
                        Amount {
                            origin: Origin::Limit,
                            ..total
                        },
                    );
                }
            }
        }
        self.pod = Some(pod);
    }

    /// What `side` of the whole pod amounts to, as LimitRanger counts it: containers and native sidecars together, or the
    /// most that an init container needs beside the sidecars before it; `spec.resources` wins over both.
    pub fn total(&self, side: Side) -> Amounts<'a> {
        self.total_with(side, &Amounts::default())
    }

    /// The same with one container more, which runs as long as the app's and starts last of the init containers.
    pub fn total_with(&self, side: Side, more: &Amounts<'a>) -> Amounts<'a> {
        let mut total = more.clone();
        let mut sidecars = Amounts::default();
        let mut starting = Amounts::default();
        for (site, budget) in &self.containers {
            let amounts = budget.side(side);
            if site.is_long_running() {
                total.add(amounts);
            }
            if site.list == "initContainers" {
                let mut needed = sidecars.clone();
                needed.add(amounts);
                starting.raise(&needed);
                if site.is_long_running() {
                    sidecars = needed;
                }
            }
        }
        total.raise(&starting);
        let pod = self.pod.as_ref().map(|pod| pod.side(side));
        for name in POD_LEVEL {
            if let Some(amount) = pod.and_then(|pod| pod.get(name)) {
                total.put(name, amount);
            }
        }
        total
    }

    /// LimitRanger's defaults for containers.
    fn apply(&mut self, ranges: &'a [LimitRange]) {
        // One object after another; within one object the last item that says anything wins, so from the back.
        for object in ranges.chunk_by(|one, next| one.name == next.name) {
            for item in object.iter().rev().filter(|item| !item.pod) {
                // `SetDefaults_LimitRangeItem`; files have not been through it.
                let limits = [&item.default, &item.max];
                let requests = [&item.default_request, &item.default, &item.max, &item.min];
                for (_, budget) in &mut self.containers {
                    budget.limits.fill_from(limits);
                    budget.requests.fill_from(requests);
                }
            }
        }
    }
}

// === impl Budget ===

impl<'a> Budget<'a> {
    /// One half of it.
    pub fn side(&self, side: Side) -> &Amounts<'a> {
        match side {
            Side::Limit => &self.limits,
            Side::Request => &self.requests,
        }
    }

    /// One half of it, to change.
    pub fn side_mut(&mut self, side: Side) -> &mut Amounts<'a> {
        match side {
            Side::Limit => &mut self.limits,
            Side::Request => &mut self.requests,
        }
    }

    fn written(resources: Option<&'a Resources<'a>>) -> Self {
        resources.map_or_else(Self::default, |resources| Self {
            limits: Amounts::written(&resources.limits),
            requests: Amounts::written(&resources.requests),
        })
    }
}

// === impl Amounts ===

impl<'a> Amounts<'a> {
    /// The amount of a resource.
    pub fn get(&self, name: &str) -> Option<Amount> {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            _ => self
                .others
                .iter()
                .find(|(other, _)| *other == name)
                .map(|&(_, amount)| amount),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Amount)> {
        let named = [("cpu", self.cpu), ("memory", self.memory)];
        let named = named
            .into_iter()
            .filter_map(|(name, amount)| Some((name, amount?)));
        named.chain(self.others.iter().copied())
    }

    /// Sets an amount where there is none; says whether it did.
    pub fn fill(&mut self, name: &'a str, amount: Amount) -> bool {
        let missing = self.get(name).is_none();
        if missing {
            self.put(name, amount);
        }
        missing
    }

    /// Takes an amount away.
    pub fn remove(&mut self, name: &str) {
        match name {
            "cpu" => self.cpu = None,
            "memory" => self.memory = None,
            _ => self.others.retain(|(other, _)| *other != name),
        }
    }

    fn put(&mut self, name: &'a str, amount: Amount) {
        match name {
            "cpu" => self.cpu = Some(amount),
            "memory" => self.memory = Some(amount),
            _ => match self.others.iter_mut().find(|(other, _)| *other == name) {
                Some((_, slot)) => *slot = amount,
                None => self.others.push((name, amount)),
            },
        }
    }

    fn written(map: &'a Map<'a, Scalar<'a>>) -> Self {
        let mut amounts = Self::default();
        for (name, value) in map.iter() {
            let quantity = Quantity::parse(value.as_written()).ok();
            amounts.put(
                name,
                Amount {
                    quantity,
                    origin: Origin::Written,
                },
            );
        }
        amounts
    }

    fn fill_from<const N: usize>(
        &mut self,
        maps: [&'a std::collections::BTreeMap<Box<str>, Box<str>>; N],
    ) {
        for (name, value) in maps.into_iter().flatten() {
            if let Ok(quantity) = Quantity::parse(value) {
                let amount = Amount {
                    quantity: Some(quantity),
                    origin: Origin::LimitRange,
                };
                self.fill(name, amount);
            }
        }
    }

    /// Adds every amount of `more`. What can't be read can't be added: the sum can't be read either.
    fn add(&mut self, more: &Self) {
        for (name, amount) in more.iter() {
            let sum = match self.get(name) {
                None => amount,
                Some(sum) => Amount {
                    quantity: sum
                        .quantity
                        .zip(amount.quantity)
                        .map(|(sum, more)| sum.plus(more)),
                    origin: sum.origin,
                },
            };
            self.put(name, sum);
        }
    }

    /// Raises every amount to that of `other`, where that is more.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            match self.get(name) {
                Some(own)
                    if own.quantity.is_none()
                        || own.quantity >= amount.quantity && amount.quantity.is_some() => {}
                _ => self.put(name, amount),
            }
        }
    }
}

// === impl Side ===

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Limit, Self::Request];

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Limit => Self::Request,
            Self::Request => Self::Limit,
        }
    }

    /// This half of what is written.
    pub fn of<'r, 'a>(self, resources: &'r Resources<'a>) -> &'r Map<'a, Scalar<'a>> {
        match self {
            Self::Limit => &resources.limits,
            Self::Request => &resources.requests,
        }
    }

    /// In a sentence: `limit`, `request`.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Request => "request",
        }
    }

    /// The field of `resources`: `limits`, `requests`.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Limit => "limits",
            Self::Request => "requests",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{
        testing::{deployment, kind_of, limit_range, raw},
        workload::Workload,
    };

    /// `LIMIT/REQUEST` of memory for each container, with a letter for who set it.
    fn memory(spec: &Value, ranges: &[LimitRange]) -> String {
        let object = deployment(spec.clone());
        let bytes = raw(&object);
        let workload = Workload::read(kind_of(&object), "shop", &bytes)
            .unwrap()
            .unwrap();
        let budget = PodBudget::defaulted(&workload.template, ranges);
        let amount = |amounts: &Amounts<'_>| {
            amounts
                .get("memory")
                .map_or_else(String::new, |Amount { quantity, origin }| {
                    let quantity =
                        quantity.map_or_else(|| String::from("?"), |quantity| quantity.to_string());
                    format!("{quantity} {origin:?}")
                })
        };
        let pod = budget.pod.iter().map(|budget| ("pod", budget));
        let containers = budget
            .containers
            .iter()
            .map(|(site, budget)| (site.name(), budget));
        let lines = containers
            .chain(pod)
            .map(|(name, Budget { limits, requests })| {
                format!("{name}: {} / {}", amount(limits), amount(requests))
            });
        lines.collect::<Vec<_>>().join(", ")
    }

    fn one(resources: &Value, ranges: &[LimitRange]) -> String {
        memory(
            &json!({"containers": [{"name": "app", "resources": resources}]}),
            ranges,
        )
    }

    #[test]
    fn a_limit_becomes_a_request() {
        let limits = json!({"limits": {"memory": "1Gi"}});
        assert_eq!(one(&limits, &[]), "app: 1Gi Written / 1Gi Limit");
        let invalid = json!({"limits": {"memory": "1GB"}});
        assert_eq!(one(&invalid, &[]), "app: ? Written / ? Limit");
    }

    #[test]
    fn a_limit_range_comes_after_the_limit_became_a_request() {
        let range = [limit_range(&json!({
            "default": {"memory": "512Mi"}, "defaultRequest": {"memory": "128Mi"},
        }))];
        assert_eq!(
            one(&Value::Null, &range),
            "app: 512Mi LimitRange / 128Mi LimitRange"
        );
        let limits = json!({"limits": {"memory": "1Gi"}});
        assert_eq!(one(&limits, &range), "app: 1Gi Written / 1Gi Limit");
        let requests = json!({"requests": {"memory": "1Gi"}});
        assert_eq!(
            one(&requests, &range),
            "app: 512Mi LimitRange / 1Gi Written"
        );
    }

    #[test]
    fn max_and_min_of_a_limit_range_are_defaults_too() {
        let range = |item: Value| [limit_range(&item)];
        let max = range(json!({"max": {"memory": "2Gi"}}));
        assert_eq!(
            one(&Value::Null, &max),
            "app: 2Gi LimitRange / 2Gi LimitRange"
        );
        let min = range(json!({"min": {"memory": "64Mi"}}));
        assert_eq!(one(&Value::Null, &min), "app:  / 64Mi LimitRange");
        let pod = range(json!({"type": "Pod", "max": {"memory": "2Gi"}}));
        assert_eq!(one(&Value::Null, &pod), "app:  / ");
    }

    #[test]
    fn of_one_limit_range_the_last_item_wins_and_of_several_the_first() {
        let item = |name: &str, memory: &str| {
            let mut item = limit_range(&json!({"default": {"memory": memory}}));
            item.name = name.into();
            item
        };
        let same = [item("a", "1Mi"), item("a", "2Mi")];
        assert_eq!(
            one(&Value::Null, &same),
            "app: 2Mi LimitRange / 2Mi LimitRange"
        );
        let several = [item("a", "1Mi"), item("b", "2Mi")];
        assert_eq!(
            one(&Value::Null, &several),
            "app: 1Mi LimitRange / 1Mi LimitRange"
        );
    }

    #[test]
    fn requests_of_the_pod_come_from_its_containers_else_from_its_limit() {
        let spec = |resources: Value| {
            json!({
                "containers": [{"name": "app", "resources": resources}],
                "resources": {"limits": {"memory": "1Gi"}},
            })
        };
        assert_eq!(
            memory(&spec(json!({})), &[]),
            "app:  / , pod: 1Gi Written / 1Gi Limit"
        );
        assert_eq!(
            memory(&spec(json!({"requests": {"memory": "64Mi"}})), &[]),
            "app:  / 64Mi Written, pod: 1Gi Written / 64Mi Limit"
        );
    }
}
