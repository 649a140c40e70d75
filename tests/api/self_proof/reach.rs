//! Every API server must reach us, and each for itself.

use std::fs;

use super::{ENTRIES, MORE_ROUNDS_THAN_A_PROOF, Rig, await_checks, checks};
use crate::support::{
    audit::Event,
    balancer::Balancer,
    control_plane::ControlPlane,
    server::{Launch, free_port},
    wait::eventually,
};

/// The process that listens at this URL, by its command line.
fn api_server_at(url: &str) -> u32 {
    let (_, port) = url
        .trim_end_matches('/')
        .rsplit_once(':')
        .expect("with a port");
    let flag = format!("--secure-port={port}");
    let processes = fs::read_dir("/proc").expect("it is mounted");
    let mut ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_it = |id: &u32| {
        let words = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        words.split('\0').any(|word| word == flag)
    };
    ids.find(is_it).expect("it runs")
}

#[test]
fn every_api_server_must_have_proved_it() {
    let plane = ControlPlane::with_api_servers(2);
    let [second] = plane.other_api_servers() else {
        panic!("{plane:?}")
    };
    let second = second.clone();
    let log = plane.audit_log().with_file_name("audit.log.2");
    let way = Balancer::start();
    let rig = Rig::on(plane, "", |_| way.port);
    way.list(&[rig.launch.port]);
    let nobody = Launch {
        api_servers: vec![format!("https://127.0.0.1:{}", free_port())],
        ..rig.launch.clone()
    };
    let server = nobody.start();
    await_checks(&server, ENTRIES[0], "proved", MORE_ROUNDS_THAN_A_PROOF);
    assert!(rig.policies().are(["Ignore"; 3]), "{:?}", rig.policies());
    server.stop();

    let both = Launch {
        api_servers: vec![second.clone()],
        ..nobody
    };
    let server = both.start();
    rig.await_policies(["Fail"; 3]);
    let dry_runs = Event::in_namespace(&log, "portcullis-self-check");
    let ours = |event: &&Event| {
        event.object_ref.resource == "pods"
            && event.user.username == "system:serviceaccount:portcullis-system:portcullis"
    };
    let through_the_second = dry_runs.iter().filter(ours).count();
    assert!(through_the_second >= 3 * 6, "{through_the_second}");

    // For a minute the second can't reach us, though the first can.
    way.shut_out(Some(api_server_at(&second)));
    rig.await_policies(["Ignore", "Fail", "Fail"]);
    let refusal = rig.bare().expect_err("the first asks us");
    assert!(refusal.contains("memory-limit"), "{refusal}");
    server.stop();
    rig.plane.stop();
}

#[test]
fn a_minute_in_which_nobody_reaches_us_takes_it_back_until_it_is_proved_anew() {
    let way = Balancer::start();
    let rig = Rig::on(ControlPlane::start(), "", |_| way.port);
    way.list(&[rig.launch.port]);
    let server = rig.launch.start();
    rig.await_policies(["Fail"; 3]);

    // Connections end as soon as they are made, as where a NetworkPolicy or a firewall is in the way.
    way.list(&[]);
    let before = checks(&server, ENTRIES[0], "unreachable");
    await_checks(&server, ENTRIES[0], "unreachable", 3);
    assert!(
        rig.policies().are(["Fail"; 3]),
        "not yet: {:?}",
        rig.policies()
    );
    rig.await_policies(["Ignore", "Fail", "Fail"]);
    // As many rounds as a minute has.
    let in_vain = checks(&server, ENTRIES[0], "unreachable") - before;
    assert!(in_vain >= 12, "after {in_vain}");

    way.list(&[rig.launch.port]);
    rig.await_policies(["Fail"; 3]);
    eventually("a refusal by a rule", || match rig.bare() {
        Err(refusal) if refusal.contains("memory-limit") => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    server.stop();
    rig.plane.stop();
}
