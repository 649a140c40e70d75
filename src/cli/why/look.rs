//! What is known of a pod: what its gate says through the API server, what the kubelet says of its containers, and the
//! events that tell why it is not ready.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    cli::cluster::Api,
    contract::{ADMIN_PORT, GATE_CONTAINER},
};

/// What is known of a pod.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    pub(super) namespace: String,
    pub(super) name: String,
    /// The condition `Ready`.
    pub(super) ready: bool,
    /// The gate's own words, as its `/status` has them; `null` where there is no gate, or none that answers.
    pub(super) gate: Option<Value>,
    /// Why the gate could not be asked.
    pub(super) unanswered: Option<String>,
    /// What else keeps it from being ready: containers, conditions, events.
    pub(super) notes: Vec<String>,
}

/// An Event about a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Event {
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    count: Option<u64>,
    last_timestamp: Option<String>,
    #[serde(rename = "eventTime")]
    observed: Option<String>,
}

/// A gate that answers does so in milliseconds. A pod that is on a node that has gone would take half a minute.
const GATE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pods that are asked at a time.
const AT_ONCE: usize = 10;

/// Events of a pod that are told: the last ones.
const EVENTS: usize = 3;

/// Looks at each of these pods.
pub(super) async fn at(api: &Api, namespace: &str, pods: &[Value]) -> Vec<Seen> {
    let looks = stream::iter(pods).map(|pod| one(api, namespace, pod));
    looks.buffered(AT_ONCE).collect().await
}

async fn one(api: &Api, namespace: &str, pod: &Value) -> Seen {
    let name = text(pod, "/metadata/name").to_owned();
    let (gate, unanswered) = if has_gate(pod) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{ADMIN_PORT}/proxy/status");
        match timeout(GATE_TIMEOUT, api.get::<Value>(&path)).await {
            Ok(Ok(Some(status))) => (Some(status), None),
            Ok(Ok(None)) => (None, Some("what answers there is no gate".to_owned())),
            Ok(Err(why)) => (None, Some(why)),
            Err(_) => {
                let why = format!("no answer in {} s", GATE_TIMEOUT.as_secs());
                (None, Some(why))
            }
        }
    } else {
        (None, None)
    };
    let mut seen = Seen {
        namespace: namespace.to_owned(),
        ready: is_ready(pod),
        notes: Vec::new(),
        gate,
        unanswered,
        name,
    };
    if seen.is_explained() {
        return seen;
    }
    seen.notes = containers(pod);
    seen.notes.extend(conditions(pod));
    let mut events = Vec::new();
    let path = format!(
        "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.kind%3DPod,involvedObject.name%3D{}",
        seen.name
    );
    let all = api.each(&path, |event| events.extend(Event::deserialize(event)));
    seen.notes.extend(match all.await {
        Ok(()) => told(events),
        Err(why) => vec![format!("events: not looked at: {why}")],
    });
    seen
}

/// What the kubelet says of containers that do not run.
pub(super) fn containers(pod: &Value) -> Vec<String> {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let all = lists
        .iter()
        .filter_map(|list| pod.pointer(&format!("/status/{list}"))?.as_array());
    let stuck = all.flatten().filter_map(|status| {
        let name = status.get("name")?.as_str()?;
        let waiting = status.pointer("/state/waiting")?;
        let reason = text(waiting, "/reason");
        let last = status.pointer("/lastState/terminated");
        let ended = last.and_then(|last| {
            let code = last.get("exitCode")?;
            Some(format!(
                "; it ended with {code} ({})",
                text(last, "/reason")
            ))
        });
        let ended = ended.unwrap_or_default();
        Some(match text(waiting, "/message") {
            "" => format!("container \"{name}\" waits: {reason}{ended}"),
            message => format!("container \"{name}\" waits: {reason}: {message}{ended}"),
        })
    });
    stuck.collect()
}

/// Conditions that do not hold and say why. `Ready` and `ContainersReady` only list containers.
fn conditions(pod: &Value) -> Vec<String> {
    let all = pod.pointer("/status/conditions").and_then(Value::as_array);
    let open = all.into_iter().flatten().filter_map(|condition| {
        let (kind, message) = (text(condition, "/type"), text(condition, "/message"));
        let open = text(condition, "/status") == "False" && !message.is_empty();
        open.then(|| format!("condition {kind}: {message}"))
    });
    open.collect()
}

/// The last warnings among events, the oldest first.
pub(super) fn told(mut events: Vec<Event>) -> Vec<String> {
    events.retain(|event| event.kind.as_deref() == Some("Warning"));
    events.sort_by(|one, other| one.time().cmp(other.time()));
    let skipped = events.len().saturating_sub(EVENTS);
    let last = events.into_iter().skip(skipped);
    last.map(|event| {
        let (reason, message) = (event.reason.as_deref(), event.message.as_deref());
        let times = match event.count {
            Some(count) if count > 1 => format!(", {count} times"),
            _ => String::new(),
        };
        format!(
            "event {}, last at {}{times}: {}",
            reason.unwrap_or_default(),
            event.time(),
            message.unwrap_or_default().trim_end()
        )
    })
    .collect()
}

fn has_gate(pod: &Value) -> bool {
    let lists = ["initContainers", "containers"];
    let all = lists
        .iter()
        .filter_map(|list| pod.pointer(&format!("/spec/{list}"))?.as_array());
    all.flatten()
        .any(|container| text(container, "/name") == GATE_CONTAINER)
}

fn is_ready(pod: &Value) -> bool {
    let all = pod.pointer("/status/conditions").and_then(Value::as_array);
    let mut all = all.into_iter().flatten();
    all.any(|condition| text(condition, "/type") == "Ready" && text(condition, "/status") == "True")
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

// === impl Seen ===

impl Seen {
    /// There is nothing more to find out: it is ready, or its gate says why not.
    fn is_explained(&self) -> bool {
        let gate = self
            .gate
            .as_ref()
            .and_then(|gate| gate.get("ready")?.as_bool());
        self.ready || gate == Some(false)
    }
}

// === impl Event ===

impl Event {
    fn time(&self) -> &str {
        let time = self.last_timestamp.as_deref().or(self.observed.as_deref());
        time.unwrap_or_default()
    }
}
