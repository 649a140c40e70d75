//! What goes past a gate, and what cuts it off: Services and NetworkPolicies that speak of the app's port by number.

use std::{collections::BTreeSet, sync::Arc};

use super::{gates::Gated, patient::Patient, report::Line};
use crate::{
    contract::Settings,
    policy::facts::{Answer, IngressPort, NetworkPolicy, PortRef, Query, Service},
};

/// The protocol of all that a gate stands before.
const TCP: &str = "TCP";

/// A port that a gate stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    /// Where the app listens.
    app: i32,
    /// Where the gate does.
    gate: i32,
}

pub(super) async fn services(patient: &Patient) -> Vec<Line> {
    let ask = |namespace: &str| Query::Services {
        namespace: namespace.to_owned().into(),
    };
    look(patient, "Services", ask, |answer, gated, found| {
        if let Answer::Services(services) = answer {
            let ports = ports(gated);
            let selected = services
                .iter()
                .filter(|service| service.selects(label(gated)));
            for service in selected {
                found.extend(past(service, &ports).map(|line| (gated.namespace.clone(), line)));
            }
        }
    })
    .await
}

pub(super) async fn network_policies(patient: &Patient) -> Vec<Line> {
    let ask = |namespace: &str| Query::NetworkPolicies {
        namespace: namespace.to_owned().into(),
    };
    look(patient, "NetworkPolicies", ask, |answer, gated, found| {
        if let Answer::NetworkPolicies(policies) = answer {
            let ports = ports(gated);
            let selecting = policies
                .iter()
                .filter(|policy| policy.pods.selects(label(gated)));
            for policy in selecting {
                found.extend(cut_off(policy, &ports).map(|line| (gated.namespace.clone(), line)));
            }
        }
    })
    .await
}

/// One line for each fault that `judge` finds at a gated pod, however many replicas it has.
async fn look(
    patient: &Patient,
    what: &str,
    ask: impl Fn(&str) -> Query<'static>,
    judge: impl Fn(&Answer, &Gated, &mut BTreeSet<(String, (String, String))>),
) -> Vec<Line> {
    let census = match patient.census().await {
        Ok(census) => census,
        Err(why) => return vec![Line::unknown(&format!("{what} of pods with a gate"), &why)],
    };
    let namespaces: BTreeSet<_> = census.gated.iter().map(|gated| &gated.namespace).collect();
    let (mut lines, mut found) = (Vec::new(), BTreeSet::new());
    for namespace in namespaces {
        let answer: Arc<Answer> = patient.ask(ask(namespace)).await;
        if let Answer::Unknown(unknown) = &*answer {
            let what = format!("{what} of namespace {namespace}");
            lines.push(Line::unknown(&what, &unknown.to_string()));
        }
        let pods = census
            .gated
            .iter()
            .filter(|gated| gated.namespace == *namespace);
        for gated in pods {
            judge(&answer, gated, &mut found);
        }
    }
    for (namespace, (message, fix)) in found {
        lines.push(Line::warn(format!("{namespace}: {message}"), fix));
    }
    if lines.is_empty() {
        lines.push(Line::ok(match census.gated.len() {
            0 => "no pod has a gate yet".to_owned(),
            count => format!("{what} lead to the gates of all {count} pods that have one"),
        }));
    }
    lines
}

/// The ports of a Service that lead to the app, past its gate.
fn past(service: &Service, ports: &[Port]) -> impl Iterator<Item = (String, String)> {
    service.ports.iter().filter_map(move |leads| {
        let PortRef::Number(number) = leads.target else {
            return None;
        };
        let port = ports.iter().find(|port| port.app == number)?;
        let taken = ports.iter().any(|port| port.gate == number);
        (!taken && &*leads.protocol == TCP).then(|| {
            let Service { name, .. } = service;
            let Port { name: by_name, app, .. } = port;
            (
                format!(
                    "Service {name}, port {}, has targetPort {app} and walks past the gate: the pod's readiness counts, but \
                     nothing is held, ramped or drained",
                    leads.port
                ),
                format!("set targetPort: {by_name}, the name that moved to the gate; or let the app move: takeover: env"),
            )
        })
    })
}

/// The rules of a NetworkPolicy that admit the app's port by number and not the gate's.
fn cut_off(policy: &NetworkPolicy, ports: &[Port]) -> impl Iterator<Item = (String, String)> {
    ports.iter().filter_map(|port| {
        let Port { name, app, gate } = port;
        let by_name = |admitted: &IngressPort| {
            matches!(&admitted.port, Some(PortRef::Name(admitted)) if **admitted == **name)
        };
        let cuts = policy.ingress.iter().any(|rule| {
            let admits = |number| rule.iter().any(|port| port.admits_number(TCP, number));
            admits(*app) && !admits(*gate) && !rule.iter().any(by_name)
        });
        cuts.then(|| {
            (
                format!(
                    "NetworkPolicy {} admits port {app} of the app and not port {gate} of its gate: what comes through a \
                     Service is cut off",
                    policy.name
                ),
                format!("add port: {name} (or {gate}) beside {app} in the policy's ingress"),
            )
        })
    })
}

/// The ports that a pod's gate took over, without those it only watches.
fn ports(gated: &Gated) -> Vec<Port> {
    let ports = gated.settings.iter().flat_map(Settings::ports);
    ports
        .filter_map(|port| {
            Some(Port {
                name: port.name.clone(),
                app: port.app.port.into(),
                gate: port.listen?.0.port().into(),
            })
        })
        .filter(|port| port.app != port.gate)
        .collect()
}

fn label<'g>(gated: &'g Gated) -> impl Fn(&str) -> Option<&'g str> {
    |key| gated.labels.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::facts::ServicePort;

    fn ports() -> Vec<Port> {
        vec![Port {
            name: "http".to_owned(),
            app: 8080,
            gate: 15982,
        }]
    }

    #[test]
    fn a_service_walks_past_by_the_app_s_number_alone() {
        let number = PortRef::Number;
        for (target, protocol, walks) in [
            (number(8080), "TCP", true),
            (number(8080), "UDP", false),
            (number(15982), "TCP", false),
            (number(9090), "TCP", false),
            (PortRef::Name("http".into()), "TCP", false),
        ] {
            let service = Service {
                ports: vec![ServicePort {
                    name: "web".into(),
                    protocol: protocol.into(),
                    port: 80,
                    target: target.clone(),
                }],
                ..Service::default()
            };
            assert_eq!(past(&service, &ports()).count() == 1, walks, "{target:?}");
        }
    }

    #[test]
    fn where_the_app_moved_its_number_is_the_gate_s() {
        let moved = [Port {
            name: "http".to_owned(),
            app: 18080,
            gate: 8080,
        }];
        let service = Service {
            ports: vec![ServicePort {
                name: "web".into(),
                protocol: "TCP".into(),
                port: 80,
                target: PortRef::Number(8080),
            }],
            ..Service::default()
        };
        assert_eq!(past(&service, &moved).count(), 0);
    }

    #[test]
    fn a_policy_cuts_off_where_a_rule_names_the_app_and_not_its_gate() {
        let tcp = |port| IngressPort {
            protocol: "TCP".into(),
            port: Some(port),
            end: None,
        };
        let (app, gate) = (PortRef::Number(8080), PortRef::Number(15982));
        let name = PortRef::Name("http".into());
        for (ingress, cuts) in [
            (vec![vec![tcp(app.clone())]], true),
            (vec![vec![tcp(app.clone()), tcp(gate)]], false),
            (vec![vec![tcp(app.clone()), tcp(name.clone())]], false),
            (vec![vec![tcp(name)]], false),
            (vec![vec![]], false),
            (vec![vec![], vec![tcp(app)]], true),
            (vec![], false),
        ] {
            let policy = NetworkPolicy {
                ingress: ingress.clone(),
                ..NetworkPolicy::default()
            };
            assert_eq!(cut_off(&policy, &ports()).count() == 1, cuts, "{ingress:?}");
        }
    }
}
