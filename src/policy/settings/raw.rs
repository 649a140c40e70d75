//! The settings file as it is written, and its validation.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::{
    ExpectedSecret, FailurePolicy, Gate, Glob, Invalid, PullPolicy, RequiredEnv, Settings,
    rules::{RuleSettings, apply_rule, check_patches, rules_schema},
};
use crate::policy::{
    finding::Level,
    gate,
    workload::{KINDS, WorkloadKind},
};

/// Settings of Portcullis. Every field may be left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Portcullis settings")]
pub(super) struct File {
    /// Level for namespaces without the label portcullis.dev/enforce. Default: deny.
    enforce: Option<Level>,
    /// What the API server does with an object when no replica answers: refuse it (Fail), or let it in unjudged (Ignore).
    /// Fail holds once the server has proved that it answers; until then it is Ignore. Default: Fail.
    failure_policy: Option<FailurePolicy>,
    /// Whether an update is let in with the violations that the object had before. Default: true.
    ratchet: Option<bool>,
    /// Levels and patches by rule.
    #[schemars(schema_with = "rules_schema")]
    rules: Option<BTreeMap<String, RuleSettings>>,
    /// Env names that every workload of some namespaces must set.
    required_env: Option<Vec<RawRequiredEnv>>,
    /// Pairs of namespaces that hold the same workloads, for the rule env-parity.
    twins: Option<Vec<[String; 2]>>,
    /// Secrets that something else will make: never looked up.
    expected_secrets: Option<Vec<RawExpectedSecret>>,
    /// Who is warned, never refused: restore tools, operators that make pods themselves, the people on call.
    warn_only_users: Option<WarnOnlyUsers>,
    /// Further kinds with a pod template.
    workloads: Option<Vec<RawWorkload>>,
    /// The traffic gate that pods may ask for.
    gate: Option<RawGate>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RequiredEnv")]
struct RawRequiredEnv {
    /// Namespaces, with * and ?.
    namespaces: Vec<String>,
    /// Env names.
    env: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExpectedSecret")]
struct RawExpectedSecret {
    /// Namespace, with * and ?.
    namespace: String,
    /// Name of the Secret, with * and ?.
    name: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct WarnOnlyUsers {
    /// User names, exactly: system:serviceaccount:velero:velero.
    users: Vec<String>,
    /// Group names, exactly.
    groups: Vec<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Workload")]
struct RawWorkload {
    /// API group: argoproj.io.
    group: String,
    /// API version without the group: v1alpha1.
    version: String,
    /// Kind: Rollout.
    kind: String,
    /// Plural resource name: rollouts.
    resource: String,
    /// JSON pointer to the pod template: /spec/template.
    template: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(rename = "Gate")]
struct RawGate {
    /// Image of portcullis-gate. Default: what the server was started with.
    image: Option<String>,
    /// When it is pulled. Default: IfNotPresent.
    image_pull_policy: Option<PullPolicy>,
    /// What every gate is told, unless its namespace or pod says otherwise: a document as in the annotation
    /// portcullis.dev/gate-config.
    defaults: Option<Map<String, Value>>,
    /// The same by name, for pods with the annotation portcullis.dev/gate-profile.
    profiles: BTreeMap<String, Map<String, Value>>,
}

/// Groups that hold everybody: in `warnOnlyUsers` they would switch every denial off.
const EVERYBODY: [&str; 2] = ["system:authenticated", "system:serviceaccounts"];

// === impl File ===

impl File {
    pub(super) fn read(value: Value) -> Result<Self, Invalid> {
        if value.is_array() {
            return Err(Invalid::new("", "must be a map of fields, not a list"));
        }
        serde_path_to_error::deserialize::<_, Option<Self>>(value)
            .map(Option::unwrap_or_default)
            .map_err(|error| {
                let mut pointer = String::new();
                for segment in error.path() {
                    match segment {
                        Segment::Map { key } => {
                            pointer.push('/');
                            pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
                        }
                        Segment::Seq { index } => {
                            pointer.push('/');
                            pointer.push_str(&index.to_string());
                        }
                        Segment::Enum { .. } | Segment::Unknown => {}
                    }
                }
                let reason = match error.inner().to_string() {
                    // serde's words for the untagged `patch`
                    reason if reason.contains("untagged enum Patch") => {
                        String::from("must be a quantity such as 256Mi, or true or false")
                    }
                    reason => reason,
                };
                Invalid::new(pointer, reason)
            })
    }

    pub(super) fn schema() -> Value {
        schemars::schema_for!(Self).to_value()
    }

    pub(super) fn validate(self) -> Result<Settings, Invalid> {
        let Self {
            enforce,
            failure_policy,
            ratchet,
            rules,
            required_env,
            twins,
            expected_secrets,
            warn_only_users,
            workloads,
            gate,
        } = self;
        let mut settings = Settings::default();
        settings.enforce = enforce.unwrap_or(settings.enforce);
        settings.failure_policy = failure_policy.unwrap_or(settings.failure_policy);
        settings.ratchet = ratchet.unwrap_or(settings.ratchet);
        for (name, rule) in rules.unwrap_or_default() {
            apply_rule(&mut settings, &name, &rule)?;
        }
        check_patches(&settings.patches)?;
        settings.required_env = each(required_env, "/requiredEnv", RawRequiredEnv::validate)?;
        settings.twins = each(twins, "/twins", validate_twins)?;
        settings.expected_secrets = each(expected_secrets, "/expectedSecrets", |secret, at| {
            Ok(ExpectedSecret {
                namespace: Glob::parse(&secret.namespace, format!("{at}/namespace"))?,
                name: Glob::parse(&secret.name, format!("{at}/name"))?,
            })
        })?;
        let WarnOnlyUsers { users, groups } = warn_only_users.unwrap_or_default();
        settings.warn_only_users = each(Some(users), "/warnOnlyUsers/users", validate_principal)?;
        settings.warn_only_groups =
            each(Some(groups), "/warnOnlyUsers/groups", validate_principal)?;
        settings.workloads = each(workloads, "/workloads", RawWorkload::validate)?;
        settings.gate = gate.unwrap_or_default().validate()?;
        Ok(settings)
    }
}

// === impl RawRequiredEnv ===

impl RawRequiredEnv {
    fn validate(self, at: &str) -> Result<RequiredEnv, Invalid> {
        let at_env = format!("{at}/env");
        for (field, list) in [("namespaces", &self.namespaces), ("env", &self.env)] {
            if list.is_empty() {
                return Err(Invalid::new(
                    format!("{at}/{field}"),
                    "must name at least one",
                ));
            }
        }
        Ok(RequiredEnv {
            namespaces: each(
                Some(self.namespaces),
                &format!("{at}/namespaces"),
                |pattern, at| Glob::parse(&pattern, at),
            )?,
            env: each(Some(self.env), &at_env, |name, at| {
                if name.is_empty() || name.contains('=') {
                    return Err(Invalid::new(
                        at,
                        "must be an env name, not empty and without =",
                    ));
                }
                Ok(name)
            })?,
        })
    }
}

// === impl RawWorkload ===

impl RawWorkload {
    fn validate(self, at: &str) -> Result<WorkloadKind, Invalid> {
        let Self {
            group,
            version,
            kind,
            resource,
            template,
        } = self;
        let invalid =
            |field: &str, reason: &str| Err(Invalid::new(format!("{at}/{field}"), reason));
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic())
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        };
        for (field, name) in [("group", &group), ("version", &version), ("kind", &kind)] {
            if !is_name(name) {
                return invalid(field, "must be a name of letters, digits, - and .");
            }
        }
        if !is_name(&resource) || resource.contains(|c: char| c.is_ascii_uppercase()) {
            return invalid(
                "resource",
                "must be the plural in lower case, such as rollouts",
            );
        }
        let tokens = template.strip_prefix('/').unwrap_or_default();
        if tokens.split('/').any(str::is_empty) {
            return invalid("template", "must be a JSON pointer, such as /spec/template");
        }
        if KINDS
            .iter()
            .any(|row| row.group == group && row.kind == kind)
        {
            return invalid("kind", "is judged anyway: leave it out");
        }
        Ok(WorkloadKind {
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            resource: resource.into(),
            template: template.into(),
            update: true,
            batch: false,
        })
    }
}

// === impl RawGate ===

impl RawGate {
    fn validate(self) -> Result<Gate, Invalid> {
        let Self {
            image,
            image_pull_policy,
            defaults,
            profiles,
        } = self;
        if image.as_ref().is_some_and(|image| image.trim().is_empty()) {
            let reason = "must name an image; leave it out for the server's own";
            return Err(Invalid::new("/gate/image", reason));
        }
        let named = profiles.iter().map(|(name, document)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            (format!("/gate/profiles/{name}"), document)
        });
        let defaults_at = defaults
            .iter()
            .map(|document| ("/gate/defaults".to_owned(), document));
        for (at, document) in defaults_at.chain(named) {
            if let Err(mistakes) = gate::check(document.clone())
                && let Some(mistake) = mistakes.into_iter().next()
            {
                let pointer = format!("{at}{}", mistake.pointer);
                return Err(Invalid::new(pointer, mistake.text));
            }
        }
        Ok(Gate {
            image,
            pull_policy: image_pull_policy.unwrap_or_default(),
            defaults,
            profiles,
        })
    }
}

/// Validates every item, each with its own JSON pointer.
fn each<T, V>(
    items: Option<Vec<T>>,
    at: &str,
    mut validate: impl FnMut(T, &str) -> Result<V, Invalid>,
) -> Result<Vec<V>, Invalid> {
    let items = items.unwrap_or_default().into_iter().enumerate();
    items
        .map(|(index, item)| validate(item, &format!("{at}/{index}")))
        .collect()
}

fn validate_twins(pair: [String; 2], at: &str) -> Result<[String; 2], Invalid> {
    let [one, other] = &pair;
    if one == other {
        return Err(Invalid::new(at, "must be two different namespaces"));
    }
    for (index, name) in pair.iter().enumerate() {
        if name.is_empty() || name.contains(['*', '?']) {
            return Err(Invalid::new(
                format!("{at}/{index}"),
                "must be the name of a namespace",
            ));
        }
    }
    Ok(pair)
}

fn validate_principal(name: String, at: &str) -> Result<String, Invalid> {
    if name.is_empty() {
        return Err(Invalid::new(at, "must not be empty"));
    }
    if EVERYBODY.contains(&name.as_str()) {
        let reason = format!("{name} is everybody: to refuse nobody, set enforce: warn");
        return Err(Invalid::new(at, reason));
    }
    Ok(name)
}
