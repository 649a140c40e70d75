//! Who waits for whom: a gate for others, clients for a gate.

use super::{
    config::{Config, Mistake},
    demand::{self, Demand},
    services::Target,
    takeover::Gated,
};
use crate::{
    contract::{Check, CheckKind, GATE_LABEL, HoldMode, Policy, Settings},
    policy::{
        facts::{Answer, Namespace, Service},
        template::Template,
    },
};

/// The pod would wait for itself: a check that asks a Service which sends to this very gate.
pub(super) fn cycles(
    config: &Config,
    checks: &[Check],
    (namespace, targets, ports): (&str, &[Target], &[Gated<'_>]),
) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        let Some((name, of)) = service(&check.kind, namespace) else {
            continue;
        };
        let own = targets.iter().find(|target| {
            let gated = ports.iter().any(|port| target.is_at(&port.declared));
            of == namespace && name == &*target.service && gated
        });
        if let Some(target) = own {
            let text = format!(
                "asks Service \"{}\", which sends to this pod through this gate: it would wait for itself",
                target.service
            );
            let field = format!("checks[{index}].{}.host", check.kind.name());
            mistakes.push(config.mistake(&field, &text));
        }
    }
    mistakes
}

/// Checks of Services whose pods get gates too, as far as that is at hand: the namespace asks for gates, or the Service
/// looks for pods that do. What those gates wait for is not known here, and of other namespaces nobody is told.
pub(super) fn on_gates(
    template: &Template<'_>,
    checks: &[Check],
    (here, namespace): (&str, Option<&Namespace>),
    services: Option<&Answer>,
) -> Vec<String> {
    let Some(Answer::Services(services)) = services else {
        return Vec::new();
    };
    let all_gated = namespace.and_then(demand::of_namespace).is_some();
    let gated = |service: &&Service| {
        let own = service.selects(|label| template.label(label)); // another matter
        let asked = service.selector.get(GATE_LABEL);
        let asked = asked.is_some_and(|value| Demand::parse(value).is_some());
        // Who publishes pods that are not ready does not wait for their gates.
        (all_gated || asked) && !own && !service.publish_not_ready
    };
    let gated: Vec<_> = services.iter().filter(gated).collect();
    let warnings = checks.iter().filter_map(|check| {
        let (name, of) = service(&check.kind, here)?;
        let service = gated.iter().find(|service| &*service.name == name)?;
        (of == here).then(|| {
            format!(
                "check \"{}\" asks Service \"{}\", whose pods get gates too: if theirs wait for this workload in turn, \
                 none of them ever opens",
                check.name, service.name
            )
        })
    });
    warnings.collect()
}

/// That a warm-up may take longer than what is held meanwhile is kept.
pub(super) fn outlasted(settings: &Settings) -> Option<String> {
    let (warmup, hold, not_warm) = (settings.warmup()?, settings.hold(), settings.not_warm());
    let passes = settings.ports().iter().any(|port| port.listen.is_some());
    let opens_before = not_warm.then == Policy::Open && not_warm.after < warmup.max_duration;
    let (field, longest) = if opens_before {
        ("notWarm.after", not_warm.after)
    } else {
        ("warmup.maxDuration", warmup.max_duration)
    };
    (passes && hold.mode == HoldMode::Queue && longest > hold.max_wait).then(|| {
        format!(
            "{field} {} is longer than hold.maxWait {}: while a restarted app is warmed up again, requests that have waited \
             that long get 503",
            humantime::format_duration(longest),
            humantime::format_duration(hold.max_wait)
        )
    })
}

/// Name and namespace of the Service that a check asks by a host: `stock`, `stock.shop`, `stock.shop.svc.cluster.local`.
fn service<'c>(check: &'c CheckKind, here: &'c str) -> Option<(&'c str, &'c str)> {
    let mut labels = host(check)?.trim_end_matches('.').split('.');
    let (name, namespace) = (labels.next()?, labels.next());
    let in_cluster = labels.next().is_none_or(|label| label == "svc");
    in_cluster.then_some((name, namespace.unwrap_or(here)))
}

fn host(kind: &CheckKind) -> Option<&str> {
    match kind {
        CheckKind::Http(http) | CheckKind::Https(http) => http.host.as_deref(),
        CheckKind::Tcp(tcp) => tcp.host.as_deref(),
        CheckKind::Grpc(grpc) => grpc.host.as_deref(),
        CheckKind::Dns(_)
        | CheckKind::File(_)
        | CheckKind::Env(_)
        | CheckKind::Postgres(_)
        | CheckKind::Redis(_) => None,
    }
}
