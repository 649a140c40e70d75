//! What Services and NetworkPolicies say of pods: JSON in, answers out.

use serde::Deserialize;

use super::decode::owned;
use crate::policy::{
    facts::{Expression, IngressPort, NetworkPolicy, PortRef, Selector, Service, ServicePort},
    template::{List, Map, Port, Scalar, Text},
};

/// Where NetworkPolicies are found.
pub(super) const POLICY_API: &str = "networking.k8s.io/v1";

/// The protocol of a port that names none.
const TCP: &str = "TCP";

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a, S: Deserialize<'de>"))]
struct Object<'a, S> {
    #[serde(default)]
    metadata: Metadata<'a>,
    spec: Option<S>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Metadata<'a> {
    name: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct ServiceSpec<'a> {
    #[serde(rename = "type")]
    kind: Option<Text<'a>>,
    selector: Map<'a, Scalar<'a>>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<Text<'a>>,
    #[serde(rename = "publishNotReadyAddresses")]
    publish_not_ready_addresses: Option<bool>,
    ports: List<RawServicePort<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct RawServicePort<'a> {
    name: Option<Text<'a>>,
    protocol: Option<Text<'a>>,
    port: i32,
    target_port: Option<Port<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct PolicySpec<'a> {
    pod_selector: RawSelector<'a>,
    policy_types: List<Text<'a>>,
    ingress: List<IngressRule<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct IngressRule<'a> {
    ports: List<RawIngressPort<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct RawIngressPort<'a> {
    protocol: Option<Text<'a>>,
    port: Option<Port<'a>>,
    end_port: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct RawSelector<'a> {
    match_labels: Map<'a, Scalar<'a>>,
    match_expressions: List<RawExpression<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct RawExpression<'a> {
    key: Text<'a>,
    operator: Text<'a>,
    values: List<Text<'a>>,
}

/// What a Service says; `None` for one of type ExternalName, which has no pods.
pub(super) fn service(json: &str) -> serde_json::Result<Option<Service>> {
    let Object { metadata, spec } = serde_json::from_str::<Object<'_, ServiceSpec<'_>>>(json)?;
    let spec = spec.unwrap_or_default();
    if spec.kind.as_deref() == Some("ExternalName") {
        return Ok(None);
    }
    Ok(Some(Service {
        name: text(metadata.name.as_ref()),
        selector: owned(&spec.selector),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        ports: spec.ports.items().map(service_port).collect(),
    }))
}

/// What a NetworkPolicy says of who may come in; `None` for one that speaks of egress alone.
pub(super) fn policy(json: &str) -> serde_json::Result<Option<NetworkPolicy>> {
    let Object { metadata, spec } = serde_json::from_str::<Object<'_, PolicySpec<'_>>>(json)?;
    let spec = spec.unwrap_or_default();
    // Without policyTypes it always speaks of ingress (k8s.io/api `networking/v1`, `NetworkPolicySpec`).
    let ingress =
        spec.policy_types.is_empty() || spec.policy_types.items().any(|kind| &**kind == "Ingress");
    let rule = |rule: &IngressRule<'_>| rule.ports.items().map(ingress_port).collect();
    Ok(ingress.then(|| NetworkPolicy {
        name: text(metadata.name.as_ref()),
        pods: selector(&spec.pod_selector),
        ingress: spec.ingress.items().map(rule).collect(),
    }))
}

fn service_port(raw: &RawServicePort<'_>) -> ServicePort {
    let target = match &raw.target_port {
        None | Some(Port::Number(0)) => PortRef::Number(raw.port),
        Some(target) => port_ref(target),
    };
    ServicePort {
        name: text(raw.name.as_ref()),
        protocol: protocol(raw.protocol.as_ref()),
        port: raw.port,
        target,
    }
}

fn ingress_port(raw: &RawIngressPort<'_>) -> IngressPort {
    IngressPort {
        protocol: protocol(raw.protocol.as_ref()),
        port: raw.port.as_ref().map(port_ref),
        end: raw.end_port,
    }
}

/// What a selector of labels says.
pub(super) fn selector(raw: &RawSelector<'_>) -> Selector {
    let expression = |raw: &RawExpression<'_>| Expression {
        key: raw.key.as_str().into(),
        operator: raw.operator.as_str().into(),
        values: raw.values.items().map(|value| (&**value).into()).collect(),
    };
    Selector {
        labels: owned(&raw.match_labels),
        expressions: raw.match_expressions.items().map(expression).collect(),
    }
}

fn port_ref(port: &Port<'_>) -> PortRef {
    match port {
        Port::Number(number) => PortRef::Number(*number),
        Port::Name(name) => PortRef::Name(name.as_str().into()),
    }
}

fn protocol(protocol: Option<&Text<'_>>) -> Box<str> {
    let given = protocol.map(Text::as_str);
    given
        .filter(|given| !given.is_empty())
        .unwrap_or(TCP)
        .into()
}

fn text(text: Option<&Text<'_>>) -> Box<str> {
    text.map(Text::as_str).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_tells_whom_it_selects_and_where_it_leads() {
        let written = json!({
            "metadata": {"name": "checkout"},
            "spec": {
                "selector": {"app": "checkout"},
                "clusterIP": "None",
                "publishNotReadyAddresses": true,
                "ports": [
                    {"name": "http", "port": 80, "targetPort": "web"},
                    {"port": 53, "protocol": "UDP"},
                    {"name": "admin", "port": 81, "targetPort": 8081, "protocol": "TCP"},
                ],
            },
        });
        let service = service(&written.to_string()).unwrap().unwrap();
        assert_eq!(&*service.name, "checkout");
        assert!(service.headless && service.publish_not_ready);
        assert_eq!(
            service.selector.get("app").map(|value| &**value),
            Some("checkout")
        );
        let ports: Vec<_> = service
            .ports
            .iter()
            .map(|port| (&*port.name, &*port.protocol, port.port, &port.target))
            .collect();
        assert_eq!(
            ports,
            [
                ("http", "TCP", 80, &PortRef::Name("web".into())),
                ("", "UDP", 53, &PortRef::Number(53)),
                ("admin", "TCP", 81, &PortRef::Number(8081)),
            ]
        );
    }

    #[test]
    fn a_service_that_is_only_a_name_has_no_pods() {
        let external = json!({"metadata": {"name": "db"}, "spec": {"type": "ExternalName", "externalName": "db.example.com"}});
        assert_eq!(service(&external.to_string()).unwrap(), None);
        let endpoints = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
        let endpoints = service(&endpoints.to_string()).unwrap().unwrap();
        assert!(endpoints.selector.is_empty() && !endpoints.headless);
    }

    #[test]
    fn a_network_policy_tells_which_ports_each_rule_admits() {
        let written = json!({
            "metadata": {"name": "front"},
            "spec": {
                "podSelector": {
                    "matchLabels": {"app": "checkout"},
                    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}],
                },
                "ingress": [
                    {"from": [{"podSelector": {}}], "ports": [{"port": 8080}, {"port": "web"}]},
                    {"ports": [{"protocol": "UDP", "port": 5000, "endPort": 5010}]},
                    {},
                ],
            },
        });
        let policy = policy(&written.to_string()).unwrap().unwrap();
        assert_eq!(&*policy.name, "front");
        assert_eq!(policy.pods.expressions.len(), 1);
        let tcp = |port| IngressPort {
            protocol: "TCP".into(),
            port: Some(port),
            end: None,
        };
        let range = IngressPort {
            protocol: "UDP".into(),
            port: Some(PortRef::Number(5000)),
            end: Some(5010),
        };
        assert_eq!(
            policy.ingress,
            [
                vec![tcp(PortRef::Number(8080)), tcp(PortRef::Name("web".into()))],
                vec![range],
                vec![],
            ]
        );
    }

    #[test]
    fn a_network_policy_for_egress_alone_lets_nobody_in_nor_keeps_anybody_out() {
        let of = |types| json!({"metadata": {"name": "x"}, "spec": {"podSelector": {}, "policyTypes": types}});
        assert_eq!(policy(&of(json!(["Egress"])).to_string()).unwrap(), None);
        for types in [
            json!(null),
            json!(["Ingress"]),
            json!(["Egress", "Ingress"]),
        ] {
            let closed = policy(&of(types).to_string()).unwrap().unwrap();
            assert!(closed.ingress.is_empty());
        }
    }
}
