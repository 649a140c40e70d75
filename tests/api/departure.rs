//! We roll out ourselves, and nobody notices.

use std::time::Duration;

use tokio::time::Instant;

use super::installation::Session;
use crate::support::{balancer::Balancer, server::Launch, stream::Stream, wait::eventually};

/// How many pods show that a state of affairs is survived: dozens on each of the API server's connections to us.
const A_WHILE: usize = 100;

/// How much later than the pod itself the last node hears that it leaves: well within the drain delay.
const LAG: Duration = Duration::from_secs(3);

#[test]
fn a_rolling_restart_of_both_replicas_fails_no_pod_and_lets_none_pass_unjudged() {
    let session = Session::alone();
    let namespace = session.namespace("departure");
    session.stop_server();
    let service = Balancer::start();
    session.call_at(service.port);
    let launch = |name: &str| Launch {
        // The program's default, and so the Deployment's.
        drain_delay: Duration::from_secs(5),
        ..session.another(name)
    };
    let start = |name| {
        let launch = launch(name);
        (launch.port, launch.start())
    };
    let mut replicas = vec![start("old-1"), start("old-2")];
    let listed = |replicas: &[(u16, _)]| {
        let ports: Vec<_> = replicas.iter().map(|(port, _)| *port).collect();
        service.list(&ports);
    };
    listed(&replicas);
    let stream = Stream::begin(session.admin().kubeconfig(), &namespace.name);
    stream.flows_for(A_WHILE);

    // As the Deployment says: one more first, and never one less.
    for name in ["new-1", "new-2"] {
        replicas.push(start(name));
        listed(&replicas);
        stream.flows_for(A_WHILE);
        let (_, mut leaving) = replicas.remove(0);
        leaving.terminate();
        let left = Instant::now();
        eventually("the nodes to hear of it", || {
            stream.flows_for(1);
            let waited = left.elapsed();
            (waited >= LAG)
                .then_some(())
                .ok_or_else(|| format!("{waited:?}"))
        });
        listed(&replicas);
        leaving.ended();
        stream.flows_for(A_WHILE);
    }

    let summary = stream.end();
    assert!(summary.sent > 7 * A_WHILE, "{summary:?}");
    assert!(summary.lost.is_empty(), "{summary:#?}");
    session.start_server();
    session.call_at(session.launch().port);
    for (_, replica) in replicas {
        replica.stop();
    }
    session.await_enforcement();
}
