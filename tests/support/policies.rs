//! What becomes of objects when our server gives no answer.

use std::collections::BTreeMap;

use portcullis::webhook::metrics::Entry;
use serde_json::Value;

use super::kubectl::Kubectl;

/// `failurePolicy` of our entries, by their names.
#[derive(Debug, PartialEq)]
pub struct Policies(BTreeMap<String, String>);

// === impl Policies ===

impl Policies {
    /// As both configurations have them now; they must be there.
    pub fn of(admin: &Kubectl) -> Self {
        Self::read(admin).expect("both configurations are there")
    }

    /// The same, where one may be gone.
    pub fn read(admin: &Kubectl) -> Result<Self, String> {
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let words = format!("get {kinds} portcullis -o json");
        let list = admin.call(&words).success_output()?;
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        let items = list["items"].as_array().expect("a list").iter();
        let entries = items.flat_map(|item| item["webhooks"].as_array().expect("a list"));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let pair = |entry: &Value| (text(&entry["name"]), text(&entry["failurePolicy"]));
        Ok(Self(entries.map(pair).collect()))
    }

    /// What `validate`, `inject` and `inject-by-namespace` say.
    pub fn are(&self, expected: [&str; 3]) -> bool {
        let names = ["validate", "inject", "inject-by-namespace"];
        names.into_iter().zip(expected).all(|(name, expected)| {
            let policy = self.0.get(&format!("{name}.portcullis.dev"));
            policy.is_some_and(|policy| policy == expected)
        })
    }

    /// Every entry that may be `Fail` says so, those included that settings add.
    pub fn are_all(&self, policy: &str) -> bool {
        let may_be = self.0.iter().filter(|(name, _)| Entry::of(name).is_some());
        let policies: Vec<_> = may_be.map(|(_, policy)| policy).collect();
        policies.len() >= Entry::ALL.len() && policies.into_iter().all(|is| is == policy)
    }

    pub fn entry(&self, name: &str) -> &str {
        let policy = self.0.get(name);
        policy.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}
