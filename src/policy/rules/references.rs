//! References to Secrets and ConfigMaps: the object and the key exist.

use std::sync::Arc;

use super::{Context, Rule, RuleId, yaml};
use crate::policy::{
    facts::{Answer, Producer, Query},
    finding::{Finding, Fix, Level, Offence},
    leniency::Leniency,
    template::{
        Site,
        reference::{Object, Place, Reference},
    },
};

pub(super) static SECRET_REFERENCE: Rule = Rule {
    id: RuleId::SecretReference,
    summary: "the Secrets and keys that env, envFrom and volumes read exist; `optional: true` is \
              respected",
    why: "A pod that reads a Secret or a key which does not exist never starts: it waits in \
          CreateContainerConfigError or ContainerCreating until somebody looks. Names are looked \
          up in the workload's own namespace, live before anything is refused; values are never \
          read. A dry run only warns, since GitOps tools dry-run a whole set before they apply \
          any of it, and so does a lookup that gets no answer. Never looked up: references with \
          `optional: true`, and Secrets that the settings list as `expectedSecrets`, because \
          something else will make them. Where an ExternalSecret, a ClusterExternalSecret, a \
          SealedSecret, a cert-manager Certificate or a SecretProviderClass of the namespace \
          declares the Secret, this is a warning.",
    example: "\
containers:
- name: app
  env:
  - name: DATABASE_URL
    valueFrom:
      secretKeyRef: {name: checkout, key: database_url}
",
    fixed: "\
containers:
- name: app
  env:
  - name: DATABASE_URL
    valueFrom:
      secretKeyRef: {name: checkout, key: database-url}
",
    level: Level::Deny,
    reads: &[
        "spec.containers.env",
        "spec.containers.envFrom",
        "spec.initContainers.env",
        "spec.initContainers.envFrom",
        "spec.volumes",
    ],
    check: |context| check(context, RuleId::SecretReference, Object::Secret),
};

pub(super) static CONFIGMAP_REFERENCE: Rule = Rule {
    id: RuleId::ConfigmapReference,
    summary: "the ConfigMaps and keys that env, envFrom and volumes read exist; `optional: true` \
              is respected",
    why: "A pod that reads a ConfigMap or a key which does not exist never starts, exactly as \
          with a Secret, and is judged in the same way. Never looked up: references with \
          `optional: true`, and the ConfigMap `kube-root-ca.crt`, which a controller makes in \
          every namespace a moment after the namespace itself.",
    example: "\
containers:
- name: app
  envFrom:
  - configMapRef: {name: checkout-config}
",
    fixed: "\
containers:
- name: app
  envFrom:
  - configMapRef: {name: checkout}
",
    level: Level::Deny,
    reads: &[
        "spec.containers.env",
        "spec.containers.envFrom",
        "spec.initContainers.env",
        "spec.initContainers.envFrom",
        "spec.volumes",
    ],
    check: |context| check(context, RuleId::ConfigmapReference, Object::ConfigMap),
};

/// The ConfigMap that `root-ca-cert-publisher` makes in each namespace.
const ROOT_CA: &str = "kube-root-ca.crt";

/// How many keys of an object a message lists.
const KEYS_SHOWN: usize = 5;

/// What is wrong with an object, and the places that all suffer from it.
struct Fault<'t, 'a> {
    /// The first reference.
    first: Reference<'t, 'a>,
    /// How many more there are.
    more: usize,
    reason: Reason,
    /// Each of them.
    offences: Vec<Offence>,
}

enum Reason {
    /// No object is named.
    NoName,
    /// No key is named.
    EmptyKey,
    /// The object does not exist.
    Missing,
    /// It does not exist, but an object of this kind declares it.
    Declared(Producer),
    /// The object, of which this is the answer, lacks the key.
    NoKey(Arc<Answer>),
    /// It could not be found out, for this cause.
    Unknown(String),
}

fn check(context: &mut Context<'_>, rule: RuleId, object: Object) {
    let workload = context.workload;
    let mut faults: Vec<Fault<'_, '_>> = Vec::new();
    for reference in workload.template.references() {
        if reference.object != object || reference.optional {
            continue;
        }
        let Some(reason) = look_up(context, &reference) else {
            continue;
        };
        match faults
            .iter_mut()
            .find(|fault| fault.is_also(&reference, &reason))
        {
            Some(fault) => {
                fault.more += 1;
                fault.offences.push(offence(&reference));
            }
            None => faults.push(Fault {
                first: reference,
                more: 0,
                reason,
                offences: vec![offence(&reference)],
            }),
        }
    }
    for fault in faults {
        let finding = Finding {
            rule,
            level: match fault.reason {
                Reason::Unknown(_) => Level::Warn,
                Reason::NoName
                | Reason::EmptyKey
                | Reason::Missing
                | Reason::Declared(_)
                | Reason::NoKey(_) => Level::Deny,
            },
            container: fault.site().map(|site| site.name().to_owned()),
            path: format!("{}{}", workload.kind.template, fault.first.pointer()),
            message: fault.message(workload.namespace),
            fix: fault.fix(context),
            offences: fault.offences,
        };
        match fault.reason {
            Reason::Declared(_) => context.spare(Leniency::Producer, finding),
            Reason::NoName
            | Reason::EmptyKey
            | Reason::Missing
            | Reason::NoKey(_)
            | Reason::Unknown(_) => context.report(finding),
        }
    }
}

/// A reference that leads nowhere.
fn offence(reference: &Reference<'_, '_>) -> Offence {
    let (container, field) = match reference.place {
        Place::Env { site, name, .. } => (Some(site.name()), format!("env {name}")),
        Place::EnvFrom { site, .. } => (Some(site.name()), String::from("envFrom")),
        Place::Volume { name, .. } => (None, format!("volume {name}")),
    };
    let value = match reference.key {
        Some(key) => format!("{}/{key}", reference.name),
        None => reference.name.to_owned(),
    };
    Offence::new(container, field, value)
}

/// What is wrong with the object or key that `reference` names, as far as it is known by now.
fn look_up(context: &mut Context<'_>, reference: &Reference<'_, '_>) -> Option<Reason> {
    let namespace = context.workload.namespace;
    let Reference {
        object, name, key, ..
    } = *reference;
    if name.is_empty() {
        return Some(Reason::NoName);
    }
    let is_expected = match object {
        Object::Secret => context.settings.expects_secret(namespace, name),
        Object::ConfigMap => name == ROOT_CA,
    };
    if is_expected {
        return None;
    }
    if key == Some("") {
        return Some(Reason::EmptyKey);
    }
    let answer = context.ask(Query::keys(object, namespace, name))?;
    match (&*answer, key) {
        (Answer::Missing, _) if object == Object::Secret => {
            let producer = context.producer(RuleId::SecretReference, name);
            Some(producer.map_or(Reason::Missing, Reason::Declared))
        }
        (Answer::Missing, _) => Some(Reason::Missing),
        (Answer::Unknown(unknown), _) => unknown.cause().map(Reason::Unknown),
        (Answer::Keys(keys), Some(key)) if !keys.iter().any(|held| &**held == key) => {
            Some(Reason::NoKey(answer))
        }
        _ => None,
    }
}

// === impl Fault ===

impl<'t, 'a> Fault<'t, 'a> {
    /// `reference` suffers from the same fault: an object is missing once, and so is a key.
    fn is_also(&self, reference: &Reference<'_, '_>, reason: &Reason) -> bool {
        self.first.name == reference.name
            && match (&self.reason, reason) {
                (Reason::Missing, Reason::Missing)
                | (Reason::Declared(_), Reason::Declared(_))
                | (Reason::Unknown(_), Reason::Unknown(_)) => true,
                (Reason::NoKey(_), Reason::NoKey(_)) => self.first.key == reference.key,
                _ => false,
            }
    }

    /// The container of the first reference.
    fn site(&self) -> Option<Site<'t, 'a>> {
        match self.first.place {
            Place::Env { site, .. } | Place::EnvFrom { site, .. } => Some(site),
            Place::Volume { .. } => None,
        }
    }

    fn message(&self, namespace: &str) -> String {
        let Reference {
            object, name, key, ..
        } = self.first;
        let who = self
            .site()
            .map(|site| format!("container \"{}\": ", site.name()));
        let who = who.unwrap_or_default();
        let (place, verb) = match self.first.place {
            Place::Env { name, .. } => (format!("env {name}"), "reads"),
            Place::EnvFrom { .. } => (String::from("envFrom"), "reads"),
            Place::Volume { name, .. } => (format!("volume \"{name}\""), "mounts"),
        };
        let kind = object.kind();
        if matches!(self.reason, Reason::NoName) {
            return format!("{who}{place} {verb} a {kind} without naming it");
        }
        let object = format!("{kind} \"{name}\"");
        let more = match self.more {
            0 => String::new(),
            1 => String::from(" (and 1 more reference)"),
            more => format!(" (and {more} more references)"),
        };
        let what = match key {
            Some("") => return format!("{who}{place} {verb} a key of {object} without naming it"),
            Some(key) => format!("key \"{key}\" of {object}"),
            None => object,
        };
        let fault = match &self.reason {
            Reason::NoName | Reason::EmptyKey => String::new(),
            Reason::Missing => format!("which does not exist in namespace \"{namespace}\""),
            Reason::Declared(producer) => {
                format!(
                    "which does not exist yet; a {} declares it",
                    producer.kind()
                )
            }
            Reason::NoKey(answer) => format!("which {}", holds(answer)),
            Reason::Unknown(cause) => format!("which was not checked: {cause}"),
        };
        format!("{who}{place} {verb} {what}{more}, {fault}")
    }

    /// The key that was surely meant, in env, where it can be pasted.
    fn fix(&self, context: &Context<'_>) -> Option<Fix> {
        let (Reason::NoKey(answer), Place::Env { site, name, .. }) =
            (&self.reason, self.first.place)
        else {
            return None;
        };
        let Answer::Keys(keys) = &**answer else {
            return None;
        };
        let key = alike(keys, self.first.key?)?;
        let yaml = format!(
            "env:\n- name: {}\n  valueFrom:\n    {}: {{name: {}, key: {}}}\n",
            yaml::scalar(name),
            self.first.object.env_field(),
            yaml::scalar(self.first.name),
            yaml::scalar(key)
        );
        Some(context.fix(site, yaml))
    }
}

/// `exists, but without that key; it has "password", "user"`.
fn holds(answer: &Answer) -> String {
    let Answer::Keys(keys) = answer else {
        return String::new();
    };
    if keys.is_empty() {
        return String::from("exists, but is empty");
    }
    let shown: Vec<_> = keys
        .iter()
        .take(KEYS_SHOWN)
        .map(|key| format!("\"{key}\""))
        .collect();
    let rest = match keys.len().saturating_sub(KEYS_SHOWN) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    format!(
        "exists, but without that key; it has {}{rest}",
        shown.join(", ")
    )
}

/// The one key that is `wanted` but for case and separators: `database_url` for `DATABASE-URL`.
fn alike<'k>(keys: &'k [Box<str>], wanted: &str) -> Option<&'k str> {
    let letters = |key: &str| -> String {
        key.chars()
            .filter(|char| !"-_.".contains(*char))
            .map(|char| char.to_ascii_lowercase())
            .collect()
    };
    let wanted = letters(wanted);
    let mut alike = keys.iter().filter(|key| letters(key) == wanted);
    let only = alike.next()?;
    alike.next().is_none().then_some(&**only)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        Judgement, Request,
        facts::{Answer, ENFORCE, Producer, Query, Unknown},
        finding::{Finding, Level},
        judge,
        leniency::Leniency,
        rules::RuleId,
        settings::Settings,
        testing::{Facts, NAMESPACE, container, deployment, kind_of, raw},
        workload::Workload,
    };

    /// Facts in which a Secret or ConfigMap holds these keys.
    fn holding(kind: &str, name: &str, keys: &[&str]) -> Facts {
        let keys = Answer::Keys(keys.iter().map(|&key| key.into()).collect());
        Facts::default().with(query(kind, name), keys)
    }

    fn query(kind: &str, name: &str) -> Query<'static> {
        let (namespace, name) = (NAMESPACE.into(), name.to_owned().into());
        match kind {
            "Secret" => Query::Secret { namespace, name },
            _ => Query::ConfigMap { namespace, name },
        }
    }

    /// Findings of both rules about a Deployment with this pod spec.
    fn findings(facts: &Facts, spec: Value) -> Vec<Finding> {
        let verdict = facts.judge(&deployment(spec));
        let mut found = verdict.findings.clone();
        found.retain(|finding| finding.rule.as_str().ends_with("p-reference"));
        found.extend(
            verdict
                .findings
                .iter()
                .filter(|finding| finding.rule.as_str() == "secret-reference")
                .cloned(),
        );
        found
    }

    fn of_app(facts: &Facts, fields: Value) -> Vec<Finding> {
        findings(facts, json!({"containers": [container(fields)]}))
    }

    fn only(mut findings: Vec<Finding>) -> Finding {
        let finding = findings.pop().expect("a finding");
        assert_eq!(findings, [], "one fault, one finding");
        finding
    }

    fn env(name: &str, source: &Value) -> Value {
        json!({"name": name, "valueFrom": source})
    }

    fn secret_key(name: &str, key: &str) -> Value {
        json!({"secretKeyRef": {"name": name, "key": key}})
    }

    #[test]
    fn denies_env_that_reads_a_missing_secret() {
        let url = env(
            "DATABASE_URL",
            &secret_key("checkout-secrets", "database-url"),
        );
        let finding = only(of_app(&Facts::default(), json!({"env": [url]})));
        assert_eq!(finding.level.as_str(), "deny");
        assert_eq!(finding.container.as_deref(), Some("app"));
        assert_eq!(
            finding.path,
            "/spec/template/spec/containers/0/env/0/valueFrom/secretKeyRef"
        );
        assert_eq!(
            finding.message,
            "container \"app\": env DATABASE_URL reads key \"database-url\" of Secret \
             \"checkout-secrets\", which does not exist in namespace \"shop\""
        );
        assert_eq!(finding.fix, None);
    }

    #[test]
    fn accepts_objects_and_keys_that_exist() {
        let facts = holding("Secret", "s", &["a", "b"])
            .with(query("ConfigMap", "c"), Answer::Keys(vec!["x".into()]));
        let spec = json!({
            "containers": [container(json!({
                "env": [
                    env("A", &secret_key("s", "a")),
                    env("X", &json!({"configMapKeyRef": {"name": "c", "key": "x"}})),
                ],
                "envFrom": [{"secretRef": {"name": "s"}}, {"prefix": "C_", "configMapRef": {"name": "c"}}],
            }))],
            "volumes": [
                {"name": "v", "secret": {"secretName": "s", "items": [{"key": "b", "path": "b"}]}},
                {"name": "w", "configMap": {"name": "c"}},
                {"name": "p", "projected": {"sources": [
                    {"secret": {"name": "s"}},
                    {"configMap": {"name": "c", "items": [{"key": "x", "path": "x"}]}},
                ]}},
            ],
        });
        assert_eq!(findings(&facts, spec), []);
    }

    #[test]
    fn names_the_keys_that_there_are_and_the_one_that_was_meant() {
        let facts = holding(
            "Secret",
            "checkout",
            &["a", "b", "c", "d", "database-url", "f", "g"],
        );
        let url = env("DATABASE_URL", &secret_key("checkout", "DATABASE_URL"));
        let finding = only(of_app(&facts, json!({"env": [url]})));
        assert_eq!(
            finding.message,
            "container \"app\": env DATABASE_URL reads key \"DATABASE_URL\" of Secret \"checkout\", \
             which exists, but without that key; it has \"a\", \"b\", \"c\", \"d\", \
             \"database-url\" and 2 more"
        );
        let fix = finding.fix.expect("a fix");
        assert_eq!(fix.at, "spec.template.spec.containers[name=app]");
        assert_eq!(
            fix.yaml,
            "env:\n- name: DATABASE_URL\n  valueFrom:\n    secretKeyRef: {name: checkout, key: \
             database-url}\n"
        );
    }

    #[test]
    fn proposes_no_key_where_it_would_be_a_guess() {
        for keys in [&["password"][..], &["api_key", "api-key"], &[]] {
            let facts = holding("Secret", "s", keys);
            let finding = only(of_app(
                &facts,
                json!({"env": [env("A", &secret_key("s", "apikey"))]}),
            ));
            assert_eq!(finding.fix, None);
        }
    }

    #[test]
    fn an_empty_object_says_so() {
        let facts = holding("ConfigMap", "c", &[]);
        let volume = json!({"name": "v", "configMap": {"name": "c", "items": [{"key": "k"}]}});
        let finding = only(findings(&facts, json!({"volumes": [volume]})));
        assert_eq!(
            finding.message,
            "volume \"v\" mounts key \"k\" of ConfigMap \"c\", which exists, but is empty"
        );
    }

    #[test]
    fn judges_volumes_items_and_projected_sources() {
        let facts = holding("Secret", "tls", &["tls.crt"]);
        let spec = json!({"containers": [], "volumes": [
            {"name": "whole", "configMap": {"name": "missing"}},
            {"name": "tls", "secret": {"secretName": "tls", "items": [
                {"key": "tls.crt", "path": "a"}, {"key": "tls.key", "path": "b"},
            ]}},
            {"name": "bundle", "projected": {"sources": [
                {"downwardAPI": {}}, {"secret": {"name": "gone"}},
            ]}},
        ]});
        let lines: Vec<_> = findings(&facts, spec)
            .into_iter()
            .map(|it| format!("{} {}", it.path, it.message))
            .collect();
        assert_eq!(
            lines,
            [
                "/spec/template/spec/volumes/0/configMap volume \"whole\" mounts ConfigMap \
                 \"missing\", which does not exist in namespace \"shop\"",
                "/spec/template/spec/volumes/1/secret/items/1 volume \"tls\" mounts key \"tls.key\" \
                 of Secret \"tls\", which exists, but without that key; it has \"tls.crt\"",
                "/spec/template/spec/volumes/2/projected/sources/1/secret volume \"bundle\" mounts \
                 Secret \"gone\", which does not exist in namespace \"shop\"",
            ]
        );
    }

    #[test]
    fn optional_is_respected_at_every_level() {
        let optional = json!({"name": "gone", "key": "k", "optional": true});
        let spec = json!({
            "containers": [container(json!({
                "env": [
                    env("A", &json!({"secretKeyRef": optional})),
                    env("B", &json!({"configMapKeyRef": optional})),
                ],
                "envFrom": [{"secretRef": optional}, {"configMapRef": optional}],
            }))],
            "volumes": [
                {"name": "a", "secret": {"secretName": "gone", "optional": true,
                                          "items": [{"key": "k", "path": "k"}]}},
                {"name": "b", "configMap": optional},
                {"name": "c", "projected": {"sources": [{"secret": optional}, {"configMap": optional}]}},
            ],
        });
        assert_eq!(findings(&Facts::default(), spec), []);
        // Written, but not true.
        for optional in [json!(false), Value::Null] {
            let source = json!({"secretRef": {"name": "gone", "optional": optional}});
            assert_eq!(
                of_app(&Facts::default(), json!({"envFrom": [source]})).len(),
                1
            );
        }
    }

    #[test]
    fn one_missing_object_is_one_fault_however_often_it_is_read() {
        let app = container(json!({"env": [
            env("A", &secret_key("gone", "a")),
            env("B", &secret_key("gone", "b")),
        ]}));
        let spec = json!({
            "containers": [app],
            "initContainers": [{"name": "migrate", "envFrom": [{"secretRef": {"name": "gone"}}]}],
            "volumes": [{"name": "v", "secret": {"secretName": "gone"}}],
        });
        let finding = only(findings(&Facts::default(), spec));
        assert_eq!(
            finding.message,
            "container \"app\": env A reads key \"a\" of Secret \"gone\" (and 3 more references), \
             which does not exist in namespace \"shop\""
        );
    }

    #[test]
    fn each_missing_key_is_a_fault_of_its_own() {
        let facts = holding("Secret", "s", &["c"]);
        let found = of_app(
            &facts,
            json!({"env": [
                env("A", &secret_key("s", "a")), env("A2", &secret_key("s", "a")),
                env("B", &secret_key("s", "b")), env("C", &secret_key("s", "c")),
            ]}),
        );
        assert_eq!(found.len(), 2);
        assert!(
            found
                .iter()
                .any(|it| it.message.contains("(and 1 more reference)"))
        );
    }

    #[test]
    fn a_secret_and_a_config_map_of_one_name_are_two_objects() {
        let facts = holding("Secret", "both", &["k"]);
        let finding = only(of_app(
            &facts,
            json!({"envFrom": [
                {"secretRef": {"name": "both"}}, {"configMapRef": {"name": "both"}},
            ]}),
        ));
        assert_eq!(finding.rule.as_str(), "configmap-reference");
    }

    #[test]
    fn init_containers_and_sidecars_are_judged_and_ephemeral_ones_are_not() {
        let reads = |name: &str| json!({"name": name, "envFrom": [{"secretRef": {"name": name}}]});
        let spec = json!({
            "containers": [],
            "initContainers": [reads("migrate")],
            "ephemeralContainers": [reads("debug")],
        });
        assert_eq!(
            only(findings(&Facts::default(), spec)).path,
            "/spec/template/spec/initContainers/0/envFrom/0/secretRef"
        );
    }

    #[test]
    fn names_and_keys_must_be_given() {
        let messages: Vec<_> = of_app(&Facts::default(), json!({
            "env": [env("A", &secret_key("", "k")), env("B", &json!({"configMapKeyRef": {"name": "c"}}))],
            "envFrom": [{"secretRef": {"name": null}}],
        }))
        .into_iter()
        .map(|finding| finding.message)
        .collect();
        assert_eq!(
            messages,
            [
                "container \"app\": env B reads a key of ConfigMap \"c\" without naming it",
                "container \"app\": env A reads a Secret without naming it",
                "container \"app\": envFrom reads a Secret without naming it",
            ]
        );
    }

    fn declared(producer: Producer, secret: &'static str) -> Query<'static> {
        Query::Declared {
            namespace: NAMESPACE.into(),
            producer,
            version: "v1".into(),
            secret: secret.into(),
        }
    }

    #[test]
    fn a_missing_secret_that_somebody_declares_only_warns_and_is_counted() {
        let reads = |name: &str| {
            let env = json!([env("URL", &secret_key(name, "url"))]);
            let (app, pulled) = (container(json!({"env": env})), json!([{"name": name}]));
            deployment(json!({"containers": [app], "imagePullSecrets": pulled}))
        };
        for producer in Producer::ALL {
            let (group, _) = producer.resource();
            let groups = vec!["other.example.com/v1".into(), format!("{group}/v1").into()];
            let facts = Facts::default()
                .with(Query::Groups, Answer::Groups(groups))
                .with(declared(producer, "db"), Answer::Exists);
            let verdict = facts.judge(&reads("db"));
            for rule in [RuleId::SecretReference, RuleId::PullSecretReference] {
                let mut findings = verdict.findings.iter();
                let finding = findings.find(|finding| finding.rule == rule).unwrap();
                assert_eq!(finding.level, Level::Warn, "{finding:?}");
                let words = format!("does not exist yet; a {} declares it", producer.kind());
                assert!(finding.message.ends_with(&words), "{}", finding.message);
                assert!(verdict.lowered.contains(&(rule, Leniency::Producer)));
            }
            // Another name, and a Secret that is there without the key, are nobody's promise.
            let other = facts.judge(&reads("db2"));
            assert!(other.of("secret-reference")[0].starts_with("deny"));
            assert!(other.of("pull-secret-reference")[0].starts_with("deny"));
            let facts = facts.with(query("Secret", "db"), Answer::Keys(vec!["uri".into()]));
            assert!(facts.judge(&reads("db")).of("secret-reference")[0].starts_with("deny"));
        }
    }

    #[test]
    fn nobody_is_asked_for_declarations_where_there_can_be_none_or_none_is_needed() {
        let reads = deployment(json!({"containers": [container(json!({
            "env": [env("URL", &secret_key("db", "url"))],
        }))]}));
        let promised =
            |facts: Facts| facts.with(declared(Producer::Certificate, "db"), Answer::Exists);
        // The group is not served.
        let facts = promised(Facts::default());
        assert!(facts.judge(&reads).of("secret-reference")[0].starts_with("deny"));
        // Nothing would be refused anyway, so nothing was spared.
        let groups = Answer::Groups(vec!["cert-manager.io/v1".into()]);
        let facts = promised(Facts::default().with_labels(&[(ENFORCE, "warn")]))
            .with(Query::Groups, groups);
        let verdict = facts.judge(&reads);
        assert!(verdict.lowered.is_empty());
        let message = &verdict
            .findings
            .iter()
            .find(|finding| finding.rule == RuleId::SecretReference);
        assert!(message.unwrap().message.ends_with("in namespace \"shop\""));
    }

    #[test]
    fn what_something_else_makes_is_never_asked_for() {
        let settings = json!({"expectedSecrets": [{"namespace": "shop", "name": "vault-*"}]});
        let settings = Settings::from_value(settings).unwrap();
        let object = deployment(json!({
            "containers": [container(json!({"envFrom": [{"secretRef": {"name": "vault-db"}}]}))],
            "volumes": [{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}},
                        {"name": "token", "projected": {"sources": [
                            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt"}]}},
                        ]}}],
        }));
        let bytes = raw(&object);
        let workload = Workload::read(kind_of(&object), NAMESPACE, &bytes)
            .unwrap()
            .unwrap();
        let request = Request {
            dry_run: false,
            user: None,
            groups: &[],
            old: None,
        };
        let nothing = std::collections::HashMap::new();
        let Judgement::Ask(asked) = judge(&workload, &request, &nothing, &settings) else {
            panic!("the namespace at least is asked for");
        };
        let references = asked
            .iter()
            .filter(|query| matches!(query, Query::Secret { .. } | Query::ConfigMap { .. }));
        assert_eq!(references.count(), 0, "{asked:?}");
    }

    #[test]
    fn what_could_not_be_found_out_is_a_warning_that_says_why() {
        let elsewhere = Unknown::Elsewhere {
            namespace: "prod".into(),
            file: "prod.yaml".into(),
        };
        for (unknown, cause) in [
            (Unknown::Deadline, "the API server did not answer in time"),
            (
                Unknown::Refused("403 Forbidden".into()),
                "the API server answered 403 Forbidden",
            ),
            (
                Unknown::NotAmongFiles,
                "it is not among the given files, but may be in the cluster",
            ),
            (
                elsewhere,
                "among the given files it stands only in namespace \"prod\" (prod.yaml)",
            ),
        ] {
            let facts = Facts::default().with(query("Secret", "s"), Answer::Unknown(unknown));
            let finding = only(of_app(
                &facts,
                json!({"envFrom": [
                    {"secretRef": {"name": "s"}}, {"secretRef": {"name": "s"}},
                ]}),
            ));
            assert_eq!(finding.level.as_str(), "warn");
            assert_eq!(
                finding.message,
                format!(
                    "container \"app\": envFrom reads Secret \"s\" (and 1 more reference), which was \
                     not checked: {cause}"
                )
            );
        }
        let facts = Facts::default().with(query("Secret", "s"), Answer::Unknown(Unknown::NotAsked));
        assert_eq!(
            of_app(&facts, json!({"envFrom": [{"secretRef": {"name": "s"}}]})),
            []
        );
    }
}
