//! Pods and the gates they asked for: those without, and those with an old one.

use serde_json::Value;

use super::{
    namespaces::listed,
    patient::{Labels, Patient, labels, raw},
    report::Line,
};
use crate::{
    cli::installed::{self, GATE_IMAGE_ENV, env},
    contract::{self, GATE_CONFIG_ENV, GATE_CONTAINER, GATE_LABEL},
    facts::Step,
    policy::{
        gate::{self, Demand, Injecting},
        settings::Settings,
        workload::{KINDS, Workload},
    },
};

/// What mends a pod: a gate comes when a pod is made, and never later.
const RESTART: &str =
    "have their workload make them anew: kubectl -n NAMESPACE rollout restart deployment/NAME";

/// Pods without a gate that are looked at, a dozen KiB each: the first name the fault, and a restart mends all.
const ASKING: usize = 1000;

/// All pods that live and either ask for a gate or have one.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) gated: Vec<Gated>,
    asking: Vec<Asking>,
    /// Pods that ask and are not among these: there are too many.
    more_asking: usize,
}

/// A pod with a gate.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    image: String,
    /// What the gate is told; `None` where it can't be read, as of a gate of another version.
    pub(super) settings: Option<contract::Settings>,
}

/// A pod without one, that perhaps asks for it.
#[derive(Debug)]
struct Asking {
    namespace: String,
    name: String,
    pod: Value,
}

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let census = match patient.census().await {
        Ok(census) => census,
        Err(why) => return vec![Line::unknown("pods and their gates", &why)],
    };
    let settings = match installed::settings(&patient.api, &patient.namespace).await {
        Ok(settings) => settings,
        Err(why) => return vec![Line::unknown("the settings that gates come from", &why)],
    };
    let mut lines = missing(patient, census, &settings).await;
    match &settings.gate.image {
        Some(image) => lines.extend(old(census, image)),
        None => lines.push(Line::warn(
            "no image of the gate is known, so no pod gets one",
            format!("set gate.image in the settings, or {GATE_IMAGE_ENV} on the server"),
        )),
    }
    if lines.is_empty() {
        let count = census.gated.len();
        lines.push(Line::ok(format!(
            "pods with a gate: {count}; every pod that asks for one has it"
        )));
    }
    lines
}

/// The pods that the server would give a gate now, or would not let in at all.
async fn missing(patient: &Patient, census: &Census, settings: &Settings) -> Vec<Line> {
    let (mut demanded, mut preferred, mut cannot) = (Vec::new(), Vec::new(), Vec::new());
    for Asking {
        namespace,
        name,
        pod,
    } in &census.asking
    {
        let name = format!("{namespace}/{name}");
        match injecting(patient, namespace, pod, settings).await {
            None | Some(Injecting::Nothing | Injecting::Ask(_)) => {}
            Some(Injecting::Refuse(_)) => demanded.push(name),
            Some(Injecting::Done(injection)) => match injection.demand {
                Demand::Enabled => demanded.push(name),
                Demand::Preferred => preferred.push(name),
            },
            Some(Injecting::Left { warnings, .. }) => {
                let why = warnings.into_iter().next();
                cannot.push(match why {
                    Some(why) => format!("{name} ({why})"),
                    None => name,
                });
            }
        }
    }
    let mut lines = Vec::new();
    if census.more_asking > 0 {
        let more = format!(
            "{} more pods that ask for a gate and have none",
            census.more_asking
        );
        let why = format!("only the first {ASKING} were looked at");
        lines.push(Line::unknown(&more, &why));
    }
    if !demanded.is_empty() {
        lines.push(Line::fail(
            format!(
                "pods that demand a gate and have none: {}",
                counted(&demanded)
            ),
            RESTART,
        ));
    }
    if !preferred.is_empty() {
        lines.push(Line::warn(
            format!(
                "pods that would rather have a gate and have none: {}",
                counted(&preferred)
            ),
            RESTART,
        ));
    }
    if !cannot.is_empty() {
        lines.push(Line::warn(
            format!("pods that ask for a gate and can't have one: {}", counted(&cannot)),
            "take the label portcullis.dev/gate off them, or see portcullis check on their manifests",
        ));
    }
    lines
}

/// What would become of a pod if it were made now.
async fn injecting(
    patient: &Patient,
    namespace: &str,
    pod: &Value,
    settings: &Settings,
) -> Option<Injecting> {
    let kind = KINDS.iter().find(|kind| kind.is_pod())?;
    let json = raw(pod)?;
    let workload = Workload::read(kind, namespace, &json).ok()??;
    let injecting = patient.settle(
        |known| match gate::inject(&workload, pod, known, settings) {
            Injecting::Ask(questions) => Step::Ask(questions),
            done @ (Injecting::Nothing
            | Injecting::Left { .. }
            | Injecting::Refuse(_)
            | Injecting::Done(_)) => Step::Done(done),
        },
    );
    Some(injecting.await)
}

/// The pods whose gate is not of the image that pods get now.
fn old(census: &Census, image: &str) -> Option<Line> {
    let old: Vec<_> = census
        .gated
        .iter()
        .filter(|gated| gated.image != image)
        .map(|gated| format!("{}/{}", gated.namespace, gated.name))
        .collect();
    (!old.is_empty()).then(|| {
        Line::warn(
            format!(
                "pods whose gate is not of the image {image} that new ones get: {}",
                counted(&old)
            ),
            format!("when it suits, {RESTART}"),
        )
    })
}

/// `2 (shop/a, shop/b)`
fn counted(pods: &[String]) -> String {
    format!("{} ({})", pods.len(), listed(pods))
}

// === impl Census ===

impl Census {
    /// No pod has a gate, and none asks for one.
    pub(super) fn is_empty(&self) -> bool {
        self.gated.is_empty() && self.asking.is_empty()
    }

    pub(super) async fn take(patient: &Patient) -> Result<Self, String> {
        let namespaces = patient.namespaces().await?;
        let mut census = Self::default();
        let asks = |labels: &Labels| labels.contains_key(GATE_LABEL);
        patient
            .each_pod(|pod| {
                let metadata = pod.get("metadata");
                let text = |field| metadata.and_then(|metadata| metadata.get(field)?.as_str());
                let namespace = text("namespace").unwrap_or_default().to_owned();
                let left_out = namespace == "kube-system" || namespace == patient.namespace;
                if left_out || is_ending(pod) {
                    return;
                }
                let name = text("name").unwrap_or_default().to_owned();
                let labels = labels(metadata);
                if let Some(gate) = gate_of(pod) {
                    census.gated.push(Gated::new(namespace, name, labels, gate));
                } else if asks(&labels) || namespaces.get(&namespace).is_some_and(asks) {
                    if census.asking.len() == ASKING {
                        census.more_asking += 1;
                        return;
                    }
                    let pod = pod.clone();
                    census.asking.push(Asking {
                        namespace,
                        name,
                        pod,
                    });
                }
            })
            .await?;
        Ok(census)
    }
}

// === impl Gated ===

impl Gated {
    fn new(namespace: String, name: String, labels: Labels, gate: &Value) -> Self {
        let image = gate.get("image").and_then(Value::as_str);
        // The kubelet makes a plain `$` of `$$`.
        let told = env(gate, GATE_CONFIG_ENV).map(|told| told.replace("$$", "$"));
        Self {
            namespace,
            name,
            labels,
            image: image.unwrap_or_default().to_owned(),
            settings: told.and_then(|told| contract::Settings::decode(&told).ok()),
        }
    }
}

/// It has run to its end, or is about to go.
fn is_ending(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str);
    pod.pointer("/metadata/deletionTimestamp").is_some()
        || matches!(phase, Some("Succeeded" | "Failed"))
}

/// The gate's container of a pod.
fn gate_of(pod: &Value) -> Option<&Value> {
    ["/spec/initContainers", "/spec/containers"]
        .into_iter()
        .flat_map(|list| containers(pod, list))
        .find(|container| {
            container
                .get("name")
                .is_some_and(|name| name == GATE_CONTAINER)
        })
}

fn containers<'v>(object: &'v Value, list: &str) -> impl Iterator<Item = &'v Value> {
    let containers = object.pointer(list).and_then(Value::as_array);
    containers.into_iter().flatten()
}
