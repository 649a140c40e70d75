//! The settings that an installation in a cluster runs with.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

use super::cluster::Api;
use crate::{policy::settings::Settings, settings, telemetry};

/// The namespace of `manifests/base`.
pub(super) const NAMESPACE: &str = "portcullis-system";

/// The ConfigMap of `manifests/base`, and what it holds.
const SETTINGS: &str = "portcullis-settings";
const SETTINGS_FILE: &str = "settings.yaml";

/// Of its server.
pub(super) const GATE_IMAGE_ENV: &str = "PORTCULLIS_GATE_IMAGE";

/// The namespaces that the webhooks are never called for, whatever their labels; `installed_in` is ours.
pub(super) fn left_out(installed_in: &str) -> Vec<String> {
    ["kube-system", installed_in].map(str::to_owned).into()
}

#[derive(Deserialize)]
struct ConfigMap {
    data: Option<BTreeMap<String, String>>,
}

/// The settings in force, those of no file where there is none; the gate's image is in them, if one is known.
pub(super) async fn settings(api: &Api, namespace: &str) -> Result<Settings, String> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{SETTINGS}");
    let map = api.get::<ConfigMap>(&path).await?;
    let text = map.and_then(|map| map.data?.remove(SETTINGS_FILE));
    let mut settings = match text {
        Some(text) => settings::parse(text.into_bytes(), Path::new(SETTINGS_FILE))
            .map_err(|error| telemetry::chain(&error))?,
        None => Settings::default(),
    };
    if settings.gate.image.is_none() {
        let server = deployment(api, namespace).await?.unwrap_or_default();
        let containers = server.pointer("/spec/template/spec/containers");
        let mut containers = containers.and_then(Value::as_array).into_iter().flatten();
        let image = containers.find_map(|container| env(container, GATE_IMAGE_ENV));
        settings.gate.image = image.map(str::to_owned);
    }
    Ok(settings)
}

/// The Deployment of `manifests/base`, if it is there.
pub(super) async fn deployment(api: &Api, namespace: &str) -> Result<Option<Value>, String> {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/portcullis");
    api.get(&path).await
}

/// The value of an env entry of a container.
pub(super) fn env<'v>(container: &'v Value, name: &str) -> Option<&'v str> {
    let mut entries = container.get("env")?.as_array()?.iter();
    let entry = entries.find(|entry| entry.get("name").is_some_and(|is| is == name))?;
    entry.get("value")?.as_str()
}
