//! Crashes in the middle of traffic: of a gate, of its app, of the API server, of a kubelet.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::e2e::{
    node::Node,
    pod::{APP, GATE, Pod},
    report::Summary,
    stage::{self, Stage},
};
use crate::support::{doctor, wait::eventually};

const CLIENT: &str = "rolling-update/client.yaml";

/// A crash of one container.
#[derive(Debug)]
struct Crash {
    /// From the kill until the pod is ready again and its gate, if it has one, lets requests pass.
    seconds: f64,
    client: Summary,
    /// What the gate says of itself since it runs, a word for each state.
    states: Vec<String>,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_killed_gate_is_back_in_seconds_and_does_not_warm_its_app_up_again() {
    let stage = Stage::new("crash-gate");
    stage.apply("crash/web.yaml");
    let crash = crash(&stage, GATE);
    println!("a killed gate: {crash:?}");
    assert_eq!(
        crash.states,
        ["checking", "open"],
        "the app is as warm as before"
    );
    // Nobody answers at its port for a moment, which no other replica can make good.
    assert!(
        crash.client.failed > 0,
        "a kill that nobody felt: {crash:?}"
    );
    assert!(crash.client.failed < crash.client.sent / 4, "{crash:?}");
    assert!(crash.seconds < 20.0, "{crash:?}");
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn what_comes_for_a_killed_app_waits_at_its_gate_and_fails_without_one() {
    let stage = Stage::new("crash-app");
    stage.apply_ungated("crash/web.yaml");
    let without = crash(&stage, APP);
    stage.apply("crash/web.yaml");
    let with = crash(&stage, APP);
    println!("a killed app, without the gate: {without:?}\nwith the gate: {with:?}");
    assert!(without.client.failed > 0, "it proves nothing: {without:?}");
    // What it was at when it died is lost with it.
    let at_its_death = with.client.reasons.get("502 Bad Gateway").copied();
    assert_eq!(
        with.client.failed,
        at_its_death.unwrap_or_default(),
        "{with:?}"
    );
    assert!(with.client.failed < without.client.failed, "{with:?}");
    let states = with.states.join(" ");
    assert!(
        states.contains("reclosed checking warming"),
        "a new app is a cold one: {states}"
    );
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_restarted_api_server_is_felt_by_no_request_and_the_webhook_goes_on_after_it() {
    let stage = Stage::new("crash-api-server");
    stage.apply("crash/web.yaml");
    stage.rolled_out("web");
    let client = stage.client(CLIENT);
    let find = "get pods --namespace=kube-system --selector=component=kube-apiserver --output=json";
    let [server] = &Pod::read_all(&stage.kubectl.everywhere(), find)[..] else {
        panic!("one API server");
    };
    server.kill("kube-apiserver");
    let began = Instant::now();
    eventually("the API server to be back", || {
        server.recovered("kube-apiserver")
    });
    stage::await_injection(&stage.kubectl);
    let seconds = began.elapsed().as_secs_f64();
    let summary = client.finish();
    println!(
        "a restarted API server: pods get their gates again after {seconds:.1} s; {summary:?}"
    );
    assert_eq!(summary.failed, 0, "{summary:?}");
    for pod in stage.pods("web") {
        assert_eq!(pod.restarts(GATE) + pod.restarts(APP), 0, "{}", pod.name());
        assert!(pod.is_ready(), "{}", pod.name());
    }
    let said = doctor::ask(stage.kubectl.kubeconfig(), "default");
    assert_eq!(said.status, 0, "{:#?}", said.lines);
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_restarted_kubelet_is_felt_by_no_request_and_no_gate_closes() {
    let stage = Stage::new("crash-kubelet");
    stage.apply("crash/web.yaml");
    stage.rolled_out("web");
    let client = stage.client(CLIENT);
    let mut endpoints = stage.watch_endpoints("web");
    let pods = stage.pods("web");
    for (node, pods) in by_node(&pods) {
        Node::named(node).restart_kubelet();
        for pod in pods {
            // It counts from nothing.
            eventually("the new kubelet to ask the gate", || probed(&stage, pod));
        }
    }
    let summary = client.finish();
    println!(
        "restarted kubelets: at worst {:?} of {} replicas behind the Service; {summary:?}",
        endpoints.fewest(),
        pods.len()
    );
    assert_eq!(summary.failed, 0, "{summary:?}");
    for pod in pods {
        let pod = pod.again().expect("the API server answers");
        assert_eq!(pod.restarts(GATE) + pod.restarts(APP), 0, "{}", pod.name());
        let states = pod.states().expect("its gate answers");
        assert!(!states.contains(&"reclosed".to_owned()), "{states:?}");
    }
}

/// Kills a container of one of the replicas, under load.
fn crash(stage: &Stage, container: &str) -> Crash {
    stage.rolled_out("web");
    let client = stage.client(CLIENT);
    let victim = stage.pods("web").pop().expect("a replica");
    victim.kill(container);
    let began = Instant::now();
    let states = eventually("the pod to be back", || {
        let pod = victim.recovered(container)?;
        if !pod.has_gate() {
            return Ok(Vec::new());
        }
        let states = pod.states()?;
        let passes = matches!(states.last().map(String::as_str), Some("ramping" | "open"));
        passes
            .then_some(states)
            .ok_or_else(|| "its gate is shut".to_owned())
    });
    Crash {
        seconds: began.elapsed().as_secs_f64(),
        client: client.finish(),
        states,
    }
}

fn by_node(pods: &[Pod]) -> BTreeMap<&str, Vec<&Pod>> {
    let mut nodes = BTreeMap::<_, Vec<_>>::new();
    for pod in pods {
        nodes.entry(pod.node()).or_default().push(pod);
    }
    nodes
}

/// Whether the kubelet of its node has found the gate of this pod ready, since it runs.
fn probed(stage: &Stage, pod: &Pod) -> Result<(), String> {
    let get = format!(
        "get --raw /api/v1/nodes/{}/proxy/metrics/probes",
        pod.node()
    );
    let metrics = stage.kubectl.call(&get).success_output()?;
    let found = metrics.lines().any(|line| {
        line.starts_with("prober_probe_total{")
            && line.contains(r#"probe_type="Readiness""#)
            && line.contains(r#"result="successful""#)
            && line.contains(&format!("container=\"{GATE}\""))
            && line.contains(&format!("pod=\"{}\"", pod.name()))
    });
    found.then_some(()).ok_or_else(|| pod.name().to_owned())
}
