//! An app that ends at once on SIGTERM, rolled out under load.

use super::{report::Summary, stage::Stage};

/// Rollouts on each side. Without the gate each loses about one request in 300.
const ROLLOUTS: u32 = 3;

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_rolling_update_under_load_loses_nothing_with_the_gate_and_some_without() {
    let stage = Stage::new("rolling-update");
    stage.apply_ungated("rolling-update/web.yaml");
    let without = roll_out_under_load(&stage);
    stage.apply("rolling-update/web.yaml");
    let with = roll_out_under_load(&stage);
    println!("without the gate: {without:?}\nwith the gate: {with:?}");
    assert!(without.failed > 0, "it proves nothing: {without:?}");
    assert_eq!(with.failed, 0, "{with:?}");
}

fn roll_out_under_load(stage: &Stage) -> Summary {
    stage.rolled_out("web");
    let client = stage.client("rolling-update/client.yaml");
    for _ in 0..ROLLOUTS {
        stage.kubectl.call("rollout restart deployment/web").ok();
        stage.rolled_out("web");
    }
    client.finish()
}
