//! Injection: a pod that asks for a traffic gate gets one.
//!
//! ```text
//! labels -> demand -> plan (ports, settings, form) -> draft of the pod -> operations
//! ```

mod demand;

mod plan;

mod container;

mod draft;

use serde_json::{Value, json};

pub use self::demand::Demand;
use self::{
    draft::{Draft, member},
    plan::{Gated, Plan},
};
use super::{
    context::{Inquiry, Surroundings},
    facts::{Known, Query},
    finding::Finding,
    operation::Operation,
    settings::Settings,
    template::{Port, Site},
    workload::Workload,
};
use crate::contract::{GATE_CONTAINER, GATE_TAKEOVER_ANNOTATION};

/// What becomes of a pod: questions first.
#[derive(Debug)]
pub enum Injecting {
    /// Facts are missing. Answer all of these, then call [`inject`] again.
    Ask(Vec<Query<'static>>),
    /// Nobody asks for a gate, or the pod has one.
    Nothing,
    /// It asks for a gate and cannot have one; it goes without.
    Left {
        /// How much it was wanted.
        demand: Demand,
        /// Why, for the client.
        warnings: Vec<String>,
    },
    /// It must have a gate and cannot.
    Refuse(Vec<Finding>),
    /// It gets one.
    Done(Injection),
}

/// A gate for a pod.
#[derive(Debug)]
pub struct Injection {
    /// How much it was wanted.
    pub demand: Demand,
    /// How the gate takes over the app's ports.
    pub takeover: Takeover,
    /// In the order in which they must be applied.
    pub operations: Vec<Operation>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// How a gate takes over the app's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Takeover {
    /// It takes a port's name, which Services follow.
    NamedPort,
    /// It takes a port's number, and the app is told another one by an environment variable.
    Env,
    /// It takes none: it decides when the pod is ready, and traffic goes past it.
    None,
    /// Some ports in one way and some in another.
    Mixed,
}

/// Where the API server's webhook calls for pods end: the gate that `workload`, read from `object`, gets. Nothing for
/// any other kind than a Pod.
pub fn inject(
    workload: &Workload<'_>,
    object: &Value,
    known: &dyn Known,
    settings: &Settings,
) -> Injecting {
    if !workload.kind.is_pod() {
        return Injecting::Nothing;
    }
    let mut inquiry = Inquiry::new(known);
    let surroundings = Surroundings::ask(&mut inquiry, workload.namespace);
    if let Err(questions) = inquiry.settle() {
        return Injecting::Ask(questions);
    }
    let Some(asked) = demand::asked(&workload.template, surroundings.namespace()) else {
        return Injecting::Nothing;
    };
    let has_gate = |site: Site<'_, '_>| site.name() == GATE_CONTAINER;
    if workload.template.containers().any(has_gate) {
        return Injecting::Nothing;
    }
    let (Some(plan), Some(image)) = (plan::plan(&workload.template), &settings.gate.image) else {
        return Injecting::Left {
            demand: asked.demand,
            warnings: Vec::new(),
        };
    };
    let gate = container::container(&plan, image, settings.gate.pull_policy);
    Injecting::Done(Injection {
        demand: asked.demand,
        takeover: Takeover::NamedPort,
        operations: write(workload, object, &plan, gate),
        warnings: Vec::new(),
    })
}

/// Writes the gate into the pod.
fn write(workload: &Workload<'_>, object: &Value, plan: &Plan<'_>, gate: Value) -> Vec<Operation> {
    let mut draft = Draft::of(object);
    let annotation = member("/metadata/annotations", GATE_TAKEOVER_ANNOTATION);
    draft.set(&annotation, json!(Takeover::NamedPort.as_str()));
    for port in &plan.ports {
        let Gated { site, index, .. } = port;
        draft.remove(&format!(
            "/spec/{}/{}/ports/{index}/name",
            site.list, site.index
        ));
    }
    for site in workload.template.containers() {
        rewrite_probes(&mut draft, site, plan);
        if site.list == "containers" {
            let hook = format!("/spec/containers/{}/lifecycle/preStop", site.index);
            if draft.get(&hook).is_none() {
                draft.set(
                    &hook,
                    json!({"httpGet": {"path": "/drained", "port": plan.admin}}),
                );
            }
        }
    }
    draft.append("/spec/volumes", container::volume());
    let list = if plan.native {
        "/spec/initContainers"
    } else {
        "/spec/containers"
    };
    draft.append(list, gate);
    draft.into_operations()
}

/// Probes that ask for a port by a name that went to the gate ask for its number.
fn rewrite_probes(draft: &mut Draft, site: Site<'_, '_>, plan: &Plan<'_>) {
    let gated = |name: &str| {
        let mut ports = plan.ports.iter();
        ports.find(|port| port.site.index == site.index && port.name == name)
    };
    let container = site.container;
    for (field, probe) in [
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(probe) = probe else { continue };
        for (handler, port) in [
            (
                "httpGet",
                probe.http_get.as_ref().and_then(|get| get.port.as_ref()),
            ),
            (
                "tcpSocket",
                probe.tcp_socket.as_ref().and_then(|tcp| tcp.port.as_ref()),
            ),
        ] {
            let Some(Port::Name(name)) = port else {
                continue;
            };
            if let Some(port) = gated(name) {
                let at = format!("/spec/{}/{}/{field}/{handler}/port", site.list, site.index);
                draft.set(&at, json!(port.app));
            }
        }
    }
}

// === impl Takeover ===

impl Takeover {
    /// As annotation and metrics write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NamedPort => "named-port",
            Self::Env => "env",
            Self::None => "none",
            Self::Mixed => "mixed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        settings::Settings,
        testing::{Facts, NAMESPACE, kind_of, raw},
    };

    fn injected(pod: &Value) -> Value {
        let facts = Facts {
            settings: Settings::from_value(json!({"gate": {"image": "gate:1"}})).unwrap(),
            ..Facts::default()
        };
        let bytes = raw(pod);
        let workload = Workload::read(kind_of(pod), NAMESPACE, &bytes)
            .unwrap()
            .unwrap();
        let Injecting::Done(injection) = inject(&workload, pod, &facts, &facts.settings) else {
            panic!("no gate");
        };
        let mut after = pod.clone();
        injection
            .operations
            .iter()
            .for_each(|operation| operation.apply(&mut after));
        after
    }

    #[test]
    fn a_named_port_goes_to_the_gate() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "x", "labels": {"portcullis.dev/gate": "enabled"}},
            "spec": {"containers": [{
                "name": "app",
                "ports": [{"name": "http", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            }]},
        });
        insta::assert_json_snapshot!(injected(&pod));
    }
}
