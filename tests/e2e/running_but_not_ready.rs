//! A release whose Secret was forgotten, and whose database is not up yet.

use super::{report::Summary, stage::Stage};
use crate::support::wait::eventually;

const FIRST: &str = "running-but-not-ready/first-release.yaml";
const SECOND: &str = "running-but-not-ready/second-release.yaml";
const SECRET: &str = "running-but-not-ready/secret.yaml";
const CLIENT: &str = "running-but-not-ready/client.yaml";

#[test]
#[ignore = "needs a cluster: make e2e"]
fn running_but_not_ready_costs_requests_without_the_gate_and_none_with_it() {
    let stage = Stage::new("running-but-not-ready");
    let without = without_the_gate(&stage);

    stage.apply(FIRST);
    stage.settled("checkout");
    let client = stage.client(CLIENT);

    let refusal = stage.refused(SECOND);
    assert!(refusal.contains("secret-reference"), "{refusal}");
    assert!(refusal.contains("\"checkout-secrets\""), "{refusal}");
    stage.apply(SECRET);
    stage.apply(SECOND);

    eventually("the reason in kubectl describe", || {
        let told = stage.kubectl.call("describe pods --selector=app=checkout");
        let told = told.success_output()?;
        let reason = "not ready: checking: check database: postgres database:5432: ";
        told.contains(reason).then_some(()).ok_or(told)
    });
    stage.apply("running-but-not-ready/database.yaml");
    stage.rolled_out("checkout");
    // By the Secret's URL, which the gate has borrowed from the app.
    for pod in stage.pods("checkout") {
        let states = pod.states().unwrap();
        assert!(states.iter().any(|state| state == "warming"), "{states:?}");
        assert_eq!(states.last().unwrap(), "open", "{states:?}");
    }

    let with = client.finish();
    println!("without the gate: {without:?}\nwith the gate: {with:?}");
    assert!(without.failed > 0, "it proves nothing: {without:?}");
    assert_eq!(with.failed, 0, "{with:?}");
}

/// The second release's pods run, so they get traffic; the database is as late.
fn without_the_gate(stage: &Stage) -> Summary {
    stage.apply_ungated(FIRST);
    stage.rolled_out("checkout");
    let client = stage.client(CLIENT);
    stage.apply(SECRET);
    stage.apply_ungated(SECOND);
    stage.rolled_out("checkout");
    let seen = client.finish();
    stage.kubectl.call("delete secret checkout-secrets").ok();
    seen
}
