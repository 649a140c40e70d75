//! Requests and limits: that they agree with each other and with the LimitRanges of the namespace.

use std::{borrow::Cow, fmt::Write as _};

use super::{Context, Rule, RuleId, resources::word};
use crate::policy::{
    budget::Side,
    conflict::{Bound, Conflict, conflicts},
    finding::{Finding, Level},
    quantity::Quantity,
};

pub(super) static LIMIT_RANGE: Rule = Rule {
    id: RuleId::LimitRange,
    summary: "no LimitRange of the namespace would refuse the pods: min, max, maxLimitRequestRatio; no request is more than \
              its limit",
    why: "LimitRanges judge pods, not templates. A Deployment that breaks one is accepted, and then has no pods at all: the \
          refusal stands in the events of its ReplicaSet, where nobody looks.",
    example: "# in a namespace whose LimitRange has a max of 1Gi memory for a Container\ncontainers:\n- name: app\n  \
              image: shop:1\n  resources:\n    limits:\n      memory: 4Gi\n",
    fixed: "containers:\n- name: app\n  image: shop:1\n  resources:\n    limits:\n      memory: 1Gi\n",
    level: Level::Deny,
    reads: &[
        "spec.containers.resources",
        "spec.initContainers.resources",
        "spec.resources",
    ],
    check,
};

fn check(context: &mut Context<'_>) {
    let Some(ranges) = context.ranges else {
        return report_unknown(context);
    };
    for conflict in conflicts(context.budget, ranges) {
        if let Some(side) = conflict.missing()
            && let Some(rule) = rule_about(conflict.resource, side)
            && context.level(rule) == Level::Deny
        {
            continue; // that rule says it, and mends it
        }
        let finding = describe(context, &conflict);
        context.report(finding);
    }
}

fn report_unknown(context: &mut Context<'_>) {
    context.report(Finding {
        rule: RuleId::LimitRange,
        level: Level::Warn,
        container: None,
        path: String::from("/metadata/namespace"),
        message: format!(
            "the LimitRanges of namespace \"{}\" could not be read: judged without them",
            context.workload.namespace
        ),
        fix: None,
    });
}

/// The rule that asks for this half of this resource.
fn rule_about(resource: &str, side: Side) -> Option<RuleId> {
    match (resource, side) {
        ("cpu", Side::Request) => Some(RuleId::CpuRequest),
        ("cpu", Side::Limit) => Some(RuleId::CpuLimit),
        ("memory", Side::Request) => Some(RuleId::MemoryRequest),
        ("memory", Side::Limit) => Some(RuleId::MemoryLimit),
        _ => None,
    }
}

fn describe(context: &Context<'_>, conflict: &Conflict<'_, '_>) -> Finding {
    let Conflict { site, resource, .. } = *conflict;
    let who = site.map_or_else(|| String::from("the pod"), |site| site.to_string());
    let below = format!(
        "/resources/{}/{}",
        wrong_side(conflict).field(),
        resource.replace('~', "~0").replace('/', "~1")
    );
    Finding {
        rule: RuleId::LimitRange,
        level: Level::Deny,
        container: site.map(|site| site.name().to_owned()),
        path: match site {
            Some(site) => context.pointer(site, &below),
            None => format!("{}/spec{below}", context.workload.kind.template),
        },
        message: format!("{who} {}", reason(conflict)),
        fix: site
            .zip(mended(conflict))
            .map(|(site, yaml)| context.fix(site, yaml)),
    }
}

/// The half to point at.
fn wrong_side(conflict: &Conflict<'_, '_>) -> Side {
    let limit_is = |wrong: &dyn Fn(Quantity) -> bool| conflict.limit.is_some_and(wrong);
    match (conflict.missing(), conflict.bound) {
        (Some(side), _) => side,
        (None, Bound::Max(_, max)) if limit_is(&|limit| limit > max) => Side::Limit,
        (None, Bound::Min(_, min))
            if limit_is(&|limit| limit < min) && conflict.request >= Some(min) =>
        {
            Side::Limit
        }
        (None, Bound::Ratio(..)) => Side::Limit,
        (None, Bound::Max(..) | Bound::Min(..) | Bound::Order) => Side::Request,
    }
}

/// What is wrong, to follow the name of the container or `the pod`.
fn reason(conflict: &Conflict<'_, '_>) -> String {
    let side = wrong_side(conflict);
    let (word, noun) = (word(conflict.resource), side.noun());
    let amount = match side {
        Side::Limit => conflict.limit,
        Side::Request => conflict.request,
    };
    let has = match amount {
        _ if conflict.missing().is_some() => format!("has no {word} {noun}"),
        Some(amount) => format!("has a {word} {noun} of {amount}"),
        None => format!("has no {word} {noun}"),
    };
    match conflict.bound {
        Bound::Order => {
            let limit = conflict.limit.unwrap_or(Quantity::ZERO);
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
            let request = match conflict.request.filter(|_| conflict.missing().is_none()) {
                Some(request) => Cow::Owned(format!(" with a request of {request}")),
                None => Cow::Borrowed(""),
            };
            let name = &range.name;
            format!(
                "{has}{request}; LimitRange \"{name}\" wants a limit of at most {ratio} times the request"
            )
        }
    }
}

/// YAML that keeps what fits and moves what does not to the nearest amount that does.
fn mended(conflict: &Conflict<'_, '_>) -> Option<String> {
    let Conflict {
        limit,
        request,
        resource,
        ..
    } = *conflict;
    let (limit, request) = match conflict.bound {
        Bound::Order => (request, None),
        Bound::Min(_, min) => (
            limit.filter(|limit| *limit < min).map(|_| min),
            request.is_none_or(|request| request < min).then_some(min),
        ),
        Bound::Max(_, max) => (
            limit.is_none_or(|limit| limit > max).then_some(max),
            request.filter(|request| *request > max).map(|_| max),
        ),
        Bound::Ratio(_, ratio) => match (
            limit.filter(|limit| !limit.is_zero()),
            request.filter(|request| !request.is_zero()),
        ) {
            (Some(limit), _) => (None, Some(limit.divided_by(ratio))),
            (None, Some(request)) => (Some(request), None),
            (None, None) => return None,
        },
    };
    let mut yaml = String::from("resources:\n");
    for (side, amount) in [(Side::Limit, limit), (Side::Request, request)] {
        if let Some(amount) = amount {
            let _ = write!(yaml, "  {}:\n    {resource}: {amount}\n", side.field());
        }
    }
    Some(yaml)
}
