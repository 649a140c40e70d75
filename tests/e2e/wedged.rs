//! An app that gets stuck.

use super::{oom_killed::warmed_twice, pod::APP, stage::Stage};
use crate::support::wait::eventually;

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_wedged_app_is_restarted_without_a_drain_and_gated_again() {
    let stage = Stage::new("wedged");
    stage.apply("wedged/web.yaml");
    stage.rolled_out("web");
    let pod = stage.pods("web").remove(0);
    stage.post(&pod, "wedge").ok();
    eventually("the app to be back, and warm", || {
        warmed_twice(&pod.recovered(APP)?)
    });
    let states = pod.states().unwrap();
    assert!(
        !states.iter().any(|state| state == "draining"),
        "{states:?}"
    );
}
