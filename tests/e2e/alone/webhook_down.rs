//! Nobody answers for the webhook.

use crate::e2e::{
    pod::Pod,
    stage::{self, Stage},
};
use crate::support::{
    doctor::{self, Said},
    kubectl::Kubectl,
};

/// As many replicas as the base has.
const REPLICAS: u32 = 2;

/// Those of the story: one whose pods demand a gate, and one whose pods would rather have one.
const DEPLOYMENTS: [&str; 2] = ["web", "reports"];

/// The webhook without replicas, until this is dropped.
struct Down(Kubectl);

#[test]
#[ignore = "needs a cluster: make e2e"]
fn pods_start_without_their_gate_and_the_doctor_names_them_until_they_have_it() {
    let stage = Stage::new("webhook-down");
    let down = Down::new(&stage.kubectl);
    stage.apply("webhook-down/shop.yaml");
    for deployment in DEPLOYMENTS {
        stage.rolled_out(deployment);
    }
    let [web, reports] = pods(&stage);
    assert!(
        !web.iter().chain(&reports).any(Pod::has_gate),
        "somebody answered"
    );
    said_of(&stage, &web, &reports).has("reach fail", "without a word from inject.portcullis.dev");

    drop(down);
    stage::await_injection(&stage.kubectl);
    // What runs goes on as it is.
    said_of(&stage, &web, &reports).has("reach ok", "inject.portcullis.dev");

    for deployment in DEPLOYMENTS {
        let restart = format!("rollout restart deployment/{deployment}");
        stage.kubectl.call(&restart).ok();
        stage.rolled_out(deployment);
    }
    let mut gated = pods(&stage).into_iter().flatten();
    assert!(gated.all(|pod| pod.has_gate()));
    let said = doctor::ask(stage.kubectl.kubeconfig(), "default");
    said.has("gates ok", "every pod that asks for one has it");
    assert_eq!(said.status, 0, "{:#?}", said.lines);
}

fn pods(stage: &Stage) -> [Vec<Pod>; 2] {
    DEPLOYMENTS.map(|deployment| stage.pods(deployment))
}

/// The doctor, who has counted and named them.
fn said_of(stage: &Stage, demanding: &[Pod], preferring: &[Pod]) -> Said {
    let said = doctor::ask(stage.kubectl.kubeconfig(), "default");
    assert_eq!(said.status, 1, "{:#?}", said.lines);
    for (begin, words, pods) in [
        ("gates fail", "demand a gate", demanding),
        ("gates warn", "would rather have a gate", preferring),
    ] {
        let count = pods.len();
        said.has(begin, &format!("{words} and have none: {count} ("));
        for pod in pods {
            said.has(begin, &format!("webhook-down/{}", pod.name()));
        }
    }
    said
}

// === impl Down ===

impl Down {
    /// Takes all replicas away at once, and lets none of them say good-bye.
    fn new(kubectl: &Kubectl) -> Self {
        let down = Self(kubectl.in_namespace("portcullis-system"));
        down.scale(0);
        let pods = "delete pods --all --grace-period=0 --force";
        down.0.call(pods).ok();
        stage::await_no_injection(kubectl);
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
