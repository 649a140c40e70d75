//! Validated settings: what the settings file says, once it has been checked.
//!
//! ```text
//! file -> YAML with positions (shell) -> raw -> validate -> Settings
//! ```

/// The file as it is written.
mod raw;

/// Levels and patches in it.
mod rules;

/// Whether the API server waits for us.
mod failure_policy;

/// The traffic gate.
mod gate;

/// Patterns with `*` and `?`.
mod glob;

use serde_json::Value;

use super::{
    finding::Level,
    quantity::Quantity,
    rules::RuleId,
    workload::{KINDS, WorkloadKind},
};
pub use failure_policy::FailurePolicy;
pub use gate::{Gate, PullPolicy};
pub use glob::Glob;

/// Settings in force. Made from the file by validation, never changed afterwards.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Level for namespaces without the label `portcullis.dev/enforce`.
    pub enforce: Level,
    /// What the API server does with an object when we don't answer, once we have proved that we do.
    pub failure_policy: FailurePolicy,
    /// An update is let in with the violations that the object had before.
    pub ratchet: bool,
    /// What is patched into pods of namespaces labelled `portcullis.dev/patch: enabled`.
    pub patches: Patches,
    /// The traffic gate that pods may ask for.
    pub gate: Gate,
    levels: [Level; RuleId::ALL.len()],
    required_env: Vec<RequiredEnv>,
    twins: Vec<[String; 2]>,
    expected_secrets: Vec<ExpectedSecret>,
    warn_only_users: Vec<String>,
    warn_only_groups: Vec<String>,
    workloads: Vec<WorkloadKind>,
}

/// Defaults for pods. What is `None` or `false` is never patched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    /// A TCP check of the container's only declared port.
    pub readiness_probe: bool,
    /// `resources.requests.cpu`.
    pub cpu_request: Option<Quantity>,
    /// `resources.limits.cpu`.
    pub cpu_limit: Option<Quantity>,
    /// `resources.requests.memory`.
    pub memory_request: Option<Quantity>,
    /// `resources.limits.memory`.
    pub memory_limit: Option<Quantity>,
}

/// Settings that can't be used: which field, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", self.field())]
pub struct Invalid {
    /// JSON pointer (RFC 6901) to the field; empty for the file as a whole.
    pub pointer: String,
    /// What is wrong with it, and how to mend it.
    pub reason: String,
}

/// Env names that every workload in some namespaces must set.
#[derive(Clone, Debug)]
struct RequiredEnv {
    namespaces: Vec<Glob>,
    env: Vec<String>,
}

/// Secrets that something else will make: never looked up.
#[derive(Clone, Debug)]
struct ExpectedSecret {
    namespace: Glob,
    name: Glob,
}

// === impl Settings ===

impl Settings {
    /// Settings from a parsed file. `null`, an empty file, is all defaults.
    pub fn from_value(value: Value) -> Result<Self, Invalid> {
        raw::File::read(value)?.validate()
    }

    /// The JSON schema (draft 2020-12) of the settings file.
    pub fn schema() -> Value {
        raw::File::schema()
    }

    /// The level of a rule, before namespace labels and the certainty of a fact lower it.
    pub fn level(&self, rule: RuleId) -> Level {
        self.levels
            .get(rule.index())
            .copied()
            .unwrap_or(Level::Deny)
    }

    /// Env names that a workload in `namespace` must set.
    pub fn required_env(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.required_env
            .iter()
            .filter(move |required| {
                required
                    .namespaces
                    .iter()
                    .any(|glob| glob.matches(namespace))
            })
            .flat_map(|required| required.env.iter().map(String::as_str))
    }

    /// The namespaces that hold the same workloads as `namespace`.
    pub fn twins(&self, namespace: &str) -> impl Iterator<Item = &str> {
        self.twins
            .iter()
            .filter_map(move |[one, other]| match namespace {
                _ if namespace == one => Some(other.as_str()),
                _ if namespace == other => Some(one.as_str()),
                _ => None,
            })
    }

    /// Something else will make this Secret, so it is not looked up.
    pub fn expects_secret(&self, namespace: &str, name: &str) -> bool {
        self.expected_secrets
            .iter()
            .any(|expected| expected.namespace.matches(namespace) && expected.name.matches(name))
    }

    /// For this user denials are only warnings. Both are compared exactly.
    pub fn only_warns(&self, user: &str, groups: &[impl AsRef<str>]) -> bool {
        let listed = |list: &[String], name: &str| list.iter().any(|item| item == name);
        listed(&self.warn_only_users, user)
            || groups
                .iter()
                .any(|group| listed(&self.warn_only_groups, group.as_ref()))
    }

    /// Every kind that is judged: the built-in ones, then those of `workloads`.
    pub fn kinds(&self) -> impl Iterator<Item = &WorkloadKind> {
        KINDS.iter().chain(&self.workloads)
    }

    /// The judged kind of that group (empty for the core group), version and kind.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&WorkloadKind> {
        self.kinds()
            .find(|row| row.group == group && row.version == version && row.kind == kind)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enforce: Level::Deny,
            failure_policy: FailurePolicy::Fail,
            ratchet: true,
            patches: Patches::default(),
            gate: Gate::default(),
            levels: RuleId::ALL.map(|id| id.rule().level),
            required_env: Vec::new(),
            twins: Vec::new(),
            expected_secrets: Vec::new(),
            warn_only_users: Vec::new(),
            warn_only_groups: Vec::new(),
            workloads: Vec::new(),
        }
    }
}

// === impl Patches ===

impl Patches {
    /// The amount that is patched in where `rule` would fire; `None` for rules about something else.
    pub fn amount(mut self, rule: RuleId) -> Option<Quantity> {
        self.amount_mut(rule).and_then(|slot| *slot)
    }

    fn amount_mut(&mut self, rule: RuleId) -> Option<&mut Option<Quantity>> {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a new rule patches no amount"
        )]
        match rule {
            RuleId::CpuRequest => Some(&mut self.cpu_request),
            RuleId::CpuLimit => Some(&mut self.cpu_limit),
            RuleId::MemoryRequest => Some(&mut self.memory_request),
            RuleId::MemoryLimit => Some(&mut self.memory_limit),
            _ => None,
        }
    }
}

// === impl Invalid ===

impl Invalid {
    fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            reason: reason.into(),
        }
    }

    /// The field as people write it: `twins[0]`, `rules.memory-limit.patch`.
    fn field(&self) -> String {
        if self.pointer.is_empty() {
            return String::from("settings");
        }
        let mut field = String::new();
        for token in self.pointer.split('/').skip(1) {
            if token.bytes().all(|byte| byte.is_ascii_digit()) {
                field.extend(["[", token, "]"]);
            } else {
                let dot = if field.is_empty() { "" } else { "." };
                field.push_str(dot);
                field.push_str(&token.replace("~1", "/").replace("~0", "~"));
            }
        }
        field
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(value: Value) -> Settings {
        Settings::from_value(value).unwrap()
    }

    fn refusal(value: Value) -> String {
        Settings::from_value(value).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        for empty in [
            Value::Null,
            json!({}),
            json!({"rules": null, "twins": null}),
        ] {
            let settings = settings(empty);
            assert_eq!(settings.enforce, Level::Deny);
            assert_eq!(settings.failure_policy, FailurePolicy::Fail);
            assert!(settings.ratchet);
            for rule in RuleId::ALL {
                assert_eq!(settings.level(rule), rule.rule().level, "{rule}");
            }
            assert_eq!(settings.patches, Patches::default());
            assert_eq!(settings.kinds().count(), KINDS.len());
        }
    }

    #[test]
    fn levels_and_patches_are_set_by_rule() {
        let settings = settings(json!({
            "enforce": "warn",
            "rules": {
                "memory-limit": {"level": "none", "patch": "256Mi"},
                "cpu-limit": {"patch": 2},
                "readiness-probe": {"patch": true},
            },
        }));
        assert_eq!(settings.enforce, Level::Warn);
        assert_eq!(settings.level(RuleId::MemoryLimit), Level::None);
        assert_eq!(settings.patches.memory_limit, Quantity::parse("256Mi").ok());
        assert_eq!(settings.patches.cpu_limit, Quantity::parse("2").ok());
        assert!(settings.patches.readiness_probe);
    }

    #[test]
    fn required_env_follows_the_namespace() {
        let settings = settings(json!({"requiredEnv": [
            {"namespaces": ["prod-*", "live"], "env": ["SMTP_HOST"]},
            {"namespaces": ["*"], "env": ["TZ"]},
        ]}));
        let of = |namespace| settings.required_env(namespace).collect::<Vec<_>>();
        assert_eq!(of("prod-eu"), ["SMTP_HOST", "TZ"]);
        assert_eq!(of("live"), ["SMTP_HOST", "TZ"]);
        assert_eq!(of("prod"), ["TZ"]);
    }

    #[test]
    fn twins_know_each_other() {
        let settings = settings(json!({"twins": [["staging", "production"]]}));
        assert_eq!(
            settings.twins("staging").collect::<Vec<_>>(),
            ["production"]
        );
        assert_eq!(
            settings.twins("production").collect::<Vec<_>>(),
            ["staging"]
        );
        assert_eq!(settings.twins("shop").count(), 0);
    }

    #[test]
    fn expected_secrets_match_by_glob() {
        let settings =
            settings(json!({"expectedSecrets": [{"namespace": "shop", "name": "vault-*"}]}));
        assert!(settings.expects_secret("shop", "vault-db"));
        assert!(!settings.expects_secret("shop", "db-vault-"));
        assert!(!settings.expects_secret("shop2", "vault-db"));
    }

    #[test]
    fn warn_only_users_are_matched_exactly() {
        let settings =
            settings(json!({"warnOnlyUsers": {"users": ["velero"], "groups": ["oncall"]}}));
        assert!(settings.only_warns("velero", &["x"]));
        assert!(settings.only_warns("kim", &["dev", "oncall"]));
        assert!(!settings.only_warns("velero2", &["oncall2"]));
    }

    #[test]
    fn workloads_add_kinds() {
        let settings = settings(json!({"workloads": [{
            "group": "argoproj.io", "version": "v1alpha1", "kind": "Rollout",
            "resource": "rollouts", "template": "/spec/template",
        }]}));
        let rollout = settings.kind("argoproj.io", "v1alpha1", "Rollout").unwrap();
        assert_eq!((&*rollout.resource, rollout.update), ("rollouts", true));
        assert!(settings.kind("apps", "v1", "Deployment").is_some());
        assert!(settings.kind("apps", "v1", "Rollout").is_none());
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn errors_name_the_field_and_the_way_out() {
        let rollout = |field: &str, value: &str| {
            let mut row = json!({
                "group": "argoproj.io", "version": "v1alpha1", "kind": "Rollout",
                "resource": "rollouts", "template": "/spec/template",
            });
            row[field] = json!(value);
            json!({"workloads": [row]})
        };
        let refusals = [
            json!([]),
            json!({"enforc": "deny"}),
            json!({"enforce": "off"}),
            json!({"enforce": false}),
            json!({"failurePolicy": "fail"}),
            json!({"ratchet": "off"}),
            json!({"rules": {"memory-limt": {}}}),
            json!({"rules": {"memory-limit": {"lvl": "deny"}}}),
            json!({"rules": {"memory-limit": {"patch": "256MB"}}}),
            json!({"rules": {"memory-limit": {"patch": true}}}),
            json!({"rules": {"memory-limit": {"patch": 0}}}),
            json!({"rules": {"readiness-probe": {"patch": "8080"}}}),
            json!({"rules": {"limit-range": {"patch": true}}}),
            json!({"rules": {"memory-limit": {"patch": "1Gi"}, "memory-request": {"patch": "2Gi"}}}),
            json!({"requiredEnv": [{"namespaces": [], "env": ["A"]}]}),
            json!({"requiredEnv": [{"namespaces": ["a"], "env": ["A=B"]}]}),
            json!({"requiredEnv": [{"namespaces": ["Prod"], "env": ["A"]}]}),
            json!({"requiredEnv": [{"env": ["A"]}]}),
            json!({"twins": [["staging"]]}),
            json!({"twins": [["staging", "staging"]]}),
            json!({"twins": [["staging", "prod-*"]]}),
            json!({"expectedSecrets": [{"namespace": "*", "name": ""}]}),
            json!({"warnOnlyUsers": {"groups": ["system:authenticated"]}}),
            json!({"warnOnlyUsers": {"users": [""]}}),
            rollout("template", "spec.template"),
            rollout("template", "/spec//template"),
            rollout("kind", ""),
            rollout("resource", "rollouts/scale"),
            json!({"workloads": [{
                "group": "apps", "version": "v1", "kind": "Deployment",
                "resource": "deployments", "template": "/spec/template",
            }]}),
        ];
        let refusals: Vec<_> = refusals.into_iter().map(refusal).collect();
        let all = RuleId::ALL.map(RuleId::as_str).join(", ");
        insta::assert_snapshot!(refusals.join("\n").replace(&all, "(all rules)"), @r#"
settings: must be a map of fields, not a list
enforc: unknown field `enforc`, expected one of `enforce`, `failurePolicy`, `ratchet`, `rules`, `requiredEnv`, `twins`, `expectedSecrets`, `warnOnlyUsers`, `workloads`, `gate`
enforce: invalid value: string "off", expected none, warn or deny
enforce: invalid type: boolean `false`, expected none, warn or deny
failurePolicy: unknown variant `fail`, expected `Ignore` or `Fail`
ratchet: invalid type: string "off", expected a boolean
rules.memory-limt: no such rule; there are (all rules)
rules.memory-limit.lvl: unknown field `lvl`, expected `level` or `patch`
rules.memory-limit.patch: "256MB" is not a quantity: its suffix is unknown; CPU takes m, memory takes Ki, Mi, Gi, Ti or k, M, G, T
rules.memory-limit.patch: must be a quantity such as 256Mi
rules.memory-limit.patch: must be more than nothing
rules.readiness-probe.patch: must be true or false
rules.limit-range.patch: this rule has nothing to patch in: leave it out
rules.memory-request.patch: 2Gi is more than the 1Gi of rules.memory-limit.patch
requiredEnv[0].namespaces: must name at least one
requiredEnv[0].env[0]: must be an env name, not empty and without =
requiredEnv[0].namespaces[0]: "Prod" matches no name: names hold no 'P'
requiredEnv[0]: missing field `namespaces`
twins[0]: invalid length 1, expected an array of length 2
twins[0]: must be two different namespaces
twins[0][1]: must be the name of a namespace
expectedSecrets[0].name: must not be empty; "*" stands for all
warnOnlyUsers.groups[0]: system:authenticated is everybody: to refuse nobody, set enforce: warn
warnOnlyUsers.users[0]: must not be empty
workloads[0].template: must be a JSON pointer, such as /spec/template
workloads[0].template: must be a JSON pointer, such as /spec/template
workloads[0].kind: must be a name of letters, digits, - and .
workloads[0].resource: must be the plural in lower case, such as rollouts
workloads[0].kind: is judged anyway: leave it out
"#);
    }

    #[test]
    fn the_schema_knows_every_rule() {
        let schema = Settings::schema().to_string();
        for rule in RuleId::ALL {
            assert!(schema.contains(&format!("\"{rule}\"")), "{rule}");
        }
    }
}
