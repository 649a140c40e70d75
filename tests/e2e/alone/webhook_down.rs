//! Nobody answers for the webhook.

use crate::{
    e2e::{
        pod::Pod,
        stage::{self, Stage},
    },
    support::{
        doctor::{self, Said},
        kubectl::Kubectl,
        wait::eventually,
    },
};

/// As many replicas as the base has.
const REPLICAS: u32 = 2;

/// Whose pods demand a gate.
const DEMANDING: &str = "web";

/// Whose pods would rather have one.
const PREFERRING: &str = "reports";

/// The container of the webhook's replicas.
const SERVER: &str = "portcullis";

/// The webhook without replicas, until this is dropped.
struct Down(Kubectl);

#[test]
#[ignore = "needs a cluster: make e2e"]
fn pods_that_demand_a_gate_wait_for_it_and_the_others_start_without() {
    let stage = Stage::new("webhook-down");
    stage.apply("webhook-down/shop.yaml");
    for deployment in [DEMANDING, PREFERRING] {
        stage.rolled_out(deployment);
    }
    stage::await_fail(&stage.kubectl);
    let down = Down::new(&stage.kubectl);

    // What people change waits; what controllers keep up goes on, but for a gate that cannot be had.
    let refusal = stage.kubectl.call("rollout restart deployment/reports");
    let refusal = refusal.refusal();
    assert!(
        refusal.contains("failed calling webhook \"validate.portcullis.dev\""),
        "{refusal}"
    );
    stage.kubectl.call("delete pods --all").ok();
    stage.rolled_out(PREFERRING);
    eventually("the reason why the others wait", || {
        let events = "get events --field-selector=reason=FailedCreate -o jsonpath={..message}";
        let told = stage.kubectl.call(events).success_output()?;
        let reason = "failed calling webhook \"inject.portcullis.dev\"";
        told.contains(reason).then_some(()).ok_or(told)
    });
    assert!(stage.pods(DEMANDING).is_empty(), "one started without");
    said_of(&stage).has("reach fail", "failed calling webhook");

    drop(down);
    stage::await_injection(&stage.kubectl);
    // Its controller tries again by itself, but the longer the outage was, the later: who is on call does not wait.
    let restart = format!("rollout restart deployment/{DEMANDING}");
    stage.kubectl.call(&restart).ok();
    stage.rolled_out(DEMANDING);
    assert!(stage.pods(DEMANDING).iter().all(Pod::has_gate));
    // What runs goes on as it is.
    said_of(&stage).has("reach ok", "inject.portcullis.dev");

    let restart = format!("rollout restart deployment/{PREFERRING}");
    stage.kubectl.call(&restart).ok();
    stage.settled(PREFERRING);
    assert!(stage.pods(PREFERRING).iter().all(Pod::has_gate));
    let said = doctor::ask(stage.kubectl.kubeconfig(), "default");
    said.has("gates ok", "every pod that asks for one has it");
    assert_eq!(said.status, 0, "{:#?}", said.lines);
}

/// The doctor, who has counted and named the pods that started without.
fn said_of(stage: &Stage) -> Said {
    let pods = stage.pods(PREFERRING);
    assert!(!pods.iter().any(Pod::has_gate), "somebody answered");
    let said = doctor::ask(stage.kubectl.kubeconfig(), "default");
    let words = "would rather have a gate and have none:";
    said.has("gates warn", &format!("{words} {} (", pods.len()));
    for pod in pods {
        said.has("gates warn", &format!("webhook-down/{}", pod.name()));
    }
    said
}

// === impl Down ===

impl Down {
    /// Takes all replicas away at once, and lets none of them say good-bye: who is told to leave, and is the last, leaves
    /// nobody waiting.
    fn new(kubectl: &Kubectl) -> Self {
        let down = Self(kubectl.in_namespace("portcullis-system"));
        let replicas = "get pods --selector=app.kubernetes.io/name=portcullis --output=json";
        let replicas = Pod::read_all(&down.0, replicas);
        for replica in &replicas {
            replica.kill(SERVER);
        }
        // The kubelet starts a container again at once, but after its second crash only ten seconds later.
        for replica in &replicas {
            let again = eventually("the replica to be started again", || {
                replica.recovered(SERVER)
            });
            again.kill(SERVER);
        }
        down.scale(0);
        down.0.call("delete pods --all --grace-period=0 --force");
        stage::await_silence(kubectl);
        down
    }

    fn scale(&self, replicas: u32) {
        let scale = format!("scale deployment/portcullis --replicas={replicas}");
        self.0.call(&scale).ok();
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        self.scale(REPLICAS);
        let wait = "rollout status deployment/portcullis --timeout=120s";
        self.0.call(wait).ok();
    }
}
