//! What a pod's gate will be like: which ports it takes over, what it is told, and what it shares with the app.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::{
    borrow::{Ask, Borrowed, borrowed},
    checks,
    config::{Config, Mistake, Readiness, Sidecar},
    drain,
    ports::{self, is_app},
    resources,
    services::{self, Target},
    takeover::{self, Gated, Takeover},
    waits,
};
use crate::{
    contract::{ADMIN_PORT, POD_IPS_ENV, Settings},
    policy::{
        budget::{Budget, PodBudget},
        facts::{Answer, LimitRange, Namespace, Query, Release},
        settings,
        template::Template,
    },
};

/// What a plan is made from.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Ground<'a> {
    pub(in crate::policy) template: &'a Template<'a>,
    /// It is the pod itself: what is not known now will not be known later.
    pub(in crate::policy) is_pod: bool,
    /// The namespace's name, and what is known of it.
    pub(in crate::policy) namespace: (&'a str, Option<&'a Namespace>),
    /// As the API server defaults it.
    pub(in crate::policy) budget: &'a PodBudget<'a>,
    pub(in crate::policy) ranges: &'a [LimitRange],
    pub(in crate::policy) settings: &'a settings::Gate,
}

/// What a pod's gate will be like.
#[derive(Debug)]
pub(in crate::policy) struct Plan<'a> {
    /// At least one.
    pub(in crate::policy) ports: Vec<Gated<'a>>,
    /// The variable that tells the app its port.
    pub(super) port_env: String,
    /// A sidecar of Kubernetes' own; else one of `containers`.
    pub(super) native: bool,
    pub(super) readiness: Readiness,
    pub(super) resources: Budget<'static>,
    pub(super) borrowed: Borrowed<'a>,
    pub(in crate::policy) settings: Settings,
    /// What its owner should know.
    pub(in crate::policy) warnings: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug)]
pub(super) enum Hindrance {
    /// What the gate is told is wrong.
    Mistakes(Vec<Mistake>),
    /// This pod can have no gate.
    Unfit(Cow<'static, str>),
    /// This pod takes no traffic.
    Idle(Cow<'static, str>),
}

/// From this release on, named target ports find native sidecars: `findPort` of the EndpointSlice controller.
const NATIVE_SINCE: Release = Release::new(1, 33);

/// The plan for the pods of a template. What is not known yet is asked and taken as unknown.
pub(super) fn plan<'a>(ground: &Ground<'a>, ask: Ask<'_>) -> Result<Plan<'a>, Hindrance> {
    let Ground {
        template,
        is_pod,
        namespace,
        budget,
        ranges,
        settings,
    } = *ground;
    let config = Config::read(template, namespace, settings)?;
    fits(template)?;
    let native = native(config.own.sidecar, ask);
    if !template.restarts_always() && !native.unwrap_or(!is_pod) {
        return Err(Hindrance::Unfit(
            "it ends by itself, and a gate that is no native sidecar would keep it from ending"
                .into(),
        ));
    }
    let services = ask(Query::Services {
        namespace: namespace.0.into(),
    });
    let targets = services::targets(template, services.as_deref());
    let ports = takeover::gated(template, &config, &targets)?;
    if ports.is_empty() {
        return Err(Hindrance::Idle(
            "no container declares a TCP port that a gate could stand before".into(),
        ));
    }
    if let Some(taken) = ports::clash(template, &ports) {
        return Err(Hindrance::Mistakes(vec![config.mistake("ports", &taken)]));
    }
    let resources = resources(&config, budget, ranges)?;
    let (document, mut warnings) = document(template, &config, &ports);
    let told = config.decode(document)?;
    let cycles = waits::cycles(&config, told.checks(), (namespace.0, &targets, &ports));
    if !cycles.is_empty() {
        return Err(Hindrance::Mistakes(cycles));
    }
    let borrowed = borrowed(template, namespace.0, (&ports, &config, &told), ask)?;
    warnings.extend(checks::shared(told.checks()));
    warnings.extend(waits::outlasted(&told));
    let (checks, services) = (told.checks(), services.as_deref());
    warnings.extend(waits::on_gates(template, checks, namespace, services));
    Ok(Plan {
        port_env: config.port_env().to_owned(),
        // As one of `containers` it works everywhere.
        native: native.unwrap_or(false),
        readiness: config.own.readiness,
        resources,
        borrowed,
        settings: told,
        warnings: [
            takeover_warnings(template, &config, &ports, &targets),
            warnings,
        ]
        .concat(),
        ports,
    })
}

/// Pods that no gate can stand in, whatever it is told.
fn fits(template: &Template<'_>) -> Result<(), Hindrance> {
    let spec = template.spec.as_ref();
    if template.is_windows() {
        return Err(Hindrance::Unfit(
            "it runs on Windows, and the gate on Linux".into(),
        ));
    }
    if spec.and_then(|spec| spec.host_network) == Some(true) {
        return Err(Hindrance::Unfit(
            "it has hostNetwork, where the gate's ports would be taken from the whole node".into(),
        ));
    }
    Ok(())
}

/// What the gate asks for, if the pod is let in with it.
fn resources(
    config: &Config,
    budget: &PodBudget<'_>,
    ranges: &[LimitRange],
) -> Result<Budget<'static>, Hindrance> {
    let wrong = resources::mistakes(config);
    if !wrong.is_empty() {
        return Err(Hindrance::Mistakes(wrong));
    }
    let gate = resources::budget(&config.own.resources, budget, ranges);
    match resources::no_room(&gate, budget, ranges) {
        Some(why) => Err(Hindrance::Unfit(why.into())),
        None => Ok(gate),
    }
}

/// Whether the gate is a sidecar of Kubernetes' own; `None` where the releases are unknown.
fn native(wanted: Sidecar, ask: Ask<'_>) -> Option<bool> {
    match wanted {
        Sidecar::Native => Some(true),
        Sidecar::Container => Some(false),
        Sidecar::Auto => match ask(Query::Versions).as_deref() {
            Some(Answer::Versions(versions)) => {
                let nodes = versions.oldest_node.unwrap_or(versions.server);
                Some(versions.server.min(nodes) >= NATIVE_SINCE)
            }
            _ => None,
        },
    }
}

/// The gate's settings as a whole, and what is too short in them.
fn document(
    template: &Template<'_>,
    config: &Config,
    ports: &[Gated<'_>],
) -> (Map<String, Value>, Vec<String>) {
    let mut document = config.gate.clone();
    let warnings = drain::fit(template, config.own.app_reserve, &mut document);
    let checks = document
        .entry("checks")
        .or_insert_with(|| checks::of_probes(template, ports));
    checks::follow(checks, ports);
    let ports = ports.iter().map(|port| {
        json!({
            "name": port.label,
            "listen": port.listen,
            "app": {"hostFrom": {"env": POD_IPS_ENV}, "port": port.app},
            "protocol": port.protocol,
        })
    });
    document.insert("ports".to_owned(), ports.collect());
    document.insert("admin".to_owned(), json!(ADMIN_PORT));
    (document, warnings)
}

/// What goes past the gate.
fn takeover_warnings(
    template: &Template<'_>,
    config: &Config,
    ports: &[Gated<'_>],
    targets: &[Target],
) -> Vec<String> {
    let mut warnings = Vec::new();
    for port in ports {
        let number = port.declared.number;
        for target in targets.iter().filter(|target| target.passes_by(port)) {
            let service = &target.service;
            let way_out = match (port.declared.name, port.takeover) {
                (_, Takeover::None) if config.wants_none() => continue,
                (Some(name), _) => format!("set its targetPort to {name}"),
                (None, _) => format!(
                    "name the port and set the Service's targetPort to that name, or have the app listen where env {} says",
                    config.port_env()
                ),
            };
            warnings.push(format!(
                "Service \"{service}\" sends to port {number} by number, past the gate: {way_out}"
            ));
        }
        if port.takeover == Takeover::None && !config.wants_none() && targets.is_empty() {
            warnings.push(format!(
                "traffic to port {number} does not pass the gate, which only decides when the pod is ready: name the port \
                 and use that name as targetPort"
            ));
        }
    }
    for target in targets.iter().filter(|target| target.publish_not_ready) {
        let gated = ports.iter().any(|port| target.is_at(&port.declared));
        let service = &target.service;
        warnings.push(if gated {
            format!("Service \"{service}\" publishes pods that are not ready: its clients will meet a closed gate")
        } else {
            format!(
                "Service \"{service}\" publishes pods that are not ready, so what it sends to is not gated; name the port in \
                 ports to gate it"
            )
        });
    }
    for site in template.containers().filter(|site| is_app(*site)) {
        for port in site.container.ports.items().filter(|port| !port.is_tcp()) {
            let (number, protocol) = (port.container_port, port.protocol.as_deref());
            warnings.push(format!(
                "{site}: port {} ({}) is left alone, since the gate stands before TCP only",
                number.unwrap_or_default(),
                protocol.unwrap_or_default(),
            ));
        }
    }
    warnings.dedup();
    warnings
}

// === impl Hindrance ===

impl From<Vec<Mistake>> for Hindrance {
    fn from(mistakes: Vec<Mistake>) -> Self {
        Self::Mistakes(mistakes)
    }
}
