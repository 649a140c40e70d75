//! What the gate asks for, and who lets it in.

use super::*;

/// The class that the kubelet puts a pod into (`ComputePodQOS`), once limits have become requests.
pub(super) fn class_of(pod: &Value) -> &'static str {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array());
    let (mut any, mut equal) = (false, true);
    for container in lists.into_iter().flatten().flatten() {
        for name in ["cpu", "memory"] {
            let limit = &container["resources"]["limits"][name];
            let request = match &container["resources"]["requests"][name] {
                Value::Null => limit,
                request => request,
            };
            any |= !limit.is_null() || !request.is_null();
            equal &= !limit.is_null() && limit == request;
        }
    }
    match (any, equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// With an init container that asks for something, so that the pod is no longer `BestEffort`.
fn asking(spec: &str) -> String {
    format!("{spec}\ninitContainers: [{{name: migrate, resources: {{requests: {{cpu: 1m}}}}}}]")
}

#[test]
fn it_asks_for_little_and_keeps_the_qos_class() {
    let resources = |spec: &str, config: &str| {
        gate_of(&injected(&told(spec, config), &facts()))["resources"].clone()
    };
    let usual =
        json!({"limits": {"memory": "128Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}});
    assert_eq!(resources(&asking(PLAIN), ""), usual);
    let own = json!({"limits": {"memory": "64Mi"}, "requests": {"cpu": "5m", "memory": "32Mi"}});
    assert_eq!(
        resources(
            &asking(PLAIN),
            "resources: {requests: {cpu: 5m}, limits: {memory: 64Mi}}"
        ),
        own
    );
    let guaranteed = named_http("resources: {limits: {cpu: 1, memory: 1Gi}}");
    let class = json!({"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}});
    assert_eq!(resources(&guaranteed, ""), class, "Guaranteed");
    let burstable = named_http("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 100m}}");
    assert_eq!(
        resources(&burstable, "")["limits"]["cpu"],
        "1",
        "a quota may demand one, and one thread takes no more"
    );
    let of_pod = format!("{PLAIN}\nresources: {{limits: {{cpu: 1}}}}");
    assert_eq!(
        resources(&of_pod, "")["requests"],
        json!({"memory": "32Mi"}),
        "the pod's own are for all"
    );
}

#[test]
fn limit_ranges_let_it_in() {
    for (item, expected) in [
        (
            json!({"min": {"cpu": "50m", "memory": "64Mi"}}),
            [("64Mi", "128Mi"), ("50m", "")],
        ),
        (
            json!({"max": {"cpu": "200m", "memory": "100Mi"}}),
            [("32Mi", "100Mi"), ("10m", "200m")],
        ),
        (
            json!({"default": {"cpu": "1"}}),
            [("32Mi", "128Mi"), ("10m", "1")],
        ),
        (
            json!({"maxLimitRequestRatio": {"cpu": "10", "memory": "2"}}),
            [("64Mi", "128Mi"), ("100m", "1")],
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "2"}}),
            [("32Mi", "128Mi"), ("10m", "")],
        ),
    ] {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let facts = facts().with(query, Answer::LimitRanges(vec![limit_range(&item)]));
        // With requests of its own: what LimitRanger fills in would else make the pod Guaranteed.
        let burstable = named_http("resources: {requests: {cpu: 60m, memory: 80Mi}}");
        let after = injected(&pod(&burstable), &facts);
        let resources = &gate_of(&after)["resources"];
        let of = |side: &str, name: &str| {
            resources[side][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let found = ["memory", "cpu"].map(|name| (of("requests", name), of("limits", name)));
        let expected = expected.map(|(request, limit)| (request.to_owned(), limit.to_owned()));
        assert_eq!(found, expected, "{item}");
        let containers = facts.judge(&after).of("limit-range");
        assert!(
            !containers
                .iter()
                .any(|finding| finding.contains(GATE_CONTAINER)),
            "{containers:?}"
        );
    }
}

#[test]
fn an_injected_pod_passes_our_own_rules() {
    let sound = "
containers:
- name: app
  ports: [{name: http, containerPort: 8080}]
  readinessProbe: {httpGet: {path: /ready, port: http}}
  livenessProbe: {httpGet: {path: /live, port: http}}
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}
";
    for config in ["", "readiness: exec", "sidecar: container", "takeover: env"] {
        let after = injected(&told(sound, config), &facts());
        let verdict = facts().judge(&after);
        let found = verdict
            .findings
            .iter()
            .filter(|finding| finding.container.as_deref() != Some("app"));
        assert_eq!(
            found.collect::<Vec<_>>(),
            Vec::<&Finding>::new(),
            "{config}"
        );
        assert_eq!(
            verdict.of("cpu-limit"),
            ["warn app /spec/containers/0/resources/limits/cpu"]
        );
    }
}

#[test]
fn the_class_of_a_pod_stays_what_it_was() {
    let both = "{cpu: 1, memory: 1Gi}";
    for (class, spec) in [
        ("BestEffort", PLAIN.to_owned()),
        (
            "BestEffort",
            format!("{PLAIN}\ninitContainers: [{{name: migrate}}]"),
        ),
        ("Burstable", asking(PLAIN)),
        (
            "Burstable",
            named_http("resources: {requests: {memory: 1Gi}}"),
        ),
        (
            "Burstable",
            named_http("resources: {limits: {memory: 1Gi}}"),
        ),
        (
            "Burstable",
            asking(&named_http(&format!("resources: {{limits: {both}}}"))),
        ),
        (
            "Guaranteed",
            named_http(&format!("resources: {{limits: {both}}}")),
        ),
        (
            "Guaranteed",
            named_http(&format!("resources: {{limits: {both}, requests: {both}}}")),
        ),
    ] {
        for config in ["", "sidecar: container"] {
            let pod = told(&spec, config);
            assert_eq!(class_of(&pod), class, "{spec}");
            assert_eq!(
                class_of(&injected(&pod, &facts())),
                class,
                "{spec} {config}"
            );
        }
    }
    let told = told(PLAIN, "resources: {requests: {cpu: 5m}}");
    let after = injected(&told, &facts());
    let resources = &gate_of(&after)["resources"];
    assert_eq!(
        resources["requests"],
        json!({"cpu": "5m"}),
        "what is told is done"
    );
}

#[test]
fn what_is_told_of_one_side_moves_the_other() {
    let guaranteed = named_http("resources: {limits: {cpu: 1, memory: 1Gi}}");
    for (spec, config, expected) in [
        (
            asking(PLAIN),
            "limits: {memory: 16Mi}",
            ["10m", "16Mi", "", "16Mi"],
        ),
        (
            asking(PLAIN),
            "requests: {memory: 256Mi}",
            ["10m", "256Mi", "", "256Mi"],
        ),
        (
            asking(PLAIN),
            "requests: {cpu: 1}, limits: {cpu: '2'}",
            ["1", "32Mi", "2", "128Mi"],
        ),
        (
            guaranteed.clone(),
            "limits: {cpu: 1}",
            ["1", "64Mi", "1", "64Mi"],
        ),
        (
            guaranteed,
            "requests: {cpu: 250m}",
            ["250m", "64Mi", "250m", "64Mi"],
        ),
    ] {
        let pod = told(&spec, &format!("resources: {{{config}}}"));
        let after = injected(&pod, &facts());
        let resources = &gate_of(&after)["resources"];
        let found = ["requests", "limits"].map(|side| {
            ["cpu", "memory"].map(|name| resources[side][name].as_str().unwrap_or_default())
        });
        assert_eq!(found.concat(), expected, "{config}");
    }
    let upside_down = told(PLAIN, "resources: {requests: {cpu: 2}, limits: {cpu: 1}}");
    let said = refusal(&upside_down, &facts());
    assert!(
        said.ends_with("resources.requests.cpu: 2 is more than the limit, 1"),
        "{said}"
    );
}
