//! An autoscaler and a real metrics server, for pods that have a gate.

use std::time::Duration;

use crate::{
    e2e::{pod::Pod, stage::Stage},
    support::{kubectl::Kubectl, wait::at_length},
};

/// As many as the autoscaler may make.
const REPLICAS: &str = "3";

/// For requests that all replicas share.
const SHARED: Duration = Duration::from_secs(5);

const METRICS_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/metrics-server.yaml");

/// The metrics server of this story, until this is dropped.
struct MetricsServer(Kubectl);

#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_autoscaler_adds_gated_pods_under_load_and_no_request_fails() {
    let stage = Stage::new("autoscaled");
    let _measured = MetricsServer::unless_there(&stage.kubectl);
    stage.apply("autoscaled/web.yaml");
    stage.rolled_out("web");
    at_length("figures of the pod and of its app alone", || {
        let metrics = "get hpa web -o jsonpath={.status.currentMetrics[*].type}";
        let known = stage.kubectl.call(metrics).success_output()?;
        let both = known == "Resource ContainerResource";
        both.then_some(()).ok_or(known)
    });
    assert_eq!(stage.pods("web").len(), 1);

    let client = stage.client("autoscaled/client.yaml");
    at_length("all replicas", || {
        let ready = "get deployment web -o jsonpath={.status.readyReplicas}";
        let ready = stage.kubectl.call(ready).success_output()?;
        let all = ready == REPLICAS;
        all.then_some(())
            .ok_or_else(|| stage.kubectl.call("describe hpa web").stdout)
    });
    assert!(stage.pods("web").iter().all(Pod::has_gate));
    let scaled = client.time().expect("it sends");
    client.has_sent_for(scaled + SHARED);
    let seen = client.finish();
    println!("scaled up: {seen:?}");
    assert_eq!(seen.failed, 0, "{seen:?}");
}

// === impl MetricsServer ===

impl MetricsServer {
    /// Installs one where the cluster has none.
    fn unless_there(kubectl: &Kubectl) -> Option<Self> {
        let served = kubectl.call("get apiservice v1beta1.metrics.k8s.io");
        if served.success().is_ok() {
            return None;
        }
        let installed = Self(kubectl.everywhere());
        installed
            .0
            .call_with(&["apply", "-f", METRICS_SERVER], None)
            .ok();
        let wait =
            "wait --for=condition=Available apiservice/v1beta1.metrics.k8s.io --timeout=180s";
        installed.0.call(wait).ok();
        Some(installed)
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.0.call_with(&["delete", "-f", METRICS_SERVER], None);
    }
}
