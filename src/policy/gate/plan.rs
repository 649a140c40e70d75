//! What a pod's gate will be like: which ports it takes over and what it is told.

use serde_json::{Value, json};

use crate::{
    contract::{ADMIN_PORT, POD_IPS_ENV, Settings},
    policy::template::{Handler, Port, Probe, Site, Template},
};

/// What a pod's gate will be like.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) ports: Vec<Gated<'a>>,
    pub(super) admin: u16,
    pub(super) native: bool,
    pub(super) readiness: Readiness,
    pub(super) settings: Settings,
}

/// A port of the app that the gate stands before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gated<'a> {
    /// The container that declares it.
    pub(super) site: Site<'a, 'a>,
    /// Its place among that container's ports.
    pub(super) index: usize,
    /// Its name, which goes over to the gate.
    pub(super) name: &'a str,
    /// Where the app listens.
    pub(super) app: u16,
    /// Where the gate listens; `None` where it only decides when the pod is ready.
    pub(super) listen: Option<u16>,
}

/// The forms of the gate's readiness probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// A command that prints the reason, which `kubectl describe` then shows.
    Exec,
    /// A request, which costs next to nothing.
    #[expect(dead_code, reason = "widened next")]
    Http,
}

/// The plan for the pods of a template; `None` where there is no port to stand before.
pub(super) fn plan<'a>(template: &'a Template<'a>) -> Option<Plan<'a>> {
    let mut next = ADMIN_PORT;
    let ports: Vec<_> = template
        .containers()
        .filter(|site| site.is_long_running() && site.list == "containers")
        .flat_map(|site| {
            let ports = site.container.ports.iter();
            ports.map(move |(index, port)| (site, index, port))
        })
        .filter(|(_, _, port)| port.is_tcp())
        .filter_map(|(site, index, port)| {
            next += 1;
            Some(Gated {
                site,
                index,
                name: port.name.as_deref()?,
                app: u16::try_from(port.container_port?).ok()?,
                listen: Some(next),
            })
        })
        .take(1)
        .collect();
    let gated = ports.first()?;
    let check = gated
        .site
        .container
        .readiness_probe
        .as_ref()
        .and_then(|probe| check(probe, gated.site));
    let document = json!({
        "ports": ports.iter().map(|port| json!({
            "name": port.name,
            "listen": port.listen,
            "app": {"hostFrom": {"env": POD_IPS_ENV}, "port": port.app},
        })).collect::<Vec<_>>(),
        "admin": ADMIN_PORT,
        "checks": check.into_iter().collect::<Vec<_>>(),
    });
    let settings = Settings::decode(&document.to_string()).ok()?;
    Some(Plan {
        ports,
        admin: ADMIN_PORT,
        native: true,
        readiness: Readiness::Exec,
        settings,
    })
}

fn check(probe: &Probe<'_>, site: Site<'_, '_>) -> Option<Value> {
    let Handler::HttpGet(get) = probe.handler()? else {
        return None;
    };
    let number = match get.port.as_ref()? {
        Port::Number(number) => *number,
        Port::Name(name) => site.container.port(name)?.container_port?,
    };
    Some(json!({"name": "ready", "http": {
        "path": get.path.as_deref().unwrap_or("/"), "port": number,
    }}))
}
