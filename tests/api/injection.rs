//! Pods that ask for a gate get one: by their label or their namespace's, whoever makes them.

use portcullis::contract::{GATE_CONTAINER, GATE_LABEL, GATE_TAKEOVER_ANNOTATION};
use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session},
    objects::{GATE_IMAGE, container, sound_spec, spec, workload},
};
use crate::support::wait::eventually;

/// The gate of a pod, wherever it stands.
fn gate(pod: &Value) -> Option<&Value> {
    ["initContainers", "containers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .find(|container| container["name"] == GATE_CONTAINER)
}

/// `object` with this label on its pods.
fn asking(mut object: Value, demand: &str) -> Value {
    let metadata = if object["kind"] == "Pod" {
        &mut object["metadata"]
    } else {
        &mut object["spec"]["template"]["metadata"]
    };
    metadata["labels"][GATE_LABEL] = json!(demand);
    object
}

/// The pod that is stored when the developer makes this one.
fn created(namespace: &Namespace, pod: &Value) -> Value {
    let stored = namespace
        .developer
        .feed("create -o json -f -", &pod.to_string());
    serde_json::from_str(&stored.ok()).expect("kubectl prints JSON")
}

/// The only pod of a Deployment.
fn pod_of(namespace: &Namespace, app: &str) -> Value {
    eventually("the Deployment's pod", || {
        let list = namespace
            .developer
            .call(&format!("get pods -l app={app} -o json"))
            .ok();
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        list["items"]
            .as_array()
            .and_then(|pods| pods.first().cloned())
            .ok_or_else(|| "none yet".to_owned())
    })
}

#[test]
fn the_pod_of_a_deployment_that_asks_gets_a_gate_and_its_template_does_not() {
    let session = Session::shared();
    let namespace = session.namespace("gate");
    let mut object = asking(workload("Deployment", "app", sound_spec()), "enabled");
    object["spec"]["replicas"] = json!(1);
    namespace.developer.apply(&object.to_string()).ok();

    let pod = pod_of(&namespace, "app");
    let gate = gate(&pod).unwrap_or_else(|| panic!("no gate in {pod}"));
    assert_eq!(gate["image"], GATE_IMAGE);
    assert_eq!(
        gate["ports"][0]["name"], "http",
        "the Service's port: {gate}"
    );
    let app = &pod["spec"]["containers"][0];
    assert_eq!(app["ports"][0].get("name"), None, "{app}");
    assert_eq!(app["readinessProbe"]["httpGet"]["port"], 8080, "{app}");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations[GATE_TAKEOVER_ANNOTATION], "http=named-port");

    let stored = namespace.developer.call("get deployment app -o json").ok();
    assert!(!stored.contains(GATE_CONTAINER), "{stored}");
}

#[test]
fn a_pod_s_label_goes_before_its_namespace_s() {
    let session = Session::shared();
    for (of_namespace, of_pod, gated) in [
        (None, None, false),
        (None, Some("enabled"), true),
        (None, Some("preferred"), true),
        (None, Some("disabled"), false),
        (Some("enabled"), None, true),
        (Some("enabled"), Some("preferred"), true),
        (Some("preferred"), None, true),
        (Some("preferred"), Some("disabled"), false),
        (Some("disabled"), None, false),
    ] {
        let labels: Vec<_> = of_namespace
            .into_iter()
            .map(|value| (GATE_LABEL, value))
            .collect();
        let namespace = session.labelled_namespace("asked", &labels);
        let pod = workload("Pod", "app", spec([container("app")]));
        let pod = match of_pod {
            Some(value) => asking(pod, value),
            None => pod,
        };
        let stored = created(&namespace, &pod);
        assert_eq!(
            gate(&stored).is_some(),
            gated,
            "namespace {of_namespace:?}, pod {of_pod:?}: {stored}"
        );
    }
}
