//! Defaults for pods: what settings ask for, as a JSON Patch that only ever adds.
//!
//! Pods only, and only in namespaces labelled `portcullis.dev/patch: enabled`. A template is never patched, so GitOps
//! sees no drift; it is judged as its pods will be ([`fill`], [`readiness_port`]).

use serde_json::{Value, json};

use super::{
    budget::{Amount, Amounts, Origin, PodBudget, Side},
    conflict::conflicts,
    context::{Inquiry, Surroundings},
    facts::{Known, LimitRange, Query},
    operation::Operation,
    quantity::Quantity,
    settings::{Patches, Settings},
    template::Site,
    workload::Workload,
};
use crate::contract::GATE_CONTAINER;

/// What to patch: questions first, then the operations.
#[derive(Debug)]
pub enum Patching {
    /// Facts are missing. Answer all of these, then call [`patches`] again.
    Ask(Vec<Query<'static>>),
    /// In the order in which they must be applied; none if there is nothing to add.
    Done(Vec<Operation>),
}

/// What settings add to this pod. Nothing for any other kind.
pub fn patches(workload: &Workload<'_>, known: &dyn Known, settings: &Settings) -> Patching {
    if !workload.kind.is_pod() || settings.patches == Patches::default() {
        return Patching::Done(Vec::new());
    }
    let mut inquiry = Inquiry::new(known);
    let surroundings = Surroundings::ask(&mut inquiry, workload.namespace);
    if let Err(questions) = inquiry.settle() {
        return Patching::Ask(questions);
    }
    let mut operations = Vec::new();
    if !surroundings.is_patched() {
        return Patching::Done(operations);
    }
    let ranges = surroundings.ranges();
    let mut budget = PodBudget::defaulted(&workload.template, ranges.unwrap_or_default());
    fill(&mut budget, &settings.patches, ranges);
    // What the traffic gate has and has not was decided when it was injected.
    let others = |site: &Site<'_, '_>| site.name() != GATE_CONTAINER;
    for (site, budget) in budget.containers.iter().filter(|(site, _)| others(site)) {
        add_amounts(
            &mut operations,
            *site,
            [
                (Side::Limit, &budget.limits),
                (Side::Request, &budget.requests),
            ],
        );
        if let Some(port) = readiness_port(workload, &settings.patches, *site) {
            let path = format!("{}/readinessProbe", pointer(*site));
            operations.push(add(path, json!({"tcpSocket": {"port": port}})));
        }
    }
    Patching::Done(operations)
}

/// Adds the amounts of `patches` that are missing and fit. None where LimitRanges (`None`) are unknown.
pub(super) fn fill<'a>(
    budget: &mut PodBudget<'a>,
    patches: &Patches,
    ranges: Option<&'a [LimitRange]>,
) {
    let Some(ranges) = ranges else { return };
    for (resource, side, default) in [
        ("cpu", Side::Limit, patches.cpu_limit),
        ("memory", Side::Limit, patches.memory_limit),
        ("cpu", Side::Request, patches.cpu_request),
        ("memory", Side::Request, patches.memory_request),
    ] {
        if let Some(default) = default {
            fill_one(budget, resource, side, default);
        }
    }
    budget.set_defaults();
    while drop_conflicting(budget, ranges) {}
}

/// The port that the readiness probe patched into this container asks: its only TCP port. `None` if none is patched in.
pub(super) fn readiness_port(
    workload: &Workload<'_>,
    patches: &Patches,
    site: Site<'_, '_>,
) -> Option<i32> {
    let wanted = patches.readiness_probe
        && workload.is_long_running()
        && site.is_long_running()
        && site.container.readiness_probe.is_none();
    let mut ports = (site.container.ports.items())
        .filter(|port| port.is_tcp())
        .filter_map(|port| port.container_port);
    let port = ports.next().filter(|_| wanted)?;
    ports.all(|other| other == port).then_some(port)
}

fn fill_one(budget: &mut PodBudget<'_>, resource: &'static str, side: Side, default: Quantity) {
    // Who divides resources between containers as a pod (`spec.resources`) is not helped by a share for each.
    let of_pod = budget.pod.as_ref();
    if of_pod.is_some_and(|pod| {
        Side::BOTH
            .iter()
            .any(|side| pod.side(*side).get(resource).is_some())
    }) {
        return;
    }
    for (_, budget) in &mut budget.containers {
        let fits = match (side, budget.side(side.other()).get(resource)) {
            (_, None) => true,
            (_, Some(Amount { quantity: None, .. })) => false,
            (
                Side::Limit,
                Some(Amount {
                    quantity: Some(request),
                    ..
                }),
            ) => request <= default,
            (
                Side::Request,
                Some(Amount {
                    quantity: Some(limit),
                    ..
                }),
            ) => default <= limit,
        };
        if fits {
            let amount = Amount {
                quantity: Some(default),
                origin: Origin::Patch,
            };
            budget.side_mut(side).fill(resource, amount);
        }
    }
}

/// Takes back what LimitRanges would not let in: a default must never be why a pod is refused. Says whether it did.
fn drop_conflicting(budget: &mut PodBudget<'_>, ranges: &[LimitRange]) -> bool {
    let place = |site: Site<'_, '_>| (site.list, site.index);
    let doomed: Vec<_> = conflicts(budget, ranges)
        .into_iter()
        .filter(|conflict| conflict.missing().is_none())
        .map(|conflict| (conflict.site.map(place), conflict.resource.to_owned()))
        .collect();
    let mut dropped = false;
    for (site, budget) in &mut budget.containers {
        for (at, resource) in &doomed {
            if at.is_some_and(|at| at != place(*site)) {
                continue;
            }
            let origin = |amounts: &Amounts<'_>| amounts.get(resource).map(|amount| amount.origin);
            let (limit, request) = (origin(&budget.limits), origin(&budget.requests));
            if limit == Some(Origin::Patch) {
                budget.limits.remove(resource);
                dropped = true;
            }
            let copied = limit == Some(Origin::Patch) && request == Some(Origin::Limit);
            if copied || request == Some(Origin::Patch) {
                budget.requests.remove(resource);
                dropped = true;
            }
        }
    }
    dropped
}

/// Adds what came by patch, each after the maps it stands in.
fn add_amounts(
    operations: &mut Vec<Operation>,
    site: Site<'_, '_>,
    halves: [(Side, &Amounts<'_>); 2],
) {
    let resources = format!("{}/resources", pointer(site));
    let mut has_resources = site.container.resources.is_some();
    for (side, amounts) in halves {
        let written = site
            .container
            .resources
            .as_ref()
            .map(|resources| side.of(resources));
        let mut has_side = written.is_some_and(|written| !written.is_empty());
        let path = format!("{resources}/{}", side.field());
        for (resource, Amount { quantity, origin }) in amounts.iter() {
            let Some(quantity) = quantity.filter(|_| origin == Origin::Patch) else {
                continue;
            };
            if !std::mem::replace(&mut has_resources, true) {
                operations.push(add(resources.clone(), json!({})));
            }
            if !std::mem::replace(&mut has_side, true) {
                operations.push(add(path.clone(), json!({})));
            }
            let value = Value::String(quantity.to_string());
            operations.push(add(format!("{path}/{resource}"), value));
        }
    }
}

/// It never stands where the pod has a value.
fn add(path: String, value: Value) -> Operation {
    Operation::Add { path, value }
}

fn pointer(site: Site<'_, '_>) -> String {
    format!("/spec/{}/{}", site.list, site.index)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{
        facts::{Answer, PATCH},
        testing::{Facts, NAMESPACE, kind_of, limit_range, raw},
    };

    /// A namespace that is patched, with settings that patch all they can.
    fn patched() -> Facts {
        let settings = json!({"rules": {
            "cpu-request": {"patch": "100m"},
            "cpu-limit": {"patch": "1"},
            "memory-request": {"patch": "128Mi"},
            "memory-limit": {"patch": "256Mi"},
            "readiness-probe": {"patch": true},
        }});
        let settings = Settings::from_value(settings).unwrap();
        Facts {
            settings,
            ..Facts::default()
        }
        .with_labels(&[(PATCH, "enabled")])
    }

    fn with_range(item: &Value) -> Facts {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        patched().with(query, Answer::LimitRanges(vec![limit_range(item)]))
    }

    fn pod(spec: impl Into<Value>) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec.into()})
    }

    fn operations(facts: &Facts, object: &Value) -> Vec<Operation> {
        let bytes = raw(object);
        let workload = Workload::read(kind_of(object), NAMESPACE, &bytes)
            .unwrap()
            .unwrap();
        match patches(&workload, facts, &facts.settings) {
            Patching::Done(operations) => operations,
            Patching::Ask(questions) => panic!("every question has an answer, but: {questions:?}"),
        }
    }

    fn paths(facts: &Facts, object: &Value) -> Vec<String> {
        operations(facts, object)
            .into_iter()
            .map(|operation| operation.path().to_owned())
            .collect()
    }

    fn apply(object: &Value, operations: &[Operation]) -> Value {
        let patch: json_patch::Patch =
            serde_json::from_value(serde_json::to_value(operations).unwrap()).unwrap();
        let mut applied = object.clone();
        json_patch::patch(&mut applied, &patch).expect("applies");
        applied
    }

    #[test]
    fn adds_parents_first() {
        let object =
            pod(json!({"containers": [{"name": "app", "ports": [{"containerPort": 80}]}]}));
        let expected = [
            "/spec/containers/0/resources",
            "/spec/containers/0/resources/limits",
            "/spec/containers/0/resources/limits/cpu",
            "/spec/containers/0/resources/limits/memory",
            "/spec/containers/0/resources/requests",
            "/spec/containers/0/resources/requests/cpu",
            "/spec/containers/0/resources/requests/memory",
            "/spec/containers/0/readinessProbe",
        ];
        assert_eq!(paths(&patched(), &object), expected);
        assert_eq!(
            apply(&object, &operations(&patched(), &object))["spec"]["containers"][0],
            json!({
                "name": "app",
                "ports": [{"containerPort": 80}],
                "resources": {
                    "limits": {"cpu": "1", "memory": "256Mi"},
                    "requests": {"cpu": "100m", "memory": "128Mi"},
                },
                "readinessProbe": {"tcpSocket": {"port": 80}},
            })
        );
    }

    #[test]
    fn leaves_the_traffic_gate_as_it_was_injected() {
        let object = pod(json!({"containers": [{"name": "app"}, {"name": GATE_CONTAINER}]}));
        let paths = paths(&patched(), &object);
        assert!(!paths.is_empty());
        let apps = |path: &String| path.starts_with("/spec/containers/0/");
        assert!(paths.iter().all(apps), "{paths:?}");
    }

    #[test]
    fn patches_pods_only_where_the_namespace_and_settings_ask() {
        let object = pod(json!({"containers": [{"name": "app"}]}));
        assert!(!paths(&patched(), &object).is_empty());
        let unlabelled = Facts {
            settings: patched().settings,
            ..Facts::default()
        };
        assert!(paths(&unlabelled, &object).is_empty());
        let unasked = Facts::default().with_labels(&[(PATCH, "enabled")]);
        assert!(paths(&unasked, &object).is_empty());
        let template = crate::policy::testing::deployment(object["spec"].clone());
        assert!(paths(&patched(), &template).is_empty());
    }

    #[test]
    fn keeps_below_an_existing_limit_and_above_an_existing_request() {
        let of = |resources: Value| {
            let object = pod(json!({"containers": [{"name": "app", "resources": resources}]}));
            let paths = paths(&patched(), &object).into_iter();
            paths
                .filter(|path| path.ends_with("memory"))
                .collect::<Vec<_>>()
        };
        assert!(
            of(json!({"limits": {"memory": "64Mi"}})).is_empty(),
            "the limit is its request"
        );
        assert!(of(json!({"requests": {"memory": "1Gi"}})).is_empty());
        assert!(of(json!({"requests": {"memory": "1GB"}})).is_empty());
        assert_eq!(
            of(json!({"requests": {"memory": "200Mi"}})),
            ["/spec/containers/0/resources/limits/memory"]
        );
    }

    #[test]
    fn keeps_within_limit_ranges() {
        let object = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        let memory = |item: Value| {
            let paths = paths(&with_range(&item), &object);
            paths
                .into_iter()
                .filter(|path| path.ends_with("memory"))
                .count()
        };
        assert_eq!(
            memory(json!({"type": "Pod", "max": {"memory": "512Mi"}})),
            4,
            "256Mi twice"
        );
        assert_eq!(
            memory(json!({"type": "Pod", "max": {"memory": "511Mi"}})),
            0
        );
        assert_eq!(memory(json!({"maxLimitRequestRatio": {"memory": "2"}})), 4);
        assert_eq!(memory(json!({"maxLimitRequestRatio": {"memory": "1"}})), 0);
        assert_eq!(memory(json!({"min": {"memory": "300Mi"}})), 0);
    }

    #[test]
    fn adds_no_amounts_while_limit_ranges_are_unknown() {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let unknown = Answer::Unknown(crate::policy::facts::Unknown::Deadline);
        let object =
            pod(json!({"containers": [{"name": "app", "ports": [{"containerPort": 80}]}]}));
        assert_eq!(
            paths(&patched().with(query, unknown), &object),
            ["/spec/containers/0/readinessProbe"]
        );
    }

    #[test]
    fn leaves_a_pod_with_resources_of_its_own_alone() {
        let object = pod(json!({
            "containers": [{"name": "app"}], "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        }));
        assert!(paths(&patched(), &object).is_empty());
    }

    #[test]
    fn a_readiness_probe_needs_one_tcp_port_and_a_pod_that_lives() {
        let probes = |spec: Value| {
            let paths = paths(&patched(), &pod(spec)).into_iter();
            paths
                .filter(|path| path.ends_with("Probe"))
                .collect::<Vec<_>>()
        };
        let ports = |ports: Value| probes(json!({"containers": [{"name": "app", "ports": ports}]}));
        assert!(ports(json!([])).is_empty());
        assert!(ports(json!([{"containerPort": 53, "protocol": "UDP"}])).is_empty());
        assert!(ports(json!([{"containerPort": 80}, {"containerPort": 81}])).is_empty());
        assert_eq!(
            ports(json!([{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}])),
            ["/spec/containers/0/readinessProbe"]
        );
        let one = json!({"name": "app", "ports": [{"containerPort": 80}]});
        assert!(probes(json!({"containers": [one], "restartPolicy": "Never"})).is_empty());
        assert!(probes(json!({"initContainers": [one], "containers": []})).is_empty());
        let mut sidecar = one.clone();
        sidecar["restartPolicy"] = json!("Always");
        assert_eq!(
            probes(json!({"initContainers": [sidecar], "containers": []})),
            ["/spec/initContainers/0/readinessProbe"]
        );
    }

    #[test]
    fn a_template_is_judged_as_its_pods_will_be() {
        let spec = json!({"containers": [{"name": "app", "ports": [{"containerPort": 80}]}]});
        let template = crate::policy::testing::deployment(spec);
        let of = |facts: &Facts| {
            let verdict = facts.judge(&template);
            let rules: Vec<_> = verdict
                .findings
                .iter()
                .map(|finding| finding.rule.as_str())
                .collect();
            rules.join(" ")
        };
        assert_eq!(of(&patched()), "liveness-probe");
        let unlabelled = Facts {
            settings: patched().settings,
            ..Facts::default()
        };
        assert!(of(&unlabelled).contains("readiness-probe liveness-probe cpu-request"));
    }

    fn amounts() -> impl Strategy<Value = Value> {
        let amount = prop_oneof![
            Just(json!("64Mi")),
            Just(json!("2")),
            Just(json!(1)),
            Just(json!("1Gi")),
            Just(json!("bad")),
            Just(Value::Null),
        ];
        let name = prop_oneof![
            Just("cpu"),
            Just("memory"),
            Just("ephemeral-storage"),
            Just("example.com/gpu~1"),
        ];
        proptest::collection::btree_map(name, amount, 0..3).prop_map(|map| json!(map))
    }

    fn containers() -> impl Strategy<Value = Value> {
        let port =
            (1..3_i32).prop_map(|port| json!({"containerPort": port, "unknown/field~": [null]}));
        let container = (
            proptest::option::of(amounts()),
            proptest::option::of(amounts()),
            proptest::collection::vec(port, 0..3),
            any::<bool>(),
            0..4_u8,
        );
        let container = container.prop_map(|(limits, requests, ports, sidecar, shape)| {
            let mut container = json!({
                "name": "app", "ports": ports,
                "resources": {"limits": limits, "requests": requests, "claims": [{"name": "gpu"}]},
            });
            match shape {
                0 => container["resources"] = Value::Null,
                1 => container["readinessProbe"] = json!({"exec": {"command": ["true"]}}),
                2 => return Value::Null,
                _ => {}
            }
            if sidecar {
                container["restartPolicy"] = json!("Always");
            }
            container
        });
        proptest::collection::vec(container, 0..4).prop_map(Value::Array)
    }

    fn pods() -> impl Strategy<Value = Value> {
        (containers(), containers(), proptest::option::of(amounts())).prop_map(
            |(containers, inits, limits)| {
                let mut pod = pod(json!({
                    "containers": containers, "initContainers": inits, "futureField": {"a/b": 1},
                }));
                pod["metadata"]["annotations"] = json!({"example.com/a~b": "x", "~1": "/"});
                if let Some(limits) = limits {
                    pod["spec"]["resources"] = json!({"limits": limits});
                }
                pod
            },
        )
    }

    fn ranges() -> impl Strategy<Value = Value> {
        let bound = prop_oneof![
            Just(json!({})),
            Just(json!({"memory": "200Mi"})),
            Just(json!({"cpu": "2"}))
        ];
        (bound.clone(), bound, any::<bool>()).prop_map(|(min, max, pod)| {
            json!({"min": min, "max": max, "type": if pod { "Pod" } else { "Container" }})
        })
    }

    /// Every value of `before` stands in `after` unchanged; `null` may have been filled.
    fn survives(before: &Value, after: &Value) -> bool {
        match (before, after) {
            (Value::Null, _) => true,
            (Value::Object(before), Value::Object(after)) => before.iter().all(|(key, value)| {
                value.is_null() || after.get(key).is_some_and(|after| survives(value, after))
            }),
            (Value::Array(before), Value::Array(after)) => {
                before.len() == after.len()
                    && before
                        .iter()
                        .zip(after)
                        .all(|(before, after)| survives(before, after))
            }
            (before, after) => before == after,
        }
    }

    proptest! {
        #[test]
        fn a_patch_applies_adds_only_and_leaves_nothing_for_a_second(pod in pods(), range in ranges()) {
            let facts = with_range(&range);
            let found = operations(&facts, &pod);
            for path in found.iter().map(Operation::path) {
                prop_assert!(path.contains("/resources") || path.ends_with("/readinessProbe"), "{path}");
                prop_assert!(path.starts_with("/spec/containers/") || path.starts_with("/spec/initContainers/"));
            }
            let applied = apply(&pod, &found);
            prop_assert!(survives(&pod, &applied), "{applied}");
            prop_assert_eq!(operations(&facts, &applied), vec![]);
        }

        #[test]
        fn a_patch_never_makes_a_pod_that_is_refused(pod in pods(), range in ranges()) {
            let facts = with_range(&range);
            let applied = apply(&pod, &operations(&facts, &pod));
            let of = |object: &Value| facts.judge(object).of("limit-range").len();
            prop_assert!(of(&applied) <= of(&pod));
        }

        #[test]
        fn what_was_patched_is_no_longer_found(pod in pods(), range in ranges()) {
            let facts = with_range(&range);
            let found = operations(&facts, &pod);
            let verdict = facts.judge(&apply(&pod, &found));
            for path in found.iter().map(Operation::path) {
                prop_assert!(verdict.findings.iter().all(|finding| finding.path != path), "{path}");
            }
        }
    }
}
