//! Env names that are demanded are set.

use std::{borrow::Cow, collections::BTreeSet};

use super::{Context, Rule, RuleId, yaml};
use crate::policy::{
    facts::{Answer, Lookup, Query, REQUIRED_ENV},
    finding::{Finding, Level, Offence},
    template::{Role, Site, reference::Object},
};

pub(super) static REQUIRED: Rule = Rule {
    id: RuleId::RequiredEnv,
    summary: "env names that the settings (`requiredEnv`) or the namespace's annotation \
              `portcullis.dev/required-env` demand are set",
    why: "Some names every service of an environment must have, and the app that lacks one \
          starts, gets ready and fails on the first request that needs it. A name counts as set \
          when an app container or native sidecar sets it to something that is not empty, reads \
          it from a key, or gets it from an object in `envFrom` (prefix and key together make \
          the name); with `optional: true` the key must exist. Where an object could not be \
          looked up, this is a warning.",
    example: "\
containers:
- name: app
  env:
  - {name: LOG_LEVEL, value: info}
",
    fixed: "\
containers:
- name: app
  env:
  - {name: LOG_LEVEL, value: info}
  - {name: SMTP_HOST, value: mail.example.com}
",
    level: Level::Deny,
    reads: &[
        "spec.containers.env",
        "spec.containers.envFrom",
        "spec.initContainers.env",
        "spec.initContainers.envFrom",
        "spec.initContainers.restartPolicy",
    ],
    check: required,
};

/// Whether a container gets a variable.
pub(super) enum Presence {
    Set,
    /// Set to nothing, at this place in `env`.
    Empty(usize),
    /// It could not be found out, for this cause.
    Unknown(String),
    Absent,
}

fn required(context: &mut Context<'_>) {
    let namespace = context.workload.namespace;
    let by_settings = context.settings.required_env(namespace);
    let mut demanded: Vec<(Cow<'_, str>, bool)> =
        by_settings.map(|name| (name.into(), true)).collect();
    let annotation = context
        .namespace()
        .and_then(|namespace| namespace.annotations.get(REQUIRED_ENV));
    let names = annotation
        .iter()
        .flat_map(|names| names.split(','))
        .map(str::trim);
    demanded.extend(names.map(|name| (name.to_owned().into(), false)));
    let mut seen = BTreeSet::new();
    for (name, by_settings) in demanded {
        if !name.is_empty() && seen.insert(name.clone()) {
            let demand = if by_settings {
                format!("the settings demand in namespace \"{namespace}\"")
            } else {
                format!("the annotation {REQUIRED_ENV} of namespace \"{namespace}\" demands")
            };
            require(context, &name, &demand);
        }
    }
}

fn require(context: &mut Context<'_>, name: &str, demand: &str) {
    let template = &context.workload.template;
    let served = || template.containers().filter(|site| site.role != Role::Init);
    let Some(first) = served().next() else { return };
    let mut unknown = None;
    let mut empty = None;
    for site in served() {
        match own(context, site, name) {
            Presence::Set => return,
            Presence::Empty(index) => empty = empty.or(Some((site, index))),
            Presence::Unknown(cause) => unknown = unknown.or(Some(cause)),
            Presence::Absent => {}
        }
    }
    for site in served() {
        match brought(context, site, name) {
            Presence::Set => return,
            Presence::Unknown(cause) => unknown = unknown.or(Some(cause)),
            Presence::Empty(_) | Presence::Absent => {}
        }
    }
    let (site, below) = match empty {
        Some((site, index)) => (site, format!("/env/{index}")),
        None => (first, String::from("/env")),
    };
    let (level, message) = match (unknown, empty) {
        (Some(cause), _) => (
            Level::Warn,
            format!("env {name}, which {demand}, may not be set: {cause}"),
        ),
        (None, Some((site, _))) => (
            Level::Deny,
            format!(
                "container \"{}\" sets env {name} to nothing, which {demand}",
                site.name()
            ),
        ),
        (None, None) => (
            Level::Deny,
            format!("no container sets env {name}, which {demand}"),
        ),
    };
    let yaml = format!(
        "env:\n- name: {0}\n  value: \"<value of {name}>\"\n",
        yaml::scalar(name)
    );
    context.report(Finding {
        rule: RuleId::RequiredEnv,
        level,
        container: Some(site.name().to_owned()),
        path: context.pointer(site, &below),
        message,
        fix: Some(context.fix(site, yaml)),
        // Any container may set it, so it is the pod that lacks it.
        offences: vec![Offence::new(None, format!("env {name}"), "")],
    });
}

/// What the container's own `env` says of the variable.
fn own(context: &mut Context<'_>, site: Site<'_, '_>, name: &str) -> Presence {
    // The last entry of a name wins, in the kubelet as here.
    let last = site
        .container
        .env
        .iter()
        .rev()
        .find(|(_, env)| env.name.as_deref() == Some(name));
    let Some((index, env)) = last else {
        return Presence::Absent;
    };
    let Some(source) = &env.value_from else {
        return match &env.value {
            Some(value) if !value.as_written().is_empty() => Presence::Set,
            _ => Presence::Empty(index),
        };
    };
    let selector = match (&source.secret_key_ref, &source.config_map_key_ref) {
        (Some(selector), _) => (Object::Secret, selector),
        (None, Some(selector)) => (Object::ConfigMap, selector),
        (None, None) => return Presence::Set,
    };
    let (object, selector) = selector;
    if !selector.optional.unwrap_or_default() {
        // That the key exists is the business of the reference rules.
        return Presence::Set;
    }
    let key = selector.key.as_deref().unwrap_or_default();
    let name = selector.name.as_deref().unwrap_or_default();
    match held(context, object, name, key) {
        Held::Yes => Presence::Set,
        Held::No | Held::Missing => Presence::Absent,
        Held::Unknown(cause) => Presence::Unknown(cause),
    }
}

/// Whether an object in `envFrom` brings the variable.
pub(super) fn brought(context: &mut Context<'_>, site: Site<'_, '_>, name: &str) -> Presence {
    let mut presence = Presence::Absent;
    for source in site.container.env_from.items() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let Some(key) = name.strip_prefix(prefix).filter(|key| !key.is_empty()) else {
            continue;
        };
        let (object, selector) = match (&source.secret_ref, &source.config_map_ref) {
            (Some(selector), _) => (Object::Secret, selector),
            (None, Some(selector)) => (Object::ConfigMap, selector),
            (None, None) => continue,
        };
        let object_name = selector.name.as_deref().unwrap_or_default();
        match held(context, object, object_name, key) {
            Held::Yes => return Presence::Set,
            Held::Missing if !selector.optional.unwrap_or_default() => {
                // Once it exists it may well bring the variable.
                let kind = object.kind();
                presence = Presence::Unknown(format!(
                    "{kind} \"{object_name}\", which envFrom reads, does not exist"
                ));
            }
            Held::Unknown(cause) => presence = Presence::Unknown(cause),
            Held::No | Held::Missing => {}
        }
    }
    presence
}

/// Whether an object holds a key.
enum Held {
    /// It does, or is not to be looked up.
    Yes,
    No,
    /// The object does not exist.
    Missing,
    /// It could not be found out, for this cause.
    Unknown(String),
}

fn held(context: &mut Context<'_>, object: Object, name: &str, key: &str) -> Held {
    let namespace = context.workload.namespace;
    if name.is_empty() {
        return Held::No;
    }
    if object == Object::Secret && context.settings.expects_secret(namespace, name) {
        return Held::Yes;
    }
    let Some(answer) = context.ask(Query::keys(object, namespace, name)) else {
        return Held::Yes;
    };
    match answer.lookup() {
        Lookup::Found(Answer::Keys(keys)) if keys.iter().any(|held| &**held == key) => Held::Yes,
        Lookup::Missing => Held::Missing,
        Lookup::Unknown(unknown) => match unknown.cause() {
            Some(cause) => Held::Unknown(format!(
                "{} \"{name}\" was not checked: {cause}",
                object.kind()
            )),
            None => Held::Yes,
        },
        Lookup::Found(_) => Held::No,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        facts::{Answer, Namespace, Query, REQUIRED_ENV, Unknown},
        settings::Settings,
        testing::{Facts, NAMESPACE, container, deployment},
    };

    /// Facts in which the namespace's annotation demands these names.
    fn demanding(names: &str) -> Facts {
        let namespace = Namespace {
            annotations: [(REQUIRED_ENV.into(), names.into())].into(),
            ..Namespace::default()
        };
        Facts::default().with(
            Query::Namespace {
                name: NAMESPACE.into(),
            },
            Answer::Namespace(namespace),
        )
    }

    fn secret(name: &'static str) -> Query<'static> {
        Query::Secret {
            namespace: NAMESPACE.into(),
            name: name.into(),
        }
    }

    fn config_map(name: &'static str) -> Query<'static> {
        Query::ConfigMap {
            namespace: NAMESPACE.into(),
            name: name.into(),
        }
    }

    fn keys(keys: &[&str]) -> Answer {
        Answer::Keys(keys.iter().map(|&key| key.into()).collect())
    }

    /// Findings of this rule about pods of this spec, as `LEVEL PATH MESSAGE`, the path below the spec.
    fn judged(facts: &Facts, spec: Value) -> Vec<String> {
        let verdict = facts.judge(&deployment(spec));
        let findings = verdict
            .findings
            .iter()
            .filter(|it| it.rule.as_str() == "required-env");
        findings
            .map(|finding| {
                let path = finding.path.trim_start_matches("/spec/template/spec/");
                format!("{} {path} {}", finding.level, finding.message)
            })
            .collect()
    }

    fn of_app(facts: &Facts, fields: Value) -> Vec<String> {
        judged(facts, json!({"containers": [container(fields)]}))
    }

    #[test]
    fn nothing_is_demanded_unless_it_is_configured() {
        assert!(of_app(&Facts::default(), json!({})).is_empty());
        assert!(of_app(&demanding(" , "), json!({})).is_empty());
    }

    #[test]
    fn denies_where_no_container_sets_a_demanded_name() {
        let facts = demanding("SMTP_HOST, LOG_LEVEL,SMTP_HOST");
        let found = of_app(
            &facts,
            json!({"env": [{"name": "LOG_LEVEL", "value": "info"}]}),
        );
        assert_eq!(
            found,
            [
                "deny containers/0/env no container sets env SMTP_HOST, which the annotation \
              portcullis.dev/required-env of namespace \"shop\" demands"
            ]
        );
        let verdict = facts.judge(&deployment(json!({"containers": [container(json!({}))]})));
        let finding = verdict
            .findings
            .iter()
            .find(|it| it.rule.as_str() == "required-env");
        let fix = finding
            .and_then(|finding| finding.fix.clone())
            .expect("a fix");
        assert_eq!(fix.at, "spec.template.spec.containers[name=app]");
        assert_eq!(
            fix.yaml,
            "env:\n- name: SMTP_HOST\n  value: \"<value of SMTP_HOST>\"\n"
        );
    }

    #[test]
    fn settings_demand_names_by_namespace() {
        let settings = json!({"requiredEnv": [
            {"namespaces": ["sh?p", "prod-*"], "env": ["SMTP_HOST"]},
            {"namespaces": ["staging"], "env": ["OTHER"]},
        ]});
        let facts = Facts {
            settings: Settings::from_value(settings).unwrap(),
            ..demanding("SMTP_HOST")
        };
        assert_eq!(
            of_app(&facts, json!({})),
            [
                "deny containers/0/env no container sets env SMTP_HOST, which the settings demand in \
              namespace \"shop\""
            ]
        );
    }

    #[test]
    fn any_app_container_or_sidecar_may_set_it_and_no_init_container() {
        let facts = demanding("A");
        let setting = |fields: Value| {
            let mut container = json!({"name": "other", "env": [{"name": "A", "value": "1"}]});
            container
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            container
        };
        let app = container(json!({}));
        for (spec, findings) in [
            (json!({"containers": [app, setting(json!({}))]}), 0),
            (
                json!({"containers": [app], "initContainers": [setting(json!({"restartPolicy": "Always"}))]}),
                0,
            ),
            (
                json!({"containers": [app], "initContainers": [setting(json!({}))]}),
                1,
            ),
            (
                json!({"containers": [app], "ephemeralContainers": [setting(json!({}))]}),
                1,
            ),
            (json!({"containers": []}), 0),
        ] {
            assert_eq!(judged(&facts, spec.clone()).len(), findings, "{spec}");
        }
    }

    #[test]
    fn set_to_nothing_is_not_set() {
        let facts = demanding("A");
        for (env, findings) in [
            (json!([{"name": "A", "value": ""}]), 1),
            (json!([{"name": "A"}]), 1),
            (
                json!([{"name": "A", "value": "1"}, {"name": "A", "value": ""}]),
                1,
            ),
            (
                json!([{"name": "A", "value": ""}, {"name": "A", "value": "1"}]),
                0,
            ),
            (
                json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]),
                0,
            ),
            (json!([{"name": "A", "value": 8080}]), 0),
        ] {
            assert_eq!(of_app(&facts, json!({"env": env})).len(), findings, "{env}");
        }
        assert_eq!(
            of_app(
                &facts,
                json!({"env": [{"name": "B"}, {"name": "A", "value": ""}]})
            ),
            [
                "deny containers/0/env/1 container \"app\" sets env A to nothing, which the annotation \
              portcullis.dev/required-env of namespace \"shop\" demands"
            ]
        );
    }

    #[test]
    fn a_key_that_is_optional_must_exist_to_count() {
        let facts = demanding("A").with(secret("s"), keys(&["here"]));
        let from = |key: &str, optional: bool| {
            let selector = json!({"name": "s", "key": key, "optional": optional});
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": selector}}]})
        };
        assert!(of_app(&facts, from("here", true)).is_empty());
        assert_eq!(of_app(&facts, from("gone", true)).len(), 1);
        // That one is refused by `secret-reference`.
        assert!(of_app(&facts, from("gone", false)).is_empty());
    }

    #[test]
    fn prefix_and_key_of_env_from_make_the_name() {
        let facts = demanding("SMTP_HOST")
            .with(config_map("smtp"), keys(&["HOST", "PORT"]))
            .with(secret("all"), keys(&["SMTP_HOST"]));
        for (source, findings) in [
            (
                json!({"prefix": "SMTP_", "configMapRef": {"name": "smtp"}}),
                0,
            ),
            (json!({"configMapRef": {"name": "smtp"}}), 1),
            (
                json!({"prefix": "SMTP_HOST", "configMapRef": {"name": "smtp"}}),
                1,
            ),
            (json!({"secretRef": {"name": "all"}}), 0),
            (json!({"prefix": "X_", "secretRef": {"name": "all"}}), 1),
            (json!({"secretRef": {"name": "gone", "optional": true}}), 1),
        ] {
            assert_eq!(
                of_app(&facts, json!({"envFrom": [source]})).len(),
                findings,
                "{source}"
            );
        }
    }

    #[test]
    fn what_could_not_be_found_out_is_a_warning_that_says_why() {
        let facts = demanding("A").with(secret("slow"), Answer::Unknown(Unknown::Deadline));
        for (source, cause) in [
            (
                json!({"secretRef": {"name": "slow"}}),
                "Secret \"slow\" was not checked: the API server did not answer in time",
            ),
            (
                json!({"configMapRef": {"name": "gone"}}),
                "ConfigMap \"gone\", which envFrom reads, does not exist",
            ),
        ] {
            assert_eq!(
                of_app(&facts, json!({"envFrom": [source]})),
                [format!(
                    "warn containers/0/env env A, which the annotation portcullis.dev/required-env of \
                     namespace \"shop\" demands, may not be set: {cause}"
                )]
            );
        }
        let facts = demanding("A").with(secret("s"), Answer::Unknown(Unknown::NotAsked));
        assert!(of_app(&facts, json!({"envFrom": [{"secretRef": {"name": "s"}}]})).is_empty());
    }

    #[test]
    fn an_expected_secret_may_bring_it() {
        let settings = json!({"expectedSecrets": [{"namespace": "*", "name": "vault-*"}]});
        let facts = Facts {
            settings: Settings::from_value(settings).unwrap(),
            ..demanding("A")
        };
        assert!(
            of_app(
                &facts,
                json!({"envFrom": [{"secretRef": {"name": "vault-x"}}]})
            )
            .is_empty()
        );
    }
}
