//! What the gate has to share with the app so that its checks see what the app sees.
//!
//! Exactly the env entry or the mounted folder that a check names, and nothing else. A Secret that is missing is then a
//! reason to stay closed, not to crash: every copied reference is optional.

use std::{borrow::Cow, sync::Arc};

use super::{
    config::{Config, Mistake},
    ports::is_app,
    takeover::Gated,
};
use crate::{
    contract::{CheckKind, DatabaseCheck, Settings, ValueFrom, WarmupBody},
    policy::{
        facts::{Answer, Query},
        template::{EnvFrom, Scalar, Site, Template},
    },
};

/// Asks for a fact; `None` where it is not known yet.
pub(super) type Ask<'q> = &'q mut dyn FnMut(Query<'_>) -> Option<Arc<Answer>>;

/// What is copied into the gate's container.
#[derive(Debug, Default)]
pub(super) struct Borrowed<'a> {
    pub(super) env: Vec<BorrowedEnv<'a>>,
    /// Containers, and places in their `volumeMounts`.
    pub(super) mounts: Vec<(Site<'a, 'a>, usize)>,
}

/// A variable of the app.
#[derive(Clone, Debug)]
pub(super) enum BorrowedEnv<'a> {
    /// An entry of `env`: its container and place.
    Entry(Site<'a, 'a>, usize),
    /// A key of an object in `envFrom`, under the name that it has there.
    Key {
        name: String,
        /// `secretKeyRef` or `configMapKeyRef`.
        reference: &'static str,
        object: &'a str,
        key: String,
    },
}

/// What the settings name, each after its field.
type Named<'s> = Vec<(String, &'s str)>;

/// Where the kubelet puts what every pod may read; the API server mounts it only into the Pod.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// What the checks and the warm-up of `gate` name.
pub(super) fn borrowed<'a>(
    template: &'a Template<'a>,
    namespace: &str,
    (ports, config, gate): (&[Gated<'a>], &Config, &Settings),
    ask: Ask<'_>,
) -> Result<Borrowed<'a>, Vec<Mistake>> {
    let mut sites: Vec<Site<'a, 'a>> = Vec::new();
    let apps = template.containers().filter(|site| is_app(*site));
    for site in ports.iter().map(|port| port.declared.site).chain(apps) {
        if !sites
            .iter()
            .any(|other| (other.list, other.index) == (site.list, site.index))
        {
            sites.push(site);
        }
    }
    let mut borrowed = Borrowed::default();
    let mut mistakes = Vec::new();
    let (env, files) = named(gate);
    for (field, name) in env {
        let mut found = sites
            .iter()
            .filter_map(|site| find(*site, name, namespace, ask));
        if let Some(found) = found.next() {
            borrowed.take(found);
        } else {
            let text = format!("no container of the pod sets env {name}");
            mistakes.push(config.mistake(&field, &text));
        }
    }
    for (field, path) in files {
        let mut found = sites
            .iter()
            .filter_map(|site| Some((*site, mounted(*site, path)?)));
        match found.next() {
            Some((site, index)) => {
                let same = |(other, at): &(Site<'_, '_>, usize)| {
                    (other.list, other.index, *at) == (site.list, site.index, index)
                };
                if !borrowed.mounts.iter().any(same) {
                    borrowed.mounts.push((site, index));
                }
            }
            None if path.starts_with(SERVICE_ACCOUNT) => {}
            None => {
                let text = format!(
                    "no volumeMount of the app holds {path}, and the gate sees no other file of the app"
                );
                mistakes.push(config.mistake(&field, &text));
            }
        }
    }
    if mistakes.is_empty() {
        Ok(borrowed)
    } else {
        Err(mistakes)
    }
}

/// Variables and files that the settings name, each with its field.
fn named(gate: &Settings) -> (Named<'_>, Named<'_>) {
    let mut env = Vec::new();
    let mut files = Vec::new();
    for (index, check) in gate.checks().iter().enumerate() {
        let at = format!("checks[{index}].{}", check.kind.name());
        match &check.kind {
            CheckKind::Env(check) => env.push((format!("{at}.name"), check.name.as_str())),
            CheckKind::File(check) => files.push((format!("{at}.path"), check.path.as_str())),
            CheckKind::Https(check) => {
                let file = check.ca_file.as_deref();
                files.extend(file.map(|file| (format!("{at}.caFile"), file)));
            }
            CheckKind::Postgres(check) | CheckKind::Redis(check) => {
                let DatabaseCheck {
                    url_from, ca_file, ..
                } = check;
                match url_from {
                    ValueFrom::Env(name) => env.push((format!("{at}.urlFrom.env"), name.as_str())),
                    ValueFrom::File(path) => {
                        files.push((format!("{at}.urlFrom.file"), path.as_str()));
                    }
                }
                let file = ca_file.as_deref();
                files.extend(file.map(|file| (format!("{at}.caFile"), file)));
            }
            CheckKind::Http(_) | CheckKind::Tcp(_) | CheckKind::Dns(_) | CheckKind::Grpc(_) => {}
        }
    }
    let requests = gate.warmup().map_or(&[][..], |warmup| &warmup.requests);
    for (index, request) in requests.iter().enumerate() {
        if let Some(WarmupBody::File(path)) = &request.body {
            files.push((format!("warmup.requests[{index}].body.file"), path.as_str()));
        }
    }
    (env, files)
}

/// Where a container gets a variable from: its own entries win over `envFrom`, and later ones over earlier.
fn find<'a>(
    site: Site<'a, 'a>,
    name: &str,
    namespace: &str,
    ask: Ask<'_>,
) -> Option<BorrowedEnv<'a>> {
    let mut entries = site.container.env.iter();
    let entry = entries.rfind(|(_, entry)| entry.name.as_deref() == Some(name));
    if let Some((index, _)) = entry {
        return Some(BorrowedEnv::Entry(site, index));
    }
    let mut possible = None;
    for (_, source) in site.container.env_from.iter().rev() {
        let Some((reference, object, query)) = source_of(source, namespace) else {
            continue;
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let Some(key) = name.strip_prefix(prefix).filter(|key| !key.is_empty()) else {
            continue;
        };
        let found = || BorrowedEnv::Key {
            name: name.to_owned(),
            reference,
            object,
            key: key.to_owned(),
        };
        match ask(query).as_deref() {
            Some(Answer::Keys(keys)) if !keys.iter().any(|one| **one == *key) => {}
            Some(Answer::Keys(_)) => return Some(found()),
            // It may be made later, and may bring the key.
            _ => possible = possible.or_else(|| Some(found())),
        }
    }
    possible
}

fn source_of<'a>(
    source: &'a EnvFrom<'a>,
    namespace: &str,
) -> Option<(&'static str, &'a str, Query<'a>)> {
    let namespace = Cow::Owned(namespace.to_owned());
    if let Some(object) = &source.secret_ref {
        let name = object.name.as_deref()?;
        let query = Query::Secret {
            namespace,
            name: name.into(),
        };
        return Some(("secretKeyRef", name, query));
    }
    let name = source.config_map_ref.as_ref()?.name.as_deref()?;
    let query = Query::ConfigMap {
        namespace,
        name: name.into(),
    };
    Some(("configMapKeyRef", name, query))
}

/// The mount of a container that holds `path`: the deepest, as the kernel sees it.
fn mounted(site: Site<'_, '_>, path: &str) -> Option<usize> {
    let mounts = site.container.volume_mounts.iter();
    let holding = mounts.filter_map(|(index, mount)| {
        let at = mount.mount_path.as_deref()?.trim_end_matches('/');
        let below = path.strip_prefix(at)?;
        (below.is_empty() || below.starts_with('/')).then_some((at.len(), index))
    });
    holding.max().map(|(_, index)| index)
}

/// The names that the kubelet expands in a value: `$(NAME)`, but not `$$(NAME)`.
fn references(value: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        let after = rest.get(at + 1..).unwrap_or_default();
        rest = match (after.strip_prefix('$'), after.strip_prefix('(')) {
            (Some(after), _) => after,
            (None, Some(name)) => {
                let Some((name, after)) = name.split_once(')') else {
                    break;
                };
                names.push(name);
                after
            }
            (None, None) => after,
        };
    }
    names
}

// === impl Borrowed ===

impl<'a> Borrowed<'a> {
    /// Takes a variable, and before it those that its value is made of.
    fn take(&mut self, found: BorrowedEnv<'a>) {
        if self.env.iter().any(|other| other.name() == found.name()) {
            return;
        }
        if let BorrowedEnv::Entry(site, index) = &found {
            let value = site.container.env.iter().find(|(at, _)| at == index);
            let value = value.and_then(|(_, entry)| entry.value.as_ref());
            for name in value
                .map(Scalar::as_written)
                .map(references)
                .unwrap_or_default()
            {
                // Only what stands before is expanded.
                let mut entries = site.container.env.iter();
                let before =
                    entries.rfind(|(at, entry)| at < index && entry.name.as_deref() == Some(name));
                if let Some((at, _)) = before {
                    self.take(BorrowedEnv::Entry(*site, at));
                }
            }
        }
        self.env.push(found);
    }
}

// === impl BorrowedEnv ===

impl BorrowedEnv<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Key { name, .. } => name,
            Self::Entry(site, index) => {
                let mut entries = site.container.env.iter();
                let entry = entries.find(|(at, _)| at == index);
                entry
                    .and_then(|(_, entry)| entry.name.as_deref())
                    .unwrap_or_default()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::references;

    #[test]
    fn finds_what_the_kubelet_expands() {
        for (value, names) in [
            (
                "postgres://$(USER):$(PASSWORD)@db",
                vec!["USER", "PASSWORD"],
            ),
            ("$$(USER) $USER 5$", vec![]),
            ("$$$(USER)", vec!["USER"]),
            ("$(USER", vec![]),
        ] {
            assert_eq!(references(value), names, "{value}");
        }
    }
}
