//! Pods are patched in namespaces that ask for it; templates never are.

use serde_json::Value;

use super::{
    installation::{Session, assert_refused},
    objects::{bare_spec, container, spec, workload},
};

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
