//! The checks that a pod implies, and what holds for those that its settings name.

use serde_json::{Map, Value, json};

use super::takeover::{Gated, Takeover};
use crate::{
    contract::{Check, Scope},
    policy::template::{Handler, HttpGet, Port, Probe, Site, Template},
};

/// A failure threshold has this bound in the gate's settings.
const THRESHOLD_LIMIT: i64 = 1000;

/// Kinds of checks that ask a port, which is the app's where no host is named.
const ASKING: [&str; 4] = ["http", "https", "tcp", "grpc"];

/// The deep checks where none are given: what the readiness probes of the gated containers ask.
pub(super) fn of_probes(template: &Template<'_>, ports: &[Gated<'_>]) -> Value {
    let gated = |site: &Site<'_, '_>| {
        let mut ports = ports.iter().map(|port| port.declared.site);
        ports.any(|other| (other.list, other.index) == (site.list, site.index))
    };
    let mut checks: Vec<Value> = Vec::new();
    for site in template.containers().filter(gated) {
        let Some(probe) = &site.container.readiness_probe else {
            continue;
        };
        let Some((kind, check)) = ask(probe, site) else {
            continue;
        };
        let name = if checks.is_empty() {
            "ready".to_owned()
        } else {
            format!("ready-{}", checks.len() + 1)
        };
        // Asked every second, so that opening does not lag; as patient as the probe.
        let patience = probe.patience().clamp(1, THRESHOLD_LIMIT);
        let timeout = probe.timeout_seconds.unwrap_or(1).clamp(1, 60);
        checks.push(json!({
            "name": name, kind: check, "timeout": format!("{timeout}s"), "failureThreshold": patience,
        }));
    }
    Value::Array(checks)
}

/// What a probe asks, as a check. `None` for a command, and for a host other than the pod: the gate is elsewhere than
/// the kubelet.
fn ask(probe: &Probe<'_>, site: Site<'_, '_>) -> Option<(&'static str, Value)> {
    let here = |host: Option<&str>| host.unwrap_or_default().is_empty();
    match probe.handler()? {
        Handler::HttpGet(get) if here(get.host.as_deref()) => {
            let tls = get.scheme.as_deref() == Some("HTTPS");
            let kind = if tls { "https" } else { "http" };
            Some((kind, http(get, number(get.port.as_ref()?, site)?)))
        }
        Handler::TcpSocket(tcp) if here(tcp.host.as_deref()) => {
            Some(("tcp", json!({"port": number(tcp.port.as_ref()?, site)?})))
        }
        Handler::Grpc(grpc) => {
            let service = grpc.service.as_deref().unwrap_or_default();
            Some(("grpc", json!({"port": grpc.port?, "service": service})))
        }
        Handler::HttpGet(_) | Handler::TcpSocket(_) | Handler::Exec(_) => None,
    }
}

fn http(get: &HttpGet<'_>, port: i32) -> Value {
    let path = get.path.as_deref().unwrap_or_default();
    // As the kubelet reads it.
    let path = format!("/{}", path.trim_start_matches('/'));
    let headers: Map<_, _> = (get.http_headers.items())
        .filter_map(|header| Some((header.name.as_deref()?, header.value.as_deref()?)))
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect();
    json!({"path": path, "port": port, "headers": headers})
}

fn number(port: &Port<'_>, site: Site<'_, '_>) -> Option<i32> {
    match port {
        Port::Number(number) => Some(*number),
        Port::Name(name) => site.container.port(name)?.container_port,
    }
}

/// Checks that ask for the app by the number that the gate took follow the app.
pub(super) fn follow(checks: &mut Value, ports: &[Gated<'_>]) {
    for check in checks.as_array_mut().into_iter().flatten() {
        for kind in ASKING {
            let Some(Value::Object(asked)) = check.get_mut(kind) else {
                continue;
            };
            let moved = asked
                .get("port")
                .and_then(Value::as_u64)
                .and_then(|number| {
                    let mut ports = ports.iter().filter(|port| port.takeover == Takeover::Env);
                    ports.find(|port| u64::from(port.declared.number) == number)
                });
            if let Some(port) = moved.filter(|_| !asked.contains_key("host")) {
                asked.insert("port".to_owned(), json!(port.app));
            }
        }
    }
}

/// Checks of something that others share, which would close every replica at once.
pub(super) fn shared(checks: &[Check]) -> impl Iterator<Item = String> {
    let always = checks.iter().filter(|check| {
        check.scope == Scope::Always && check.kind.default_scope() == Scope::Startup
    });
    always.map(|check| {
        format!(
            "check \"{}\" has scope always and asks something that other pods share: when that blinks, all of them close \
             at once",
            check.name
        )
    })
}
