//! What becomes of objects when our server gives no answer.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kubectl::Kubectl;

/// `failurePolicy` of our entries, by their names.
#[derive(Debug, PartialEq)]
pub struct Policies(BTreeMap<String, String>);

// === impl Policies ===

impl Policies {
    /// As both configurations have them now.
    pub fn of(admin: &Kubectl) -> Self {
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let words = format!("get {kinds} portcullis --ignore-not-found -o json");
        let list: Value = serde_json::from_str(&admin.call(&words).ok()).expect("JSON");
        let items = list["items"].as_array().expect("a list").iter();
        let entries = items.flat_map(|item| item["webhooks"].as_array().expect("a list"));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let pair = |entry: &Value| (text(&entry["name"]), text(&entry["failurePolicy"]));
        Self(entries.map(pair).collect())
    }

    /// What `validate`, `inject` and `inject-by-namespace` say.
    pub fn are(&self, expected: [&str; 3]) -> bool {
        let names = ["validate", "inject", "inject-by-namespace"];
        names.into_iter().zip(expected).all(|(name, expected)| {
            let policy = self.0.get(&format!("{name}.portcullis.dev"));
            policy.is_some_and(|policy| policy == expected)
        })
    }

    pub fn entry(&self, name: &str) -> &str {
        let policy = self.0.get(name);
        policy.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}
