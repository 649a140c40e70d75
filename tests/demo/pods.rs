//! What pods and their gates say, as it changes.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use anyhow::{Context as _, ensure};
use http::Request;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, LogParams, PostParams},
};
use portcullis::contract::{ADMIN_PORT, GATE_CONTAINER, GATE_LABEL};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::view::View;

/// The pods of an app.
pub struct Pods {
    client: Client,
    namespace: String,
    app: String,
}

/// The part of a gate's `/status` that is shown.
#[derive(Deserialize)]
struct Gate {
    state: String,
    reason: String,
}

/// For what takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

// === impl Pods ===

impl Pods {
    pub async fn new(namespace: &str, app: &str) -> anyhow::Result<Self> {
        let client = Client::try_default()
            .await
            .context("the cluster of KUBECONFIG")?;
        Ok(Self {
            client,
            namespace: namespace.to_owned(),
            app: app.to_owned(),
        })
    }

    /// Tells what changes from now on.
    pub async fn tell(&self, view: &View) -> anyhow::Result<Infallible> {
        let mut known = HashMap::new();
        for pod in self.list().await? {
            known.insert(pod.name_any(), self.standing(&pod).await);
        }
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for pod in self.list().await? {
                let standing = self.standing(&pod).await;
                let before = known.insert(pod.name_any(), standing.clone());
                if before.as_ref() != Some(&standing) {
                    view.told(&format!(
                        "pod {} of {}: {standing}",
                        short(&pod),
                        release(&pod)
                    ));
                }
            }
        }
    }

    /// A container of this release runs.
    pub async fn has_started(&self, of: &str) -> anyhow::Result<bool> {
        let pods = self.list().await?;
        Ok(pods.iter().any(|pod| release(pod) == of && is_running(pod)))
    }

    /// What a pod has printed so far.
    pub async fn log(&self, name: &str) -> anyhow::Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let log = pods.logs(name, &LogParams::default()).await;
        log.with_context(|| format!("the log of {name}"))
    }

    async fn list(&self) -> anyhow::Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_app = ListParams::default().labels(&format!("app={}", self.app));
        let list = pods.list(&of_app).await.context("the pods")?;
        Ok(list.items)
    }

    /// How the pod stands, in one line that changes only when that does.
    async fn standing(&self, pod: &Pod) -> String {
        if pod.metadata.deletion_timestamp.is_some() {
            return "is told to end".to_owned();
        }
        if let Some(trouble) = trouble(pod) {
            return trouble;
        }
        let ready = is_ready(pod);
        let gate = if has_gate(pod) {
            self.gate(pod).await
        } else {
            None
        };
        match (ready, gate) {
            (true, None) => "Ready: gets requests".to_owned(),
            (true, Some(_)) => "Ready: its gate is open, gets requests".to_owned(),
            (false, Some(gate)) => format!("gate {}: {}", gate.state, gate.reason),
            (false, None) => "starts".to_owned(),
        }
    }

    /// Through the API server; a gate that does not answer yet says nothing.
    async fn gate(&self, pod: &Pod) -> Option<Gate> {
        let (namespace, name) = (&self.namespace, pod.name_any());
        let port = ADMIN_PORT;
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/status");
        let request = Request::get(path).body(Vec::new()).ok()?;
        self.client.request(request).await.ok()
    }
}

/// Returns when pods that ask for a gate get one, which takes a moment longer than the start of the server.
pub async fn get_gates() -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("the cluster of KUBECONFIG")?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let probe = json!({
        "metadata": {"name": "probe", "labels": {GATE_LABEL: "enabled"}},
        "spec": {"containers": [{
            "name": "app",
            "image": "app",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
            "resources": {"limits": {"cpu": "10m", "memory": "16Mi"}},
        }]},
    });
    let probe = serde_json::from_value(probe)?;
    let began = Instant::now();
    loop {
        let pod = pods.create(&dry_run, &probe).await;
        if pod.as_ref().is_ok_and(has_gate) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "pods get no gates: {pod:?}");
        sleep(INTERVAL).await;
    }
}

/// The part of its name that tells it from the others.
fn short(pod: &Pod) -> String {
    let name = pod.name_any();
    name.rsplit('-').next().unwrap_or_default().to_owned()
}

/// What its environment calls it.
pub fn release(pod: &Pod) -> &str {
    let app = containers(pod).find(|container| container.name == "app");
    let mut env = app.into_iter().filter_map(|app| app.env.as_ref()).flatten();
    let release = env.find(|entry| entry.name == "RELEASE");
    release
        .and_then(|entry| entry.value.as_deref())
        .unwrap_or("v1")
}

fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
    })
}

fn has_gate(pod: &Pod) -> bool {
    containers(pod).any(|container| container.name == GATE_CONTAINER)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref());
    let mut ready = conditions
        .flatten()
        .filter(|condition| condition.type_ == "Ready");
    ready.any(|condition| condition.status == "True")
}

fn is_running(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running")
}

/// What keeps a container from starting, but for what always takes a moment.
fn trouble(pod: &Pod) -> Option<String> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    let mut waiting = containers
        .iter()
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let waiting = waiting.find(|waiting| {
        !matches!(
            waiting.reason.as_deref(),
            Some("ContainerCreating" | "PodInitializing")
        )
    })?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    Some(format!("{reason}: {message}"))
}
