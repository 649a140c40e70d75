//! Why LimitRanger, or the API server itself, would refuse a pod of this budget.

use std::borrow::Cow;

use super::{
    budget::{Budget, PodBudget, Side, word},
    facts::LimitRange,
    quantity::Quantity,
    template::Site,
};

/// One reason.
#[derive(Clone, Copy, Debug)]
pub struct Conflict<'b, 'a> {
    /// The container it is about; `None` for the pod as a whole.
    pub site: Option<Site<'a, 'a>>,
    /// The resource: `memory`.
    pub resource: &'b str,
    /// What it has of it. The halves that matter are those that [`Bound`] names.
    pub limit: Option<Quantity>,
    /// Likewise.
    pub request: Option<Quantity>,
    /// What it runs against.
    pub bound: Bound<'b>,
}

/// What a budget runs against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound<'b> {
    /// The request is more than the limit: the API server refuses that everywhere.
    Order,
    /// `min` of a LimitRange: neither request nor limit may be less.
    Min(&'b LimitRange, Quantity),
    /// `max` of a LimitRange: neither limit nor request may be more.
    Max(&'b LimitRange, Quantity),
    /// `maxLimitRequestRatio` of a LimitRange: the limit may be so many times the request, no more.
    Ratio(&'b LimitRange, Quantity),
}

/// Every reason there is: those of containers, then those of the pod.
pub fn conflicts<'b, 'a>(
    budget: &'b PodBudget<'a>,
    ranges: &'b [LimitRange],
) -> Vec<Conflict<'b, 'a>> {
    let mut found = Vec::new();
    let containers = || {
        budget
            .containers
            .iter()
            .map(|(site, budget)| (Some(*site), budget))
    };
    for (site, budget) in containers().chain(budget.pod.iter().map(|pod| (None, pod))) {
        check_order(&mut found, site, budget);
    }
    for range in ranges.iter().filter(|range| !range.pod) {
        for (site, budget) in containers() {
            check_range(&mut found, site, budget, range);
        }
    }
    found.extend(of_pod(budget, &Budget::default(), ranges));
    found
}

/// Those of the pod as a whole, with one container more of this budget.
pub fn of_pod<'b, 'a>(
    budget: &PodBudget<'a>,
    more: &Budget<'a>,
    ranges: &'b [LimitRange],
) -> Vec<Conflict<'b, 'a>> {
    let mut found = Vec::new();
    let mut total = None;
    for range in ranges.iter().filter(|range| range.pod) {
        let total = total.get_or_insert_with(|| Budget {
            limits: budget.total_with(Side::Limit, &more.limits),
            requests: budget.total_with(Side::Request, &more.requests),
        });
        check_range(&mut found, None, total, range);
    }
    found
}

// === impl Conflict ===

impl Conflict<'_, '_> {
    /// The half of the budget that is not there though the LimitRange demands it; `None` if what is there is wrong.
    pub fn missing(&self) -> Option<Side> {
        let absent = |amount: Option<Quantity>| amount.is_none_or(Quantity::is_zero);
        match self.bound {
            Bound::Min(..) => self.request.is_none().then_some(Side::Request),
            Bound::Max(..) => self.limit.is_none().then_some(Side::Limit),
            Bound::Ratio(..) if absent(self.request) => Some(Side::Request),
            Bound::Ratio(..) if absent(self.limit) => Some(Side::Limit),
            Bound::Ratio(..) | Bound::Order => None,
        }
    }

    /// The half to point at.
    pub fn wrong_side(&self) -> Side {
        let limit_is = |wrong: &dyn Fn(Quantity) -> bool| self.limit.is_some_and(wrong);
        match (self.missing(), self.bound) {
            (Some(side), _) => side,
            (None, Bound::Max(_, max)) if limit_is(&|limit| limit > max) => Side::Limit,
            (None, Bound::Min(_, min))
                if limit_is(&|limit| limit < min) && self.request >= Some(min) =>
            {
                Side::Limit
            }
            (None, Bound::Ratio(..)) => Side::Limit,
            (None, Bound::Max(..) | Bound::Min(..) | Bound::Order) => Side::Request,
        }
    }

    /// What is wrong, to follow the name of the container or `the pod`.
    pub fn reason(&self) -> String {
        let side = self.wrong_side();
        let (word, noun) = (word(self.resource), side.noun());
        let article = if word.starts_with(['e', 'i', 'o']) {
            "an"
        } else {
            "a"
        };
        let amount = match side {
            Side::Limit => self.limit,
            Side::Request => self.request,
        };
        let has = match amount {
            _ if self.missing().is_some() => format!("has no {word} {noun}"),
            Some(amount) => format!("has {article} {word} {noun} of {amount}"),
            None => format!("has no {word} {noun}"),
        };
        match self.bound {
            Bound::Order => {
                let limit = self.limit.unwrap_or(Quantity::ZERO);
                format!("{has}, more than its limit of {limit}")
            }
            Bound::Min(range, min) => format!(
                "{has}; LimitRange \"{}\" demands at least {min}",
                range.name
            ),
            Bound::Max(range, max) => {
                format!("{has}; LimitRange \"{}\" allows at most {max}", range.name)
            }
            Bound::Ratio(range, ratio) => {
                let request = match self.request.filter(|_| self.missing().is_none()) {
                    Some(request) => Cow::Owned(format!(" with a request of {request}")),
                    None => Cow::Borrowed(""),
                };
                let (name, ratio) = (&range.name, ratio.as_decimal());
                format!(
                    "{has}{request}; LimitRange \"{name}\" wants a limit of at most {ratio} times the request"
                )
            }
        }
    }
}

fn check_order<'b, 'a>(
    found: &mut Vec<Conflict<'b, 'a>>,
    site: Option<Site<'a, 'a>>,
    budget: &'b Budget<'a>,
) {
    for (resource, _) in budget.requests.iter() {
        if let Some((limit @ Some(most), request @ Some(wanted))) = halves(budget, resource)
            && wanted > most
        {
            found.push(Conflict {
                site,
                resource,
                limit,
                request,
                bound: Bound::Order,
            });
        }
    }
}

fn check_range<'b, 'a>(
    found: &mut Vec<Conflict<'b, 'a>>,
    site: Option<Site<'a, 'a>>,
    budget: &Budget<'a>,
    range: &'b LimitRange,
) {
    let LimitRange {
        min,
        max,
        max_limit_request_ratio,
        ..
    } = range;
    let constraints: [(_, fn(_, _) -> _); 3] = [
        (min, Bound::Min),
        (max, Bound::Max),
        (max_limit_request_ratio, Bound::Ratio),
    ];
    for (amounts, bound) in constraints {
        for (resource, value) in amounts {
            let Ok(enforced) = Quantity::parse(value) else {
                continue;
            };
            let Some((limit, request)) = halves(budget, resource) else {
                continue;
            };
            let conflict = Conflict {
                site,
                resource,
                limit,
                request,
                bound: bound(range, enforced),
            };
            if conflict.missing().is_some() || is_broken(conflict.bound, limit, request) {
                found.push(conflict);
            }
        }
    }
}

/// Limit and request of a resource; `None` if what is written there is no quantity, which a rule of its own tells.
fn halves(budget: &Budget<'_>, resource: &str) -> Option<(Option<Quantity>, Option<Quantity>)> {
    let readable = |side: Side| match budget.side(side).get(resource) {
        None => Some(None),
        Some(amount) => amount.quantity.map(Some),
    };
    Some((readable(Side::Limit)?, readable(Side::Request)?))
}

fn is_broken(bound: Bound<'_>, limit: Option<Quantity>, request: Option<Quantity>) -> bool {
    let any = |beyond: &dyn Fn(Quantity) -> bool| {
        limit.is_some_and(beyond) || request.is_some_and(beyond)
    };
    match bound {
        Bound::Order => limit
            .zip(request)
            .is_some_and(|(limit, request)| request > limit),
        Bound::Min(_, min) => any(&|amount| amount < min),
        Bound::Max(_, max) => any(&|amount| amount > max),
        Bound::Ratio(_, ratio) => limit.zip(request).is_some_and(|(limit, request)| {
            // limit / request > ratio, without dividing
            limit.milli().saturating_mul(1000) > ratio.milli().saturating_mul(request.milli())
        }),
    }
}
