//! The gate's container, as it is written into a pod.

use serde_json::{Map, Value, json};

use super::{
    borrow::BorrowedEnv, config::Readiness, draft::Draft, plan::Plan, resources, takeover::Takeover,
};
use crate::{
    contract::{
        ADMIN_PORT, GATE_CONFIG_ENV, GATE_CONTAINER, GATE_STATE_DIR_ENV, GATE_STATE_VOLUME,
        POD_IPS_ENV,
    },
    policy::{settings::PullPolicy, template::Site},
};

/// What runs in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image<'s> {
    pub(super) name: &'s str,
    pub(super) pull_policy: PullPolicy,
}

/// Where the image has the program.
const PROGRAM: &str = "/usr/bin/portcullis-gate";

/// Where the volume of [`GATE_STATE_VOLUME`] is mounted.
const STATE_DIR: &str = "/run/portcullis";

/// The user of the image; said here too, since the pod's own may be another.
const USER: u32 = 65532;

/// A socket and a small file.
const STATE_SIZE: &str = "1Mi";

/// The container itself. What it borrows is copied from `draft`.
pub(super) fn container(plan: &Plan<'_>, draft: &Draft, image: Image<'_>) -> Value {
    let mut container = json!({
        "name": GATE_CONTAINER,
        "image": image.name,
        "imagePullPolicy": image.pull_policy.as_str(),
        "command": [PROGRAM, "run"],
        "env": env(plan, draft),
        "ports": ports(plan, draft),
        "resources": resources::resources(&plan.resources),
        "readinessProbe": readiness(plan.readiness),
        // Answered by the event loop that serves traffic; after a minute of silence it is started again.
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": ADMIN_PORT},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {
            "preStop": {"exec": {"command": [PROGRAM, "drain", "--deleted"]}},
        },
        "securityContext": security_context(),
        "volumeMounts": mounts(plan, draft),
    });
    if plan.native
        && let Some(fields) = container.as_object_mut()
    {
        fields.insert("restartPolicy".to_owned(), json!("Always"));
    }
    container
}

/// The volume that [`container`] mounts.
pub(super) fn volume() -> Value {
    json!({"name": GATE_STATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": STATE_SIZE}})
}

fn env(plan: &Plan<'_>, draft: &Draft) -> Value {
    let own = [
        json!({"name": POD_IPS_ENV, "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}}),
        json!({"name": GATE_STATE_DIR_ENV, "value": STATE_DIR}),
        json!({"name": GATE_CONFIG_ENV, "value": escape(&plan.settings.encode())}),
    ];
    let borrowed = plan.borrowed.env.iter().filter_map(|env| entry(env, draft));
    borrowed.chain(own).collect()
}

fn entry(env: &BorrowedEnv<'_>, draft: &Draft) -> Option<Value> {
    let (site, index) = match env {
        BorrowedEnv::Key {
            name,
            reference,
            object,
            key,
        } => {
            let selector = json!({"name": object, "key": key, "optional": true});
            return Some(json!({"name": name, "valueFrom": {*reference: selector}}));
        }
        BorrowedEnv::Entry(site, index) => (site, index),
    };
    let mut entry = draft.get(&pointer(*site, "env", *index))?.clone();
    let source = entry.get_mut("valueFrom").and_then(Value::as_object_mut);
    for (kind, selector) in source.into_iter().flatten() {
        let Some(selector) = selector.as_object_mut() else {
            continue;
        };
        match kind.as_str() {
            "configMapKeyRef" | "secretKeyRef" | "fileKeyRef" => {
                selector.insert("optional".to_owned(), json!(true));
            }
            // Of the app, not of the gate.
            "resourceFieldRef" => {
                let name = json!(site.name());
                selector.entry("containerName").or_insert(name);
            }
            _ => {}
        }
    }
    Some(entry)
}

/// The kubelet expands `$(NAME)` in values; `$$` is a plain `$`.
fn escape(value: &str) -> String {
    value.replace('$', "$$")
}

fn ports(plan: &Plan<'_>, draft: &Draft) -> Value {
    let gated = plan.ports.iter().filter_map(|port| {
        let mut entry = Map::new();
        let written = draft.get(&pointer(port.declared.site, "ports", port.declared.index));
        entry.extend(
            port.declared
                .name
                .map(|name| ("name".to_owned(), json!(name))),
        );
        entry.insert("containerPort".to_owned(), json!(port.listen?));
        for field in ["hostIP", "hostPort"] {
            let value = written.and_then(|written| written.get(field));
            entry.extend(value.map(|value| (field.to_owned(), value.clone())));
        }
        entry.insert("protocol".to_owned(), json!("TCP"));
        (port.takeover != Takeover::None).then_some(Value::Object(entry))
    });
    let admin = json!({"name": "gate-admin", "containerPort": ADMIN_PORT, "protocol": "TCP"});
    gated.chain([admin]).collect()
}

fn readiness(form: Readiness) -> Value {
    match form {
        // Each run is a process, so not more often.
        Readiness::Exec => json!({
            "exec": {"command": [PROGRAM, "probe"]},
            "periodSeconds": 5,
            "timeoutSeconds": 4,
            "failureThreshold": 2,
        }),
        Readiness::Http => json!({
            "httpGet": {"path": "/ready", "port": ADMIN_PORT},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 3,
        }),
    }
}

fn mounts(plan: &Plan<'_>, draft: &Draft) -> Value {
    let borrowed = plan.borrowed.mounts.iter().filter_map(|(site, index)| {
        let mut mount = draft.get(&pointer(*site, "volumeMounts", *index))?.clone();
        if let Some(fields) = mount.as_object_mut() {
            fields.insert("readOnly".to_owned(), json!(true));
            fields.shift_remove("mountPropagation");
        }
        Some(mount)
    });
    let own = json!({"name": GATE_STATE_VOLUME, "mountPath": STATE_DIR});
    borrowed.chain([own]).collect()
}

/// What Pod Security `restricted` asks for, and a root file system that nobody writes to.
fn security_context() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsGroup": USER,
        "runAsNonRoot": true,
        "runAsUser": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn pointer(site: Site<'_, '_>, field: &str, index: usize) -> String {
    format!("/spec/{}/{}/{field}/{index}", site.list, site.index)
}
