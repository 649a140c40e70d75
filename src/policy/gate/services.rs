//! What Services and NetworkPolicies have to do with the ports of a pod.

use super::{
    ports::Declared,
    takeover::{Gated, Takeover},
};
use crate::policy::{
    facts::{Answer, IngressPort, NetworkPolicy, PortRef},
    template::Template,
};

/// A TCP port of a Service that sends to the pods of a template.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) service: Box<str>,
    /// The name of the Service's port.
    pub(super) port_name: Box<str>,
    pub(super) publish_not_ready: bool,
    at: PortRef,
}

/// Those of the Services that select the pods of `template`.
pub(super) fn targets(template: &Template<'_>, answer: Option<&Answer>) -> Vec<Target> {
    let Some(Answer::Services(services)) = answer else {
        return Vec::new();
    };
    let label = |name: &str| template.label(name);
    let selecting = services.iter().filter(|service| service.selects(label));
    selecting
        .flat_map(|service| {
            let tcp = service.ports.iter().filter(|port| &*port.protocol == "TCP");
            tcp.map(|port| Target {
                service: service.name.clone(),
                port_name: port.name.clone(),
                publish_not_ready: service.publish_not_ready,
                at: port.target.clone(),
            })
        })
        .collect()
}

/// The first NetworkPolicy that lets clients in to the app by a number that is no longer where they go.
pub(in crate::policy) fn shut_out<'p>(
    template: &Template<'_>,
    port: &Gated<'_>,
    policies: &'p [NetworkPolicy],
) -> Option<&'p NetworkPolicy> {
    let listen = port.listen?;
    let label = |name: &str| template.label(name);
    let mut rules = Vec::new();
    for policy in policies.iter().filter(|policy| policy.pods.selects(label)) {
        rules.extend(policy.ingress.iter().map(|ports| (policy, ports)));
    }
    let by_name = |one: &IngressPort| match &one.port {
        Some(PortRef::Name(name)) => port.declared.name == Some(name),
        Some(PortRef::Number(_)) | None => false,
    };
    let admits = |ports: &[IngressPort], number: u16| {
        let number = i32::from(number);
        ports.is_empty()
            || ports
                .iter()
                .any(|one| one.admits_number("TCP", number) || by_name(one))
    };
    if rules.iter().any(|(_, ports)| admits(ports, listen)) {
        return None;
    }
    let mut rules = rules.into_iter();
    let (policy, _) = rules.find(|(_, ports)| admits(ports, port.declared.number))?;
    Some(policy)
}

// === impl Target ===

impl Target {
    /// It sends to this port.
    pub(super) fn is_at(&self, port: &Declared<'_>) -> bool {
        self.is_by_name(port) || self.is_by_number(port)
    }

    /// It sends to this port by its name.
    pub(super) fn is_by_name(&self, port: &Declared<'_>) -> bool {
        matches!(&self.at, PortRef::Name(name) if port.name == Some(name))
    }

    /// It sends to this port by its number.
    pub(super) fn is_by_number(&self, port: &Declared<'_>) -> bool {
        matches!(&self.at, PortRef::Number(number) if *number == i32::from(port.number))
    }

    /// It sends to the app's port and past the gate.
    pub(super) fn passes_by(&self, port: &Gated<'_>) -> bool {
        match port.takeover {
            Takeover::NamedPort => self.is_by_number(&port.declared),
            Takeover::Env => false,
            Takeover::None | Takeover::Mixed => self.is_at(&port.declared),
        }
    }
}
