//! Which Secret an object declares that somebody else will make.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::network::{RawSelector, selector};
use crate::policy::{
    facts::Producer,
    template::{List, Text},
};

/// The Secret that is looked for, and the labels of its namespace.
#[derive(Debug)]
pub(super) struct Wanted<'w> {
    pub(super) namespace: &'w str,
    pub(super) labels: &'w BTreeMap<Box<str>, Box<str>>,
    pub(super) secret: &'w str,
}

/// A list of API groups (apimachinery `meta/v1`, `APIGroupList`).
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Groups<'a> {
    groups: List<Group<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Group<'a> {
    name: Text<'a>,
    preferred_version: Version<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Version<'a> {
    version: Text<'a>,
}

/// What any of the kinds says of its Secret.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Declaration<'a> {
    metadata: Named<'a>,
    spec: Spec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Named<'a> {
    name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Spec<'a> {
    /// Of an ExternalSecret.
    target: Target<'a>,
    /// Of a Certificate.
    secret_name: Text<'a>,
    /// Of a SecretProviderClass.
    secret_objects: List<SecretObject<'a>>,
    /// Of a ClusterExternalSecret, as are the following.
    external_secret_name: Text<'a>,
    #[serde(rename = "externalSecretSpec")]
    external_secrets: ExternalSecrets<'a>,
    namespaces: List<Text<'a>>,
    namespace_selector: Option<RawSelector<'a>>,
    namespace_selectors: List<RawSelector<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct ExternalSecrets<'a> {
    target: Target<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Target<'a> {
    name: Text<'a>,
    creation_policy: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct SecretObject<'a> {
    secret_name: Text<'a>,
}

/// The group and preferred version of each producer that the API server knows, as `bitnami.com/v1alpha1`.
pub(super) fn served(json: &str) -> serde_json::Result<Vec<Box<str>>> {
    let Groups { groups } = serde_json::from_str(json)?;
    let ours = |group: &&Group<'_>| {
        let mut producers = Producer::ALL.into_iter();
        producers.any(|producer| producer.resource().0 == &*group.name)
    };
    let served = groups.items().filter(ours);
    let served = served.map(|group| format!("{}/{}", group.name, group.preferred_version.version));
    Ok(served.map(Into::into).collect())
}

/// Whether `object`, as the API server lists it, declares the Secret.
pub(super) fn declares(
    producer: Producer,
    object: &str,
    wanted: &Wanted<'_>,
) -> serde_json::Result<bool> {
    let Declaration { metadata, spec } = serde_json::from_str(object)?;
    let name = &*metadata.name;
    Ok(match producer {
        Producer::ExternalSecret => spec.target.makes(name, wanted.secret),
        Producer::ClusterExternalSecret => {
            let name = or(&spec.external_secret_name, name);
            spec.external_secrets.target.makes(name, wanted.secret) && spec.reaches(wanted)
        }
        // It can't give its Secret another name: it is sealed for this one.
        Producer::SealedSecret => name == wanted.secret,
        Producer::Certificate => &*spec.secret_name == wanted.secret,
        Producer::SecretProviderClass => {
            let mut objects = spec.secret_objects.items();
            objects.any(|object| &*object.secret_name == wanted.secret)
        }
    })
}

// === impl Target ===

impl Target<'_> {
    /// An ExternalSecret named `name` with this target makes this Secret. With the policies `Merge` and `None` it
    /// makes none (external-secrets `apis/externalsecrets/v1`, `ExternalSecretCreationPolicy`).
    fn makes(&self, name: &str, secret: &str) -> bool {
        let makes_one = !matches!(&*self.creation_policy, "Merge" | "None");
        makes_one && or(&self.name, name) == secret
    }
}

// === impl Spec ===

impl Spec<'_> {
    /// A ClusterExternalSecret is meant for that namespace too.
    fn reaches(&self, wanted: &Wanted<'_>) -> bool {
        let label = |key: &str| wanted.labels.get(key).map(|value| &**value);
        let mut named = self.namespaces.items();
        let selectors = self.namespace_selector.iter();
        let mut selectors = selectors.chain(self.namespace_selectors.items());
        named.any(|name| &**name == wanted.namespace)
            || selectors.any(|raw| selector(raw).selects(label))
    }
}

/// The text, unless it is empty.
fn or<'t>(text: &'t str, default: &'t str) -> &'t str {
    if text.is_empty() { default } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn declared(producer: Producer, name: &str, spec: &Value) -> bool {
        let labels = BTreeMap::from([("team".into(), "shop".into())]);
        let wanted = Wanted {
            namespace: "shop",
            labels: &labels,
            secret: "db",
        };
        let object = json!({"metadata": {"name": name, "extra": null}, "spec": spec});
        declares(producer, &object.to_string(), &wanted).unwrap()
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn each_kind_names_its_secret_in_its_own_way() {
        use Producer::{Certificate, ExternalSecret, SealedSecret, SecretProviderClass};
        for (producer, name, spec, expected) in [
            (ExternalSecret, "x", json!({"target": {"name": "db"}}), true),
            (ExternalSecret, "db", json!({}), true),
            (
                ExternalSecret,
                "db",
                json!({"target": {"creationPolicy": "Orphan"}}),
                true,
            ),
            (
                ExternalSecret,
                "db",
                json!({"target": {"name": "other"}}),
                false,
            ),
            (
                ExternalSecret,
                "db",
                json!({"target": {"creationPolicy": "Merge"}}),
                false,
            ),
            (
                ExternalSecret,
                "db",
                json!({"target": {"creationPolicy": "None"}}),
                false,
            ),
            (
                SealedSecret,
                "db",
                json!({"template": {"metadata": {"name": "db"}}}),
                true,
            ),
            (
                SealedSecret,
                "x",
                json!({"template": {"metadata": {"name": "db"}}}),
                false,
            ),
            (Certificate, "x", json!({"secretName": "db"}), true),
            (Certificate, "db", json!({"secretName": "other"}), false),
            (
                SecretProviderClass,
                "x",
                json!({"secretObjects": [{"secretName": "a"}, {"secretName": "db"}]}),
                true,
            ),
            (
                SecretProviderClass,
                "db",
                json!({"parameters": {"objects": "db"}}),
                false,
            ),
        ] {
            assert_eq!(
                declared(producer, name, &spec),
                expected,
                "{producer:?} {name} {spec}"
            );
        }
    }

    #[test]
    fn one_for_several_namespaces_must_reach_this_one() {
        let of = |name: &str, more: Value| {
            let mut spec = json!({"externalSecretSpec": {"target": {"name": "db"}}});
            spec.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            declared(Producer::ClusterExternalSecret, name, &spec)
        };
        assert!(of("x", json!({"namespaces": ["cart", "shop"]})));
        assert!(!of("x", json!({"namespaces": ["cart"]})));
        assert!(!of("x", json!({})), "it reaches nobody");
        let team = |name: &str| json!({"matchLabels": {"team": name}});
        assert!(of("x", json!({"namespaceSelector": team("shop")})));
        assert!(!of("x", json!({"namespaceSelector": team("cart")})));
        assert!(of(
            "x",
            json!({"namespaceSelectors": [team("cart"), team("shop")]})
        ));
        let by_name =
            json!({"externalSecretSpec": {}, "externalSecretName": "db", "namespaces": ["shop"]});
        assert!(of("x", by_name));
        assert!(of(
            "db",
            json!({"externalSecretSpec": {}, "namespaces": ["shop"]})
        ));
        assert!(!of(
            "other",
            json!({"externalSecretSpec": {}, "namespaces": ["shop"]})
        ));
    }

    #[test]
    fn only_groups_of_producers_are_kept() {
        let group = |name: &str, version: &str| json!({"name": name, "versions": [], "preferredVersion": {"groupVersion": "x", "version": version}});
        let groups = json!({"kind": "APIGroupList", "groups": [
            group("apps", "v1"), group("cert-manager.io", "v1"), group("external-secrets.io", "v1beta1"),
            group("acme.cert-manager.io", "v1"),
        ]});
        let kept = served(&groups.to_string()).unwrap();
        assert_eq!(
            kept,
            ["cert-manager.io/v1", "external-secrets.io/v1beta1"].map(Box::from)
        );
    }
}
