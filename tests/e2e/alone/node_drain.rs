//! A node is drained under load.

use crate::e2e::{pod::Pod, report::Summary, stage::Stage};
use crate::support::kubectl::Kubectl;

/// A node that takes no pods, until this is dropped.
struct Drained<'a> {
    kubectl: &'a Kubectl,
    node: &'a str,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_drained_node_loses_no_request_with_the_gate_and_some_without() {
    let stage = Stage::new("node-drain");
    stage.apply_ungated("node-drain/web.yaml");
    let without = drain_under_load(&stage);
    stage.apply("node-drain/web.yaml");
    let with = drain_under_load(&stage);
    println!("without the gate: {without:?}\nwith the gate: {with:?}");
    assert!(without.failed > 0, "it proves nothing: {without:?}");
    assert_eq!(with.failed, 0, "{with:?}");
    // They were made anew in the midst of it, while a replica of the webhook was moved, too.
    assert!(stage.pods("web").iter().all(Pod::has_gate));
}

/// Drains a node that has replicas, but not the client, which is to go on.
fn drain_under_load(stage: &Stage) -> Summary {
    stage.rolled_out("web");
    let client = stage.client("node-drain/client.yaml");
    let find = "get pods --field-selector=metadata.name=client --output=json";
    let clients = Pod::read_all(&stage.kubectl, find);
    let replicas = stage.pods("web");
    let mut beside = replicas
        .iter()
        .filter(|replica| replica.node() != clients[0].node());
    let node = beside.next().expect("replicas on two nodes").node();
    let drained = Drained {
        kubectl: &stage.kubectl,
        node,
    };
    let drain = format!("drain {node} --ignore-daemonsets --delete-emptydir-data --timeout=180s");
    stage.kubectl.call(&drain).ok();
    stage.rolled_out("web");
    drop(drained);
    client.finish()
}

// === impl Drained ===

impl Drop for Drained<'_> {
    fn drop(&mut self) {
        self.kubectl.call(&format!("uncordon {}", self.node));
    }
}
