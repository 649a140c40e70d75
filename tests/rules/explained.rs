//! What a rule says of itself: its example breaks it, its mended form does not, and it reads what it says.

use std::collections::BTreeSet;

use portcullis::{
    policy::{
        facts::{Answer, LimitRange, Query, REQUIRED_ENV, TwinEnv},
        rules::{RULES, Rule, RuleId},
        settings::Settings,
    },
    yaml,
};
use serde_json::{Value, json};

use super::{World, parse};

/// Where each rule's example stands.
fn world(rule: RuleId) -> World {
    let world = World::default()
        .secret("checkout", &["database-url"])
        .secret("registry", &[".dockerconfigjson"])
        .config_map("checkout", &["LOG_LEVEL"])
        .service_account("checkout", &[]);
    if rule == RuleId::LimitRange {
        world.limited(LimitRange {
            name: "sizes".into(),
            max: [("memory".into(), "1Gi".into())].into(),
            ..LimitRange::default()
        })
    } else if rule == RuleId::RequiredEnv {
        world.annotated(REQUIRED_ENV, "SMTP_HOST")
    } else if rule == RuleId::EnvParity {
        facing(world, &[("app", "LOG_LEVEL"), ("app", "SMTP_HOST")])
    } else {
        world
    }
}

/// With a twin namespace whose Deployment has these variables, by container.
fn facing(world: World, env: &[(&str, &str)]) -> World {
    let settings = json!({"twins": [["staging", "shop"]]});
    let settings = Settings::from_value(settings).expect("settings");
    let kind = settings
        .kind("apps", "v1", "Deployment")
        .expect("a kind")
        .clone();
    let kind = std::borrow::Cow::Owned(kind);
    let env = env.iter().map(|&(container, name)| {
        // As `TwinEnv::of` names what stands in `envFrom`.
        let source = if name.contains(' ') { name } else { "value" };
        TwinEnv {
            container: container.into(),
            name: name.into(),
            source: source.into(),
        }
    });
    let twin = Answer::Twin(env.collect());
    let (namespace, name) = ("staging".into(), "checkout".into());
    World { settings, ..world }.with(
        Query::Twin {
            namespace,
            kind,
            name,
        },
        twin,
    )
}

/// A Deployment round a fragment: either of its pod spec, or of itself where the fragment names its kind.
fn deployment(fragment: &str) -> Value {
    let fragment = parse(fragment);
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "checkout"},
        "spec": {"template": {"spec": {"containers": []}}},
    });
    let place = if fragment.get("kind").is_some() {
        &mut object
    } else {
        &mut object["spec"]["template"]["spec"]
    };
    merge(place, fragment);
    object
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn broken(rule: &Rule, fragment: &str) -> BTreeSet<RuleId> {
    let findings = world(rule.id).judge(&deployment(fragment));
    findings.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn every_example_breaks_its_rule_and_is_mended_by_its_mended_form() {
    for rule in RULES {
        let before = broken(rule, rule.example);
        let after = broken(rule, rule.fixed);
        assert!(
            before.contains(&rule.id),
            "{}: the example does not break it",
            rule.id
        );
        assert!(
            !after.contains(&rule.id),
            "{}: the mended form still breaks it",
            rule.id
        );
        let new: Vec<_> = after.difference(&before).collect();
        assert!(
            new.is_empty(),
            "{}: the mended form breaks {new:?}",
            rule.id
        );
        // An example shows one fault. (A limit counts as a request.)
        let mut cured: BTreeSet<_> = before.difference(&after).copied().collect();
        if rule.id == RuleId::MemoryLimit {
            cured.remove(&RuleId::MemoryRequest);
        } else if rule.id == RuleId::CpuLimit {
            cured.remove(&RuleId::CpuRequest);
        }
        assert_eq!(
            cured,
            [rule.id].into(),
            "{}: the example breaks more",
            rule.id
        );
    }
}

#[test]
fn every_rule_can_be_explained() {
    for rule in RULES {
        let Rule {
            id,
            summary,
            why,
            example,
            fixed,
            ..
        } = rule;
        assert!(
            !summary.ends_with('.') && !summary.contains('\n'),
            "{id}: a line for a table"
        );
        assert!(
            why.len() > 100 && why.ends_with('.') && !why.contains('\n'),
            "{id}: a paragraph"
        );
        for text in [why, summary] {
            assert!(!text.contains("  "), "{id}: two blanks in a row");
        }
        assert!(
            example.ends_with('\n') && fixed.ends_with('\n'),
            "{id}: whole lines"
        );
        assert_eq!(RuleId::parse(id.as_str()), Some(*id));
    }
}

/// Workloads that between them use every field that a rule reads.
pub fn specimens() -> Vec<Value> {
    let files = [
        include_str!("../fixtures/rules/rich.yaml"),
        include_str!("../fixtures/rules/poor.yaml"),
        include_str!("../fixtures/rules/stateful.yaml"),
        include_str!("../fixtures/rules/gated.yaml"),
    ];
    let documents = files.into_iter().flat_map(yaml::documents);
    documents
        .map(|document| document.expect("YAML").value)
        .collect()
}

/// Every field of an object as a JSON pointer and, without the places in lists, as rules name it.
pub fn fields(value: &Value, pointer: &str, dotted: &str, all: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                let dotted = format!("{dotted}.{key}");
                fields(value, &pointer, &dotted, all);
                all.push((pointer, dotted));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                fields(item, &format!("{pointer}/{index}"), dotted, all);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A field as `Rule::reads` writes it: below the template, or `workload.` and the path in the object.
pub fn as_read(dotted: &str) -> String {
    match dotted.strip_prefix(".spec.template.") {
        Some(below) => below.to_owned(),
        None => format!("workload{dotted}"),
    }
}

fn covers(read: &str, field: &str) -> bool {
    let below = |one: &str, other: &str| {
        one.strip_prefix(other)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    below(field, read) || below(read, field)
}

pub fn without(object: &Value, pointer: &str) -> Value {
    let mut object = object.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let key = key.replace("~1", "/").replace("~0", "~");
    let parent = object
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("a map");
    parent.remove(&key).expect("the field");
    object
}

/// What rules say of an object, by rule. Positions and words may follow from other fields, so only levels count,
/// with the container and the last part of the path.
fn verdicts(object: &Value) -> Vec<(RuleId, String)> {
    let demanding = world(RuleId::RequiredEnv);
    let twin = [
        ("app", "PORT"),
        ("app", "secret lost"),
        ("mesh", "OTHER"),
        ("mesh", "secret far"),
    ];
    let world = facing(demanding, &twin);
    let found = world.judge(object).into_iter().map(|finding| {
        (
            finding.rule,
            format!("{} {:?} {}", finding.level, finding.container, finding.path),
        )
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found
}

#[test]
fn a_field_that_changes_what_a_rule_says_is_among_those_it_reads() {
    let mut seen: BTreeSet<(RuleId, &str)> = BTreeSet::new();
    let mut silent: BTreeSet<(RuleId, String)> = BTreeSet::new();
    for specimen in specimens() {
        let mut all = Vec::new();
        fields(&specimen, "", "", &mut all);
        let before = verdicts(&specimen);
        for (pointer, dotted) in all {
            let field = as_read(&dotted);
            // Without these there is nothing to judge; a name never changes in an UPDATE; those of
            // containers stand in every finding.
            if [
                "workload.spec",
                "workload.kind",
                "workload.apiVersion",
                "workload.spec.template",
                "workload.metadata",
                "workload.metadata.name",
            ]
            .contains(&&*field)
                || field.ends_with("ontainers.name")
            {
                continue;
            }
            let after = verdicts(&without(&specimen, &pointer));
            for rule in RULES {
                let of = |all: &[(RuleId, String)]| -> Vec<String> {
                    let of_rule = all.iter().filter(|(id, _)| *id == rule.id);
                    of_rule.map(|(_, line)| line.clone()).collect()
                };
                if of(&before) == of(&after) {
                    continue;
                }
                let reads: Vec<_> = rule
                    .reads
                    .iter()
                    .filter(|read| covers(read, &field))
                    .collect();
                if reads.is_empty() {
                    silent.insert((rule.id, field.clone()));
                }
                seen.extend(reads.into_iter().map(|read| (rule.id, *read)));
            }
        }
    }
    assert!(silent.is_empty(), "read, but not declared: {silent:?}");
    let declared = RULES
        .iter()
        .flat_map(|rule| rule.reads.iter().map(|read| (rule.id, *read)));
    let idle: Vec<_> = declared.filter(|pair| !seen.contains(pair)).collect();
    assert!(
        idle.is_empty(),
        "declared, but nothing changes without them: {idle:?}"
    );
}

/// An UPDATE is sent when the template differs, so whatever is read below it is sent. (`tests/api` shows that on a
/// real API server.) A rule that reads more says what follows.
#[test]
fn what_is_read_beside_the_template_is_explained() {
    for rule in RULES {
        for read in rule.reads {
            let below_template = read.starts_with("spec.") || read.starts_with("metadata.");
            assert!(
                below_template || read.starts_with("workload."),
                "{}: {read}",
                rule.id
            );
            assert!(
                below_template || rule.why.contains("is never sent to the webhook"),
                "{} reads {read}, a change of which alone is not sent, and does not say so",
                rule.id
            );
        }
    }
}
