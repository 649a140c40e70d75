//! An app without limits, and what becomes of it with some.

use serde_json::json;

use super::{
    pod::{APP, Pod},
    stage::Stage,
};
use crate::support::wait::eventually;

const RESIZER: &str = "oom-killed/resizer.yaml";

/// What the gate answers to requests that were at the app when it was killed; who comes later would get 503.
pub const LOST: &str = "502 Bad Gateway";

/// How many those may be: a second's, since an app that fills its memory is slow before it dies.
const IN_FLIGHT: u32 = 20;

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
    // What is known of a namespace is remembered for a while.
    eventually("the label to count", || stage.try_apply(RESIZER).success());
    stage.rolled_out("resizer");
    let pod = stage.pods("resizer").remove(0);
    assert_eq!(pod.memory_limit(APP), &json!("64Mi"));

    let client = stage.client("oom-killed/client.yaml");
    // It is killed before it can answer.
    stage.post(&pod, "take/200");
    eventually("the app to be back, and warm", || {
        warmed_twice(&pod.recovered(APP)?)
    });
    let ended = pod.again().unwrap().ended(APP).clone();
    // Killed, as nobody else does here: with exit code 137. Its reason is `OOMKilled` only if containerd hears of that before
    // it hears of the end, and `Error` else.
    assert_eq!(ended["exitCode"], 137, "{ended}");
    let seen = client.finish();
    println!("killed under load: {seen:?}");
    let lost = seen.reasons.get(LOST).copied().unwrap_or_default();
    assert_eq!(seen.failed, lost, "{seen:?}");
    assert!(lost <= IN_FLIGHT, "{seen:?}");
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
