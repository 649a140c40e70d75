//! The env of the same workload in a twin namespace, without its values.

use crate::policy::template::{EnvSource, KeySelector, Site, Template, Text, reference::Object};

/// What stands between an object in `envFrom` and its prefix.
const WITH_PREFIX: &str = " with prefix ";

/// One env name of a twin's container and where its value comes from; never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinEnv {
    /// Container name.
    pub container: Box<str>,
    /// `env[].name`, or the source itself for `envFrom`.
    pub name: Box<str>,
    /// In words: `value`, `secret checkout/url`, `configmap settings/host`, `field status.podIP`.
    pub source: Box<str>,
}

/// An object in `envFrom`: each of its keys is a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// Its kind.
    pub object: Object,
    /// Its name.
    pub name: &'a str,
    /// What stands before each key in a variable's name.
    pub prefix: &'a str,
}

// === impl TwinEnv ===

impl TwinEnv {
    /// The env of every container of a template: what `env-parity` compares, on either side.
    pub fn of(template: &Template<'_>) -> Vec<Self> {
        template.containers().flat_map(Self::of_container).collect()
    }

    /// The object in `envFrom` that it stands for; `None` for a variable.
    pub fn bundle(&self) -> Option<Bundle<'_>> {
        let prefix = self.name.strip_prefix(&*self.source)?;
        let (kind, name) = self.source.split_once(' ')?;
        Some(Bundle {
            object: match kind {
                "secret" => Object::Secret,
                _ => Object::ConfigMap,
            },
            name,
            prefix: prefix.strip_prefix(WITH_PREFIX).unwrap_or_default(),
        })
    }

    /// That of one container.
    pub(in crate::policy) fn of_container(site: Site<'_, '_>) -> impl Iterator<Item = Self> {
        let one = move |name: &str, source: String| Self {
            container: site.name().into(),
            name: name.into(),
            source: source.into(),
        };
        let env = site.container.env.items().map(move |env| {
            let source = (env.value_from.as_ref()).map_or_else(|| "value".to_owned(), in_words);
            one(env.name.as_deref().unwrap_or_default(), source)
        });
        let env_from = site.container.env_from.items().map(move |from| {
            let (kind, selector) = match (&from.secret_ref, &from.config_map_ref) {
                (Some(secret), _) => ("secret", Some(secret)),
                (None, map) => ("configmap", map.as_ref()),
            };
            let name = selector.and_then(|object| object.name.as_deref());
            let source = format!("{kind} {}", name.unwrap_or_default());
            match from.prefix.as_deref() {
                Some(prefix) if !prefix.is_empty() => {
                    one(&format!("{source}{WITH_PREFIX}{prefix}"), source)
                }
                _ => one(&source, source.clone()),
            }
        });
        env.chain(env_from)
    }
}

// === impl Bundle ===

impl Bundle<'_> {
    /// `secret all`.
    pub fn words(&self) -> String {
        let kind = match self.object {
            Object::Secret => "secret",
            Object::ConfigMap => "configmap",
        };
        format!("{kind} {}", self.name)
    }
}

/// Where a value comes from, without the value.
fn in_words(source: &EnvSource<'_>) -> String {
    let key_of = |kind: &str, selector: &KeySelector<'_>| {
        let part = |text: &Option<Text<'_>>| text.as_deref().unwrap_or_default().to_owned();
        format!("{kind} {}/{}", part(&selector.name), part(&selector.key))
    };
    if let Some(selector) = &source.secret_key_ref {
        key_of("secret", selector)
    } else if let Some(selector) = &source.config_map_key_ref {
        key_of("configmap", selector)
    } else if let Some(field) = &source.field_ref {
        format!("field {}", field.field_path.as_deref().unwrap_or_default())
    } else if let Some(resource) = &source.resource_field_ref {
        format!(
            "resource {}",
            resource.resource.as_deref().unwrap_or_default()
        )
    } else {
        "value".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_shows_names_and_sources_and_never_a_value() {
        let template = serde_json::json!({"spec": {
            "containers": [{
                "name": "app",
                "env": [
                    {"name": "MODE", "value": "s3cr3t"},
                    {"name": "URL", "valueFrom": {"secretKeyRef": {"name": "checkout", "key": "url"}}},
                    {"name": "HOST", "valueFrom": {"configMapKeyRef": {"name": "smtp", "key": "host"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                ],
                "envFrom": [{"secretRef": {"name": "all"}}, {"prefix": "X_", "configMapRef": {"name": "more"}}],
            }],
            "initContainers": [{"name": "migrate", "env": [{"name": "MODE"}]}],
        }})
        .to_string();
        let all = TwinEnv::of(&serde_json::from_str(&template).unwrap());
        let env: Vec<_> = all
            .iter()
            .map(|env| format!("{}: {}: {}", env.container, env.name, env.source))
            .collect();
        let bundles: Vec<_> = all.iter().filter_map(TwinEnv::bundle).collect();
        let bundle = |object, name, prefix| Bundle {
            object,
            name,
            prefix,
        };
        assert_eq!(
            bundles,
            [
                bundle(Object::Secret, "all", ""),
                bundle(Object::ConfigMap, "more", "X_")
            ]
        );
        assert_eq!(
            env,
            [
                "app: MODE: value",
                "app: URL: secret checkout/url",
                "app: HOST: configmap smtp/host",
                "app: IP: field status.podIP",
                "app: CPU: resource limits.cpu",
                "app: secret all: secret all",
                "app: configmap more with prefix X_: configmap more",
                "migrate: MODE: value",
            ]
        );
    }
}
