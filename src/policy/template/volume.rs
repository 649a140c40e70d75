//! Volumes, as far as they refer to a Secret or a ConfigMap.

use serde::Deserialize;

use super::value::{List, Text, maps};

/// One of `volumes`. Kinds that refer to nothing we look up (`emptyDir`, `csi`, `hostPath` ...) are left alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Volume<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `secret`.
    pub secret: Option<SecretVolume<'a>>,
    /// `configMap`.
    pub config_map: Option<ConfigMapVolume<'a>>,
    /// `projected`.
    pub projected: Option<Projected<'a>>,
}

/// A Secret mounted as files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct SecretVolume<'a> {
    /// `secretName` (here, and only here, the field is not `name`).
    pub secret_name: Option<Text<'a>>,
    /// `items`; empty means every key.
    pub items: List<KeyToPath<'a>>,
    /// `optional`: the pod starts without it.
    pub optional: Option<bool>,
}

/// A ConfigMap mounted as files, or a Secret or ConfigMap inside a projected volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct ConfigMapVolume<'a> {
    /// `name`.
    pub name: Option<Text<'a>>,
    /// `items`; empty means every key.
    pub items: List<KeyToPath<'a>>,
    /// `optional`: the pod starts without it.
    pub optional: Option<bool>,
}

/// Several sources in one volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Projected<'a> {
    /// `sources`.
    pub sources: List<Projection<'a>>,
}

/// One source of a projected volume.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct Projection<'a> {
    /// `secret`; its object is given by `name`.
    pub secret: Option<ConfigMapVolume<'a>>,
    /// `configMap`.
    pub config_map: Option<ConfigMapVolume<'a>>,
}

/// One of `items`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(
    default,
    remote = "Self",
    rename_all = "camelCase",
    bound(deserialize = "'de: 'a")
)]
pub struct KeyToPath<'a> {
    /// `key` that must exist.
    pub key: Option<Text<'a>>,
}

maps! {
    Volume, SecretVolume, ConfigMapVolume, Projected, Projection, KeyToPath
}
