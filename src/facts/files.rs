//! Answers from given documents: an index of what they define.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::{Value, value::RawValue};

use super::{
    decode,
    keys::{TOKEN_KEYS, TOKEN_TYPE},
    network,
};
use crate::policy::{
    facts::{Answer, Known, LimitRange, Namespace, NetworkPolicy, Query, Service, Unknown},
    workload::WorkloadKind,
};

/// What the given documents define. Of Secrets and ConfigMaps only the names of their keys are kept.
#[derive(Debug, Default)]
pub struct Files {
    /// What is not among the documents does not exist at all, instead of perhaps in the cluster.
    strict: bool,
    namespaces: HashMap<Box<str>, Namespace>,
    /// By kind and name; more than one where namespaces hold the same name.
    named: HashMap<(Named, Box<str>), Vec<Place>>,
    limit_ranges: HashMap<Box<str>, Vec<LimitRange>>,
    services: HashMap<Box<str>, Vec<Service>>,
    network_policies: HashMap<Box<str>, Vec<NetworkPolicy>>,
    workloads: HashMap<(WorkloadKind, Box<str>, Box<str>), Arc<RawValue>>,
}

/// Kinds that are referred to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Named {
    Secret,
    ConfigMap,
    ServiceAccount,
}

/// Where an object stands, and what is known of it.
#[derive(Debug)]
struct Place {
    namespace: Box<str>,
    file: Arc<str>,
    /// Key names, or those of pull secrets.
    names: BTreeSet<Box<str>>,
}

// === impl Files ===

impl Files {
    /// Objects of this kind can answer something; the workloads, which come by [`Self::add_workload`], aside.
    pub fn takes(api_version: &str, kind: &str) -> bool {
        match api_version {
            "v1" => matches!(
                kind,
                "Secret" | "ConfigMap" | "ServiceAccount" | "Namespace" | "LimitRange" | "Service"
            ),
            network::POLICY_API => kind == "NetworkPolicy",
            _ => false,
        }
    }

    /// An empty index. With `strict`, what is referred to and not among the documents is missing; otherwise unknown,
    /// since it may be in the cluster.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            ..Self::default()
        }
    }

    /// Adds what `object`, which was read from `file` and goes to `namespace`, can answer. Anything else is passed
    /// over. An object that is defined twice holds the keys of both.
    pub fn add(
        &mut self,
        object: &Value,
        namespace: &str,
        file: &Arc<str>,
    ) -> serde_json::Result<()> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let (Some(api), Some(kind), Some(name)) =
            (text("/apiVersion"), text("/kind"), text("/metadata/name"))
        else {
            return Ok(());
        };
        if !Self::takes(api, kind) {
            return Ok(());
        }
        let (named, held) = match kind {
            "Secret" => (Named::Secret, keys(object)),
            "ConfigMap" => (Named::ConfigMap, keys(object)),
            "ServiceAccount" => {
                let pulled = decode::service_account(&object.to_string())?;
                (Named::ServiceAccount, pulled.into_iter().collect())
            }
            "Namespace" => {
                let namespace = decode::namespace(&object.to_string())?;
                self.namespaces.insert(name.into(), namespace);
                return Ok(());
            }
            "LimitRange" => {
                let ranges = decode::limit_range(&object.to_string())?;
                let known = self.limit_ranges.entry(namespace.into());
                known.or_default().extend(ranges);
                return Ok(());
            }
            "Service" => {
                let service = network::service(&object.to_string())?;
                let known = self.services.entry(namespace.into()).or_default();
                known.extend(service);
                return Ok(());
            }
            "NetworkPolicy" => {
                let policy = network::policy(&object.to_string())?;
                let known = self.network_policies.entry(namespace.into());
                known.or_default().extend(policy);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let places = self.named.entry((named, name.into())).or_default();
        match places
            .iter_mut()
            .find(|place| *place.namespace == *namespace)
        {
            Some(place) => place.names.extend(held),
            None => places.push(Place {
                namespace: namespace.into(),
                file: Arc::clone(file),
                names: held,
            }),
        }
        Ok(())
    }

    /// Adds a workload, for the question what its twin's env is.
    pub fn add_workload(
        &mut self,
        kind: &WorkloadKind,
        namespace: &str,
        name: &str,
        object: Arc<RawValue>,
    ) {
        let key = (kind.clone(), namespace.into(), name.into());
        self.workloads.insert(key, object);
    }

    fn lookup(&self, kind: Named, namespace: &str, name: &str) -> Answer {
        let places = self.named.get(&(kind, name.into()));
        let places = places.map(Vec::as_slice).unwrap_or_default();
        if let Some(place) = places.iter().find(|place| *place.namespace == *namespace) {
            let names = place.names.iter().cloned().collect();
            return match kind {
                Named::Secret | Named::ConfigMap => Answer::Keys(names),
                Named::ServiceAccount => Answer::ServiceAccount(names),
            };
        }
        match places.first() {
            _ if self.strict => Answer::Missing,
            Some(Place {
                namespace, file, ..
            }) => Answer::Unknown(Unknown::Elsewhere {
                namespace: namespace.clone(),
                file: (&**file).into(),
            }),
            None => Answer::Unknown(Unknown::NotAmongFiles),
        }
    }

    fn twin(&self, kind: &WorkloadKind, namespace: &str, name: &str) -> Answer {
        let key = (kind.clone(), namespace.into(), name.into());
        let twin = self.workloads.get(&key);
        let env = twin.and_then(|object| decode::twin(kind, namespace, object));
        env.map_or(Answer::Unknown(Unknown::NotAmongFiles), Answer::Twin)
    }
}

impl Known for Files {
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>> {
        Some(Arc::new(match query {
            Query::Namespace { name } => self
                .namespaces
                .get(&**name)
                .map_or(Answer::Unknown(Unknown::NotAmongFiles), |namespace| {
                    Answer::Namespace(namespace.clone())
                }),
            Query::Secret { namespace, name } => self.lookup(Named::Secret, namespace, name),
            Query::ConfigMap { namespace, name } => self.lookup(Named::ConfigMap, namespace, name),
            Query::ServiceAccount { namespace, name } => {
                self.lookup(Named::ServiceAccount, namespace, name)
            }
            Query::LimitRanges { namespace } => {
                let ranges = self.limit_ranges.get(&**namespace);
                Answer::LimitRanges(ranges.cloned().unwrap_or_default())
            }
            Query::Twin {
                namespace,
                kind,
                name,
            } => self.twin(kind, namespace, name),
            Query::Services { namespace } => {
                let services = self.services.get(&**namespace);
                Answer::Services(services.cloned().unwrap_or_default())
            }
            Query::NetworkPolicies { namespace } => {
                let policies = self.network_policies.get(&**namespace);
                Answer::NetworkPolicies(policies.cloned().unwrap_or_default())
            }
            Query::Versions | Query::Groups | Query::Declared { .. } | Query::Template { .. } => {
                Answer::Unknown(Unknown::NotAsked)
            }
        }))
    }
}

/// The names of the keys of a Secret or ConfigMap.
fn keys(object: &Value) -> BTreeSet<Box<str>> {
    let is_token = object.get("type").is_some_and(|kind| kind == TOKEN_TYPE);
    let made = TOKEN_KEYS.into_iter().filter(|_| is_token).map(Box::from);
    ["data", "binaryData", "stringData"]
        .iter()
        .filter_map(|section| object.get(section)?.as_object())
        .flat_map(|section| section.keys().map(|key| key.as_str().into()))
        .chain(made)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::workload::KINDS;

    fn index(strict: bool, objects: &[(&str, Value)]) -> Files {
        let mut files = Files::new(strict);
        for (namespace, object) in objects {
            files
                .add(object, namespace, &Arc::from("shop.yaml"))
                .unwrap();
        }
        files
    }

    fn answer(files: &Files, query: &Query<'_>) -> Answer {
        Answer::clone(&files.get(query).unwrap())
    }

    fn secret(namespace: &'static str) -> Query<'static> {
        Query::Secret {
            namespace: namespace.into(),
            name: "db".into(),
        }
    }

    fn object(kind: &str, more: &Value) -> Value {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "db"}});
        for (key, value) in more.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    }

    #[test]
    fn an_object_answers_with_the_keys_of_all_its_sections_and_definitions() {
        let files = index(
            false,
            &[
                (
                    "shop",
                    object(
                        "Secret",
                        &json!({"data": {"url": "e30="}, "stringData": {"user": "x"}}),
                    ),
                ),
                (
                    "shop",
                    object(
                        "Secret",
                        &json!({"stringData": {"more": "x"}, "data": null}),
                    ),
                ),
                (
                    "shop",
                    object("ConfigMap", &json!({"binaryData": {"logo": ""}})),
                ),
            ],
        );
        let keys = ["more", "url", "user"].map(Box::from).to_vec();
        assert_eq!(answer(&files, &secret("shop")), Answer::Keys(keys));
        let map = Query::ConfigMap {
            namespace: "shop".into(),
            name: "db".into(),
        };
        assert_eq!(answer(&files, &map), Answer::Keys(vec!["logo".into()]));
    }

    #[test]
    fn a_token_secret_will_hold_a_token() {
        let token = object("Secret", &json!({"type": TOKEN_TYPE}));
        let files = index(true, &[("shop", token)]);
        let keys = TOKEN_KEYS.map(Box::from).to_vec();
        assert_eq!(answer(&files, &secret("shop")), Answer::Keys(keys));
    }

    #[test]
    fn an_object_of_another_namespace_is_named_with_its_file() {
        let files = index(false, &[("base", object("Secret", &json!({})))]);
        let elsewhere = Unknown::Elsewhere {
            namespace: "base".into(),
            file: "shop.yaml".into(),
        };
        assert_eq!(answer(&files, &secret("shop")), Answer::Unknown(elsewhere));
    }

    #[test]
    fn what_is_not_among_the_files_is_unknown_or_strictly_missing() {
        let account = Query::ServiceAccount {
            namespace: "shop".into(),
            name: "db".into(),
        };
        for query in [secret("shop"), account] {
            let unknown = Answer::Unknown(Unknown::NotAmongFiles);
            assert_eq!(answer(&index(false, &[]), &query), unknown);
            assert_eq!(answer(&index(true, &[]), &query), Answer::Missing);
        }
        let elsewhere = index(true, &[("base", object("Secret", &json!({})))]);
        assert_eq!(answer(&elsewhere, &secret("shop")), Answer::Missing);
    }

    #[test]
    fn namespaces_accounts_and_limit_ranges_say_what_they_hold() {
        let labels = json!({"metadata": {"name": "db", "labels": {"portcullis.dev/enforce": "warn", "other": "x"}}});
        let limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": 2}}, {"type": "PersistentVolumeClaim"}]}});
        let pulled = json!({"imagePullSecrets": [{"name": "registry"}]});
        let files = index(
            true,
            &[
                ("", object("Namespace", &labels)),
                ("shop", object("LimitRange", &limits)),
                ("shop", object("ServiceAccount", &pulled)),
            ],
        );
        let Answer::Namespace(namespace) = answer(&files, &Query::Namespace { name: "db".into() })
        else {
            panic!("no namespace");
        };
        assert_eq!(namespace.labels.len(), 1);
        assert!(namespace.enforce().is_some());
        let ranges = |namespace: &'static str| {
            answer(
                &files,
                &Query::LimitRanges {
                    namespace: namespace.into(),
                },
            )
        };
        assert!(matches!(ranges("shop"), Answer::LimitRanges(ranges) if ranges.len() == 1));
        assert_eq!(ranges("other"), Answer::LimitRanges(Vec::new()));
        let account = Query::ServiceAccount {
            namespace: "shop".into(),
            name: "db".into(),
        };
        assert_eq!(
            answer(&files, &account),
            Answer::ServiceAccount(vec!["registry".into()])
        );
        let unknown = Query::Namespace {
            name: "shop".into(),
        };
        assert_eq!(
            answer(&files, &unknown),
            Answer::Unknown(Unknown::NotAmongFiles)
        );
    }

    #[test]
    fn services_and_network_policies_are_those_among_the_files() {
        let service = object("Service", &json!({"spec": {"ports": [{"port": 80}]}}));
        let external = object("Service", &json!({"spec": {"type": "ExternalName"}}));
        let mut policy = object("NetworkPolicy", &json!({"spec": {}}));
        policy["apiVersion"] = "networking.k8s.io/v1".into();
        let files = index(
            true,
            &[("shop", service), ("shop", external), ("shop", policy)],
        );
        let services = |namespace: &'static str| {
            let namespace = namespace.into();
            answer(&files, &Query::Services { namespace })
        };
        assert!(matches!(services("shop"), Answer::Services(services) if services.len() == 1));
        assert_eq!(services("other"), Answer::Services(Vec::new()));
        let policies = Query::NetworkPolicies {
            namespace: "shop".into(),
        };
        let policies = answer(&files, &policies);
        assert!(matches!(policies, Answer::NetworkPolicies(policies) if policies.len() == 1));
    }

    #[test]
    fn a_workload_answers_for_its_twin() {
        let object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "app", "env": [{"name": "SMTP_HOST", "value": "x"}]},
        ]}}}});
        let kind = KINDS.iter().find(|kind| kind.kind == "Deployment").unwrap();
        let mut files = Files::new(false);
        let json = serde_json::value::to_raw_value(&object).unwrap();
        files.add_workload(kind, "staging", "mail", json.into());
        let twin = |namespace: &'static str| {
            let kind = std::borrow::Cow::Borrowed(kind);
            answer(
                &files,
                &Query::Twin {
                    namespace: namespace.into(),
                    kind,
                    name: "mail".into(),
                },
            )
        };
        assert!(
            matches!(twin("staging"), Answer::Twin(env) if env.len() == 1 && &*env[0].name == "SMTP_HOST")
        );
        assert_eq!(twin("production"), Answer::Unknown(Unknown::NotAmongFiles));
    }
}
