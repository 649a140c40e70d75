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
        let mut total = Amounts::default();
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
