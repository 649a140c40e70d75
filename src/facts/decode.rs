//! What the objects that are read whole say: JSON in, an answer out. (Secrets and ConfigMaps never are: see `keys`.)

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::policy::{
    facts::{LimitRange, Namespace, TwinEnv},
    template::{List, Map, Scalar, Text},
    workload::{Workload, WorkloadKind},
};

/// Labels and annotations of this domain are the only ones that are read of a Namespace.
const DOMAIN: &str = "portcullis.dev/";

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Object<'a> {
    metadata: Metadata<'a>,
    image_pull_secrets: List<Reference<'a>>,
    spec: Option<LimitRangeSpec<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Metadata<'a> {
    name: Option<Text<'a>>,
    labels: Map<'a, Scalar<'a>>,
    annotations: Map<'a, Scalar<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Reference<'a> {
    name: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct LimitRangeSpec<'a> {
    limits: List<LimitRangeItem<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct LimitRangeItem<'a> {
    #[serde(rename = "type")]
    kind: Option<Text<'a>>,
    default: Map<'a, Scalar<'a>>,
    default_request: Map<'a, Scalar<'a>>,
    min: Map<'a, Scalar<'a>>,
    max: Map<'a, Scalar<'a>>,
    max_limit_request_ratio: Map<'a, Scalar<'a>>,
}

/// Labels and annotations of a Namespace, as far as they are ours.
pub(super) fn namespace(json: &str) -> serde_json::Result<Namespace> {
    let Metadata {
        labels,
        annotations,
        ..
    } = serde_json::from_str::<Object<'_>>(json)?.metadata;
    let ours = |map: &Map<'_, Scalar<'_>>| {
        let mut ours = owned(map);
        ours.retain(|key, _| key.starts_with(DOMAIN));
        ours
    };
    Ok(Namespace {
        labels: ours(&labels),
        annotations: ours(&annotations),
    })
}

/// All labels of an object.
pub(super) fn labels(json: &str) -> serde_json::Result<BTreeMap<Box<str>, Box<str>>> {
    let object: Object<'_> = serde_json::from_str(json)?;
    Ok(owned(&object.metadata.labels))
}

/// The names of a ServiceAccount's pull secrets.
pub(super) fn service_account(json: &str) -> serde_json::Result<Vec<Box<str>>> {
    let object: Object<'_> = serde_json::from_str(json)?;
    let names = object
        .image_pull_secrets
        .items()
        .filter_map(|secret| secret.name.as_deref());
    Ok(names.map(Box::from).collect())
}

/// What a LimitRange asks of containers and pods; its limits on claims and images are none of our business.
pub(super) fn limit_range(json: &str) -> serde_json::Result<Vec<LimitRange>> {
    let Object { metadata, spec, .. } = serde_json::from_str(json)?;
    let name = metadata.name.as_deref().unwrap_or_default();
    let spec: LimitRangeSpec<'_> = spec.unwrap_or_default();
    let of_pods = spec.limits.items().filter_map(|item| {
        let pod = match item.kind.as_deref() {
            Some("Pod") => true,
            Some("Container") => false,
            _ => return None,
        };
        Some(LimitRange {
            name: name.into(),
            pod,
            default: owned(&item.default),
            default_request: owned(&item.default_request),
            min: owned(&item.min),
            max: owned(&item.max),
            max_limit_request_ratio: owned(&item.max_limit_request_ratio),
        })
    });
    Ok(of_pods.collect())
}

pub(super) fn owned(map: &Map<'_, Scalar<'_>>) -> BTreeMap<Box<str>, Box<str>> {
    map.iter()
        .map(|(key, value)| (key.into(), value.as_written().into()))
        .collect()
}

/// The env names of a workload and where their values come from; `None` where it can't be read as its kind.
pub(super) fn twin(kind: &WorkloadKind, namespace: &str, json: &RawValue) -> Option<Vec<TwinEnv>> {
    let workload = Workload::read(kind, namespace, json).ok()??;
    Some(TwinEnv::of(&workload.template))
}
