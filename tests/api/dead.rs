//! Nobody of ours is alive, and `failurePolicy` is Fail: what runs goes on, what is new waits and is told why, and it
//! comes right by itself, or without us.

use serde_json::{Value, json};

use super::{
    installation::assert_refused,
    lifecycle::Ground,
    objects::{bare_spec, list, sound_spec, workload},
};
use crate::support::{kubectl::Kubectl, manifests::BASE, wait::eventually};

const NAMESPACE: &str = "older";

/// The UIDs of so many pods with this label, none of which is one of `not`.
fn await_pods(kubectl: &Kubectl, label: &str, count: usize, not: &[String]) -> Vec<String> {
    eventually(&format!("{count} pods of {label}"), || {
        let get = format!("get pods -l {label} -o jsonpath={{.items[*].metadata.uid}}");
        let printed = kubectl.call(&get).success_output()?;
        let pods: Vec<_> = printed.split_whitespace().map(str::to_owned).collect();
        let are_new = !pods.iter().any(|pod| not.contains(pod));
        let are_all = pods.len() == count;
        (are_all && are_new).then_some(pods).ok_or(printed)
    })
}

/// Workloads that are older than we are, and break our rules.
fn older(ground: &Ground) -> Kubectl {
    let create = format!("create namespace {NAMESPACE}");
    ground.admin.call(&create).ok();
    let kubectl = ground.admin.in_namespace(NAMESPACE);
    eventually("the namespace's ServiceAccount", || {
        kubectl.call("get serviceaccount default").success()
    });
    let mut web = workload("Deployment", "web", bare_spec());
    web["spec"]["replicas"] = json!(1);
    let mut nightly = workload("CronJob", "nightly", bare_spec());
    nightly["spec"]["suspend"] = json!(false);
    let agent = workload("DaemonSet", "agent", bare_spec());
    kubectl.apply(&list([web, nightly, agent])).ok();
    await_pods(&kubectl, "app=web", 1, &[]);
    kubectl
}

/// All that must go on while nobody answers.
fn goes_on(ground: &Ground, kubectl: &Kubectl) {
    // It scales up, and what is drained comes back.
    kubectl.call("scale deployment/web --replicas=2").ok();
    let before = await_pods(kubectl, "app=web", 2, &[]);
    kubectl.call("delete pods -l app=web --now").ok();
    await_pods(kubectl, "app=web", 2, &before);
    // A CronJob has its next run: one that was missed is made up for at once.
    let missed = r#"patch cronjob/nightly --subresource=status -p {"status":{"lastScheduleTime":"2024-06-01T00:00:00Z"}}"#;
    kubectl.call(missed).ok();
    await_pods(kubectl, "app=nightly", 1, &[]);
    // A new node gets the pods of others' DaemonSets.
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"}});
    kubectl.apply(&node.to_string()).ok();
    await_pods(kubectl, "app=agent", 1, &[]);
    // Our own pods come back, and what a cluster is made of can be changed.
    let ours = ground.admin.in_namespace("portcullis-system");
    let us = "app.kubernetes.io/name=portcullis";
    let before = await_pods(&ours, us, 2, &[]);
    ours.call("delete pods --all --now").ok();
    await_pods(&ours, us, 2, &before);
    let system = ground.admin.in_namespace("kube-system");
    let dns = workload("Deployment", "dns", bare_spec()).to_string();
    system.apply(&dns).ok();
    system.call("delete deployment dns").ok();
}

/// A power cut in which every pod is lost, ours too: all are made anew, with nobody of ours there.
fn comes_up(ground: &mut Ground, kubectl: &Kubectl) {
    let ours = ground.admin.in_namespace("portcullis-system");
    let us = "app.kubernetes.io/name=portcullis";
    let before = [
        await_pods(kubectl, "app=web", 2, &[]),
        await_pods(&ours, us, 2, &[]),
    ];
    for namespace in [kubectl, &ours] {
        namespace.call("delete pods --all --now --wait=false").ok();
    }
    ground.plane.restart();
    await_pods(kubectl, "app=web", 2, &before[0]);
    await_pods(&ours, us, 2, &before[1]);
    assert!(ground.are_all("Fail"));
}

fn gated() -> String {
    let mut gated = workload("Pod", "gated", sound_spec());
    gated["metadata"]["labels"]["portcullis.dev/gate"] = json!("enabled");
    gated.to_string()
}

/// What is new is refused, in words that lead on.
#[track_caller]
fn waits(kubectl: &Kubectl) {
    let new: Value = workload("Deployment", "new", sound_spec());
    for object in [new.to_string(), gated()] {
        let refused = kubectl.feed("create -f -", &object).refusal();
        let told = ["failed calling webhook", "no-answer-break-glass-see-readme"];
        assert!(
            told.iter().all(|words| refused.contains(words)),
            "{refused}"
        );
    }
}

#[test]
fn what_runs_goes_on_with_nobody_of_ours_alive_and_what_is_new_waits_for_us() {
    let mut ground = Ground::new();
    let kubectl = older(&ground);
    let mut installed = ground.install(BASE);
    ground.await_policy("Fail");
    installed.kill();
    goes_on(&ground, &kubectl);
    waits(&kubectl);
    comes_up(&mut ground, &kubectl);
    waits(&kubectl);

    // Nobody did a thing: our pods were let start, so here we are.
    installed.server = Some(installed.launch.start());
    eventually("a pod with its gate", || {
        let create = "create --dry-run=server -o json -f -";
        let made = kubectl.feed(create, &gated()).success_output()?;
        made.contains("portcullis-gate").then_some(()).ok_or(made)
    });
    let bare = workload("Deployment", "new", bare_spec()).to_string();
    assert_refused(kubectl.feed("create -f -", &bare).refusal(), "memory-limit");
    assert!(ground.are_all("Fail"));

    // Our namespace goes first, and with it whoever could have taken Fail back.
    installed.kill();
    waits(&kubectl);
    ground.admin.call("delete namespace portcullis-system").ok();
    eventually("our configurations to go along", || {
        let policies = ground.policies();
        policies.map_or(Ok(()), |left| Err(format!("{left:?}")))
    });
    ground.takes_a_pod("our namespace has gone");
    let all = list(installed.manifests.clone());
    ground
        .admin
        .feed("delete --ignore-not-found -f -", &all)
        .ok();
    ground.holds_none_of(&installed.manifests);

    ground.admin.call("delete node another").ok();
    let delete = format!("delete namespace {NAMESPACE}");
    ground.admin.call(&delete).ok();
}

#[test]
fn all_that_was_applied_can_be_deleted_with_nobody_of_ours_alive() {
    let ground = Ground::new();
    let mut installed = ground.install(BASE);
    ground.await_policy("Fail");
    installed.kill();
    let all = list(installed.manifests.clone());
    ground.admin.feed("delete -f -", &all).ok();
    ground.takes_a_pod("we have gone");
    ground.holds_none_of(&installed.manifests);
}
