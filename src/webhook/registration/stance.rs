//! What decides on the `failurePolicy` of an entry.

use serde_json::Value;

use crate::lease::Tenure;
use crate::policy::settings::FailurePolicy;
use crate::webhook::metrics::Entry;
use crate::webhook::proof::Opinions;

/// Everything that it rests on, but what the entry says now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stance {
    /// What the settings want, once it is proved that we answer.
    pub(super) wanted: FailurePolicy,
    pub(super) tenure: Tenure,
    /// Somebody has broken the glass.
    pub(super) is_broken: bool,
    pub(super) opinions: Opinions,
}

// === impl Stance ===

impl Stance {
    /// What the entry of this name is to say; `live` is the entry as it is, if it is there.
    pub(super) fn policy(self, name: &str, live: Option<&Value>) -> FailurePolicy {
        let Some(entry) = Entry::of(name) else {
            return FailurePolicy::Ignore; // it patches, or what it gives is only preferred
        };
        if self.is_broken {
            return FailurePolicy::Ignore;
        }
        match (self.tenure, self.wanted) {
            (Tenure::Alone, _) | (_, FailurePolicy::Ignore) => FailurePolicy::Ignore,
            // Who has yet to find out leaves things as they are: the one before had its evidence.
            (Tenure::Held | Tenure::Waiting, FailurePolicy::Fail) => {
                let opinion = self.opinions.of(entry);
                opinion.unwrap_or_else(|| found(live))
            }
        }
    }
}

/// What an entry says of itself. Without rules nobody has opened it yet, and its `Fail` is the API's default.
pub(super) fn found(live: Option<&Value>) -> FailurePolicy {
    let field = |name| live.and_then(|live| live.get(name));
    let is_open = field("rules").and_then(Value::as_array);
    let is_open = is_open.is_some_and(|rules| !rules.is_empty());
    if is_open && field("failurePolicy").is_some_and(|policy| policy == "Fail") {
        FailurePolicy::Fail
    } else {
        FailurePolicy::Ignore
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const VALIDATE: &str = "validate.portcullis.dev";

    fn stance(tenure: Tenure, wanted: FailurePolicy, opinion: Option<FailurePolicy>) -> Stance {
        let mut opinions = Opinions::default();
        opinions.set(Entry::Validate, opinion);
        Stance {
            wanted,
            tenure,
            is_broken: false,
            opinions,
        }
    }

    #[test]
    fn broken_glass_outweighs_every_proof() {
        let open = json!({"rules": [{}], "failurePolicy": "Fail"});
        let mut stance = stance(Tenure::Held, FailurePolicy::Fail, Some(FailurePolicy::Fail));
        assert_eq!(stance.policy(VALIDATE, Some(&open)), FailurePolicy::Fail);
        stance.is_broken = true;
        assert_eq!(stance.policy(VALIDATE, Some(&open)), FailurePolicy::Ignore);
    }

    #[test]
    fn evidence_decides_and_without_any_things_stay_as_they_are() {
        use FailurePolicy::{Fail, Ignore};
        let open = json!({"rules": [{}], "failurePolicy": "Fail"});
        let closed = json!({"rules": [], "failurePolicy": "Fail"});
        let ignored = json!({"rules": [{}], "failurePolicy": "Ignore"});
        for (tenure, wanted, opinion, live, expected) in [
            (Tenure::Held, Fail, Some(Fail), Some(&ignored), Fail),
            (Tenure::Held, Fail, Some(Ignore), Some(&open), Ignore),
            (Tenure::Held, Fail, None, Some(&open), Fail),
            (Tenure::Held, Fail, None, Some(&ignored), Ignore),
            (Tenure::Held, Fail, None, Some(&closed), Ignore),
            (Tenure::Held, Fail, None, None, Ignore),
            (Tenure::Held, Ignore, Some(Fail), Some(&open), Ignore),
            (Tenure::Alone, Fail, Some(Fail), Some(&open), Ignore),
        ] {
            let stance = stance(tenure, wanted, opinion);
            assert_eq!(
                stance.policy(VALIDATE, live),
                expected,
                "{stance:?} {live:?}"
            );
        }
    }

    #[test]
    fn a_copy_goes_with_the_entry_that_it_is_a_copy_of_and_a_help_never_holds_anybody_up() {
        let stance = stance(Tenure::Held, FailurePolicy::Fail, Some(FailurePolicy::Fail));
        let fail = |name: &str| stance.policy(name, None) == FailurePolicy::Fail;
        assert!(fail("rollouts.argoproj.io.validate.portcullis.dev"));
        for name in [
            "inject.portcullis.dev",
            "inject-by-namespace.portcullis.dev",
            "patch.portcullis.dev",
            "inject-preferred.portcullis.dev",
            "inject-preferred-by-namespace.portcullis.dev",
            "invalidate.portcullis.dev",
        ] {
            assert!(!fail(name), "{name}");
        }
        let open = json!({"rules": [{}], "failurePolicy": "Fail"});
        let policy = stance.policy("inject-preferred.portcullis.dev", Some(&open));
        assert_eq!(policy, FailurePolicy::Ignore, "whoever set it");
    }
}
