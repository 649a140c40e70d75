//! Pods whose gate is closed for long: which they are, and what their gates say.
//!
//! Where the gate's readiness probe is the `http` form, the kubelet tells nobody why it fails; the `exec` form prints it.
//! Only pods that bear the gate's label, or whose namespace does, are listed: a small part of a cluster's pods.

use std::{io, net::IpAddr, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use super::events::{Herald, Notice, Subject};
use crate::{
    cli::cluster::Api,
    contract::{ADMIN_PORT, GATE_CONTAINER, GATE_LABEL},
};

/// A gate that is closed for so long is worth an Event: most open sooner.
const LONG: Duration = Duration::from_secs(30);

/// A gate answers in milliseconds. One that does not is of a pod that the network or its node has cut off.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gates that are asked at a time.
const AT_ONCE: usize = 10;

/// Gates that are asked in one look: those first that nothing was ever told of.
const MAX_ASKED: usize = 100;

/// Bytes of a gate's answer; it shows some dozen checks in a tenth of it.
const MAX_BODY: usize = 64 * 1024;

/// A pod whose gate is closed for long.
#[derive(Debug)]
pub(super) struct Shut {
    subject: Subject,
    address: IpAddr,
}

/// As much of a pod as is looked at.
#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    deletion_timestamp: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    init_containers: Vec<Container>,
    containers: Vec<Container>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    name: String,
    readiness_probe: Option<Probe>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Probe {
    http_get: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Time>,
}

/// As much of what a gate says as is told.
#[derive(Deserialize)]
struct Said {
    ready: bool,
    state: String,
    reason: String,
}

/// Why a gate could not be asked.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    #[error("no answer in {PATIENCE:?}")]
    Timeout,
    #[error("it can't be reached")]
    Connect(#[from] io::Error),
    #[error("it does not speak HTTP as a gate does")]
    Http(#[from] hyper::Error),
    #[error("its answer broke off, or is larger than a gate's")]
    Body,
    #[error("its answer is not a gate's")]
    Answer(#[from] serde_json::Error),
}

/// Every pod whose gate is closed for long, as its condition `Ready` says.
pub(super) async fn shut(api: &Api, namespaces: &[String]) -> Result<Vec<Shut>, String> {
    let now = Timestamp::now();
    let label = GATE_LABEL.replace('/', "%2F");
    let alive = "fieldSelector=status.phase%21%3DSucceeded,status.phase%21%3DFailed";
    let mut shut = Vec::new();
    let mut take =
        |pod: &Value| shut.extend(Pod::deserialize(pod).ok().and_then(|pod| pod.shut(now)));
    let within = |namespace: &str, selector: &str| {
        format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}&{alive}")
    };
    if namespaces.is_empty() {
        let everywhere = format!("/api/v1/pods?labelSelector={label}&{alive}");
        api.each(&everywhere, &mut take).await?;
    }
    for namespace in namespaces {
        api.each(&within(namespace, &label), &mut take).await?;
    }
    // Pods that got their gate by their namespace's label bear none.
    let mut demanding = Vec::new();
    let all = format!("/api/v1/namespaces?labelSelector={label}");
    let name = |namespace: &Value| {
        let name = namespace.pointer("/metadata/name").and_then(Value::as_str);
        demanding.extend(name.map(str::to_owned));
    };
    api.each(&all, name).await?;
    demanding.retain(|name| namespaces.is_empty() || namespaces.contains(name));
    let others = format!("%21{label}");
    for namespace in demanding {
        api.each(&within(&namespace, &others), &mut take).await?;
    }
    Ok(shut)
}

/// What the gates of these pods say; not of those that have opened meanwhile or can't be asked.
pub(super) async fn notices(mut shut: Vec<Shut>, herald: &Herald) -> Vec<Notice> {
    shut.sort_by_key(|shut| !herald.is_new(shut.uid()));
    let asked = stream::iter(shut.into_iter().take(MAX_ASKED)).map(Shut::notice);
    let notices = asked.buffer_unordered(AT_ONCE);
    notices.filter_map(std::future::ready).collect().await
}

// === impl Pod ===

impl Pod {
    /// `None` unless it has a gate of the `http` form, an address to ask, and is not ready for long.
    fn shut(self, now: Timestamp) -> Option<Shut> {
        let Self {
            metadata,
            spec,
            status,
        } = self;
        let mut containers = spec.init_containers.into_iter().chain(spec.containers);
        let gate = containers.find(|container| container.name == GATE_CONTAINER)?;
        gate.readiness_probe?.http_get?;
        let mut conditions = status.conditions.into_iter();
        let ready = conditions.find(|condition| condition.kind == "Ready")?;
        let since = ready.last_transition_time?.0;
        let for_long = Duration::try_from(now.duration_since(since)).is_ok_and(|age| age > LONG);
        let is_shut = ready.status == "False" && for_long && metadata.deletion_timestamp.is_none();
        let address = status.pod_ip.filter(|_| is_shut)?;
        let Metadata {
            name,
            namespace,
            uid,
            ..
        } = metadata;
        let subject = Subject {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            namespace,
            name,
            uid,
        };
        Some(Shut { subject, address })
    }
}

// === impl Shut ===

impl Shut {
    pub(super) fn uid(&self) -> &str {
        &self.subject.uid
    }

    async fn notice(self) -> Option<Notice> {
        let Self { subject, address } = self;
        let said = timeout(PATIENCE, ask(address)).await;
        match said.unwrap_or(Err(Unasked::Timeout)) {
            Ok(Said { ready: true, .. }) => None, // it has opened, or something else keeps the pod from being ready
            Ok(Said { state, reason, .. }) => Some(Notice {
                message: format!(
                    "the gate is {state}: {reason}; portcullis why {} -n {} says more",
                    subject.name, subject.namespace
                ),
                subject,
            }),
            Err(error) => {
                let Subject {
                    namespace, name, ..
                } = &subject;
                let error = crate::telemetry::chain(&error);
                tracing::debug!(namespace, name, error, "a gate that could not be asked");
                None
            }
        }
    }
}

/// Asks at the pod's own address, so that no right to `pods/proxy` is needed, which would open every port of every pod.
async fn ask(address: IpAddr) -> Result<Said, Unasked> {
    let stream = TcpStream::connect((address, ADMIN_PORT)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut driving = JoinSet::new(); // it ends with this function
    driving.spawn(connection);
    let request = Request::get("/status").header(HOST, "gate");
    let request = request.body(Empty::<Bytes>::new());
    let request = request.expect("a request of constants is well formed");
    let answer = sender.send_request(request).await?;
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|_| Unasked::Body)?.to_bytes();
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod that is not ready since ten o'clock.
    fn pod() -> Value {
        json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u"},
            "spec": {
                "initContainers": [{
                    "name": GATE_CONTAINER,
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": 15981}},
                }],
                "containers": [{"name": "app"}],
            },
            "status": {"podIP": "10.0.0.7", "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-22T10:00:00Z"},
            ]},
        })
    }

    fn is_shut(pod: &Value, at: &str) -> bool {
        let pod = Pod::deserialize(pod).unwrap();
        pod.shut(at.parse().unwrap()).is_some()
    }

    #[test]
    fn a_gate_counts_as_shut_when_its_pod_is_not_ready_for_half_a_minute() {
        assert!(!is_shut(&pod(), "2026-11-22T10:00:30Z"));
        assert!(is_shut(&pod(), "2026-11-22T10:00:31Z"));
        assert!(!is_shut(&pod(), "2026-11-22T09:59:00Z"), "another's clock");
    }

    #[test]
    fn only_pods_that_live_and_whose_gate_the_kubelet_asks_by_http_are_looked_at() {
        let later = "2026-11-22T11:00:00Z";
        for (pointer, value) in [
            ("/metadata/deletionTimestamp", json!(later)),
            ("/status/podIP", json!(null)),
            ("/status/conditions/1/status", json!("True")),
            ("/status/conditions", json!([])),
            ("/spec/initContainers/0/name", json!("another")),
            (
                "/spec/initContainers/0/readinessProbe",
                json!({"exec": {"command": ["probe"]}}),
            ),
        ] {
            let mut pod = pod();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = pod.pointer_mut(parent).unwrap();
            match parent.as_array_mut() {
                Some(list) => list[key.parse::<usize>().unwrap()] = value,
                None => parent[key] = value,
            }
            assert!(!is_shut(&pod, later), "{pointer}");
        }
        let mut ordinary = pod();
        ordinary["spec"]["containers"] = ordinary["spec"]["initContainers"].take();
        ordinary["spec"]["initContainers"] = json!([]);
        assert!(is_shut(&ordinary, later), "a gate beside the app");
    }
}
