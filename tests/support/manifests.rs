//! `manifests/`, as they are applied where no node runs a Service.

use serde_json::{Value, json};

use super::kubectl::Kubectl;

/// The base, as text of one kustomization.
pub const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/base");

/// The objects of a kustomization, such as [`BASE`], with the webhooks at a port of loopback.
pub fn called_by_url(admin: &Kubectl, kustomization: &str, port: u16) -> Vec<Value> {
    let text = admin.call_with(&["kustomize", kustomization], None).ok();
    let json = admin
        .feed(
            "create --dry-run=client --validate=false -o json -f -",
            &text,
        )
        .ok();
    let objects = serde_json::Deserializer::from_str(&json).into_iter::<Value>();
    let mut objects: Vec<_> = objects
        .map(|object| object.expect("kubectl prints JSON"))
        .collect();
    for object in &mut objects {
        let Some(webhooks) = object.get_mut("webhooks").and_then(Value::as_array_mut) else {
            continue;
        };
        for webhook in webhooks {
            let client = &mut webhook["clientConfig"];
            let path = client["service"]["path"]
                .as_str()
                .expect("a webhook has a path")
                .to_owned();
            *client = json!({"url": format!("https://127.0.0.1:{port}{path}")});
        }
    }
    objects
}
