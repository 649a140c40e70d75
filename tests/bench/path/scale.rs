//! A scale-up as a user pays it: Deployments of no pods that are told to have 200, and how long the API server takes to
//! create each pod that the ReplicaSet controller asks for, from its own audit log. No node runs them.
//!
//! Each side is a namespace of the same control plane, and a round scales every side up and down once, in turns.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use portcullis::contract::GATE_LABEL;
use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, json};

use super::{
    load::Latencies,
    support::{
        control_plane::ControlPlane,
        kubectl::Kubectl,
        manifests::{BASE, called_by_url},
        server::Launch,
        wait::eventually,
    },
};

/// Pods of one scale-up.
const PODS: usize = 200;

/// Rounds that are counted, after one that is not: it fills caches and opens connections.
const ROUNDS: usize = 5;

const CONTROLLER: &str = "system:serviceaccount:kube-system:replicaset-controller";

/// What the server gives pods that lack it, and what a pod that is patched shows.
const SETTINGS: &str = "rules: {cpu-limit: {patch: 500m}}\n";

const GATE: &str = "portcullis-gate";

struct Side {
    namespace: &'static str,
    name: &'static str,
    /// Of the namespace.
    label: Option<(&'static str, &'static str)>,
    /// Of the pods.
    gated: bool,
}

const SIDES: [Side; 4] = [
    Side {
        namespace: "without",
        name: "no webhook",
        label: None,
        gated: false,
    },
    Side {
        namespace: "judged",
        name: "judged: the Deployment is, its pods are not sent to us",
        label: None,
        gated: false,
    },
    Side {
        namespace: "gated",
        name: "each pod gets a gate",
        label: None,
        gated: true,
    },
    Side {
        namespace: "patched",
        name: "each pod gets a CPU limit and a gate",
        label: Some(("portcullis.dev/patch", "enabled")),
        gated: true,
    },
];

/// Of a small app that breaks no rule.
pub fn container() -> Value {
    json!({
        "name": "app",
        "image": "registry.example/web:1",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    })
}

/// A request of the audit log, answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    #[serde(deserialize_with = "time")]
    request_received_timestamp: SystemTime,
    #[serde(deserialize_with = "time")]
    stage_timestamp: SystemTime,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
}

/// Starts a control plane, measures on it, prints the table, and stops it.
pub fn compare() {
    let plane = ControlPlane::start();
    let admin = plane.kubectl("admin");
    let launch = Launch::on(&plane, plane.kubeconfig("admin").to_owned(), SETTINGS);
    let mut objects = called_by_url(&admin, BASE, launch.port);
    for webhook in objects
        .iter_mut()
        .filter_map(|object| object.get_mut("webhooks")?.as_array_mut())
        .flatten()
    {
        let expressions = &mut webhook["namespaceSelector"]["matchExpressions"];
        let names = &mut expressions[0]["values"];
        names.as_array_mut().expect("names").push("without".into());
    }
    objects.extend(SIDES.iter().map(Side::namespace));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    admin.apply(&list.to_string()).ok();
    let server = launch.start();
    for side in &SIDES {
        side.prepare(&admin);
    }
    for round in 0..=ROUNDS {
        for turn in 0..SIDES.len() {
            let side = &SIDES[(round + turn) % SIDES.len()];
            side.scale(&admin, PODS);
            side.scale(&admin, 0);
        }
    }
    let log = fs::read_to_string(plane.audit_log()).expect("the API server writes an audit log");
    let created: Vec<_> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Event>(line).ok())
        .filter(Event::creates_a_pod)
        .collect();
    print(&created);
    server.stop();
    plane.stop();
}

/// The table.
fn print(created: &[Event]) {
    println!("| {PODS} pods at once, {ROUNDS} times | p50 | p99 | all {PODS} |");
    println!("| --- | --- | --- | --- |");
    for side in &SIDES {
        let of_side = created
            .iter()
            .filter(|event| event.object_ref.namespace == side.namespace);
        let (of_side, failed): (Vec<_>, Vec<_>) =
            of_side.partition(|event| event.response_status.code == 201);
        // The controller tries again.
        for Status { code, message } in failed.iter().map(|event| &event.response_status) {
            eprintln!("{}: {code} {message}", side.namespace);
        }
        assert_eq!(of_side.len(), PODS * (ROUNDS + 1), "{}", side.namespace);
        let counted = &of_side[PODS..];
        let latencies = Latencies::new(counted.iter().map(|event| event.took()).collect());
        let rounds = Latencies::new(counted.chunks(PODS).map(length).collect());
        println!(
            "| {} | {:.1} ms | {:.1} ms | {:.2} s |",
            side.name,
            latencies.quantile(0.5),
            latencies.quantile(0.99),
            rounds.quantile(0.5) / 1e3
        );
    }
}

/// From the first request of a round to its last answer.
fn length(round: &[&Event]) -> Duration {
    let first = round.iter().map(|event| event.request_received_timestamp);
    let last = round.iter().map(|event| event.stage_timestamp);
    first
        .min()
        .zip(last.max())
        .and_then(|(first, last)| last.duration_since(first).ok())
        .unwrap_or_default()
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(de::Error::custom)
}

// === impl Event ===

impl Event {
    fn creates_a_pod(&self) -> bool {
        let Object {
            resource,
            subresource,
            namespace: _,
        } = &self.object_ref;
        self.verb == "create"
            && self.user.username == CONTROLLER
            && resource == "pods"
            && subresource.is_empty()
    }

    fn took(&self) -> Duration {
        let took = self
            .stage_timestamp
            .duration_since(self.request_received_timestamp);
        took.unwrap_or_default()
    }
}

// === impl Side ===

impl Side {
    fn namespace(&self) -> Value {
        let labels: Value = self.label.into_iter().collect();
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": self.namespace, "labels": labels},
        })
    }

    /// A Deployment of no pods yet, once its pods would get what they are to get.
    fn prepare(&self, admin: &Kubectl) {
        let mut labels = json!({"app": "web"});
        if self.gated {
            labels[GATE_LABEL] = "enabled".into();
        }
        let spec = json!({"containers": [container()]});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "probe", "namespace": self.namespace, "labels": labels},
            "spec": spec,
        });
        eventually("a pod as it is to be", || {
            let answer = admin.feed("create --dry-run=server -o json -f -", &pod.to_string());
            let made = answer.success_output()?;
            let patched = made.contains("500m");
            let right = made.contains(GATE) == self.gated && patched == self.label.is_some();
            right.then_some(()).ok_or(made)
        });
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": self.namespace},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        });
        admin.apply(&deployment.to_string()).ok();
    }

    /// Waits until there are as many pods as this.
    fn scale(&self, admin: &Kubectl, pods: usize) {
        let namespace = self.namespace;
        admin
            .call(&format!(
                "scale deployment/web --replicas={pods} -n {namespace}"
            ))
            .ok();
        eventually("the pods", || {
            let names = admin
                .call(&format!("get pods -n {namespace} -o name"))
                .success_output()?;
            let there = names.lines().count();
            (there == pods)
                .then_some(())
                .ok_or_else(|| format!("{there} are there"))
        });
    }
}
