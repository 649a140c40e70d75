//! What a pod runs as and pulls with: its ServiceAccount and its pull secrets exist.

use std::{borrow::Cow, sync::Arc};

use super::{Context, Rule, RuleId, yaml};
use crate::policy::{
    facts::{Answer, Lookup, Query},
    finding::{Finding, Fix, Level, Offence},
    leniency::Leniency,
    template::PodSpec,
};

pub(super) static PULL_SECRET_REFERENCE: Rule = Rule {
    id: RuleId::PullSecretReference,
    summary: "the pull secrets of the pod exist and hold registry credentials; where it names \
              none, those of its ServiceAccount",
    why: "With a pull secret that is not there the kubelet pulls without credentials: a private \
          image then fails with ImagePullBackOff, at the worst moment, when a node is new and \
          has nothing cached. The same holds for a Secret without `.dockerconfigjson` or \
          `.dockercfg`, which the kubelet passes over in silence. A pod that names no pull \
          secrets gets those of its ServiceAccount, so these are judged then, but for the \
          ServiceAccount `default`, which is never looked up. A dry run only warns. Names that \
          are empty are ignored, as the kubelet ignores them; Secrets that the settings list as \
          `expectedSecrets` are never looked up.",
    example: "\
imagePullSecrets:
- name: registry-credentials
",
    fixed: "\
imagePullSecrets:
- name: registry
",
    level: Level::Deny,
    reads: &[
        "spec.imagePullSecrets",
        "spec.serviceAccount",
        "spec.serviceAccountName",
    ],
    check: pull_secrets,
};

pub(super) static SERVICE_ACCOUNT_REFERENCE: Rule = Rule {
    id: RuleId::ServiceAccountReference,
    summary: "the ServiceAccount exists",
    why: "The API server refuses every pod whose ServiceAccount does not exist, but it takes the \
          Deployment without a word: the error stands only in the events of its ReplicaSet, and \
          a rollout hangs. A dry run only warns. The ServiceAccount `default` is never looked \
          up: a controller makes it a moment after the namespace.",
    example: "\
serviceAccountName: chekout
",
    fixed: "\
serviceAccountName: checkout
",
    level: Level::Deny,
    reads: &["spec.serviceAccount", "spec.serviceAccountName"],
    check: service_account,
};

/// What a pull secret must hold one of (`kubernetes.io/dockerconfigjson` and
/// `kubernetes.io/dockercfg`).
const CREDENTIALS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

fn pull_secrets(context: &mut Context<'_>) {
    let workload = context.workload;
    let Some(spec) = &workload.template.spec else {
        return;
    };
    let at = |field: &str| format!("{}/spec/{field}", workload.kind.template);
    // The pod's own list, even one of empty names, keeps the ServiceAccount's away (plugin
    // ServiceAccount).
    if !spec.image_pull_secrets.is_empty() {
        let mut seen: Vec<&str> = Vec::new();
        for (index, reference) in spec.image_pull_secrets.iter() {
            let name = reference.name.as_deref().unwrap_or_default();
            if !seen.contains(&name) {
                seen.push(name);
                pull_secret(context, name, "", || {
                    at(&format!("imagePullSecrets/{index}"))
                });
            }
        }
        return;
    }
    let Some(account) = account(spec) else { return };
    let Some(answer) = ask(context, account.name) else {
        return;
    };
    // That the account is missing, or unknown, is said by `service-account-reference`.
    if let Answer::ServiceAccount(secrets) = &*answer {
        let whose = format!(" of ServiceAccount \"{}\"", account.name);
        for name in secrets {
            pull_secret(context, name, &whose, || at(account.field));
        }
    }
}

/// Judges one pull secret; `whose` follows its name in the message.
fn pull_secret(context: &mut Context<'_>, name: &str, whose: &str, path: impl FnOnce() -> String) {
    let namespace = context.workload.namespace;
    if name.is_empty() || context.settings.expects_secret(namespace, name) {
        return;
    }
    let query = Query::Secret {
        namespace: Cow::Borrowed(namespace),
        name: Cow::Borrowed(name),
    };
    let Some(answer) = context.ask(query) else {
        return;
    };
    let rule = RuleId::PullSecretReference;
    let mut producer = None;
    let (level, fault) = match answer.lookup() {
        Lookup::Missing => {
            producer = context.producer(rule, name);
            let fault = match producer {
                Some(producer) => {
                    format!("does not exist yet; a {} declares it", producer.kind())
                }
                None => format!("does not exist in namespace \"{namespace}\""),
            };
            (Level::Deny, fault)
        }
        Lookup::Found(Answer::Keys(keys))
            if !keys.iter().any(|key| CREDENTIALS.contains(&&**key)) =>
        {
            let [json, cfg] = CREDENTIALS;
            let fault = format!(
                "holds neither key \"{json}\" nor \"{cfg}\", so the kubelet passes it over"
            );
            (Level::Deny, fault)
        }
        Lookup::Unknown(unknown) => match unknown.cause() {
            Some(cause) => (Level::Warn, format!("was not checked: {cause}")),
            None => return,
        },
        Lookup::Found(_) => return,
    };
    let finding = Finding {
        rule,
        level,
        container: None,
        path: path(),
        message: format!("pull secret \"{name}\"{whose} {fault}"),
        fix: None,
        offences: vec![Offence::new(None, "imagePullSecrets", name)],
    };
    match producer {
        Some(_) => context.spare(Leniency::Producer, finding),
        None => context.report(finding),
    }
}

fn service_account(context: &mut Context<'_>) {
    let workload = context.workload;
    let Some(account) = workload.template.spec.as_ref().and_then(account) else {
        return;
    };
    let Some(answer) = ask(context, account.name) else {
        return;
    };
    let Account { name, field } = account;
    let namespace = workload.namespace;
    let (level, fault, fix) = match answer.lookup() {
        Lookup::Missing => {
            let fault = format!("which does not exist in namespace \"{namespace}\"");
            let yaml = format!(
                "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {}, namespace: {}}}\n",
                yaml::scalar(name),
                yaml::scalar(namespace)
            );
            (
                Level::Deny,
                fault,
                Some(Fix {
                    at: String::from("a manifest of its own"),
                    yaml,
                }),
            )
        }
        Lookup::Unknown(unknown) => match unknown.cause() {
            Some(cause) => (Level::Warn, format!("which was not checked: {cause}"), None),
            None => return,
        },
        Lookup::Found(_) => return,
    };
    context.report(Finding {
        rule: RuleId::ServiceAccountReference,
        level,
        container: None,
        path: format!("{}/spec/{field}", workload.kind.template),
        message: format!("pods run as ServiceAccount \"{name}\", {fault}"),
        fix,
        offences: vec![Offence::new(None, "serviceAccountName", name)],
    });
}

/// A ServiceAccount that is looked up, and the field that names it.
#[derive(Clone, Copy)]
struct Account<'t> {
    name: &'t str,
    field: &'static str,
}

/// The account that the pod names, unless it is `default`, which a controller makes.
fn account<'t>(spec: &'t PodSpec<'_>) -> Option<Account<'t>> {
    // As the API server decodes it: the deprecated field counts where the other is empty.
    let fields = [
        ("serviceAccountName", &spec.service_account_name),
        ("serviceAccount", &spec.service_account),
    ];
    let mut named = fields.into_iter().filter_map(|(field, name)| {
        let name = name.as_deref().filter(|name| !name.is_empty())?;
        Some(Account { name, field })
    });
    named.next().filter(|account| account.name != "default")
}

fn ask(context: &mut Context<'_>, name: &str) -> Option<Arc<Answer>> {
    let namespace = Cow::Borrowed(context.workload.namespace);
    context.ask(Query::ServiceAccount {
        namespace,
        name: Cow::Borrowed(name),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        facts::{Answer, Query, Unknown},
        testing::{Facts, NAMESPACE, deployment},
    };

    fn secret(name: &'static str) -> Query<'static> {
        Query::Secret {
            namespace: NAMESPACE.into(),
            name: name.into(),
        }
    }

    fn credentials(facts: Facts, name: &'static str) -> Facts {
        facts.with(secret(name), Answer::Keys(vec![".dockerconfigjson".into()]))
    }

    fn account(facts: Facts, name: &'static str, secrets: &[&str]) -> Facts {
        let query = Query::ServiceAccount {
            namespace: NAMESPACE.into(),
            name: name.into(),
        };
        let secrets = secrets.iter().map(|&secret| secret.into()).collect();
        facts.with(query, Answer::ServiceAccount(secrets))
    }

    /// Findings of a rule as `LEVEL PATH MESSAGE`, the path below the pod spec.
    fn judged(facts: &Facts, rule: &str, spec: Value) -> Vec<String> {
        let verdict = facts.judge(&deployment(spec));
        let of_rule = verdict
            .findings
            .iter()
            .filter(|finding| finding.rule.as_str() == rule);
        of_rule
            .map(|finding| {
                let path = finding.path.trim_start_matches("/spec/template/spec/");
                format!("{} {path} {}", finding.level, finding.message)
            })
            .collect()
    }

    #[test]
    fn denies_a_missing_pull_secret_once() {
        let facts = credentials(Facts::default(), "registry");
        let spec = json!({"imagePullSecrets": [
            {"name": "registry"}, {"name": "gone"}, {"name": "gone"}, {"name": ""}, {},
        ]});
        assert_eq!(
            judged(&facts, "pull-secret-reference", spec),
            ["deny imagePullSecrets/1 pull secret \"gone\" does not exist in namespace \"shop\""]
        );
    }

    #[test]
    fn a_pull_secret_must_hold_credentials() {
        let keys = Answer::Keys(vec!["password".into(), "user".into()]);
        let facts = Facts::default().with(secret("opaque"), keys);
        let facts = facts.with(secret("old"), Answer::Keys(vec![".dockercfg".into()]));
        let spec = json!({"imagePullSecrets": [{"name": "opaque"}, {"name": "old"}]});
        assert_eq!(
            judged(&facts, "pull-secret-reference", spec),
            [
                "deny imagePullSecrets/0 pull secret \"opaque\" holds neither key \
                 \".dockerconfigjson\" nor \".dockercfg\", so the kubelet passes it over"
            ]
        );
    }

    #[test]
    fn the_service_accounts_pull_secrets_count_where_the_pod_names_none() {
        let facts = credentials(Facts::default(), "registry");
        let facts = account(facts, "builder", &["registry", "gone"]);
        let missing = "deny serviceAccountName pull secret \"gone\" of ServiceAccount \"builder\" does \
                       not exist in namespace \"shop\"";
        for (secrets, findings) in [
            (Value::Null, &[missing][..]),
            (json!([]), &[missing]),
            (json!([{"name": "registry"}]), &[]),
            (json!([{"name": ""}]), &[]),
        ] {
            let spec = json!({"serviceAccountName": "builder", "imagePullSecrets": secrets});
            assert_eq!(
                judged(&facts, "pull-secret-reference", spec),
                findings,
                "{secrets}"
            );
        }
    }

    #[test]
    fn denies_a_missing_service_account_under_either_field() {
        for (spec, field) in [
            (json!({"serviceAccountName": "gone"}), "serviceAccountName"),
            (json!({"serviceAccount": "gone"}), "serviceAccount"),
            (
                json!({"serviceAccountName": "", "serviceAccount": "gone"}),
                "serviceAccount",
            ),
            (
                json!({"serviceAccountName": "gone", "serviceAccount": "other"}),
                "serviceAccountName",
            ),
        ] {
            let message = format!(
                "deny {field} pods run as ServiceAccount \"gone\", which does not exist in namespace \
                 \"shop\""
            );
            assert_eq!(
                judged(&Facts::default(), "service-account-reference", spec),
                [message]
            );
        }
        let facts = account(Facts::default(), "checkout", &[]);
        let spec = json!({"serviceAccountName": "checkout"});
        assert!(judged(&facts, "service-account-reference", spec).is_empty());
    }

    #[test]
    fn proposes_the_service_account_to_create() {
        let verdict = Facts::default().judge(&deployment(json!({"serviceAccountName": "gone"})));
        let fix = verdict
            .findings
            .iter()
            .find_map(|finding| finding.fix.as_ref())
            .expect("a fix");
        assert_eq!(fix.at, "a manifest of its own");
        assert_eq!(
            fix.yaml,
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: gone, namespace: shop}\n"
        );
    }

    #[test]
    fn the_default_service_account_is_never_looked_up() {
        // Were it looked up, it would be missing.
        for spec in [
            json!({}),
            json!({"serviceAccountName": "default"}),
            json!({"serviceAccountName": null}),
        ] {
            for rule in ["service-account-reference", "pull-secret-reference"] {
                assert!(judged(&Facts::default(), rule, spec.clone()).is_empty());
            }
        }
    }

    #[test]
    fn what_could_not_be_found_out_is_a_warning_said_once() {
        let query = Query::ServiceAccount {
            namespace: NAMESPACE.into(),
            name: "builder".into(),
        };
        let facts = Facts::default().with(query, Answer::Unknown(Unknown::Deadline));
        let facts = facts.with(secret("registry"), Answer::Unknown(Unknown::NotAmongFiles));
        let spec = json!({"serviceAccountName": "builder"});
        assert_eq!(
            judged(&facts, "service-account-reference", spec.clone()),
            [
                "warn serviceAccountName pods run as ServiceAccount \"builder\", which was not \
                 checked: the API server did not answer in time"
            ]
        );
        assert!(judged(&facts, "pull-secret-reference", spec).is_empty());
        assert_eq!(
            judged(
                &facts,
                "pull-secret-reference",
                json!({"imagePullSecrets": [{"name": "registry"}]})
            ),
            [
                "warn imagePullSecrets/0 pull secret \"registry\" was not checked: it is not among the \
                 given files, but may be in the cluster"
            ]
        );
    }
}
