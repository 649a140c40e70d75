//! Pods are patched in namespaces that ask for it; templates never are.

use serde_json::{Value, json};

use super::{
    installation::{Session, assert_refused},
    objects::{bare_spec, container, spec, workload},
};
use crate::support::wait::eventually;

/// What [`SETTINGS`](super::objects::SETTINGS) patch in.
fn patched() -> Value {
    json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}})
}

/// A pod spec that lacks what is patched in, and nothing else.
fn without_resources() -> Value {
    let mut app = container("app");
    app.as_object_mut()
        .expect("a container is an object")
        .remove("resources");
    app.as_object_mut()
        .expect("a container is an object")
        .remove("readinessProbe");
    spec([app])
}

#[test]
fn the_pods_of_a_deployment_are_patched_and_its_template_is_not() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("patch", &[("portcullis.dev/patch", "enabled")]);
    let mut object = workload("Deployment", "app", without_resources());
    object["spec"]["replicas"] = json!(1);
    // Judged as its pods will be.
    namespace.developer.apply(&object.to_string()).ok();
    let json = |words: &str| -> Value {
        serde_json::from_str(&namespace.developer.call(words).ok()).expect("kubectl prints JSON")
    };

    let pod = eventually("the Deployment's pod", || {
        json("get pods -l app=app -o json")["items"]
            .as_array()
            .and_then(|pods| pods.first().cloned())
            .ok_or_else(|| "none yet".to_owned())
    });
    let app = &pod["spec"]["containers"][0];
    assert_eq!(app["resources"], patched());
    assert_eq!(
        app["readinessProbe"]["tcpSocket"]["port"],
        json!(8080),
        "{app}"
    );
    let stored = json("get deployment app -o json");
    let template = &stored["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(template["resources"], json!({}), "{template}");
    assert_eq!(template["readinessProbe"], Value::Null, "{template}");
}

#[test]
fn no_liveness_probe_is_ever_invented() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("patch", &[("portcullis.dev/patch", "enabled")]);
    let answer = namespace
        .developer
        .apply(&workload("Pod", "app", bare_spec()).to_string());
    assert_refused(answer.refusal(), "liveness-probe");
}

#[test]
fn a_namespace_that_does_not_ask_is_not_patched() {
    let session = Session::shared();
    let namespace = session.namespace("no-patch");
    namespace.refuses(
        &workload("Pod", "app", without_resources()).to_string(),
        "memory-limit",
    );
}
