//! Crashes in the middle of traffic of what all pods stand on: the API server, a kubelet.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::e2e::{
    node::Node,
    pod::{APP, GATE, Pod},
    stage::{self, Stage},
};
use crate::support::{doctor, wait::eventually};

const CLIENT: &str = "rolling-update/client.yaml";

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
