//! Levels and patches by rule, as the settings file has them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Number};

use super::{Invalid, Patches, Settings};
use crate::policy::{finding::Level, quantity::Quantity, rules::RuleId};

/// What is set for one rule.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RuleSettings {
    /// Its level; the default is in the table of rules.
    level: Option<Level>,
    /// What to patch into pods of namespaces labelled portcullis.dev/patch: enabled. For readiness-probe true or false, for
    /// requests and limits a quantity such as 256Mi.
    patch: Option<Patch>,
}

/// The value of `patch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Patch {
    Switch(bool),
    Number(Number),
    Quantity(String),
}

/// Where a rule's `patch` goes.
enum PatchSlot<'a> {
    None,
    Switch(&'a mut bool),
    Amount(&'a mut Option<Quantity>),
}

/// Takes over what is set for the rule of this name.
pub(super) fn apply_rule(
    settings: &mut Settings,
    name: &str,
    rule: &RuleSettings,
) -> Result<(), Invalid> {
    let at = format!("/rules/{}", name.replace('~', "~0").replace('/', "~1"));
    let Some(id) = RuleId::parse(name) else {
        let all = RuleId::ALL.map(RuleId::as_str).join(", ");
        return Err(Invalid::new(at, format!("no such rule; there are {all}")));
    };
    if let (Some(level), Some(slot)) = (rule.level, settings.levels.get_mut(id.index())) {
        *slot = level;
    }
    let at = format!("{at}/patch");
    match (PatchSlot::of(id, &mut settings.patches), &rule.patch) {
        (_, None) | (PatchSlot::None | PatchSlot::Amount(_), Some(Patch::Switch(false))) => {}
        (PatchSlot::None, Some(_)) => {
            return Err(Invalid::new(
                at,
                "this rule has nothing to patch in: leave it out",
            ));
        }
        (PatchSlot::Switch(slot), Some(Patch::Switch(on))) => *slot = *on,
        (PatchSlot::Switch(_), Some(_)) => return Err(Invalid::new(at, "must be true or false")),
        (PatchSlot::Amount(slot), Some(patch)) => *slot = Some(patch.quantity(&at)?),
    }
    Ok(())
}

/// A default request above the default limit would make pods that the API server refuses.
pub(super) fn check_patches(patches: &Patches) -> Result<(), Invalid> {
    for (name, request, limit) in [
        ("cpu", patches.cpu_request, patches.cpu_limit),
        ("memory", patches.memory_request, patches.memory_limit),
    ] {
        if let (Some(request), Some(limit)) = (request, limit)
            && request > limit
        {
            let reason = format!("{request} is more than the {limit} of rules.{name}-limit.patch");
            return Err(Invalid::new(format!("/rules/{name}-request/patch"), reason));
        }
    }
    Ok(())
}

/// A member for each rule, with what the rule says.
pub(super) fn rules_schema(generator: &mut SchemaGenerator) -> Schema {
    let rule = generator.subschema_for::<RuleSettings>();
    let rules: Map<_, _> = RuleId::ALL
        .into_iter()
        .map(|id| {
            let mut rule = rule.clone();
            rule.insert("description".into(), id.rule().summary.into());
            (id.to_string(), rule.to_value())
        })
        .collect();
    json_schema!({
        "type": ["object", "null"],
        "properties": rules,
        "additionalProperties": false,
    })
}

// === impl PatchSlot ===

impl<'a> PatchSlot<'a> {
    fn of(rule: RuleId, patches: &'a mut Patches) -> Self {
        if rule == RuleId::ReadinessProbe {
            return Self::Switch(&mut patches.readiness_probe);
        }
        patches.amount_mut(rule).map_or(Self::None, Self::Amount)
    }
}

// === impl Patch ===

impl Patch {
    fn quantity(&self, at: &str) -> Result<Quantity, Invalid> {
        let text = match self {
            Self::Quantity(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Switch(_) => return Err(Invalid::new(at, "must be a quantity such as 256Mi")),
        };
        match Quantity::parse(&text) {
            Ok(quantity) if quantity > Quantity::ZERO => Ok(quantity),
            Ok(_) => Err(Invalid::new(at, "must be more than nothing")),
            Err(error) => Err(Invalid::new(
                at,
                format!("\"{text}\" is not a quantity: {error}"),
            )),
        }
    }
}
