//! The Deployment that judging is measured on, and all that it asks for.

use std::{collections::HashMap, sync::Arc};

use portcullis::policy::facts::{Answer, Namespace, Query};
use serde_json::{Value, json, value::RawValue};

/// A Deployment with nothing to find: five containers, each with probes, resources and four references.
pub(crate) fn object() -> Box<RawValue> {
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "checkout", "namespace": "shop"},
        "spec": {
            "replicas": 3,
            "minReadySeconds": 10,
            "progressDeadlineSeconds": 300,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": "checkout"}},
            "template": {
                "metadata": {"labels": {"app": "checkout"}},
                "spec": {"containers": containers(5)},
            },
        },
    });
    serde_json::value::to_raw_value(&deployment).expect("JSON")
}

/// So many of its containers.
pub(crate) fn containers(count: u16) -> Vec<Value> {
    (0..count).map(container).collect()
}

fn container(index: u16) -> Value {
    let env = |name: &str, source: &str, object: &str| {
        let object = format!("{object}-{index}");
        json!({"name": name, "valueFrom": {source: {"name": object, "key": "key"}}})
    };
    let port = 8080 + index;
    json!({
        "name": format!("app-{index}"),
        "image": "registry.example.com/shop/checkout:1.2.3",
        "ports": [{"name": format!("http-{index}"), "containerPort": port}],
        "env": [
            env("PASSWORD", "secretKeyRef", "secret"),
            env("USER_NAME", "secretKeyRef", "user"),
            env("HOST", "configMapKeyRef", "config"),
            {"name": "LOG_LEVEL", "value": "info"},
        ],
        "envFrom": [{"configMapRef": {"name": format!("all-{index}")}}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "256Mi"},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": port}},
        "livenessProbe": {"httpGet": {"path": "/live", "port": port}},
    })
}

/// Everything that the judge asks about it.
pub(crate) fn facts() -> HashMap<Query<'static>, Arc<Answer>> {
    let mut facts = HashMap::from([
        (
            Query::Namespace {
                name: "shop".into(),
            },
            Arc::new(Answer::Namespace(Namespace::default())),
        ),
        (
            Query::LimitRanges {
                namespace: "shop".into(),
            },
            Arc::new(Answer::LimitRanges(Vec::new())),
        ),
    ]);
    let keys = Arc::new(Answer::Keys(vec!["key".into()]));
    for index in 0..5 {
        for name in ["secret", "user"] {
            let name = format!("{name}-{index}").into();
            facts.insert(
                Query::Secret {
                    namespace: "shop".into(),
                    name,
                },
                Arc::clone(&keys),
            );
        }
        for name in ["config", "all"] {
            let name = format!("{name}-{index}").into();
            facts.insert(
                Query::ConfigMap {
                    namespace: "shop".into(),
                    name,
                },
                Arc::clone(&keys),
            );
        }
    }
    facts
}
