//! Validated settings: what the mounted YAML file says, once it has been checked.

use crate::policy::{finding::Level, rules::RuleId};

/// Settings in force. Made from the file by validation, never changed afterwards.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Level for namespaces without the label `portcullis.dev/enforce`.
    pub enforce: Level,
    levels: [Level; RuleId::ALL.len()],
}

// === impl Settings ===

impl Settings {
    /// The level of a rule, before namespace labels and the certainty of a fact lower it.
    pub fn level(&self, rule: RuleId) -> Level {
        self.levels
            .get(rule.index())
            .copied()
            .unwrap_or(Level::Deny)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforce: Level::Deny,
            levels: RuleId::ALL.map(|id| id.rule().level),
        }
    }
}
