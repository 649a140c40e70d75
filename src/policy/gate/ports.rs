//! The ports that a pod's containers declare, and those that are free beside them.

use super::takeover::{Gated, Takeover};
use crate::{
    contract::ADMIN_PORT,
    policy::template::{ContainerPort, Port, Site, Template},
};

/// A TCP port that a container declares.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Declared<'a> {
    /// The container.
    pub(in crate::policy) site: Site<'a, 'a>,
    /// Its place among that container's ports.
    pub(in crate::policy) index: usize,
    /// Its name, unless a container before has one of that name: that one is found by it.
    pub(in crate::policy) name: Option<&'a str>,
    pub(in crate::policy) number: u16,
}

/// Ports that nobody in the pod has.
#[derive(Debug)]
pub(super) struct Numbers {
    taken: Vec<i32>,
    last: u16,
}

/// Containers of meshes: not the app.
const MESHES: [&str; 4] = [
    "consul-dataplane",
    "istio-proxy",
    "kuma-sidecar",
    "linkerd-proxy",
];

/// A container of the app, not of a mesh.
pub(super) fn is_app(site: Site<'_, '_>) -> bool {
    site.is_long_running() && !MESHES.contains(&site.name())
}

/// Every TCP port that the app's containers declare.
pub(super) fn declared<'a>(template: &'a Template<'a>) -> Vec<Declared<'a>> {
    let mut all: Vec<Declared<'a>> = Vec::new();
    for site in template.containers().filter(|site| is_app(*site)) {
        for (index, port) in site
            .container
            .ports
            .iter()
            .filter(|(_, port)| port.is_tcp())
        {
            let Some(number) = number(port) else { continue };
            let name = port.name.as_deref().filter(|name| !name.is_empty());
            let taken = |name: &&str| all.iter().any(|other| other.name == Some(name));
            all.push(Declared {
                site,
                index,
                name: name.filter(|name| !taken(name)),
                number,
            });
        }
    }
    all
}

fn number(port: &ContainerPort<'_>) -> Option<u16> {
    let number = u16::try_from(port.container_port?).ok();
    number.filter(|number| *number > 0)
}

/// A probe's port is this one.
pub(super) fn is_port(asked: Option<&Port<'_>>, port: Declared<'_>) -> bool {
    match asked {
        Some(Port::Number(number)) => *number == i32::from(port.number),
        Some(Port::Name(name)) => {
            let found = port.site.container.port(name);
            found.and_then(number) == Some(port.number)
        }
        None => false,
    }
}

/// Why the gate's own ports are not free, if they are not.
pub(super) fn clash(template: &Template<'_>, ports: &[Gated<'_>]) -> Option<String> {
    let mut own: Vec<u16> = vec![ADMIN_PORT];
    for port in ports
        .iter()
        .filter(|port| port.takeover == Takeover::NamedPort)
    {
        let listen = port.listen?;
        if own.contains(&listen) {
            return Some(format!("two of the gate's ports would be {listen}"));
        }
        own.push(listen);
    }
    let mut ports = template.containers().flat_map(|site| {
        let ports = site.container.ports.items();
        ports.map(move |port| (site, port.container_port))
    });
    let own = |number: i32| own.iter().any(|own| i32::from(*own) == number);
    let (site, number) = ports.find(|(_, number)| number.is_some_and(own))?;
    let number = number.unwrap_or_default();
    Some(format!(
        "{site} has port {number}, which the gate needs for itself"
    ))
}

// === impl Numbers ===

impl Numbers {
    /// Those that no container of the pod has, and that are not `asked` for by name.
    pub(super) fn beside(template: &Template<'_>, asked: impl Iterator<Item = u16>) -> Self {
        let ports = template
            .containers()
            .flat_map(|site| site.container.ports.items());
        Self {
            taken: (ports.filter_map(|port| port.container_port))
                .chain(asked.map(i32::from))
                .collect(),
            last: ADMIN_PORT,
        }
    }

    /// Upwards from the admin port, so that what is ours stands together.
    pub(super) fn next(&mut self) -> u16 {
        self.last = self.last.wrapping_add(1).max(1);
        while self.taken.contains(&i32::from(self.last)) {
            self.last = self.last.wrapping_add(1).max(1);
        }
        self.last
    }
}
