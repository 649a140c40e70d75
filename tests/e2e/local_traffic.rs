//! One replica, which clients reach by way of its own node only.

use super::{report::Summary, stage::Stage};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn one_replica_behind_local_traffic_is_deleted_under_load_and_nothing_is_lost_with_the_gate() {
    let stage = Stage::new("local-traffic");
    stage.apply_ungated("local-traffic/web.yaml");
    let without = delete_under_load(&stage);
    // What got no answer stays in the node's table of connections for two minutes, with the address of the pod that is gone; a
    // new connection from the same port of the client would follow it there. So the Service gets another port of the node.
    stage.kubectl.call("delete service web").ok();
    stage.apply("local-traffic/web.yaml");
    let with = delete_under_load(&stage);
    println!("without the gate: {without:?}\nwith the gate: {with:?}");
    assert!(without.failed > 0, "it proves nothing: {without:?}");
    assert_eq!(with.failed, 0, "{with:?}");
}

fn delete_under_load(stage: &Stage) -> Summary {
    stage.settled("web");
    let pod = stage.pods("web").remove(0);
    let node = format!("get pod {} -o jsonpath={{.status.hostIP}}", pod.name());
    let node = stage.kubectl.call(&node).ok();
    let port = "get service web -o jsonpath={.spec.ports[0].nodePort}";
    let port = stage.kubectl.call(port).ok();
    let address = format!("{node}:{port}");
    let client = stage.client_to("local-traffic/client.yaml", "NODE:PORT", &address);
    // Returns when the pod is gone.
    let delete = format!("delete pod {} --timeout=120s", pod.name());
    stage.kubectl.call(&delete).ok();
    stage.rolled_out("web");
    client.finish()
}
