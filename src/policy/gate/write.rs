//! The gate, written into a pod; and what a pod that has it still lacks.

use serde_json::{Value, json};

use super::{
    container,
    draft::{Draft, member},
    plan::Plan,
    takeover::{Gated, Takeover},
};
use crate::{
    contract::{ADMIN_PORT, GATE_CONTAINER, GATE_TAKEOVER_ANNOTATION},
    policy::{
        operation::Operation,
        template::{Site, Template},
    },
};

/// Annotations that keep a port out of a mesh's capture, as lists with commas.
const MESH_ANNOTATIONS: [&str; 2] = [
    "config.linkerd.io/skip-inbound-ports",
    "traffic.sidecar.istio.io/excludeInboundPorts",
];

/// What may ask a port by a name: probes and hooks, and how.
const ASKERS: [&str; 5] = [
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
    "lifecycle/postStart",
    "lifecycle/preStop",
];
const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Where a pod says which ports its processes may take without privileges.
const SYSCTLS: &str = "/spec/securityContext/sysctls";
const UNPRIVILEGED_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// Writes the gate into a pod that has none.
pub(super) fn inject(
    object: &Value,
    template: &Template<'_>,
    plan: &Plan<'_>,
    image: container::Image<'_>,
) -> Vec<Operation> {
    let mut draft = Draft::of(object);
    let ports: Vec<_> = (plan.ports.iter())
        .map(|port| format!("{}={}", port.label, port.takeover.as_str()))
        .collect();
    annotate(&mut draft, &ports.join(","));
    // Before anything of the app's container is changed: what is borrowed is copied as it was written.
    let gate = container::container(plan, &draft, image);
    for port in &plan.ports {
        take_over(&mut draft, port, &plan.port_env);
    }
    for site in template.containers() {
        keep_to_the_app(&mut draft, site, &plan.ports);
    }
    wait_for_the_drain(&mut draft, template);
    if plan
        .ports
        .iter()
        .any(|port| port.listen.is_some_and(|listen| listen < 1024))
    {
        allow_low_ports(&mut draft);
    }
    draft.append("/spec/volumes", container::volume());
    let list = if plan.native {
        "initContainers"
    } else {
        "containers"
    };
    draft.append(&format!("/spec/{list}"), gate);
    draft.into_operations()
}

/// What a pod lacks whose gate was written into it before other webhooks changed it.
pub(super) fn complete(object: &Value, template: &Template<'_>, takeover: &str) -> Vec<Operation> {
    let mut draft = Draft::of(object);
    annotate(&mut draft, takeover);
    wait_for_the_drain(&mut draft, template);
    let mut gates = template
        .containers()
        .filter(|site| site.name() == GATE_CONTAINER);
    if let Some(Site { list, index, .. }) = gates.next()
        && list == "initContainers"
    {
        let at = format!("/spec/{list}/{index}");
        // A webhook that was built before there were native sidecars drops it when it writes the pod back.
        draft.set(&format!("{at}/restartPolicy"), json!("Always"));
        // Behind what a mesh has put after it: the gate starts last and reaches the app the way that its clients do.
        let last = format!("/spec/{list}/{}", index + 1);
        if draft.get(&last).is_some()
            && let Some(gate) = draft.get(&at).cloned()
        {
            draft.remove(&at);
            draft.append(&format!("/spec/{list}"), gate);
        }
    }
    draft.into_operations()
}

fn annotate(draft: &mut Draft, takeover: &str) {
    let annotations = "/metadata/annotations";
    draft.set(
        &member(annotations, GATE_TAKEOVER_ANNOTATION),
        json!(takeover),
    );
    let admin = ADMIN_PORT.to_string();
    for name in MESH_ANNOTATIONS {
        let at = member(annotations, name);
        let ports = draft.get(&at).and_then(Value::as_str).unwrap_or_default();
        if !ports.split(',').any(|port| port.trim() == admin) {
            let separator = if ports.is_empty() { "" } else { "," };
            let ports = format!("{ports}{separator}{admin}");
            draft.set(&at, json!(ports));
        }
    }
}

/// The app's container lets go of what is the gate's now.
fn take_over(draft: &mut Draft, port: &Gated<'_>, port_env: &str) {
    if port.takeover == Takeover::None {
        return;
    }
    let Site { list, index, .. } = port.declared.site;
    let container = format!("/spec/{list}/{index}");
    let at = format!("{container}/ports/{}", port.declared.index);
    for field in ["name", "hostPort", "hostIP"] {
        draft.remove(&format!("{at}/{field}"));
    }
    if port.takeover == Takeover::Env {
        draft.set(&format!("{at}/containerPort"), json!(port.app));
        let entry = json!({"name": port_env, "value": port.app.to_string()});
        let env = format!("{container}/env");
        let entries = draft.get(&env).and_then(Value::as_array);
        let last = entries.and_then(|entries| {
            entries
                .iter()
                .rposition(|entry| entry.get("name").and_then(Value::as_str) == Some(port_env))
        });
        match last {
            Some(index) => draft.set(&format!("{env}/{index}"), entry),
            None => draft.append(&env, entry),
        }
    }
}

/// Probes and hooks go on asking the app itself: by number where the name went to the gate, by its new number where the
/// old one did.
fn keep_to_the_app(draft: &mut Draft, site: Site<'_, '_>, ports: &[Gated<'_>]) {
    let Site { list, index, .. } = site;
    for asker in ASKERS {
        for handler in HANDLERS {
            let asked = format!("/spec/{list}/{index}/{asker}/{handler}");
            let host = draft.get(&format!("{asked}/host")).and_then(Value::as_str);
            let elsewhere = host.is_some_and(|host| !host.is_empty());
            let at = format!("{asked}/port");
            let moved = match draft.get(&at) {
                Some(Value::String(name)) => ports.iter().find(|port| {
                    let of = port.declared.site;
                    let here = (of.list, of.index) == (list, index);
                    here && port.takeover != Takeover::None && port.declared.name == Some(name)
                }),
                Some(Value::Number(number)) if !elsewhere => ports.iter().find(|port| {
                    let number = number.as_u64();
                    port.takeover == Takeover::Env && number == Some(port.declared.number.into())
                }),
                _ => None,
            };
            if let Some(port) = moved {
                let number = if elsewhere {
                    port.declared.number
                } else {
                    port.app
                };
                draft.set(&at, json!(number));
            }
        }
    }
}

/// Containers without a `preStop` get one that waits until the drain is done, so that no app is gone before its traffic.
fn wait_for_the_drain(draft: &mut Draft, template: &Template<'_>) {
    let others = template
        .containers()
        .filter(|site| site.list == "containers");
    for site in others.filter(|site| site.name() != GATE_CONTAINER) {
        let hook = format!("/spec/containers/{}/lifecycle/preStop", site.index);
        if draft.get(&hook).is_none() {
            draft.set(
                &hook,
                json!({"httpGet": {"path": "/drained", "port": ADMIN_PORT}}),
            );
        }
    }
}

/// Lets the gate, which has no privileges, listen below 1024. Pod Security `restricted` knows this sysctl as safe.
fn allow_low_ports(draft: &mut Draft) {
    let sysctls = draft.get(SYSCTLS).and_then(Value::as_array);
    let there =
        |sysctl: &Value| sysctl.get("name").and_then(Value::as_str) == Some(UNPRIVILEGED_PORTS);
    if !sysctls.is_some_and(|sysctls| sysctls.iter().any(there)) {
        draft.append(SYSCTLS, json!({"name": UNPRIVILEGED_PORTS, "value": "0"}));
    }
}
