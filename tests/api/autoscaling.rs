//! A HorizontalPodAutoscaler goes on working on pods that got a gate: every container of theirs has the CPU request that
//! it asks for. What a metrics server would say is written by hand, into a resource of the same name.

use serde_json::{Value, json};

use super::{
    controllers::pods,
    injection::asking,
    installation::{Namespace, Session},
    objects::{sound_spec, workload},
};
use crate::support::wait::eventually;

/// `metrics.k8s.io`, as objects that somebody stores.
fn metrics_api() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "pods.metrics.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, stands in for a metrics server"},
        },
        "spec": {
            "group": "metrics.k8s.io", "scope": "Namespaced",
            "names": {"kind": "PodMetrics", "plural": "pods", "singular": "podmetrics"},
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// What an autoscaler has computed, in percent: of the pods, and of their containers `app` alone.
fn utilization(namespace: &Namespace) -> [i64; 2] {
    eventually("the autoscaler to compute", || {
        let answer = namespace.admin.call("get hpa app -o json").ok();
        let found: Value = serde_json::from_str(&answer).expect("kubectl prints JSON");
        let metrics = &found["status"]["currentMetrics"];
        let of = |index: usize, source: &str| {
            let current = &metrics[index][source]["current"];
            current["averageUtilization"].as_i64()
        };
        match (of(0, "resource"), of(1, "containerResource")) {
            (Some(whole), Some(alone)) => Ok([whole, alone]),
            _ => Err(answer),
        }
    })
}

#[test]
fn an_autoscaler_on_cpu_works_on_gated_pods() {
    let session = Session::shared();
    let namespace = session.namespace("scaled");
    namespace
        .admin
        .everywhere()
        .apply(&metrics_api().to_string())
        .ok();
    let mut object = asking(workload("Deployment", "app", sound_spec()), "enabled");
    object["spec"]["replicas"] = json!(1);
    namespace.developer.apply(&object.to_string()).ok();
    let pod = pods(&namespace, "app", 1).remove(0);
    let name = pod["metadata"]["name"].as_str().expect("a name");
    let long_ago = "2026-01-01T00:00:00Z";
    let status = json!({"status": {
        "phase": "Running", "startTime": long_ago,
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": long_ago}],
    }});
    let status = status.to_string();
    let arguments = [
        "patch",
        "pod",
        name,
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ];
    namespace.admin.call_with(&arguments, None).ok();

    let usage = json!({
        "apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": {"name": name, "labels": pod["metadata"]["labels"]},
        "timestamp": "2026-11-21T10:00:00Z", "window": "15s",
        "containers": [
            {"name": "app", "usage": {"cpu": "9m", "memory": "10Mi"}},
            {"name": "portcullis-gate", "usage": {"cpu": "1m", "memory": "7Mi"}},
        ],
    });
    eventually("the metrics to be taken", || {
        namespace.admin.apply(&usage.to_string()).success()
    });
    let target = json!({"type": "Utilization", "averageUtilization": 90});
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "app"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            "minReplicas": 1, "maxReplicas": 3,
            "metrics": [
                {"type": "Resource", "resource": {"name": "cpu", "target": target}},
                {
                    "type": "ContainerResource",
                    "containerResource": {"name": "cpu", "container": "app", "target": target},
                },
            ],
        },
    });
    namespace.admin.apply(&autoscaler.to_string()).ok();

    // The app asks for 10m and uses 9m; the gate asks for 10m, too, and uses 1m.
    assert_eq!(utilization(&namespace), [50, 90]);
}
