//! The gate's container, as it is written into a pod.

use serde_json::{Value, json};

use super::plan::{Plan, Readiness};
use crate::{
    contract::{
        GATE_CONFIG_ENV, GATE_CONTAINER, GATE_STATE_DIR_ENV, GATE_STATE_VOLUME, POD_IPS_ENV,
    },
    policy::settings::PullPolicy,
};

/// Where the image has the program.
const PROGRAM: &str = "/usr/bin/portcullis-gate";

/// Where the volume of [`GATE_STATE_VOLUME`] is mounted.
const STATE_DIR: &str = "/run/portcullis";

/// The user of the image; said here too, since `runAsNonRoot` of the pod may be of another.
const USER: u32 = 65532;

/// A socket and a small file.
const STATE_SIZE: &str = "1Mi";

/// The container itself.
pub(super) fn container(plan: &Plan<'_>, image: &str, pull_policy: PullPolicy) -> Value {
    let mut container = json!({
        "name": GATE_CONTAINER,
        "image": image,
        "imagePullPolicy": pull_policy.as_str(),
        "command": [PROGRAM, "run"],
        "env": env(plan),
        "ports": ports(plan),
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "128Mi"},
        },
        "readinessProbe": readiness(plan),
        // Answered by the event loop that serves traffic; a minute of silence, and it is started again.
        "livenessProbe": {
            "httpGet": {"path": "/live", "port": plan.admin},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
        "lifecycle": {
            "preStop": {"exec": {"command": [PROGRAM, "drain", "--deleted"]}},
        },
        "securityContext": security_context(),
        "volumeMounts": [{"name": GATE_STATE_VOLUME, "mountPath": STATE_DIR}],
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

fn env(plan: &Plan<'_>) -> Value {
    json!([
        {"name": POD_IPS_ENV, "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        {"name": GATE_STATE_DIR_ENV, "value": STATE_DIR},
        {"name": GATE_CONFIG_ENV, "value": escape(&plan.settings.encode())},
    ])
}

/// The kubelet expands `$(NAME)` in values; `$$` is a plain `$`.
fn escape(value: &str) -> String {
    value.replace('$', "$$")
}

fn ports(plan: &Plan<'_>) -> Value {
    let gated = plan.ports.iter().filter_map(|port| {
        Some(json!({"name": port.name, "containerPort": port.listen?, "protocol": "TCP"}))
    });
    let admin = json!({"name": "gate-admin", "containerPort": plan.admin, "protocol": "TCP"});
    gated.chain([admin]).collect()
}

fn readiness(plan: &Plan<'_>) -> Value {
    match plan.readiness {
        // Each run is a process, so not more often; what it prints is shown by `kubectl describe`.
        Readiness::Exec => json!({
            "exec": {"command": [PROGRAM, "probe"]},
            "periodSeconds": 5,
            "timeoutSeconds": 4,
            "failureThreshold": 2,
        }),
        Readiness::Http => json!({
            "httpGet": {"path": "/ready", "port": plan.admin},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 3,
        }),
    }
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
