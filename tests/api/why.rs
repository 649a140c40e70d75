//! `portcullis why` on pods that no node runs: what the cluster itself knows of them.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    injection::asking,
    installation::{Namespace, Session},
    objects::{sound_spec, workload},
};
use crate::support::{program::portcullis, server::with_token};

/// Exit status, standard output and standard error.
fn why(kubeconfig: &Path, namespace: &Namespace, arguments: &[&str]) -> (i32, String, String) {
    let within = ["--namespace", &namespace.name];
    let arguments = [&["why"], arguments, &within].concat();
    let said = portcullis(kubeconfig, &arguments);
    (said.status, said.out, said.err)
}

/// What a kubelet would say of the pod.
fn report(namespace: &Namespace, pod: &str, status: &Value) {
    let status = json!({ "status": status });
    namespace.admin.patch_status(pod, &status).ok();
}

#[test]
fn a_pod_without_a_gate_is_explained_by_what_the_cluster_knows() {
    let session = Session::shared();
    let namespace = session.namespace("why");
    let pod = workload("Pod", "app", sound_spec()).to_string();
    namespace.developer.feed("create -f -", &pod).ok();
    report(
        &namespace,
        "app",
        &json!({
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}],
            "containerStatuses": [{
                "name": "app", "image": "app", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            }],
        }),
    );
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "app.1"},
        "involvedObject": {"kind": "Pod", "name": "app", "namespace": namespace.name},
        "type": "Warning", "reason": "Unhealthy", "message": "Readiness probe failed: not ready: checking",
        "lastTimestamp": "2026-11-21T10:00:00Z", "count": 3,
    });
    namespace.admin.feed("create -f -", &event.to_string()).ok();

    let admin = session.admin();
    let (status, out, err) = why(admin.kubeconfig(), &namespace, &["pod/app"]);
    assert_eq!(status, 1, "{err}");
    let expected = [
        format!("{}/app  not ready", namespace.name),
        "  it has no gate".to_owned(),
        "  container \"app\" waits: ImagePullBackOff: no such image".to_owned(),
        "  condition PodScheduled: 0/2 nodes are available".to_owned(),
        "  event Unhealthy, last at 2026-11-21T10:00:00Z, 3 times: Readiness probe failed: not ready: checking"
            .to_owned(),
        "0 ready, 1 not ready\n".to_owned(),
    ];
    assert_eq!(out, expected.join("\n"));

    report(
        &namespace,
        "app",
        &json!({"conditions": [{"type": "Ready", "status": "True"}]}),
    );
    let (status, out, _) = why(admin.kubeconfig(), &namespace, &["app", "--output", "json"]);
    assert_eq!(status, 0, "{out}");
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["pods"][0]["ready"], true);
    assert_eq!(json["summary"], json!({"ready": 1, "notReady": 0}));
}

#[test]
fn the_pods_of_a_deployment_are_told_one_by_one_and_a_gate_that_can_not_be_asked_is_said_to_be() {
    let session = Session::shared();
    let namespace = session.namespace("why");
    let mut object = asking(workload("Deployment", "app", sound_spec()), "enabled");
    object["spec"]["replicas"] = json!(2);
    namespace.developer.apply(&object.to_string()).ok();
    let pods = super::controllers::pods(&namespace, "app", 2);
    // One goes, and takes its time; its successor comes.
    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    let holding = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    let arguments = ["patch", "pod", name, "--type=merge", "-p", holding];
    namespace.admin.call_with(&arguments, None).ok();
    let going = format!("delete pod {name} --wait=false --grace-period=0");
    namespace.admin.call(&going).ok();
    super::controllers::pods(&namespace, "app", 3);

    let (status, out, err) = why(session.admin().kubeconfig(), &namespace, &["deploy/app"]);
    assert_eq!(status, 1, "{err}");
    assert!(out.ends_with("\n0 ready, 2 not ready\n"), "{out}");
    assert!(!out.contains(name), "{name} is going: {out}");
    // They have no address yet.
    assert_eq!(
        out.matches("  its gate can't be asked: the API server answered")
            .count(),
        2,
        "{out}"
    );
}

#[test]
fn what_is_not_there_or_not_to_be_seen_is_said_to_be() {
    let session = Session::shared();
    let namespace = session.namespace("why");
    let admin = session.admin();
    let (status, _, err) = why(admin.kubeconfig(), &namespace, &["deploy/none"]);
    assert_eq!(status, 2);
    let said = format!(
        "portcullis: there is no deployment \"none\" in namespace \"{}\"\n",
        namespace.name
    );
    assert_eq!(err, said);

    let (status, _, err) = why(admin.kubeconfig(), &namespace, &["service/app"]);
    assert_eq!(status, 64);
    assert!(
        err.contains("the kind must be pod, deployment, statefulset or daemonset"),
        "{err}"
    );

    let token = namespace.admin.call("create token default").ok();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, with_token(admin.kubeconfig(), token.trim()))
        .expect("the folder is ours");
    let (status, _, err) = why(&kubeconfig, &namespace, &["app"]);
    assert_eq!(status, 2);
    assert!(
        err.starts_with("portcullis: can't look at pod \"app\""),
        "{err}"
    );
    assert!(err.contains("403 Forbidden"), "{err}");
}
