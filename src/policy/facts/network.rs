//! What leads traffic to pods: Services, and the NetworkPolicies that let it in.

use std::collections::BTreeMap;

/// A Service that selects pods. One of type ExternalName selects none and is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec.selector`; empty where somebody else writes its endpoints.
    pub selector: BTreeMap<Box<str>, Box<str>>,
    /// `spec.clusterIP` is `None`: clients find the pods themselves.
    pub headless: bool,
    /// `spec.publishNotReadyAddresses`: readiness keeps nobody away.
    pub publish_not_ready: bool,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
}

/// One of a Service's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`; empty where it has none.
    pub name: Box<str>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// `port`, which clients dial.
    pub port: i32,
    /// `targetPort`; where it is not set, the number of `port`, as the API server defaults it.
    pub target: PortRef,
}

/// A pod's port, by number or by the name that one of its containers gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// A number.
    Number(i32),
    /// A name.
    Name(Box<str>),
}

/// A NetworkPolicy that says who may come in. One for egress alone is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `metadata.name`.
    pub name: Box<str>,
    /// `spec.podSelector`.
    pub pods: Selector,
    /// The ports of each rule of `spec.ingress`. Rules add up; one without ports admits every port, and where there
    /// are no rules nothing comes in. Whom a rule admits is not looked at.
    pub ingress: Vec<Vec<IngressPort>>,
}

/// One of an ingress rule's `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPort {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Box<str>,
    /// `port`; `None` stands for all of the protocol.
    pub port: Option<PortRef>,
    /// `endPort`: the last of a range that begins with `port`.
    pub end: Option<i32>,
}

/// A label selector. An empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `matchLabels`.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// `matchExpressions`.
    pub expressions: Vec<Expression>,
}

/// One of a selector's `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// The label.
    pub key: Box<str>,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: Box<str>,
    /// What it is compared with.
    pub values: Vec<Box<str>>,
}

// === impl Service ===

impl Service {
    /// It sends traffic to pods whose labels `label` tells.
    pub fn selects<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        !self.selector.is_empty() && holds(&self.selector, label)
    }
}

// === impl IngressPort ===

impl IngressPort {
    /// It names this port by number, alone or within a range.
    pub fn admits_number(&self, protocol: &str, number: i32) -> bool {
        let within = match (&self.port, self.end) {
            (None, _) => true,
            (Some(PortRef::Number(first)), None) => *first == number,
            (Some(PortRef::Number(first)), Some(last)) => (*first..=last).contains(&number),
            (Some(PortRef::Name(_)), _) => false,
        };
        within && &*self.protocol == protocol
    }
}

// === impl Selector ===

impl Selector {
    /// It selects pods whose labels `label` tells.
    pub fn selects<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        holds(&self.labels, &label)
            && self
                .expressions
                .iter()
                .all(|expression| expression.holds(label(&expression.key)))
    }
}

// === impl Expression ===

impl Expression {
    /// As apimachinery's `labels.Requirement.Matches` does it: a label that is not there is not in any list.
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|one| **one == *value));
        match &*self.operator {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false, // the API server takes no other
        }
    }
}

fn holds<'l>(
    wanted: &BTreeMap<Box<str>, Box<str>>,
    label: impl Fn(&str) -> Option<&'l str>,
) -> bool {
    wanted
        .iter()
        .all(|(key, value)| label(key) == Some(&**value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(key: &str) -> Option<&'static str> {
        [("app", "checkout"), ("tier", "front")]
            .into_iter()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    fn labels(of: &[(&str, &str)]) -> BTreeMap<Box<str>, Box<str>> {
        let of = of.iter().copied();
        of.map(|(key, value)| (key.into(), value.into())).collect()
    }

    #[test]
    fn a_service_selects_by_all_its_labels_and_never_without_any() {
        let service = |of| Service {
            selector: labels(of),
            ..Service::default()
        };
        assert!(service(&[("app", "checkout")]).selects(label));
        assert!(service(&[("app", "checkout"), ("tier", "front")]).selects(label));
        assert!(!service(&[("app", "checkout"), ("tier", "back")]).selects(label));
        assert!(!service(&[]).selects(label));
    }

    #[test]
    fn a_selector_selects_everything_unless_it_says_otherwise() {
        let by = |key: &str, operator: &str, values: &[&str]| Selector {
            expressions: vec![Expression {
                key: key.into(),
                operator: operator.into(),
                values: values.iter().copied().map(Box::from).collect(),
            }],
            ..Selector::default()
        };
        assert!(Selector::default().selects(label));
        for (key, operator, values, selects) in [
            ("app", "In", &["cart", "checkout"][..], true),
            ("app", "In", &["cart"], false),
            ("zone", "In", &["a"], false),
            ("app", "NotIn", &["cart"], true),
            ("app", "NotIn", &["checkout"], false),
            ("zone", "NotIn", &["a"], true),
            ("app", "Exists", &[], true),
            ("zone", "Exists", &[], false),
            ("app", "DoesNotExist", &[], false),
            ("zone", "DoesNotExist", &[], true),
        ] {
            let selector = by(key, operator, values);
            assert_eq!(selector.selects(label), selects, "{key} {operator}");
        }
        let other = Selector {
            labels: labels(&[("app", "cart")]),
            ..by("tier", "Exists", &[])
        };
        assert!(!other.selects(label));
    }

    #[test]
    fn a_rule_admits_a_number_alone_within_a_range_or_with_all_others() {
        let tcp = |port, end| IngressPort {
            protocol: "TCP".into(),
            port,
            end,
        };
        let number = |number| Some(PortRef::Number(number));
        assert!(tcp(number(8080), None).admits_number("TCP", 8080));
        assert!(!tcp(number(8080), None).admits_number("UDP", 8080));
        assert!(!tcp(number(8080), None).admits_number("TCP", 8081));
        assert!(tcp(number(8080), Some(8090)).admits_number("TCP", 8090));
        assert!(!tcp(number(8080), Some(8090)).admits_number("TCP", 8091));
        assert!(tcp(None, None).admits_number("TCP", 1));
        assert!(!tcp(Some(PortRef::Name("http".into())), None).admits_number("TCP", 8080));
    }
}
