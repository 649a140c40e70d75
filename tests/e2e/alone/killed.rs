//! Crashes in the middle of traffic: of a gate, of its app.

use tokio::time::Instant;

use crate::e2e::{
    oom_killed::LOST,
    pod::{APP, GATE},
    report::Summary,
    stage::Stage,
};
use crate::support::wait::eventually;

/// Why a client fails that comes while nobody listens.
const REFUSED: &str = "connect: connection refused";

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
fn a_killed_gate_comes_back_and_does_not_warm_its_app_up_again() {
    let stage = Stage::new("crash-gate");
    stage.apply("crash/web.yaml");
    let crash = crash(&stage, GATE);
    println!(
        "a killed gate, back after {:.1} s: {crash:?}",
        crash.seconds
    );
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
    // Not by how many failed: how much it was at when it died is chance, and as much with the gate as without.
    let count = |crash: &Crash, reason| crash.client.reasons.get(reason).copied();
    let came_after = count(&without, REFUSED).unwrap_or_default();
    assert!(came_after > 0, "it proves nothing: {without:?}");
    let at_its_death = count(&with, LOST).unwrap_or_default();
    assert_eq!(with.client.failed, at_its_death, "{with:?}");
    let states = with.states.join(" ");
    assert!(
        states.contains("reclosed checking warming"),
        "a new app is a cold one: {states}"
    );
}

/// Kills a container of one of the replicas, under load.
fn crash(stage: &Stage, container: &str) -> Crash {
    stage.rolled_out("web");
    let client = stage.client("rolling-update/client.yaml");
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
