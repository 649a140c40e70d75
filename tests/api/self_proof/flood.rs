//! Whoever makes us busy, or the API server, opens nothing by it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, api::PostParams};

use super::{Rig, await_rounds};
use crate::{
    api::objects::{bare_spec, deployment},
    support::{audit::Event, control_plane::DEVELOPER, stream::client},
};

/// Dry runs at once by one user: as many as the API server takes from one, and more.
const FLOOD: u32 = 32;

/// Sends Deployments that break every rule, as dry runs, until it is over.
async fn pour(kubeconfig: &Path, over: &AtomicBool, sent: &AtomicU32) {
    let api: Api<Deployment> = Api::namespaced(client(kubeconfig).await, "default");
    let bare = serde_json::from_value(deployment("flood", bare_spec())).expect("an object");
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let one = || async {
        while !over.load(Ordering::Relaxed) {
            sent.fetch_add(1, Ordering::Relaxed);
            let _ = api.create(&dry_run, &bare).await; // the audit log tells
        }
    };
    join_all((0..FLOOD).map(|_| one())).await;
}

#[test]
fn a_flood_of_dry_runs_opens_nothing() {
    let rig = Rig::new("");
    let server = rig.launch.start();
    let grant = format!(
        "create rolebinding flood --clusterrole=edit --user={DEVELOPER} --namespace default"
    );
    rig.admin.call(&grant).ok();
    rig.await_policies(["Fail"; 3]);
    await_rounds(&server, 2); // the API server has surely heard of it
    let before = rig.versions();

    let (over, sent) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU32::new(0)),
    );
    let kubeconfig = rig.plane.kubeconfig(DEVELOPER).to_owned();
    let flood = thread::spawn({
        let (over, sent) = (Arc::clone(&over), Arc::clone(&sent));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            runtime.block_on(pour(&kubeconfig, &over, &sent));
        }
    });
    // For longer than a breakage lasts before it counts: whatever comes of the rounds.
    await_rounds(&server, 14);
    for _ in 0..10 {
        let refusal = rig.bare().expect_err("amid all that, too");
        assert!(refusal.contains("validate.portcullis.dev"), "{refusal}");
    }
    over.store(true, Ordering::Relaxed);
    flood.join().expect("it ends");
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent > 1000, "{sent} is no flood");
    let events = Event::in_namespace(rig.plane.audit_log(), "default");
    let of_the_flood = |event: &&Event| event.user.username == DEVELOPER;
    let of_the_flood: Vec<_> = events.iter().filter(of_the_flood).collect();
    let judged = of_the_flood
        .iter()
        .filter(|event| event.decision() == Some("deny"));
    println!("{sent} sent, {} refused by a rule", judged.count());
    let let_in = of_the_flood
        .iter()
        .filter(|event| event.response_status.code == 201);
    assert_eq!(let_in.count(), 0, "of {sent}");
    assert!(rig.policies().are(["Fail"; 3]), "{:?}", rig.policies());
    assert_eq!(rig.versions(), before, "nor was it ever anything else");
    server.stop();
    rig.plane.stop();
}
