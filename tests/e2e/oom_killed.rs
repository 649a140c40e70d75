//! An app without limits, and what becomes of it with some.

use serde_json::json;

use super::{
    pod::{APP, Pod},
    stage::Stage,
};
use crate::support::wait::eventually;

const RESIZER: &str = "oom-killed/resizer.yaml";

/// Requests that may be at the app when it is killed: 20 a second, of a few milliseconds each.
const IN_FLIGHT: u32 = 2;

#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_app_without_limits_is_refused_or_patched_and_warmed_again_after_it_was_killed() {
    let stage = Stage::new("oom-killed");
    let refusal = stage.refused(RESIZER);
    assert!(refusal.contains("memory-limit"), "{refusal}");

    stage
        .kubectl
        .call("label namespace oom-killed portcullis.dev/patch=enabled")
        .ok();
    stage.apply(RESIZER);
    stage.rolled_out("resizer");
    let pod = stage.pods("resizer").remove(0);
    assert_eq!(pod.memory_limit(APP), &json!("64Mi"));

    let client = stage.client("oom-killed/client.yaml");
    // It is killed before it can answer.
    stage.post(&pod, "take/200");
    eventually("the app to be back, and warm", || {
        warmed_twice(&pod.recovered(APP)?)
    });
    assert_eq!(pod.again().unwrap().ended_by(APP), &json!("OOMKilled"));
    let seen = client.finish();
    assert!(seen.failed <= IN_FLIGHT, "{seen:?}");
}

/// It was warmed up before its first traffic, and before the first after its restart.
pub fn warmed_twice(pod: &Pod) -> Result<(), String> {
    let states = pod.states()?;
    let text = states.join(" ");
    let opened: Vec<_> = text.split("open").collect();
    match opened.as_slice() {
        [first, again, ""] if first.contains("warming") && again.contains("warming") => Ok(()),
        _ => Err(text),
    }
}
