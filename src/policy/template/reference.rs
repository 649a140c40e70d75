//! Every place where a template refers to a Secret or a ConfigMap, in the order of the fields.

use super::{ConfigMapVolume, Container, KeyToPath, List, Site, Template, Text, Volume};

/// The two kinds of object that env and volumes read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// One reference to an object, or to one key of it.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'t, 'a> {
    /// What it refers to.
    pub object: Object,
    /// The object's name; empty where none is given, which the API server refuses.
    pub name: &'t str,
    /// The key; `None` where all keys are meant.
    pub key: Option<&'t str>,
    /// The pod starts without it.
    pub optional: bool,
    /// Where it stands.
    pub place: Place<'t, 'a>,
}

/// Where a reference stands.
#[derive(Clone, Copy, Debug)]
pub enum Place<'t, 'a> {
    /// `env[].valueFrom` of a container.
    Env {
        /// The container.
        site: Site<'t, 'a>,
        /// Its place in `env`.
        index: usize,
        /// The name of the variable.
        name: &'t str,
    },
    /// `envFrom[]` of a container.
    EnvFrom {
        /// The container.
        site: Site<'t, 'a>,
        /// Its place in `envFrom`.
        index: usize,
    },
    /// `volumes[]`.
    Volume {
        /// Its place in `volumes`.
        index: usize,
        /// The volume's name.
        name: &'t str,
        /// Its place in `projected.sources`, for a projected volume.
        source: Option<usize>,
        /// Its place in `items`, where one key is meant.
        item: Option<usize>,
    },
}

// === impl Object ===

impl Object {
    /// Its kind.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The field of a container's `env[].valueFrom` that refers to one.
    pub const fn env_field(self) -> &'static str {
        match self {
            Self::Secret => "secretKeyRef",
            Self::ConfigMap => "configMapKeyRef",
        }
    }

    /// The field of a container's `envFrom[]` that refers to one.
    pub const fn env_from_field(self) -> &'static str {
        match self {
            Self::Secret => "secretRef",
            Self::ConfigMap => "configMapRef",
        }
    }

    /// The field of a volume, or of a projected source, that refers to one.
    pub const fn volume_field(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configMap",
        }
    }
}

// === impl Reference ===

impl Reference<'_, '_> {
    /// JSON pointer below the pod template to the reference.
    pub fn pointer(&self) -> String {
        match self.place {
            Place::Env {
                site:
                    Site {
                        list,
                        index: container,
                        ..
                    },
                index,
                ..
            } => {
                let field = self.object.env_field();
                format!("/spec/{list}/{container}/env/{index}/valueFrom/{field}")
            }
            Place::EnvFrom {
                site:
                    Site {
                        list,
                        index: container,
                        ..
                    },
                index,
            } => {
                let field = self.object.env_from_field();
                format!("/spec/{list}/{container}/envFrom/{index}/{field}")
            }
            Place::Volume {
                index,
                source,
                item,
                ..
            } => {
                let source = source.map(|source| format!("/projected/sources/{source}"));
                let item = item.map(|item| format!("/items/{item}"));
                format!(
                    "/spec/volumes/{index}{}/{}{}",
                    source.unwrap_or_default(),
                    self.object.volume_field(),
                    item.unwrap_or_default()
                )
            }
        }
    }
}

// === impl Template ===

impl<'a> Template<'a> {
    /// Every reference to a Secret or ConfigMap in env, envFrom and volumes.
    pub fn references(&self) -> impl Iterator<Item = Reference<'_, 'a>> {
        let volumes = self.spec.iter().flat_map(|spec| spec.volumes.iter());
        self.containers()
            .flat_map(|site| env(site).chain(env_from(site)))
            .chain(volumes.flat_map(|(index, volume)| of_volume(index, volume)))
    }
}

fn env<'t, 'a>(site: Site<'t, 'a>) -> impl Iterator<Item = Reference<'t, 'a>> {
    let container: &'t Container<'a> = site.container;
    container.env.iter().flat_map(move |(index, env)| {
        let source = env.value_from.as_ref();
        let secret = source.and_then(|source| source.secret_key_ref.as_ref());
        let config_map = source.and_then(|source| source.config_map_key_ref.as_ref());
        let both = [(Object::Secret, secret), (Object::ConfigMap, config_map)];
        both.into_iter().filter_map(move |(object, selector)| {
            let selector = selector?;
            Some(Reference {
                object,
                name: text(selector.name.as_ref()),
                key: Some(text(selector.key.as_ref())),
                optional: selector.optional.unwrap_or_default(),
                place: Place::Env {
                    site,
                    index,
                    name: text(env.name.as_ref()),
                },
            })
        })
    })
}

fn env_from<'t, 'a>(site: Site<'t, 'a>) -> impl Iterator<Item = Reference<'t, 'a>> {
    let container: &'t Container<'a> = site.container;
    container.env_from.iter().flat_map(move |(index, source)| {
        let both = [
            (Object::Secret, source.secret_ref.as_ref()),
            (Object::ConfigMap, source.config_map_ref.as_ref()),
        ];
        both.into_iter().filter_map(move |(object, selector)| {
            let selector = selector?;
            Some(Reference {
                object,
                name: text(selector.name.as_ref()),
                key: None,
                optional: selector.optional.unwrap_or_default(),
                place: Place::EnvFrom { site, index },
            })
        })
    })
}

fn of_volume<'t, 'a>(
    index: usize,
    volume: &'t Volume<'a>,
) -> impl Iterator<Item = Reference<'t, 'a>> {
    let at = move |source, item| Place::Volume {
        index,
        name: text(volume.name.as_ref()),
        source,
        item,
    };
    let secret = volume.secret.iter().flat_map(move |secret| {
        let name = text(secret.secret_name.as_ref());
        items(
            Object::Secret,
            name,
            secret.optional,
            &secret.items,
            move |item| at(None, item),
        )
    });
    let whole = move |object, source, volume: &'t ConfigMapVolume<'a>| {
        let name = text(volume.name.as_ref());
        items(object, name, volume.optional, &volume.items, move |item| {
            at(source, item)
        })
    };
    let config_map = volume
        .config_map
        .iter()
        .flat_map(move |volume| whole(Object::ConfigMap, None, volume));
    let sources = volume
        .projected
        .iter()
        .flat_map(|projected| projected.sources.iter());
    let projected = sources.flat_map(move |(index, source)| {
        let both = [
            (Object::Secret, source.secret.as_ref()),
            (Object::ConfigMap, source.config_map.as_ref()),
        ];
        both.into_iter()
            .filter_map(move |(object, volume)| Some(whole(object, Some(index), volume?)))
            .flatten()
    });
    secret.chain(config_map).chain(projected)
}

/// One reference for each of `items`, or one for all keys.
fn items<'t, 'a>(
    object: Object,
    name: &'t str,
    optional: Option<bool>,
    items: &'t List<KeyToPath<'a>>,
    place: impl Fn(Option<usize>) -> Place<'t, 'a>,
) -> impl Iterator<Item = Reference<'t, 'a>> {
    let optional = optional.unwrap_or_default();
    let keys = items
        .iter()
        .map(|(index, item)| (Some(index), Some(text(item.key.as_ref()))));
    let whole = items.is_empty().then_some((None, None));
    keys.chain(whole).map(move |(item, key)| Reference {
        object,
        name,
        key,
        optional,
        place: place(item),
    })
}

fn text<'t>(text: Option<&'t Text<'_>>) -> &'t str {
    text.map(Text::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn all(template: &serde_json::Value) -> Vec<String> {
        let bytes = to_raw_value(template).unwrap();
        let template: Template<'_> = serde_json::from_str(bytes.get()).unwrap();
        let line = |it: Reference<'_, '_>| {
            let optional = if it.optional { " optional" } else { "" };
            let key = it.key.unwrap_or("*");
            format!(
                "{} {} {key}{optional} {}",
                it.object.kind(),
                it.name,
                it.pointer()
            )
        };
        template.references().map(line).collect()
    }

    #[test]
    fn finds_every_place_in_the_order_of_the_fields() {
        let found = all(&json!({"spec": {
            "containers": [{"name": "app",
                "env": [
                    {"name": "PLAIN", "value": "x"},
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "b", "optional": true}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "envFrom": [
                    {"prefix": "X_", "configMapRef": {"name": "c"}},
                    {"secretRef": {"name": "s", "optional": true}},
                ],
            }],
            "initContainers": [{"name": "migrate",
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "a"}}}],
            }],
            "ephemeralContainers": [{"name": "debug", "envFrom": [{"secretRef": {"name": "no"}}]}],
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "tls", "secret": {"secretName": "tls"}},
                {"name": "files", "configMap": {"name": "c", "optional": true,
                    "items": [{"key": "b", "path": "b"}, null, {"key": "d", "path": "d"}]}},
                {"name": "all", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"secret": {"name": "s", "items": [{"key": "a", "path": "a"}]}},
                    {"configMap": {"name": "kube-root-ca.crt"}},
                ]}},
            ],
        }}));
        assert_eq!(
            found,
            [
                "Secret s a /spec/containers/0/env/1/valueFrom/secretKeyRef",
                "ConfigMap c b optional /spec/containers/0/env/2/valueFrom/configMapKeyRef",
                "ConfigMap c * /spec/containers/0/envFrom/0/configMapRef",
                "Secret s * optional /spec/containers/0/envFrom/1/secretRef",
                "Secret s a /spec/initContainers/0/env/0/valueFrom/secretKeyRef",
                "Secret tls * /spec/volumes/1/secret",
                "ConfigMap c b optional /spec/volumes/2/configMap/items/0",
                "ConfigMap c d optional /spec/volumes/2/configMap/items/2",
                "Secret s a /spec/volumes/3/projected/sources/1/secret/items/0",
                "ConfigMap kube-root-ca.crt * /spec/volumes/3/projected/sources/2/configMap",
            ]
        );
    }

    #[test]
    fn names_that_are_not_given_are_empty() {
        let found = all(&json!({"spec": {
            "containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {}}}],
                            "envFrom": [{"secretRef": {}}, {"prefix": "X"}]}],
            "volumes": [{"name": "v", "secret": {"items": []}}, {"name": "w", "configMap": {"items": [{}]}}],
        }}));
        assert_eq!(
            found,
            [
                "Secret   /spec/containers/0/env/0/valueFrom/secretKeyRef",
                "Secret  * /spec/containers/0/envFrom/0/secretRef",
                "Secret  * /spec/volumes/0/secret",
                "ConfigMap   /spec/volumes/1/configMap/items/0",
            ]
        );
    }
}
