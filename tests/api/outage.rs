//! Portcullis is gone: with failurePolicy Ignore the cluster goes on without it.

use super::{
    installation::Session,
    objects::{bare_spec, workload},
};

#[test]
fn a_stopped_server_lets_pods_through_and_a_started_one_refuses_again() {
    let session = Session::alone();
    let namespace = session.namespace("outage");
    let pod = |name| workload("Pod", name, bare_spec()).to_string();
    namespace.refuses(&pod("before"), "memory-limit");
    session.stop_server();
    namespace.developer.apply(&pod("meanwhile")).ok();
    session.start_server();
    namespace.refuses(&pod("after"), "memory-limit");
}
