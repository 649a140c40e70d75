//! What the gate costs a pod: the seconds until it opens, memory, CPU. `make bench-story` prints it for the README.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::e2e::stage::Stage;
use crate::support::wait::eventually;

/// Pods that are measured.
const PODS: usize = 6;

/// The client's, at most; a gate gets its share of them.
const RATE: f64 = 160.0;

/// What the sidecar requests unless told otherwise.
const REQUESTED_BYTES: f64 = 32.0 * 1024.0 * 1024.0;

/// The gates of all pods at one moment.
struct Usage {
    /// Of each.
    bytes: Vec<f64>,
    /// Of all together, since they started.
    cpu_seconds: f64,
    at: SystemTime,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_gate_opens_after_its_app_and_stays_below_what_it_requests() {
    let stage = Stage::new("footprint");
    println!("| the gate in a pod, {PODS} pods | |\n| --- | --- |");
    for (what, file) in [
        ("without a warm-up", "rolling-update/web.yaml"),
        (
            "with one of 20 slow pages, which take a second by themselves",
            "rollback/web.yaml",
        ),
    ] {
        stage.apply(file);
        stage
            .kubectl
            .call(&format!("scale deployment/web --replicas={PODS}"))
            .ok();
        stage.rolled_out("web");
        let times = times_to_open(&stage);
        println!(
            "| from the app's listening to an open gate, {what} | {} |",
            span(&times, "s")
        );
    }
    let idle = measured(&stage);
    println!("| memory, idle | {} |", span(&idle.0, "MiB"));
    println!(
        "| CPU of one, idle, its app checked each second | {:.1} millicores |",
        idle.1
    );
    let client = stage.client("rollback/client.yaml");
    let busy = measured(&stage);
    client.finish();
    let rate = RATE / f64::from(u32::try_from(PODS).unwrap());
    println!(
        "| memory, at {rate:.0} requests a second, each on a new connection | {} |",
        span(&busy.0, "MiB")
    );
    println!("| CPU of one, at that rate | {:.1} millicores |", busy.1);
}

/// In MiB for each gate; in millicores for one.
fn measured(stage: &Stage) -> (Vec<f64>, f64) {
    let before = usage(stage);
    // The kubelet looks every ten seconds or so.
    let after = eventually("the kubelet's later figures", || {
        let after = usage(stage);
        let passed = after.at.duration_since(before.at).unwrap_or_default();
        let enough = passed > Duration::from_secs(30);
        enough.then_some(after).ok_or_else(|| format!("{passed:?}"))
    });
    assert!(after.bytes.iter().all(|bytes| *bytes < REQUESTED_BYTES));
    let passed = after.at.duration_since(before.at).unwrap().as_secs_f64();
    let cpu =
        (after.cpu_seconds - before.cpu_seconds) / passed / f64::from(u32::try_from(PODS).unwrap());
    let mebibytes = after.bytes.iter().map(|bytes| bytes / 1024.0 / 1024.0);
    (mebibytes.collect(), cpu * 1000.0)
}

/// What the kubelets say of the gates of pods that stay.
fn usage(stage: &Stage) -> Usage {
    let pods = names(stage);
    let nodes = stage.kubectl.call("get nodes -o name").ok();
    let mut usage = Usage {
        bytes: Vec::new(),
        cpu_seconds: 0.0,
        at: SystemTime::now(),
    };
    for node in nodes.lines() {
        let name = node.trim_start_matches("node/");
        let raw = format!("get --raw /api/v1/nodes/{name}/proxy/stats/summary");
        let summary: Value = serde_json::from_str(&stage.kubectl.call(&raw).ok()).unwrap();
        let of_pods = summary["pods"].as_array().into_iter().flatten();
        for pod in of_pods.filter(|pod| pods.iter().any(|name| pod["podRef"]["name"] == **name)) {
            let containers = pod["containers"].as_array().into_iter().flatten();
            for gate in containers.filter(|container| container["name"] == "portcullis-gate") {
                usage
                    .bytes
                    .extend(gate["memory"]["workingSetBytes"].as_f64());
                usage.cpu_seconds += gate["cpu"]["usageCoreNanoSeconds"]
                    .as_f64()
                    .unwrap_or_default()
                    / 1e9;
                usage.at = usage.at.min(time(gate["cpu"]["time"].as_str().unwrap()));
            }
        }
    }
    assert_eq!(usage.bytes.len(), PODS, "gates that the kubelets know");
    usage
}

/// Of each pod, in seconds.
fn times_to_open(stage: &Stage) -> Vec<f64> {
    let namespace = stage.namespace();
    let open = |pod: &String| {
        let log = stage
            .kubectl
            .call(&format!("logs {pod} -c app --timestamps"))
            .ok();
        let listens = log.lines().find(|line| line.contains("listening")).unwrap();
        let listens = time(listens.split(' ').next().unwrap());
        let raw = format!("get --raw /api/v1/namespaces/{namespace}/pods/{pod}:15981/proxy/status");
        let status: Value = serde_json::from_str(&stage.kubectl.call(&raw).ok()).unwrap();
        let transitions = status["transitions"].as_array().unwrap();
        // Where there is no warm-up it ramps first: traffic passes.
        let opens = |change: &&Value| change["to"] == "ramping" || change["to"] == "open";
        let opened = transitions.iter().find(opens).unwrap();
        let took = time(opened["at"].as_str().unwrap()).duration_since(listens);
        took.unwrap_or_default().as_secs_f64()
    };
    names(stage).iter().map(open).collect()
}

/// The pods that are not on their way out.
fn names(stage: &Stage) -> Vec<String> {
    let pods = stage.kubectl.call("get pods -l app=web -o json").ok();
    let pods: Value = serde_json::from_str(&pods).unwrap();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

fn time(at: &str) -> SystemTime {
    humantime::parse_rfc3339(at).expect("RFC 3339")
}

/// The middle one, and the two ends.
fn span(values: &[f64], unit: &str) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let (first, middle, last) = (
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    );
    format!("{middle:.1} {unit} ({first:.1} to {last:.1})")
}
