//! Requests and limits: that they agree with each other and with the LimitRanges of the namespace.

use std::fmt::Write as _;

use super::{Context, Rule, RuleId};
use crate::policy::{
    budget::Side,
    conflict::{Bound, Conflict, conflicts},
    finding::{Finding, Level, Offence},
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
        offences: Vec::new(),
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
        conflict.wrong_side().field(),
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
        message: format!("{who} {}", conflict.reason()),
        fix: site
            .zip(mended(conflict))
            .map(|(site, yaml)| context.fix(site, yaml)),
        offences: offences(conflict),
    }
}

/// Which bound is broken, by which half, and by how much: of a half that broke it before, only what is further from it is
/// news.
fn offences(conflict: &Conflict<'_, '_>) -> Vec<Offence> {
    let Conflict {
        site,
        resource,
        limit,
        request,
        bound,
    } = *conflict;
    let (name, range) = match bound {
        Bound::Order => ("order", ""),
        Bound::Min(range, _) => ("min of", &*range.name),
        Bound::Max(range, _) => ("max of", &*range.name),
        Bound::Ratio(range, _) => ("ratio of", &*range.name),
    };
    let offence = |half: &str, degree| {
        let container = site.map(|site| site.name());
        Offence::new(
            container,
            format!("resources.{half}.{resource}"),
            format!("{name} {range}"),
        )
        .to_degree(degree)
    };
    if let Some(side) = conflict.missing() {
        return vec![offence(&format!("{}, which is missing", side.field()), 0)];
    }
    let both = limit.zip(request);
    let halves = [(Side::Limit, limit), (Side::Request, request)];
    let broken = |beyond: &dyn Fn(Quantity) -> i128| {
        let amounts = halves
            .into_iter()
            .filter_map(|(side, amount)| Some((side, beyond(amount?))));
        let broken = amounts.filter(|(_, beyond)| *beyond > 0);
        broken
            .map(|(side, beyond)| offence(side.field(), beyond))
            .collect()
    };
    match bound {
        Bound::Min(_, min) => broken(&|amount| min.milli().saturating_sub(amount.milli())),
        Bound::Max(_, max) => broken(&|amount| amount.milli().saturating_sub(max.milli())),
        Bound::Order => {
            let beyond = both.map(|(limit, request)| request.milli().saturating_sub(limit.milli()));
            vec![offence("requests", beyond.unwrap_or_default())]
        }
        Bound::Ratio(..) => {
            let ratio = both.and_then(|(limit, request)| {
                limit
                    .milli()
                    .saturating_mul(1000)
                    .checked_div(request.milli())
            });
            vec![offence("limits", ratio.unwrap_or_default())]
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        facts::{Answer, Query, Unknown},
        testing::{Facts, NAMESPACE, deployment, limit_range, mend},
        verdict::Decision,
    };

    fn facts(item: &Value) -> Facts {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        Facts::default().with(query, Answer::LimitRanges(vec![limit_range(item)]))
    }

    fn app(resources: &Value) -> Value {
        deployment(json!({"containers": [{"name": "app", "resources": resources}]}))
    }

    /// What the rule says of a pod with these resources in a namespace with this LimitRange.
    fn said(item: &Value, resources: &Value) -> String {
        messages(&facts(item), &app(resources))
    }

    fn messages(facts: &Facts, object: &Value) -> String {
        let verdict = facts.judge(object);
        let found = verdict
            .findings
            .iter()
            .filter(|finding| finding.rule.as_str() == "limit-range");
        let messages: Vec<_> = found.map(|finding| finding.message.as_str()).collect();
        messages.join("\n")
    }

    /// A LimitRange, resources that just keep to it, resources that just do not.
    fn cases() -> Vec<(Value, Value, Value)> {
        vec![
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "1024Mi"}}),
                json!({"limits": {"memory": "1025Mi"}}),
            ),
            (
                json!({"max": {"memory": "1Gi"}}),
                json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
                json!({"requests": {"memory": "2Gi"}, "limits": {"memory": "2Gi"}}),
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                json!({"requests": {"cpu": "0.1"}}),
                json!({"requests": {"cpu": "99m"}}),
            ),
            (
                json!({"min": {"cpu": "100m"}}),
                json!({"limits": {"cpu": "100m"}}),
                json!({"limits": {"cpu": "50m"}}),
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"limits": {"cpu": "200m"}, "requests": {"cpu": "100m"}}),
                json!({"limits": {"cpu": "201m"}, "requests": {"cpu": "100m"}}),
            ),
            (
                json!({"maxLimitRequestRatio": {"memory": "1500m"}}),
                json!({"limits": {"memory": "150Mi"}, "requests": {"memory": "100Mi"}}),
                json!({"limits": {"memory": "151Mi"}, "requests": {"memory": "100Mi"}}),
            ),
            (
                json!({}),
                json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1025Mi"}}),
            ),
            (
                json!({"default": {"memory": "512Mi"}}),
                json!({"requests": {"memory": "512Mi"}}),
                json!({"requests": {"memory": "1Gi"}}), // more than the limit it will be given
            ),
            (
                json!({"max": {"ephemeral-storage": "1Gi"}}),
                json!({}), // the maximum is also the default
                json!({"limits": {"ephemeral-storage": "2Gi"}}),
            ),
        ]
    }

    #[test]
    fn accepts_what_fits_rejects_what_does_not_and_its_fix_mends_it() {
        for (range, fits, beyond) in cases() {
            assert_eq!(said(&range, &fits), "", "{range} {fits}");
            let mut object = app(&beyond);
            let verdict = facts(&range).judge(&object);
            assert_eq!(
                verdict.of("limit-range").len(),
                1,
                "{range} {beyond}: once for one fault"
            );
            assert_eq!(verdict.decision, Decision::Deny);
            let found = verdict
                .findings
                .iter()
                .find(|finding| finding.rule.as_str() == "limit-range");
            mend(&mut object, found.unwrap());
            assert_eq!(messages(&facts(&range), &object), "", "{range} {object}");
        }
    }

    #[test]
    fn says_what_is_there_and_what_is_allowed() {
        let said: Vec<_> = cases()
            .iter()
            .map(|(range, _, beyond)| said(range, beyond))
            .collect();
        insta::assert_snapshot!(said.join("\n"), @r#"
        container "app" has a memory limit of 1025Mi; LimitRange "bounds" allows at most 1Gi
        container "app" has a memory limit of 2Gi; LimitRange "bounds" allows at most 1Gi
        container "app" has a CPU request of 99m; LimitRange "bounds" demands at least 100m
        container "app" has a CPU request of 50m; LimitRange "bounds" demands at least 100m
        container "app" has a CPU limit of 201m with a request of 100m; LimitRange "bounds" wants a limit of at most 2 times the request
        container "app" has a memory limit of 151Mi with a request of 100Mi; LimitRange "bounds" wants a limit of at most 1.5 times the request
        container "app" has a memory request of 1025Mi, more than its limit of 1Gi
        container "app" has a memory request of 1Gi, more than its limit of 512Mi
        container "app" has an ephemeral-storage limit of 2Gi; LimitRange "bounds" allows at most 1Gi
        "#);
    }

    #[test]
    fn a_ratio_needs_both_halves() {
        let range = json!({"maxLimitRequestRatio": {"cpu": "2", "memory": "2"}});
        // memory-request and memory-limit deny, so they tell of memory; cpu-limit only warns.
        assert_eq!(
            said(&range, &json!({"requests": {"cpu": "1"}})),
            "container \"app\" has no CPU limit; LimitRange \"bounds\" wants a limit of at most 2 times the request"
        );
    }

    #[test]
    fn type_pod_counts_containers_sidecars_and_the_largest_init_container() {
        let range = json!({"type": "Pod", "max": {"memory": "1000Mi"}});
        let memory = |amount: &str| json!({"limits": {"memory": amount}});
        let pod = |app: &str, sidecar: &str, init: &str| {
            let object = deployment(json!({
                "containers": [{"name": "app", "resources": memory(app)}],
                "initContainers": [
                    {"name": "proxy", "restartPolicy": "Always", "resources": memory(sidecar)},
                    {"name": "migrate", "resources": memory(init)},
                ],
            }));
            messages(&facts(&range), &object)
        };
        assert_eq!(
            pod("600Mi", "400Mi", "600Mi"),
            "",
            "init containers have ended when apps start"
        );
        assert_eq!(
            pod("600Mi", "401Mi", "1Mi"),
            "the pod has a memory limit of 1001Mi; LimitRange \"bounds\" allows at most 1000Mi"
        );
        assert_eq!(
            pod("1Mi", "400Mi", "601Mi"),
            "the pod has a memory limit of 1001Mi; LimitRange \"bounds\" allows at most 1000Mi"
        );
    }

    #[test]
    fn resources_of_the_pod_win_over_the_sum() {
        let range = json!({"type": "Pod", "max": {"memory": "1Gi"}});
        let object = |limit: &str| {
            deployment(json!({
                "containers": [{"name": "app", "resources": {"limits": {"memory": "512Mi"}}}],
                "resources": {"limits": {"memory": limit}},
            }))
        };
        assert_eq!(messages(&facts(&range), &object("1Gi")), "");
        let verdict = facts(&range).judge(&object("2Gi"));
        assert_eq!(
            verdict.of("limit-range"),
            ["deny - /spec/template/spec/resources/limits/memory"]
        );
    }

    #[test]
    fn what_is_no_quantity_is_left_to_the_rule_about_it() {
        let range = json!({"max": {"memory": "1Gi"}, "min": {"memory": "1Mi"}});
        assert_eq!(said(&range, &json!({"limits": {"memory": "1GB"}})), "");
    }

    #[test]
    fn limit_ranges_that_can_not_be_read_are_a_warning() {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let facts = Facts::default().with(query, Answer::Unknown(Unknown::Deadline));
        let complete = json!({"limits": {"memory": "1Gi", "cpu": 1}});
        assert_eq!(
            facts.judge(&app(&complete)).of("limit-range"),
            ["warn - /metadata/namespace"]
        );
    }
}
