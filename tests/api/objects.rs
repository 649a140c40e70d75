//! Objects that the tests apply: sound ones, to be spoiled in one place.

use serde_json::{Value, json};

/// What the server under test is told.
pub const SETTINGS: &str = "\
rules:
  env-parity: {level: deny}
  cpu-request: {patch: 50m}
  cpu-limit: {patch: 1}
  memory-request: {patch: 64Mi}
  memory-limit: {patch: 128Mi}
  readiness-probe: {patch: true}
requiredEnv:
  - namespaces: [required-env-*]
    env: [TZ]
twins:
  - [parity-staging, parity-production]
  - [staging, production]
expectedSecrets:
  - {namespace: expected-*, name: made-by-*}
warnOnlyUsers:
  users: [restore-tool]
  groups: [oncall]
workloads:
  - group: argoproj.io
    version: v1alpha1
    kind: Rollout
    resource: rollouts
    template: /spec/template
  - group: example.com
    version: v1
    kind: Widget
    resource: widgets
    template: /spec/workload/template
";

/// An image that nobody pulls: no node runs these pods.
const IMAGE: &str = "registry.example/app:1.0";

/// Objects as one `List`, which kubectl takes as it takes a file.
pub fn list(items: impl IntoIterator<Item = Value>) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": items.into_iter().collect::<Vec<_>>()})
        .to_string()
}

/// A container that satisfies every rule.
pub fn container(name: &str) -> Value {
    json!({
        "name": name,
        "image": IMAGE,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
        "resources": {
            "requests": {"cpu": "10m", "memory": "16Mi"},
            "limits": {"cpu": "100m", "memory": "32Mi"},
        },
    })
}

/// A container without all that the rules ask for.
pub fn bare_container(name: &str) -> Value {
    json!({"name": name, "image": IMAGE})
}

/// A pod spec of these containers.
pub fn spec(containers: impl IntoIterator<Item = Value>) -> Value {
    json!({"containers": containers.into_iter().collect::<Vec<_>>()})
}

/// A sound pod spec with one container, `app`.
pub fn sound_spec() -> Value {
    spec([container("app")])
}

/// A pod spec that every rule about probes and resources refuses.
pub fn bare_spec() -> Value {
    spec([bare_container("app")])
}

/// An object of `kind` around a pod spec, with no pods where the kind can say so.
pub fn workload(kind: &str, name: &str, mut spec: Value) -> Value {
    let labels = json!({"app": name});
    let metadata = json!({"name": name, "labels": labels});
    let selector = json!({"matchLabels": labels});
    if matches!(kind, "Job" | "CronJob") {
        spec["restartPolicy"] = json!("Never");
    }
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let (version, spec) = match kind {
        "Pod" => {
            return json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec});
        }
        "ControllerRevision" => {
            let data = json!({"spec": {"template": template}});
            return json!({
                "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "revision": 1, "data": data,
            });
        }
        "ReplicationController" => (
            "v1",
            json!({"replicas": 0, "selector": labels, "template": template}),
        ),
        "DaemonSet" => (
            "apps/v1",
            json!({"selector": selector, "template": template}),
        ),
        "Job" => ("batch/v1", json!({"suspend": true, "template": template})),
        "CronJob" => (
            "batch/v1",
            json!({"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": template}}}),
        ),
        "Rollout" => (
            "argoproj.io/v1alpha1",
            json!({"replicas": 0, "selector": selector, "template": template}),
        ),
        "Widget" => (
            "example.com/v1",
            json!({"size": 1, "workload": {"template": template}}),
        ),
        _ => (
            "apps/v1",
            json!({"replicas": 0, "selector": selector, "template": template}),
        ),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// A Deployment of no replicas around a pod spec.
pub fn deployment(name: &str, spec: Value) -> Value {
    workload("Deployment", name, spec)
}

pub fn secret(name: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {key: "not really"},
    })
}

/// An env entry that reads a key of a Secret.
pub fn env_from_secret(env: &str, secret: &str, key: &str) -> Value {
    json!({"name": env, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
}

/// What the developer needs beside the stock ClusterRole `edit`, and the kinds that settings add.
pub fn developer_extras() -> Vec<Value> {
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "developer-extras"},
        "rules": [
            {"apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": ["argoproj.io"], "resources": ["rollouts"], "verbs": ["*"]},
            {"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["*"]},
        ],
    });
    vec![
        role,
        definition("argoproj.io", "v1alpha1", ("Rollout", "rollouts")),
        definition("example.com", "v1", ("Widget", "widgets")),
    ]
}

/// A CustomResourceDefinition of a kind, with its plural, that may hold anything.
pub fn definition(group: &str, version: &str, (kind, plural): (&str, &str)) -> Value {
    let singular = kind.to_lowercase();
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": singular},
            "versions": [{
                "name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}
