//! A Deployment rolls from one template to the next with us in between.

use serde_json::{Value, json};

use super::{
    installation::{Session, assert_refused},
    objects::{sound_spec, workload},
};
use crate::support::wait::eventually;

#[test]
fn a_deployment_rolls_out_and_a_bad_update_leaves_it_running() {
    let session = Session::shared();
    let namespace = session.namespace("rollout");
    let mut object = workload("Deployment", "app", sound_spec());
    object["spec"]["replicas"] = json!(1);
    namespace.developer.apply(&object.to_string()).ok();
    namespace
        .developer
        .call("set image deployment/app app=registry.example/app:2.0")
        .ok();
    eventually("the rollout", || {
        // There is no kubelet to say so.
        for pod in namespace.admin.call("get pods -o name").ok().lines() {
            let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
            // A pod of the old template may be gone by now.
            let _ = namespace
                .admin
                .call(&format!("patch {pod} --subresource=status -p {ready}"));
        }
        let status = namespace
            .developer
            .call("rollout status deployment/app --watch=false")
            .ok();
        if status.contains("successfully rolled out") {
            Ok(())
        } else {
            Err(status)
        }
    });

    let no_limits = r#"[{"op":"remove","path":"/spec/template/spec/containers/0/resources"}]"#;
    let answer = namespace
        .developer
        .call(&format!("patch deployment/app --type=json -p {no_limits}"));
    assert_refused(answer.refusal(), "memory-limit");
    let status = namespace
        .developer
        .call("rollout status deployment/app --watch=false")
        .ok();
    assert!(status.contains("successfully rolled out"), "{status}");

    namespace.developer.call("rollout undo deployment/app").ok();
    let now = namespace.developer.call("get deployment/app -o json").ok();
    let now: Value = serde_json::from_str(&now).expect("kubectl prints JSON");
    assert_eq!(
        now["spec"]["template"]["spec"]["containers"][0]["image"],
        "registry.example/app:1.0"
    );
}
