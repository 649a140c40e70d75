//! Each kind that carries a pod template is judged, and so is a kind that settings add.

use portcullis::policy::workload::KINDS;

use super::{
    installation::{Session, assert_refused},
    objects::{bare_spec, sound_spec, workload},
};

/// Memory, since Jobs need no probes.
const RULE: &str = "memory-limit";

#[test]
fn each_kind_is_judged() {
    let session = Session::shared();
    let namespace = session.namespace("kinds");
    for kind in KINDS
        .iter()
        .map(|kind| kind.kind.as_ref())
        .chain(["Rollout"])
    {
        let name = kind.to_lowercase();
        let message = namespace.refuses(&workload(kind, &name, bare_spec()).to_string(), RULE);
        assert!(
            message.contains(&format!("{kind} {}/{name}", namespace.name)),
            "{message}"
        );
        namespace
            .developer
            .apply(&workload(kind, &name, sound_spec()).to_string())
            .ok();
    }
}

#[test]
fn each_kind_is_judged_again_when_its_template_changes() {
    let session = Session::shared();
    let namespace = session.namespace("updates");
    for kind in KINDS
        .iter()
        .filter(|kind| kind.update)
        .map(|kind| kind.kind.as_ref())
        .chain(["Rollout"])
    {
        if kind == "Job" {
            continue; // its template can't change
        }
        let name = kind.to_lowercase();
        namespace
            .developer
            .apply(&workload(kind, &name, sound_spec()).to_string())
            .ok();
        let bad = workload(kind, &name, bare_spec()).to_string();
        assert_refused(
            namespace.developer.feed("replace -f -", &bad).refusal(),
            RULE,
        );
    }
}
