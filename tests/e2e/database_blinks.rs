//! The database that all replicas share goes away for a while, and comes back.

use std::time::Duration;

use super::{report::Summary, stage::Stage};
use crate::support::wait::eventually;

const CHECKOUT: &str = "database-blinks/checkout.yaml";

/// What the story's file says.
const REPLICAS: usize = 4;

/// How long the database is away where that is to change nothing.
const AWAY: Duration = Duration::from_secs(60);

/// How a blink went.
#[derive(Debug)]
struct Blink {
    /// Replicas behind the Service at the worst moment.
    fewest: usize,
    client: Summary,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_database_that_blinks_takes_no_replica_out_of_its_service() {
    let stage = Stage::new("database-blinks");
    stage.apply("running-but-not-ready/secret.yaml");
    stage.apply("running-but-not-ready/database.yaml");
    stage.rolled_out("database");
    // What many a readiness probe does.
    stage.apply_changed(
        CHECKOUT,
        "postgres:",
        "scope: always\n              postgres:",
    );
    let always = blink(&stage, false);
    stage.apply(CHECKOUT);
    let startup = blink(&stage, true);
    println!("asked all the while: {always:?}\nasked on opening: {startup:?}");
    assert_eq!(always.fewest, 0, "it proves nothing: {always:?}");
    assert!(always.client.failed > 0, "it proves nothing: {always:?}");
    assert_eq!(startup.fewest, REPLICAS, "{startup:?}");
    assert_eq!(startup.client.failed, 0, "{startup:?}");
}

/// The database is away until every gate has seen it (an open gate looks every 30 s, and one failure counts here); and
/// until it shows in the endpoints where it is to show, or for as long as it is away where it is not to.
fn blink(stage: &Stage, stays: bool) -> Blink {
    stage.rolled_out("checkout");
    let client = stage.client("running-but-not-ready/client.yaml");
    let mut endpoints = stage.watch_endpoints("checkout");
    scale_database(stage, 0);
    let gone = client.time().expect("it sends");
    eventually("every gate to see it", || all_gates_say(stage, "failing"));
    eventually("what comes of it", || {
        let fewest = endpoints.fewest();
        let shows = stays || fewest == Some(0);
        shows.then_some(()).ok_or_else(|| format!("{fewest:?}"))
    });
    if stays {
        client.has_sent_for(gone + AWAY);
    }
    scale_database(stage, 1);
    stage.rolled_out("database");
    eventually("every gate to see it back", || {
        all_gates_say(stage, "passing")
    });
    Blink {
        fewest: endpoints.fewest().expect("a change at least"),
        client: client.finish(),
    }
}

fn scale_database(stage: &Stage, replicas: u32) {
    let scale = format!("scale deployment/database --replicas={replicas}");
    stage.kubectl.call(&scale).ok();
}

fn all_gates_say(stage: &Stage, standing: &str) -> Result<(), String> {
    let pods = stage.pods("checkout");
    assert_eq!(pods.len(), REPLICAS, "no more, no less");
    for pod in pods {
        let status = pod.gate()?;
        let check = &status["checks"][0];
        if check["standing"] != standing {
            return Err(format!("{}: {check}", pod.name()));
        }
    }
    Ok(())
}
