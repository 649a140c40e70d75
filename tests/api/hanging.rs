//! Our server hangs: its connections stand, new ones are taken, and nothing is ever answered.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    injection::asking,
    lifecycle::Ground,
    objects::{list, sound_spec, workload},
};
use crate::support::{
    kubectl::{Answer, Kubectl},
    manifests::BASE,
    wait::eventually,
};

/// The `timeoutSeconds` of all our entries.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Makes an object, for which the API server waits for so many of our entries, one after the other, as long as each says.
#[track_caller]
fn create(kubectl: &Kubectl, object: &Value, entries: u32) -> Answer {
    let (before, begun) = (unanswered(kubectl), Instant::now());
    let answer = kubectl.feed("create -f -", &object.to_string());
    let (took, waited) = (begun.elapsed(), unanswered(kubectl) - before);
    assert_eq!(waited, entries, "{answer:?}");
    assert!(took >= entries * TIMEOUT, "{took:?}: {answer:?}");
    answer
}

/// How often the API server has called a webhook in vain, and gone on or refused.
fn unanswered(kubectl: &Kubectl) -> u32 {
    let metrics = kubectl.call("get --raw /metrics").ok();
    let counts = metrics.lines().filter(|line| {
        line.starts_with("apiserver_admission_webhook_fail_open_count{")
            || line.starts_with("apiserver_admission_webhook_rejection_count{")
                && line.contains(r#"error_type="calling_webhook_error""#)
    });
    let counts = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
    counts.sum()
}

#[test]
fn who_hangs_costs_a_call_its_timeout_and_lets_pods_start_until_it_was_proved_to_answer() {
    let ground = Ground::new();
    let mut installed = ground.install(BASE);
    ground.admin.call("create namespace hanging").ok();
    let kubectl = ground.admin.in_namespace("hanging");
    eventually("the namespace's ServiceAccount", || {
        kubectl.call("get serviceaccount default").success()
    });
    let pod = |name| workload("Pod", name, sound_spec());
    let server = installed.server.as_ref().expect("it runs");
    let mut web = asking(workload("Deployment", "web", sound_spec()), "enabled");
    web["spec"]["replicas"] = json!(1);

    // Not proved yet: entries are Ignore.
    server.freeze();
    create(&kubectl, &pod("plain"), 1).ok();
    create(&kubectl, &asking(pod("gated"), "enabled"), 2).ok();
    create(&kubectl, &web, 1).ok();
    eventually("the Deployment's pod", || {
        let pods = kubectl
            .call("get pods -l app=web -o name")
            .success_output()?;
        let made = pods.starts_with("pod/");
        made.then_some(()).ok_or(pods)
    });
    assert!(
        !kubectl
            .call("get pods -o yaml")
            .ok()
            .contains("portcullis-gate")
    );
    server.thaw();

    ground.await_policy("Fail");
    server.freeze();
    for (object, entry) in [
        (pod("another"), "validate"),
        (asking(pod("another"), "enabled"), "inject"),
    ] {
        let refusal = create(&kubectl, &object, 1).refusal();
        let words = format!("failed calling webhook \"{entry}.portcullis.dev\"");
        assert!(refusal.contains(&words), "{refusal}");
        assert!(
            refusal.contains("no-answer-break-glass-see-readme"),
            "{refusal}"
        );
    }
    server.thaw();
    eventually("a pod with its gate", || {
        let gated = asking(pod("another"), "enabled").to_string();
        let create = "create --dry-run=server -o json -f -";
        let made = kubectl.feed(create, &gated).success_output()?;
        made.contains("portcullis-gate").then_some(()).ok_or(made)
    });

    ground.admin.call("delete namespace hanging").ok();
    installed.stop();
    let all = list(installed.manifests.clone());
    ground.admin.feed("delete -f -", &all).ok();
    ground.holds_none_of(&installed.manifests);
}
