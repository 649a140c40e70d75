//! Env names and sources that the same workload has in a twin namespace are here too.

use std::{borrow::Cow, collections::BTreeSet};

use super::{
    Context, Rule, RuleId,
    env::{Presence, brought},
    yaml,
};
use crate::policy::{
    facts::{Answer, Query, TWIN, TwinEnv},
    finding::{Finding, Level, Offence},
};

pub(super) static ENV_PARITY: Rule = Rule {
    id: RuleId::EnvParity,
    summary: "the same workload in the twin namespace has no env name or envFrom source that \
              this one lacks",
    why: "A variable that was added in staging and forgotten in production is found by the first \
          customer who needs it. Compared are the names of variables and of `envFrom` sources, \
          container by container, never values. Twins come from the settings (`twins`), or from \
          the label `portcullis.dev/twin` of both namespaces, each naming the other; a workload \
          can't choose its own. Workloads are twins when kind and name are equal. A name that is \
          brought here by another way, such as a key of an object in `envFrom`, is not missing.",
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
    level: Level::Warn,
    reads: &[
        "spec.containers.env",
        "spec.containers.envFrom",
        "spec.initContainers.env",
        "spec.initContainers.envFrom",
    ],
    check: parity,
};

fn parity(context: &mut Context<'_>) {
    let workload = context.workload;
    // A Pod or a ControllerRevision has no name that another namespace would give as well.
    let Some(name) = workload
        .metadata()
        .name
        .as_deref()
        .filter(|_| workload.kind.update)
    else {
        return;
    };
    let mut seen = BTreeSet::new();
    for twin in twins(context) {
        let answer = context.ask(Query::Twin {
            namespace: Cow::Borrowed(&twin),
            kind: Cow::Borrowed(workload.kind),
            name: Cow::Borrowed(name),
        });
        match answer.as_deref() {
            Some(Answer::Twin(theirs)) => {
                for env in theirs {
                    if seen.insert((env.container.clone(), env.name.clone())) {
                        compare(context, &twin, env);
                    }
                }
            }
            Some(Answer::Unknown(unknown)) => {
                if let Some(cause) = unknown.cause() {
                    not_compared(context, &twin, &cause);
                }
            }
            _ => {}
        }
    }
}

/// The twin namespaces, each once.
fn twins(context: &mut Context<'_>) -> BTreeSet<String> {
    let namespace = context.workload.namespace;
    let mut twins: BTreeSet<_> = context
        .settings
        .twins(namespace)
        .map(str::to_owned)
        .collect();
    let label = context
        .namespace()
        .and_then(|namespace| namespace.labels.get(TWIN))
        .cloned();
    let Some(other) = label.filter(|other| &**other != namespace && !other.is_empty()) else {
        return twins;
    };
    let answer = context.ask(Query::Namespace {
        name: Cow::Borrowed(&other),
    });
    match answer.as_deref() {
        // Both must say so, or who may label one namespace could read the names of another.
        Some(Answer::Namespace(there))
            if there.labels.get(TWIN).is_some_and(|it| &**it == namespace) =>
        {
            twins.insert(other.into());
        }
        Some(Answer::Unknown(unknown)) => {
            if let Some(cause) = unknown.cause() {
                not_compared(context, &other, &cause);
            }
        }
        _ => {}
    }
    twins
}

fn not_compared(context: &mut Context<'_>, twin: &str, cause: &str) {
    let workload = context.workload;
    context.report(Finding {
        rule: RuleId::EnvParity,
        level: Level::Warn,
        container: None,
        path: format!("{}/spec", workload.kind.template),
        message: format!("env was not compared with that in twin namespace \"{twin}\": {cause}"),
        fix: None,
        offences: Vec::new(),
    });
}

/// Reports `theirs` where this workload has nothing of that name.
fn compare(context: &mut Context<'_>, twin: &str, theirs: &TwinEnv) {
    let workload = context.workload;
    let template = &workload.template;
    let named = || {
        template
            .containers()
            .filter(|site| site.name() == &*theirs.container)
    };
    // Where the container has another name here, any container will do.
    let is_renamed = named().next().is_none();
    let candidates = || {
        template
            .containers()
            .filter(|site| is_renamed || site.name() == &*theirs.container)
    };
    let Some(first) = candidates().next() else {
        return;
    };
    let ours = TwinEnv::of(template);
    let is_here = |env: &TwinEnv| {
        env.name == theirs.name && (is_renamed || env.container == theirs.container)
    };
    if ours.iter().any(is_here) {
        return;
    }
    let is_env_from = theirs.bundle().is_some();
    if !is_env_from {
        for site in candidates() {
            // What can't be found out is said by the reference rules.
            if !matches!(brought(context, site, &theirs.name), Presence::Absent) {
                return;
            }
        }
    }
    let (what, how) = if is_env_from {
        ("envFrom", String::from("has"))
    } else if &*theirs.source == "value" {
        ("env", String::from("sets"))
    } else {
        ("env", format!("takes from {}", theirs.source))
    };
    context.report(Finding {
        rule: RuleId::EnvParity,
        level: Level::Deny,
        container: Some(first.name().to_owned()),
        path: context.pointer(first, if is_env_from { "/envFrom" } else { "/env" }),
        message: format!(
            "container \"{}\" lacks {what} {}, which {} {} in twin namespace \"{twin}\" {how}",
            first.name(),
            theirs.name,
            workload.kind.kind,
            workload.name(),
        ),
        fix: paste(theirs).map(|yaml| context.fix(first, yaml)),
        offences: vec![Offence::new(
            Some(first.name()),
            format!("{what} {}", theirs.name),
            "",
        )],
    });
}

/// The twin's entry as YAML; a value is left to fill in.
fn paste(theirs: &TwinEnv) -> Option<String> {
    let TwinEnv { name, source, .. } = theirs;
    if let Some(bundle) = theirs.bundle() {
        let prefix = match bundle.prefix {
            "" => String::new(),
            prefix => format!("prefix: {}\n  ", yaml::scalar(prefix)),
        };
        return Some(format!(
            "envFrom:\n- {prefix}{}: {{name: {}}}\n",
            bundle.object.env_from_field(),
            yaml::scalar(bundle.name)
        ));
    }
    let (kind, what) = source.split_once(' ').unwrap_or((source, ""));
    let key_of = |field: &str| {
        let (object, key) = what.split_once('/')?;
        let (object, key) = (yaml::scalar(object), yaml::scalar(key));
        Some(format!(
            "valueFrom:\n    {field}: {{name: {object}, key: {key}}}"
        ))
    };
    let value = match kind {
        "secret" => key_of("secretKeyRef")?,
        "configmap" => key_of("configMapKeyRef")?,
        "field" => format!(
            "valueFrom:\n    fieldRef: {{fieldPath: {}}}",
            yaml::scalar(what)
        ),
        "resource" => format!("valueFrom:\n    resourceFieldRef: {{resource: {what}}}"),
        _ => format!("value: \"<value of {name}>\""),
    };
    Some(format!("env:\n- name: {}\n  {value}\n", yaml::scalar(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        facts::{Answer, Namespace, Query, TWIN, TwinEnv, Unknown},
        settings::Settings,
        testing::{Facts, NAMESPACE, container, deployment, kind_of},
    };

    fn labelled(name: &'static str, twin: &str) -> (Query<'static>, Answer) {
        let namespace = Namespace {
            labels: [(TWIN.into(), twin.into())].into(),
            ..Namespace::default()
        };
        (
            Query::Namespace { name: name.into() },
            Answer::Namespace(namespace),
        )
    }

    fn twin_query(namespace: &'static str) -> Query<'static> {
        let kind = kind_of(&deployment(json!({})));
        Query::Twin {
            namespace: namespace.into(),
            kind: std::borrow::Cow::Borrowed(kind),
            name: "checkout".into(),
        }
    }

    /// Facts in which namespace `staging` is the twin, with a Deployment of the same name and this pod spec.
    fn facing(spec: &Value) -> Facts {
        let template = json!({"spec": spec}).to_string();
        let env = TwinEnv::of(&serde_json::from_str(&template).unwrap());
        let (here, ours) = labelled(NAMESPACE, "staging");
        let (there, theirs) = labelled("staging", NAMESPACE);
        let facts = Facts::default().with(here, ours).with(there, theirs);
        facts.with(twin_query("staging"), Answer::Twin(env))
    }

    fn facing_app(fields: Value) -> Facts {
        facing(&json!({"containers": [container(fields)]}))
    }

    /// Findings of this rule as `PATH MESSAGE => FIX`, the path below the pod spec.
    fn judged(facts: &Facts, spec: Value) -> Vec<String> {
        let verdict = facts.judge(&deployment(spec));
        let findings = verdict
            .findings
            .iter()
            .filter(|it| it.rule.as_str() == "env-parity");
        findings
            .map(|finding| {
                assert_eq!(finding.level.as_str(), "warn");
                let path = finding.path.trim_start_matches("/spec/template/spec/");
                let fix = finding.fix.as_ref().map(|fix| fix.yaml.replace('\n', "|"));
                format!("{path} {} => {}", finding.message, fix.unwrap_or_default())
            })
            .collect()
    }

    fn of_app(facts: &Facts, fields: Value) -> Vec<String> {
        judged(facts, json!({"containers": [container(fields)]}))
    }

    #[test]
    fn names_and_sources_that_the_twin_has_are_missed_here() {
        let facts = facing_app(json!({
            "env": [
                {"name": "LOG_LEVEL", "value": "s3cr3t"},
                {"name": "SMTP_HOST", "valueFrom": {"secretKeyRef": {"name": "mail", "key": "host"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ],
            "envFrom": [{"prefix": "X_", "configMapRef": {"name": "more"}}],
        }));
        let found = of_app(&facts, json!({}));
        let lacks = |what: &str, how: &str| {
            format!(
                "container \"app\" lacks {what}, which Deployment checkout in twin namespace \
                 \"staging\" {how}"
            )
        };
        assert_eq!(
            found,
            [
                format!(
                    "containers/0/env {} => env:|- name: LOG_LEVEL|  value: \"<value of LOG_LEVEL>\"|",
                    lacks("env LOG_LEVEL", "sets")
                ),
                format!(
                    "containers/0/env {} => env:|- name: SMTP_HOST|  valueFrom:|    secretKeyRef: {{name: \
                     mail, key: host}}|",
                    lacks("env SMTP_HOST", "takes from secret mail/host")
                ),
                format!(
                    "containers/0/env {} => env:|- name: IP|  valueFrom:|    fieldRef: {{fieldPath: \
                     status.podIP}}|",
                    lacks("env IP", "takes from field status.podIP")
                ),
                format!(
                    "containers/0/env {} => env:|- name: CPU|  valueFrom:|    resourceFieldRef: \
                     {{resource: limits.cpu}}|",
                    lacks("env CPU", "takes from resource limits.cpu")
                ),
                format!(
                    "containers/0/envFrom {} => envFrom:|- prefix: X_|  configMapRef: {{name: more}}|",
                    lacks("envFrom configmap more with prefix X_", "has")
                ),
            ]
        );
        assert!(!found.concat().contains("s3cr3t"));
    }

    #[test]
    fn what_is_here_is_not_missed_whatever_its_value_or_source() {
        let here = json!({
            "env": [{"name": "A", "value": "1"}],
            "envFrom": [{"secretRef": {"name": "all"}}],
        });
        let facts = facing_app(json!({
            "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
            "envFrom": [{"secretRef": {"name": "all"}}],
        }));
        assert!(of_app(&facts, here.clone()).is_empty());
        // More here than there is nothing to say.
        assert!(of_app(&facing_app(json!({})), here).is_empty());
    }

    #[test]
    fn a_key_of_env_from_is_not_missed() {
        let query = Query::Secret {
            namespace: NAMESPACE.into(),
            name: "mail".into(),
        };
        let facts = facing_app(json!({"env": [{"name": "SMTP_HOST", "value": "x"}]}))
            .with(query, Answer::Keys(vec!["HOST".into()]));
        let from =
            |prefix: &str| json!({"envFrom": [{"prefix": prefix, "secretRef": {"name": "mail"}}]});
        assert!(of_app(&facts, from("SMTP_")).is_empty());
        assert_eq!(of_app(&facts, from("IMAP_")).len(), 1);
    }

    #[test]
    fn containers_are_compared_by_name_and_renamed_ones_with_all() {
        let env = json!([{"name": "A", "value": "1"}]);
        let facts = facing_app(json!({"env": env}));
        let other = json!({"name": "other", "env": env});
        let both = json!({"containers": [container(json!({})), other]});
        assert_eq!(judged(&facts, both).len(), 1);
        assert!(judged(&facts, json!({"containers": [other]})).is_empty());
    }

    #[test]
    fn twins_are_declared_by_both_namespaces() {
        let env = json!({"containers": [container(json!({"env": [{"name": "A", "value": "1"}]}))]});
        for declared in ["", "other"] {
            let (there, theirs) = labelled("staging", declared);
            let facts = facing(&env).with(there, theirs);
            assert!(
                of_app(&facts, json!({})).is_empty(),
                "staging names {declared}"
            );
        }
    }

    #[test]
    fn twins_come_from_the_settings_both_ways() {
        for pair in [["staging", "shop"], ["shop", "staging"]] {
            let env = vec![TwinEnv {
                container: "app".into(),
                name: "A".into(),
                source: "value".into(),
            }];
            let facts = Facts {
                settings: Settings::from_value(json!({"twins": [pair]})).unwrap(),
                ..Facts::default()
            };
            let facts = facts.with(twin_query("staging"), Answer::Twin(env));
            assert_eq!(of_app(&facts, json!({})).len(), 1);
        }
    }

    #[test]
    fn a_twin_that_does_not_exist_is_no_finding_and_an_unknown_one_is() {
        let facts = facing(&json!({}));
        let missing = facing(&json!({})).with(twin_query("staging"), Answer::Missing);
        assert!(of_app(&missing, json!({})).is_empty());
        let unknown = facts.with(twin_query("staging"), Answer::Unknown(Unknown::Deadline));
        assert_eq!(
            judged(&unknown, json!({})),
            [
                "/spec/template/spec env was not compared with that in twin namespace \"staging\": the API \
              server did not answer in time => "
            ]
        );
    }

    #[test]
    fn a_bare_pod_has_no_twin() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "checkout"},
            "spec": {"containers": [container(json!({}))]},
        });
        let query = Query::Twin {
            namespace: "staging".into(),
            kind: std::borrow::Cow::Borrowed(kind_of(&pod)),
            name: "checkout".into(),
        };
        let env = TwinEnv {
            container: "app".into(),
            name: "A".into(),
            source: "value".into(),
        };
        let facts = facing(&json!({})).with(query, Answer::Twin(vec![env]));
        assert!(facts.judge(&pod).of("env-parity").is_empty());
    }
}
