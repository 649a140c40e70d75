//! Which pods are meant: one by its name, or all of a workload.

use std::fmt;

use serde_json::Value;

use super::Error;
use crate::cli::cluster::Api;

/// What a person asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    kind: &'static Kind,
    name: String,
}

/// A kind whose pods can be asked about.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    /// As kubectl takes it; the first is how we write it.
    names: &'static [&'static str],
    /// The path of its objects, before and after the namespace.
    path: (&'static str, &'static str),
}

const POD: Kind = Kind {
    names: &["pod", "pods", "po"],
    path: ("/api/v1", "pods"),
};

static KINDS: [Kind; 4] = [
    POD,
    Kind {
        names: &["deployment", "deployments", "deploy"],
        path: ("/apis/apps/v1", "deployments"),
    },
    Kind {
        names: &["statefulset", "statefulsets", "sts"],
        path: ("/apis/apps/v1", "statefulsets"),
    },
    Kind {
        names: &["daemonset", "daemonsets", "ds"],
        path: ("/apis/apps/v1", "daemonsets"),
    },
];

// === impl Target ===

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("pod", text));
        let known = KINDS.iter().find(|known| known.names.contains(&kind));
        let kind = known.ok_or("the kind must be pod, deployment, statefulset or daemonset")?;
        // It goes into a path.
        let is_name = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '.';
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a name has letters, digits, - and .".to_owned());
        }
        let name = name.to_owned();
        Ok(Self { kind, name })
    }

    /// The pods themselves, in the order of their names; of a workload, those that are not being deleted.
    pub(super) async fn pods(&self, api: &Api, namespace: &str) -> Result<Vec<Value>, Error> {
        let Kind {
            path: (group, plural),
            ..
        } = self.kind;
        let unseen = |why| Error::Unseen {
            target: self.to_string(),
            namespace: namespace.to_owned(),
            why,
        };
        let path = format!("{group}/namespaces/{namespace}/{plural}/{}", self.name);
        let object = api.get::<Value>(&path).await.map_err(unseen)?;
        let object = object.ok_or_else(|| Error::Missing {
            target: self.to_string(),
            namespace: namespace.to_owned(),
        })?;
        if *self.kind == POD {
            return Ok(vec![object]);
        }
        let selector = selector(object.pointer("/spec/selector"));
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
        let mut pods = Vec::new();
        let take = |pod: &Value| {
            // One that goes is no longer meant to be ready.
            if pod.pointer("/metadata/deletionTimestamp").is_none() {
                pods.push(pod.clone());
            }
        };
        api.each(&path, take).await.map_err(unseen)?;
        Ok(pods)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.names.first().unwrap_or(&"object");
        write!(f, "{kind} \"{}\"", self.name)
    }
}

/// A LabelSelector as a query has it. What label keys and values may hold needs no escape but for `/` and `=`.
fn selector(selector: Option<&Value>) -> String {
    let of = |field: &str| selector.and_then(|selector| selector.get(field));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let labels = of("matchLabels").and_then(Value::as_object);
    let labels = labels.into_iter().flatten();
    let mut terms: Vec<_> = labels
        .map(|(key, value)| format!("{key}={}", text(Some(value))))
        .collect();
    let expressions = of("matchExpressions").and_then(Value::as_array);
    for expression in expressions.into_iter().flatten() {
        let key = text(expression.get("key"));
        let values = expression.get("values").and_then(Value::as_array);
        let values: Vec<_> = values
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        terms.push(match text(expression.get("operator")).as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key,
        });
    }
    let escape = |text: String| {
        text.replace('/', "%2F")
            .replace('=', "%3D")
            .replace(' ', "%20")
    };
    escape(terms.join(","))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_names_as_kubectl_does() {
        for (text, shown) in [
            ("checkout-5d9c", "pod \"checkout-5d9c\""),
            ("po/a.b", "pod \"a.b\""),
            ("deploy/checkout", "deployment \"checkout\""),
            ("sts/db", "statefulset \"db\""),
            ("daemonsets/log", "daemonset \"log\""),
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "pod/", "service/a", "a/b/c", "a?b", "../x", "deploy/"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_selector_is_written_as_a_query() {
        let written = json!({
            "matchLabels": {"app.kubernetes.io/name": "shop"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "new", "operator": "Exists"},
            ],
        });
        assert_eq!(
            selector(Some(&written)),
            "app.kubernetes.io%2Fname%3Dshop,tier%20in%20(a,b),!old,new"
        );
    }
}
