//! The guard of our labels, which the API server runs by itself: whoever may label a namespace could switch us off there.

use serde_json::Value;

use super::{patient::Patient, registration::APPLY, report::Line};
use crate::yaml;

/// The policy and its binding, as this release ships them.
const POLICY: Shipped = Shipped {
    kind: "ValidatingAdmissionPolicy",
    resource: "validatingadmissionpolicies",
    manifest: include_str!("../../../manifests/base/namespace-labels.yaml"),
};
const BINDING: Shipped = Shipped {
    kind: "ValidatingAdmissionPolicyBinding",
    resource: "validatingadmissionpolicybindings",
    manifest: include_str!("../../../manifests/base/namespace-labels-binding.yaml"),
};

/// The name of both.
const NAME: &str = "portcullis-namespace-labels";

/// What could happen while it does not hold.
const OPEN: &str = "whoever may label a namespace can switch us off there";

/// One object of the manifests.
#[derive(Clone, Copy, Debug)]
struct Shipped {
    kind: &'static str,
    resource: &'static str,
    manifest: &'static str,
}

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let mut lines = Vec::new();
    for shipped in [POLICY, BINDING] {
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/{}/{NAME}",
            shipped.resource
        );
        let title = shipped.title();
        match patient.api.get::<Value>(&path).await {
            Ok(live) => lines.extend(shipped.judge(live.as_ref())),
            Err(why) => lines.push(Line::unknown(&title, &why)),
        }
    }
    if lines.is_empty() {
        lines.push(Line::ok(format!(
            "{} and its binding are there, as this release ships them",
            POLICY.title()
        )));
    }
    lines
}

// === impl Shipped ===

impl Shipped {
    fn title(self) -> String {
        format!("{} {NAME}", self.kind)
    }

    /// What is wrong with the live object, if anything is.
    fn judge(self, live: Option<&Value>) -> Option<Line> {
        let title = self.title();
        let Some(live) = live else {
            return Some(Line::fail(format!("{title} is not there: {OPEN}"), APPLY));
        };
        let spec = live.get("spec").unwrap_or(&Value::Null);
        if let Some(why) = lets_by(spec) {
            return Some(Line::fail(format!("{title} {why}: {OPEN}"), APPLY));
        }
        let mut shipped = yaml::documents(self.manifest);
        let shipped = shipped.next()?.ok()?.value;
        let changed = changed(shipped.get("spec")?, spec);
        (!changed.is_empty()).then(|| {
            Line::warn(
                format!(
                    "{title} is not as this release ships it: {}",
                    changed.join(", ")
                ),
                format!("unless it was changed on purpose, {APPLY}"),
            )
        })
    }
}

/// Fields of either object that alone make the guard let all by.
fn lets_by(spec: &Value) -> Option<&'static str> {
    let ignores = spec
        .get("failurePolicy")
        .is_some_and(|policy| policy == "Ignore");
    let actions = spec.get("validationActions").and_then(Value::as_array);
    if ignores {
        Some("has failurePolicy Ignore")
    } else if actions.is_some_and(|actions| !actions.iter().any(|action| action == "Deny")) {
        Some("does not say Deny in validationActions")
    } else {
        None
    }
}

/// The fields in which they differ, but for the words that who is refused reads.
fn changed(shipped: &Value, live: &Value) -> Vec<String> {
    let fields = |spec: &Value| {
        let mut spec = spec.as_object().cloned().unwrap_or_default();
        let validations = spec.get_mut("validations").and_then(Value::as_array_mut);
        for validation in validations.into_iter().flatten() {
            if let Some(validation) = validation.as_object_mut() {
                validation.retain(|field, _| field == "expression");
            }
        }
        spec
    };
    let (shipped, live) = (fields(shipped), fields(live));
    let names = shipped
        .keys()
        .chain(live.keys().filter(|name| !shipped.contains_key(*name)));
    names
        .filter(|name| shipped.get(*name) != live.get(*name))
        .map(|name| format!("spec.{name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is said of the object once its `spec` has been changed.
    fn said(shipped: Shipped, change: impl FnOnce(&mut Value)) -> String {
        let mut live = yaml::documents(shipped.manifest);
        let mut live = live.next().unwrap().unwrap().value;
        change(&mut live["spec"]);
        let found = shipped.judge(Some(&live));
        found.map_or_else(String::new, |line| serde_json::to_string(&line).unwrap())
    }

    #[test]
    fn what_is_shipped_is_sound() {
        for shipped in [POLICY, BINDING] {
            let object = yaml::documents(shipped.manifest)
                .next()
                .unwrap()
                .unwrap()
                .value;
            assert_eq!(object["kind"], shipped.kind);
            assert_eq!(object["metadata"]["name"], NAME);
            assert_eq!(said(shipped, |_| ()), "");
        }
        let reworded = said(POLICY, |spec| {
            spec["validations"][0]["message"] = json!("no");
        });
        assert_eq!(reworded, "", "its words are anybody's");
    }

    #[test]
    fn what_lets_all_by_is_broken_and_what_was_changed_is_named() {
        let gone = serde_json::to_string(&BINDING.judge(None)).unwrap();
        assert!(
            gone.contains("fail") && gone.contains("is not there"),
            "{gone}"
        );
        let ignores = said(POLICY, |spec| spec["failurePolicy"] = json!("Ignore"));
        assert!(
            ignores.contains("fail") && ignores.contains("failurePolicy Ignore"),
            "{ignores}"
        );
        let audits = said(BINDING, |spec| spec["validationActions"] = json!(["Audit"]));
        assert!(
            audits.contains("fail") && audits.contains("does not say Deny"),
            "{audits}"
        );
        let both = said(BINDING, |spec| {
            spec["validationActions"] = json!(["Deny", "Audit"]);
        });
        assert!(
            both.contains("warn") && both.contains("spec.validationActions"),
            "{both}"
        );
        for (field, value) in [
            (
                "matchConditions",
                json!([{"name": "x", "expression": "false"}]),
            ),
            ("validations", json!([{"expression": "true"}])),
            ("variables", json!([])),
        ] {
            let altered = said(POLICY, |spec| spec[field] = value);
            let told = format!("spec.{field}");
            assert!(
                altered.contains("warn") && altered.contains(&told),
                "{altered}"
            );
        }
        let narrowed = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
        let narrowed = said(BINDING, |spec| spec["matchResources"] = narrowed);
        assert!(narrowed.contains("spec.matchResources"), "{narrowed}");
    }
}
