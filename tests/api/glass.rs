//! Break glass: one command, with a replica and without; it shows, and it ends.

use std::fs;

use serde_json::Value;
use tokio::time::Instant;

use super::{
    lifecycle::{Ground, Installed, on_call},
    objects::list,
};
use crate::support::{doctor, manifests::BASE, wait::eventually};

const BOTH: &str = "validatingwebhookconfiguration,mutatingwebhookconfiguration portcullis";

impl Ground {
    /// An annotation of both configurations; empty where there is none.
    fn annotations(&self, name: &str) -> Vec<String> {
        let printed = self.admin.call(&format!("get {BOTH} -o json")).ok();
        let list: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
        let items = list["items"].as_array().expect("a list").iter();
        let values = items.map(|item| item["metadata"]["annotations"][name].as_str());
        values
            .map(|value| value.unwrap_or_default().to_owned())
            .collect()
    }

    fn set_end(&self, until: &str) {
        let annotate = "annotate --overwrite";
        let end = format!("portcullis.dev/break-glass-until={until}");
        self.admin.call(&format!("{annotate} {BOTH} {end}")).ok();
    }

    fn await_event(&self, reason: &str) {
        eventually(reason, || {
            let get = "get events -n portcullis-system -o jsonpath={.items[*].reason}";
            let events = self.admin.call(get).success_output()?;
            events.contains(reason).then_some(()).ok_or(events)
        });
    }
}

impl Installed {
    fn broken_until(&self) -> u64 {
        let server = self.server.as_ref().expect("it runs");
        server.metric("portcullis_webhook_break_glass_until_timestamp_seconds")
    }
}

/// A replica is alive, and leaves it so.
fn shows(ground: &Ground, installed: &Installed) {
    ground.await_event("GlassBroken");
    assert!(installed.broken_until() > 0);
    let said = doctor::ask(ground.admin.kubeconfig(), "default");
    said.has("registration warn", "glass is broken until");
    assert!(ground.are_all("Ignore"));
}

/// What was proved before is worth nothing then.
fn ends(ground: &Ground, installed: &Installed) {
    ground.set_end("2026-01-01T00:00:00Z");
    eventually("the annotations to go", || {
        let left = ground.annotations("portcullis.dev/break-glass");
        let gone = left.iter().all(String::is_empty);
        gone.then_some(()).ok_or_else(|| format!("{left:?}"))
    });
    let begun = Instant::now();
    for last in ground.annotations("portcullis.dev/last-break-glass") {
        assert!(last.starts_with("until 2026-01-01T00:00:00Z: "), "{last}");
    }
    ground.await_event("GlassWhole");
    assert_eq!(installed.broken_until(), 0);
    ground.await_policy("Fail");
    let taken = begun.elapsed();
    assert!(taken.as_secs() >= 25, "proved anew in {taken:?}");
}

#[test]
fn glass_is_broken_by_the_command_of_the_readme_shows_and_ends_with_a_new_proof() {
    let ground = Ground::new();
    let mut installed = ground.install(BASE);
    ground.await_policy("Fail");
    ground.admin.shell(&on_call(0)).ok();
    assert!(ground.are_all("Ignore"));
    shows(&ground, &installed);
    ends(&ground, &installed);

    // None is alive; and who comes back honours it.
    installed.kill();
    ground.admin.shell(&on_call(0)).ok();
    assert!(ground.are_all("Ignore"));
    ground.await_freedom();
    installed.server = Some(installed.launch.start());
    installed.await_looks(&["unchanged", "written"]);
    shows(&ground, &installed);

    // An end that is none is put right, and said aloud.
    ground.set_end("tomorrow");
    eventually("the end to be put right", || {
        let ends = ground.annotations("portcullis.dev/break-glass-until");
        let right = ends.iter().all(|end| end.ends_with('Z'));
        right.then_some(()).ok_or_else(|| format!("{ends:?}"))
    });
    eventually("a line in the log", || {
        let log = fs::read_to_string(&installed.launch.log).expect("it writes one");
        log.contains("one hour from now").then_some(()).ok_or(log)
    });

    installed.stop();
    let all = list(installed.manifests.clone());
    ground
        .admin
        .feed("delete --ignore-not-found -f -", &all)
        .ok();
    ground.holds_none_of(&installed.manifests);
}
