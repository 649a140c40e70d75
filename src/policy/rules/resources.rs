//! Requests and limits: that they are set, once the API server and LimitRanges have defaulted them.

use std::fmt;

use super::{Context, Rule, RuleId};
use crate::{
    contract::GATE_CONTAINER,
    policy::{
        budget::{Amount, Origin, Side, word},
        finding::{Finding, Level, Offence},
        quantity::{Invalid, Quantity},
        settings::Settings,
        template::Resources,
    },
};

const READS: &[&str] = &[
    "spec.containers.resources",
    "spec.initContainers.resources",
    "spec.resources",
];

const EXAMPLE: &str = "containers:\n- name: app\n  image: shop:1\n";

pub(super) static CPU_REQUEST: Rule = Rule {
    id: RuleId::CpuRequest,
    summary: "every container requests CPU, in so many words or by its limit or a LimitRange",
    why: "The scheduler places a pod by its requests. Without one it counts as nothing, the node fills beyond what it has, \
          and when CPU runs short the kernel gives this container close to none: probes time out and the pod restarts.",
    example: EXAMPLE,
    fixed: "containers:\n- name: app\n  image: shop:1\n  resources:\n    requests:\n      cpu: 100m\n",
    level: Level::Deny,
    reads: READS,
    check: |context| check(context, RuleId::CpuRequest, Side::Request, "cpu"),
};

pub(super) static MEMORY_REQUEST: Rule = Rule {
    id: RuleId::MemoryRequest,
    summary: "every container requests memory, in so many words or by its limit or a LimitRange",
    why: "Without a memory request the scheduler packs the pod onto a node that may have no room for it, and the kubelet \
          evicts it first when memory runs short, since all that it uses is more than it asked for.",
    example: EXAMPLE,
    fixed: "containers:\n- name: app\n  image: shop:1\n  resources:\n    requests:\n      memory: 128Mi\n",
    level: Level::Deny,
    reads: READS,
    check: |context| check(context, RuleId::MemoryRequest, Side::Request, "memory"),
};

pub(super) static MEMORY_LIMIT: Rule = Rule {
    id: RuleId::MemoryLimit,
    summary: "every container has a memory limit, its own, the pod's or a LimitRange's",
    why: "Without a memory limit a leak grows until the node runs out: the kernel then kills whatever it likes there, and \
          the kubelet evicts neighbours that did nothing wrong. With one, only the container that leaks is restarted.",
    example: EXAMPLE,
    fixed: "containers:\n- name: app\n  image: shop:1\n  resources:\n    limits:\n      memory: 256Mi\n",
    level: Level::Deny,
    reads: READS,
    check: |context| check(context, RuleId::MemoryLimit, Side::Limit, "memory"),
};

pub(super) static CPU_LIMIT: Rule = Rule {
    id: RuleId::CpuLimit,
    summary: "every container has a CPU limit, its own, the pod's or a LimitRange's",
    why: "Without a CPU limit one busy container may take all that its node has to spare, and its speed depends on its \
          neighbours. With one it is throttled, which hurts latency: many teams leave it out on purpose, so this only warns.",
    example: EXAMPLE,
    fixed: "containers:\n- name: app\n  image: shop:1\n  resources:\n    limits:\n      cpu: 500m\n",
    level: Level::Warn,
    reads: READS,
    check: |context| check(context, RuleId::CpuLimit, Side::Limit, "cpu"),
};

/// What is offered for pasting where settings name no default.
const SUGGESTED: [(RuleId, Quantity); 4] = [
    (RuleId::CpuRequest, Quantity::from_milli(100)),
    (RuleId::CpuLimit, Quantity::from_milli(500)),
    (RuleId::MemoryRequest, Quantity::from_mebibytes(128)),
    (RuleId::MemoryLimit, Quantity::from_mebibytes(256)),
];

fn check(context: &mut Context<'_>, rule: RuleId, side: Side, resource: &'static str) {
    if pod_has_it(context, rule, side, resource) {
        return; // enough for each of its containers
    }
    // A LimitRange that could not be read might have filled the gap.
    let missing = if context.ranges.is_none() {
        Level::Warn
    } else {
        Level::Deny
    };
    for (site, budget) in &context.budget.containers {
        if rule == RuleId::CpuLimit && site.name() == GATE_CONTAINER {
            continue; // has none on purpose: it would throttle every request
        }
        let written = site.container.resources.as_ref();
        let amount = budget.side(side).get(resource);
        let Some(fault) = Fault::find(amount, side, resource, written) else {
            continue;
        };
        let other = budget.side(side.other()).get(resource);
        let offer = suggestion(context.settings, rule, side, other);
        let yaml = format!("resources:\n  {}:\n    {resource}: {offer}\n", side.field());
        context.report(Finding {
            rule,
            level: if matches!(fault, Fault::Missing { .. }) {
                missing
            } else {
                Level::Deny
            },
            container: Some(site.name().to_owned()),
            path: context.pointer(*site, &format!("/resources/{}/{resource}", side.field())),
            message: format!("{site} {fault}"),
            fix: Some(context.fix(*site, yaml)),
            offences: vec![fault.offence(Some(site.name()), side, resource)],
        });
    }
}

/// `spec.resources` gives the pod as a whole an amount; one that can't be read is told here, once.
fn pod_has_it(context: &mut Context<'_>, rule: RuleId, side: Side, resource: &'static str) -> bool {
    let workload = context.workload;
    let Some(pod) = &context.budget.pod else {
        return false;
    };
    let written = workload
        .template
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref());
    let fault = Fault::find(pod.side(side).get(resource), side, resource, written);
    if let Some(fault @ Fault::Unreadable { .. }) = &fault {
        let field = side.field();
        context.report(Finding {
            rule,
            level: Level::Deny,
            container: None,
            path: format!(
                "{}/spec/resources/{field}/{resource}",
                workload.kind.template
            ),
            message: format!("the pod {fault}"),
            fix: None,
            offences: vec![fault.offence(None, side, resource)],
        });
    }
    matches!(fault, None | Some(Fault::Unreadable { .. }))
}

/// What is wrong with an amount.
enum Fault<'a> {
    Missing {
        side: Side,
        resource: &'static str,
    },
    Zero {
        side: Side,
        resource: &'static str,
    },
    Unreadable {
        side: Side,
        resource: &'static str,
        written: &'a str,
        error: Invalid,
    },
}

// === impl Fault ===

impl<'a> Fault<'a> {
    fn find(
        amount: Option<Amount>,
        side: Side,
        resource: &'static str,
        written: Option<&'a Resources<'a>>,
    ) -> Option<Self> {
        let Some(Amount { quantity, origin }) = amount else {
            return Some(Self::Missing { side, resource });
        };
        match quantity {
            Some(quantity) if quantity.is_zero() => Some(Self::Zero { side, resource }),
            None if origin == Origin::Written => {
                let written = written
                    .and_then(|resources| side.of(resources).get(resource))?
                    .as_written();
                let error = Quantity::parse(written).err()?;
                Some(Self::Unreadable {
                    side,
                    resource,
                    written,
                    error,
                })
            }
            // A request copied from an unreadable limit is that limit's fault, and told there.
            Some(_) | None => None,
        }
    }

    fn offence(&self, container: Option<&str>, side: Side, resource: &str) -> Offence {
        let value = match *self {
            Self::Missing { .. } | Self::Zero { .. } => "",
            Self::Unreadable { written, .. } => written,
        };
        let field = format!("resources.{}.{resource}", side.field());
        Offence::new(container, field, value)
    }
}

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Missing { side, resource } => {
                write!(f, "has no {} {}", word(resource), side.noun())
            }
            Self::Zero { side, resource } => {
                let noun = side.noun();
                write!(
                    f,
                    "has a {} {noun} of 0, which Kubernetes reads as none",
                    word(resource)
                )
            }
            Self::Unreadable {
                side,
                resource,
                written,
                error,
            } => {
                let noun = side.noun();
                write!(
                    f,
                    "has a {} {noun} of \"{written}\", which is no quantity: {error}",
                    word(resource)
                )
            }
        }
    }
}

/// An amount to paste: what settings patch in, else a modest one; a request no higher than the limit there is, and a limit
/// no lower than the request.
fn suggestion(settings: &Settings, rule: RuleId, side: Side, other: Option<Amount>) -> Quantity {
    let modest = SUGGESTED.iter().find(|(id, _)| *id == rule);
    let modest = modest.map_or(Quantity::ZERO, |&(_, quantity)| quantity);
    let wanted = settings.patches.amount(rule).unwrap_or(modest);
    match (
        side,
        other
            .and_then(|amount| amount.quantity)
            .filter(|other| !other.is_zero()),
    ) {
        (Side::Request, Some(limit)) => wanted.min(limit),
        (Side::Limit, Some(request)) => wanted.max(request),
        (_, None) => wanted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        facts::{Answer, LimitRange, Query, Unknown},
        settings::Settings,
        testing::{Facts, NAMESPACE, container, deployment, limit_range, mend},
    };

    const RULES: [&str; 4] = ["cpu-request", "memory-request", "memory-limit", "cpu-limit"];

    /// The amount rules that fire, each with its container.
    fn fired(facts: &Facts, object: &Value) -> Vec<String> {
        let verdict = facts.judge(object);
        let found = verdict
            .findings
            .iter()
            .filter(|finding| RULES.contains(&finding.rule.as_str()));
        found
            .map(|finding| {
                let container = finding.container.as_deref().unwrap_or("-");
                format!("{} {} {container}", finding.level, finding.rule)
            })
            .collect()
    }

    fn pod_with(resources: &Value) -> Value {
        deployment(json!({"containers": [container(json!({"resources": resources}))]}))
    }

    fn in_namespace_with(ranges: Vec<LimitRange>) -> Facts {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        Facts::default().with(query, Answer::LimitRanges(ranges))
    }

    #[test]
    fn accepts_a_container_with_all_four() {
        let object = pod_with(&json!({
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": 1, "memory": "128Mi"},
        }));
        assert!(fired(&Facts::default(), &object).is_empty());
    }

    #[test]
    fn rejects_a_container_without_any_and_says_where() {
        let facts = Facts::default();
        let object = pod_with(&Value::Null);
        let expected = [
            "deny cpu-request app",
            "deny memory-request app",
            "deny memory-limit app",
            "warn cpu-limit app",
        ];
        assert_eq!(fired(&facts, &object), expected);
        assert_eq!(
            facts.judge(&object).of("memory-limit"),
            ["deny app /spec/template/spec/containers/0/resources/limits/memory"]
        );
    }

    #[test]
    fn each_fix_mends_its_rule() {
        let facts = Facts::default();
        let mut object = pod_with(&json!({"requests": {"memory": "1Gi"}}));
        let before = facts.judge(&object);
        for finding in &before.findings {
            mend(&mut object, finding);
            let rule = finding.rule.as_str();
            assert!(facts.judge(&object).of(rule).is_empty(), "{rule}");
        }
        assert!(
            fired(&facts, &object).is_empty(),
            "no fix breaks another rule"
        );
    }

    #[test]
    fn a_limit_counts_as_a_request() {
        let object = pod_with(&json!({"limits": {"cpu": "1", "memory": "128Mi"}}));
        assert!(fired(&Facts::default(), &object).is_empty());
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
            "spec": object["spec"]["template"]["spec"],
        });
        assert!(fired(&Facts::default(), &pod).is_empty());
    }

    #[test]
    fn init_containers_and_sidecars_are_asked_too() {
        let object = deployment(json!({
            "containers": [],
            "initContainers": [{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}],
        }));
        let verdict = Facts::default().judge(&object);
        let messages: Vec<_> = verdict
            .findings
            .iter()
            .filter(|finding| finding.rule.as_str() == "memory-limit")
            .map(|finding| &*finding.message)
            .collect();
        assert_eq!(
            messages,
            [
                "init container \"migrate\" has no memory limit",
                "sidecar \"proxy\" has no memory limit"
            ]
        );
    }

    #[test]
    fn ephemeral_containers_are_never_judged() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"},
            "spec": {"containers": [], "ephemeralContainers": [{"name": "debugger"}]},
        });
        assert!(Facts::default().judge(&pod).findings.is_empty());
    }

    #[test]
    fn resources_of_the_pod_count_for_its_containers() {
        let with = |resources: Value| {
            let object =
                deployment(json!({"containers": [{"name": "app"}], "resources": resources}));
            fired(&Facts::default(), &object)
        };
        assert!(with(json!({"limits": {"cpu": "1", "memory": "1Gi"}})).is_empty());
        assert_eq!(
            with(json!({"requests": {"cpu": "1", "memory": "1Gi"}})),
            ["deny memory-limit app", "warn cpu-limit app"]
        );
        assert_eq!(
            with(json!({"limits": {"cpu": "1", "memory": "1GB"}})),
            ["deny memory-limit -"]
        );
    }

    #[test]
    fn limit_ranges_fill_what_is_missing() {
        let range =
            limit_range(&json!({"default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}));
        let facts = in_namespace_with(vec![range]);
        assert_eq!(
            fired(&facts, &pod_with(&Value::Null)),
            ["warn cpu-limit app"]
        );
        let pod_type = limit_range(&json!({"type": "Pod", "max": {"memory": "1Gi"}}));
        let facts = in_namespace_with(vec![pod_type]);
        assert_eq!(
            fired(&facts, &pod_with(&Value::Null)).len(),
            4,
            "type Pod has no defaults"
        );
    }

    #[test]
    fn limit_ranges_that_can_not_be_read_might_have_filled_it() {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let facts = Facts::default().with(query, Answer::Unknown(Unknown::Deadline));
        assert!(
            fired(&facts, &pod_with(&Value::Null))
                .iter()
                .all(|line| line.starts_with("warn"))
        );
        let zero = pod_with(&json!({"limits": {"memory": 0}}));
        assert!(fired(&facts, &zero).contains(&String::from("deny memory-limit app")));
    }

    #[test]
    fn an_amount_that_is_none_is_told_once_in_words() {
        let message = |memory: Value| {
            let object = pod_with(&json!({"limits": {"memory": memory, "cpu": 1}}));
            let verdict = Facts::default().judge(&object);
            let messages: Vec<_> = verdict
                .findings
                .iter()
                .filter(|finding| RULES.contains(&finding.rule.as_str()))
                .map(|finding| finding.message.clone())
                .collect();
            messages.join("\n")
        };
        insta::assert_snapshot!([json!("512MB"), json!(""), json!("x"), json!(true)].map(message).join("\n"), @r#"
container "app" has a memory limit of "512MB", which is no quantity: its suffix is unknown; CPU takes m, memory takes Ki, Mi, Gi, Ti or k, M, G, T
container "app" has a memory limit of "", which is no quantity: it is empty
container "app" has a memory limit of "x", which is no quantity: it does not begin with a number
container "app" has a memory limit of "true", which is no quantity: it does not begin with a number
"#);
        insta::assert_snapshot!(message(json!("0Mi")), @r#"
        container "app" has a memory request of 0, which Kubernetes reads as none
        container "app" has a memory limit of 0, which Kubernetes reads as none
        "#);
    }

    #[test]
    fn null_amounts_are_missing() {
        let object = pod_with(&json!({"limits": {"memory": null, "cpu": 1}, "requests": null}));
        assert_eq!(
            fired(&Facts::default(), &object),
            ["deny memory-request app", "deny memory-limit app"]
        );
    }

    #[test]
    fn what_is_offered_is_what_settings_patch_in() {
        let settings = json!({"rules": {"memory-limit": {"patch": "96Mi"}}});
        let facts = Facts {
            settings: Settings::from_value(settings).unwrap(),
            ..Facts::default()
        };
        let offered = |resources: Value| {
            let verdict = facts.judge(&pod_with(&resources));
            let finding = verdict
                .findings
                .iter()
                .find(|finding| finding.rule.as_str() == "memory-limit");
            finding.unwrap().fix.clone().unwrap().yaml
        };
        assert_eq!(
            offered(Value::Null),
            "resources:\n  limits:\n    memory: 96Mi\n"
        );
        let more = json!({"requests": {"memory": "200Mi"}});
        assert_eq!(
            offered(more),
            "resources:\n  limits:\n    memory: 200Mi\n",
            "no less than the request"
        );
    }
}
