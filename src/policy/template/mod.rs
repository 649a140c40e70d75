//! The pod template as the rules read it: only the fields they need, borrowed from the bytes.
//!
//! What Kubernetes' own decoder forgives is forgiven here: `null` is an absent field or list item, and fields that we
//! do not know are ignored. A field that we do know, in a type it can't have, is an error with its path.

/// Strings, scalars, lists and maps, borrowed and blind to `null`.
pub mod value;

/// One container: env, ports, resources.
pub mod container;

/// What the kubelet asks it: probes and hooks.
pub mod probe;

/// Volumes, as far as they refer to something.
pub mod volume;

/// Every place that refers to a Secret or a ConfigMap.
pub mod reference;

use std::fmt;

use serde::Deserialize;

pub use container::{Container, ContainerPort, EnvFrom, EnvSource, EnvVar, KeySelector, Resources};
pub use probe::{Exec, Handler, Hook, HttpGet, Port, Probe};
use value::maps;
pub use value::{List, Map, Scalar, Text};
pub use volume::{ConfigMapVolume, KeyToPath, Projected, Projection, SecretVolume, Volume};

/// `metadata`, of an object or of a pod template.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Metadata<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `generateName`.
    pub generate_name: Option<Text<'a>>,
    /// `namespace`.
    pub namespace: Option<Text<'a>>,
    /// `labels`. Their values must be strings; that they are is a rule's business, not the decoder's.
    pub labels: Map<'a, Scalar<'a>>,
    /// `annotations`, likewise.
    pub annotations: Map<'a, Scalar<'a>>,
}

/// A pod template, or a Pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Template<'a> {
    /// `metadata`, where it is given.
    pub metadata: Option<Metadata<'a>>,
    /// `spec`, where it is given.
    pub spec: Option<PodSpec<'a>>,
}

/// `spec` of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct PodSpec<'a> {
    /// `containers`.
    pub containers: List<Container<'a>>,
    /// `initContainers`: those that run to completion, and native sidecars.
    pub init_containers: List<Container<'a>>,
    /// `volumes`.
    pub volumes: List<Volume<'a>>,
    /// `imagePullSecrets`.
    pub image_pull_secrets: List<LocalReference<'a>>,
    /// Pod-level `resources` (Kubernetes 1.34, beta).
    pub resources: Option<Resources<'a>>,
    /// `restartPolicy`; absent means `Always`.
    pub restart_policy: Option<Text<'a>>,
    /// `terminationGracePeriodSeconds`; absent means 30.
    pub termination_grace_period_seconds: Option<i64>,
    /// `hostNetwork`.
    pub host_network: Option<bool>,
    /// `os`.
    pub os: Option<LocalReference<'a>>,
    /// `nodeSelector`.
    pub node_selector: Map<'a, Scalar<'a>>,
    /// `serviceAccountName`.
    pub service_account_name: Option<Text<'a>>,
    /// `serviceAccount`: its deprecated form, read when the other is empty, as the API server does.
    pub service_account: Option<Text<'a>>,
}

/// Something that is told by its name alone, most often an object of the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct LocalReference<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
}

/// What a container is there for, which decides what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of `containers`.
    App,
    /// An init container with `restartPolicy: Always`: it lives as long as the pod and is asked what apps are.
    Sidecar,
    /// An init container that ends: resources, never probes.
    Init,
}

/// A container and where it stands. Ephemeral containers are never among them: they are never judged.
#[derive(Clone, Copy, Debug)]
pub struct Site<'t, 'a> {
    /// What it is there for.
    pub role: Role,
    /// `containers` or `initContainers`.
    pub list: &'static str,
    /// Its place in that list.
    pub index: usize,
    /// The container.
    pub container: &'t Container<'a>,
}

maps! {
    Metadata, Template, PodSpec, LocalReference
}

// === impl Template ===

impl<'a> Template<'a> {
    /// Every container that is judged: `containers`, then `initContainers`.
    pub fn containers(&self) -> impl Iterator<Item = Site<'_, 'a>> {
        let spec = self.spec.as_ref();
        let apps = spec.into_iter().flat_map(|spec| {
            spec.containers.iter().map(|(index, container)| Site {
                role: Role::App,
                list: "containers",
                index,
                container,
            })
        });
        let inits = spec.into_iter().flat_map(|spec| {
            spec.init_containers.iter().map(|(index, container)| Site {
                role: if container.is_sidecar() {
                    Role::Sidecar
                } else {
                    Role::Init
                },
                list: "initContainers",
                index,
                container,
            })
        });
        apps.chain(inits)
    }

    /// The pod is started again when its containers end (`restartPolicy: Always`, the default).
    pub fn restarts_always(&self) -> bool {
        let policy = self
            .spec
            .as_ref()
            .and_then(|spec| spec.restart_policy.as_deref());
        matches!(policy, None | Some("" | "Always"))
    }

    /// Its nodes run Windows: it says so, or asks for such a node.
    pub fn is_windows(&self) -> bool {
        let Some(spec) = &self.spec else { return false };
        let os = spec.os.as_ref().and_then(|os| os.name.as_deref());
        let node = spec.node_selector.get("kubernetes.io/os");
        os == Some("windows") || node.is_some_and(|value| value.as_written() == "windows")
    }

    /// The label of that name, as it is written.
    pub fn label(&self, name: &str) -> Option<&str> {
        let metadata = self.metadata.as_ref()?;
        metadata.labels.get(name).map(Scalar::as_written)
    }

    /// The annotation of that name, as it is written.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        let metadata = self.metadata.as_ref()?;
        metadata.annotations.get(name).map(Scalar::as_written)
    }

    /// The ServiceAccount it runs as; `None` means `default`.
    pub fn service_account(&self) -> Option<&str> {
        let spec = self.spec.as_ref()?;
        [&spec.service_account_name, &spec.service_account]
            .into_iter()
            .find_map(|name| name.as_deref().filter(|name| !name.is_empty()))
    }
}

// === impl Site ===

impl<'t> Site<'t, '_> {
    /// Its name, empty where it has none (the API server will refuse it).
    pub fn name(&self) -> &'t str {
        self.container.name.as_deref().unwrap_or_default()
    }

    /// It lives as long as the pod, so it is asked for probes.
    pub fn is_long_running(&self) -> bool {
        self.role != Role::Init
    }
}

impl fmt::Display for Site<'_, '_> {
    /// As it stands in a sentence: `init container "migrate"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::App => "container",
            Role::Sidecar => "sidecar",
            Role::Init => "init container",
        };
        write!(f, "{role} \"{}\"", self.name())
    }
}
