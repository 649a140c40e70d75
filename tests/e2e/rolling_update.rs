//! An app that ends at once on SIGTERM, rolled out under load.

use serde_json::{Value, json};

use super::{pod::GATE, report::Summary, stage::Stage};

/// Rollouts on each side. Without the gate each loses about one request in 300.
const ROLLOUTS: u32 = 3;

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_rolling_update_under_load_loses_nothing_with_the_gate_and_some_without() {
    let stage = Stage::new("rolling-update");
    stage.apply_ungated("rolling-update/web.yaml");
    let without = roll_out_under_load(&stage);
    stage.apply("rolling-update/web.yaml");
    let with = roll_out_under_load(&stage);
    delay_hook(&stage);
    let late = roll_out_under_load(&stage);
    println!(
        "without the gate: {without:?}\nwith the gate: {with:?}\nwith its hook delayed: {late:?}"
    );
    assert!(without.failed > 0, "it proves nothing: {without:?}");
    assert_eq!(with.failed, 0, "{with:?}");
    assert_eq!(late.failed, 0, "{late:?}");
}

fn roll_out_under_load(stage: &Stage) -> Summary {
    stage.settled("web");
    let client = stage.client("rolling-update/client.yaml");
    for _ in 0..ROLLOUTS {
        stage.kubectl.call("rollout restart deployment/web").ok();
        stage.rolled_out("web");
    }
    client.finish()
}

/// Has the gate told of the pod's end 5 s late, as by a kubelet that is busy: the pods are injected beforehand,
/// with another hook.
fn delay_hook(stage: &Stage) {
    let mut deployment = json_of(&stage.kubectl.call("get deployment web -o json").ok());
    let template = &mut deployment["spec"]["template"];
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["name"] = json!("web");
    // Its volume would be of this pod only.
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    let dry_run = "create --dry-run=server -o json -f -";
    let injected = json_of(&stage.kubectl.feed(dry_run, &pod.to_string()).ok());

    template["metadata"]["labels"] = json!({"app": "web"});
    template["spec"] = injected["spec"].clone();
    let tools = json!({"name": "tools", "mountPath": "/tools"});
    push(
        &mut template["spec"]["volumes"],
        json!({"name": "tools", "emptyDir": {}}),
    );
    let containers = template["spec"]["initContainers"]
        .as_array_mut()
        .expect("the gate is one");
    let gate = containers
        .iter_mut()
        .find(|container| container["name"] == GATE);
    let gate = gate.expect("the pod is injected");
    push(&mut gate["volumeMounts"], tools.clone());
    let hook = &mut gate["lifecycle"]["preStop"]["exec"]["command"];
    let late = ["/tools/e2e-app", "after", "5s"].map(Value::from);
    hook.as_array_mut().expect("a command").splice(0..0, late);
    let copy = json!({
        "name": "tools",
        "image": "portcullis-e2e-app:0.1.0",
        "args": ["copy", "/tools/e2e-app"],
        "volumeMounts": [tools],
        "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
    });
    containers.insert(0, copy);
    stage.kubectl.replace(&deployment.to_string()).ok();
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("kubectl prints JSON")
}
