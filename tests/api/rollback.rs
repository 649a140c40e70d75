//! Back to what was there before: never refused, and only to what the workload's own controller keeps.

use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session, assert_refused, assert_warned},
    objects::{bare_spec, container, deployment, sound_spec, spec, workload},
};
use crate::support::{kubectl::Kubectl, wait::eventually};

/// The rule that every bare container breaks, in Jobs too.
const RULE: &str = "memory-limit";

fn json_of(user: &Kubectl, words: &str) -> Value {
    let printed = user.call(&format!("{words} -o json")).ok();
    serde_json::from_str(&printed).expect("kubectl prints JSON")
}

/// The revisions that the controller of `kind` keeps for an app, when there are `count`.
fn revisions(namespace: &Namespace, kind: &str, app: &str, count: usize) -> Vec<Value> {
    let resource = match kind {
        "Deployment" => "replicasets",
        _ => "controllerrevisions",
    };
    eventually(&format!("{count} revisions of {app}"), || {
        let list = json_of(&namespace.admin, &format!("get {resource} -l app={app}"));
        let items = list["items"].as_array().cloned().unwrap_or_default();
        if items.len() == count {
            Ok(items)
        } else {
            Err(list.to_string())
        }
    })
}

/// A namespace that enforces, with a workload that is older than that and sound by now: its first revision is not.
fn mended(session: &Session, topic: &str, kind: &str) -> Namespace {
    let namespace = session.labelled_namespace(topic, &[("portcullis.dev/enforce", "none")]);
    let old = workload(kind, "app", bare_spec()).to_string();
    namespace.developer.apply(&old).ok();
    revisions(&namespace, kind, "app", 1);
    namespace.enforce("deny");
    let new = workload(kind, "app", sound_spec()).to_string();
    namespace.developer.apply(&new).ok();
    revisions(&namespace, kind, "app", 2);
    namespace
}

fn is_bare(namespace: &Namespace, kind: &str) -> bool {
    let now = json_of(&namespace.developer, &format!("get {kind}/app"));
    now["spec"]["template"]["spec"]["containers"][0]["livenessProbe"].is_null()
}

#[test]
fn rollout_undo_passes_for_each_kind_that_keeps_revisions() {
    let session = Session::shared();
    for kind in ["Deployment", "StatefulSet", "DaemonSet"] {
        let namespace = mended(&session, "undo", kind);
        let answer = namespace
            .developer
            .call(&format!("rollout undo {kind}/app"));
        assert!(
            answer.stderr.contains("goes back to an own revision"),
            "{kind}: {}",
            answer.stderr
        );
        assert_warned(answer, RULE);
        assert!(is_bare(&namespace, kind), "{kind}");
        // The old one is in use again: nothing of ours made it another.
        revisions(&namespace, kind, "app", 2);
        let told = namespace
            .answers("app", 3)
            .remove(2)
            .expect("we were asked");
        let by = &told.annotations["validate.portcullis.dev/lowered-by"];
        assert_eq!(by, "rollback", "{kind}");
    }
}

#[test]
fn a_revert_in_git_passes() {
    let session = Session::shared();
    // As `helm rollback` and Flux, and as Argo CD and Flux with server-side apply: the old manifest once more.
    for apply in [
        "apply -f -",
        "apply --server-side --field-manager=gitops -f -",
    ] {
        let namespace = session.labelled_namespace("revert", &[("portcullis.dev/enforce", "none")]);
        let applied = |spec| {
            let object = deployment("app", spec).to_string();
            namespace.developer.feed(apply, &object)
        };
        applied(bare_spec()).ok();
        revisions(&namespace, "Deployment", "app", 1);
        namespace.enforce("deny");
        applied(sound_spec()).ok();
        revisions(&namespace, "Deployment", "app", 2);
        assert_warned(applied(bare_spec()), RULE);
        assert!(is_bare(&namespace, "deployment"), "{apply}");
    }
}

#[test]
fn a_rollback_after_a_restart_passes() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("restart", &[("portcullis.dev/enforce", "none")]);
    let applied = |spec| {
        let object = deployment("app", spec).to_string();
        namespace.developer.apply(&object).ok();
    };
    applied(bare_spec());
    revisions(&namespace, "Deployment", "app", 1);
    // A restart leaves a mark in the template, and makes a revision of its own. kubectl restarts nothing twice in a second,
    // which is what the mark tells.
    let restart = || {
        let restart = "rollout restart deployment/app";
        eventually("a restart", || namespace.developer.call(restart).success());
    };
    restart();
    revisions(&namespace, "Deployment", "app", 2);
    namespace.enforce("deny");
    applied(sound_spec());
    revisions(&namespace, "Deployment", "app", 3);
    restart();
    revisions(&namespace, "Deployment", "app", 4);
    for number in [1, 3, 2] {
        let undo = format!("rollout undo deployment/app --to-revision={number}");
        let answer = namespace.developer.call(&undo);
        if number == 3 {
            answer.ok();
        } else {
            assert_warned(answer, RULE);
        }
        assert_eq!(is_bare(&namespace, "deployment"), number != 3, "{undo}");
    }
    // Nor does Git know of the mark: it stays in the template, so that no revision is quite like what comes of this.
    applied(sound_spec());
    restart();
    let old = deployment("app", bare_spec()).to_string();
    assert_warned(namespace.developer.apply(&old), RULE);
}

#[test]
fn an_undo_that_changes_an_annotation_of_ours_passes() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("note", &[("portcullis.dev/enforce", "none")]);
    let mut old = deployment("app", bare_spec());
    old["metadata"]["annotations"] = json!({"portcullis.dev/note": "old"});
    namespace.developer.apply(&old.to_string()).ok();
    revisions(&namespace, "Deployment", "app", 1);
    namespace.enforce("deny");
    let mut new = deployment("app", sound_spec());
    new["metadata"]["annotations"] = json!({"portcullis.dev/note": "new"});
    namespace.developer.apply(&new.to_string()).ok();
    revisions(&namespace, "Deployment", "app", 2);
    let answer = namespace.developer.call("rollout undo deployment/app");
    assert_warned(answer, RULE);
    let now = json_of(&namespace.developer, "get deployment/app");
    assert_eq!(now["metadata"]["annotations"]["portcullis.dev/note"], "old");
}

/// The first two pass if revisions that users write are not judged, the third if the ratchet holds for ReplicaSets.
#[test]
fn a_revision_can_not_be_planted() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("planted", &[("portcullis.dev/enforce", "none")]);
    // Older than enforcement, and nobody's.
    let alone = workload("ReplicaSet", "alone", bare_spec()).to_string();
    namespace.developer.apply(&alone).ok();
    namespace.enforce("deny");
    for (kind, revision) in [
        ("Deployment", "ReplicaSet"),
        ("StatefulSet", "ControllerRevision"),
    ] {
        let sound = workload(kind, "app", sound_spec()).to_string();
        namespace.developer.apply(&sound).ok();
        let owner = json_of(&namespace.developer, &format!("get {kind}/app"));
        let mut planted = workload(revision, "planted", bare_spec());
        planted["metadata"]["labels"] = json!({"app": "app"});
        planted["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": kind, "name": "app", "controller": true,
            "uid": owner["metadata"]["uid"],
        }]);
        let answer = namespace
            .developer
            .feed("create -f -", &planted.to_string());
        assert_refused(answer.refusal(), RULE);
        // And so there is nothing to go back to.
        namespace.refuses(&workload(kind, "app", bare_spec()).to_string(), RULE);
    }

    // Nor can what is old be changed into what is wanted, to be adopted afterwards.
    let image = "set image replicaset/alone app=registry.example/mine:1.0";
    assert_refused(namespace.developer.call(image).refusal(), RULE);
}

/// The twin passes if `policy::precedent` does not ask whose revision it is, the others if it does not compare.
#[test]
fn what_is_not_an_old_revision_of_this_very_object_is_refused() {
    let session = Session::shared();
    let namespace = mended(&session, "not-own", "Deployment");
    // Like the old one, but with another image.
    let mut like = bare_spec();
    like["containers"][0]["image"] = json!("registry.example/mine:1.0");
    namespace.refuses(&deployment("app", like).to_string(), RULE);
    // The old one and one more.
    let mut more = bare_spec();
    let containers = more["containers"].as_array_mut();
    containers.expect("a list").push(container("more"));
    namespace.refuses(&deployment("app", more).to_string(), RULE);
    // The old one under a name that has no revisions.
    namespace.refuses(&deployment("copy", bare_spec()).to_string(), RULE);
    // What another keeps, whose pods have the same labels.
    let named = |spec| {
        let mut twin = deployment("app", spec);
        twin["metadata"]["name"] = json!("twin");
        twin.to_string()
    };
    namespace.developer.apply(&named(sound_spec())).ok();
    namespace.refuses(&named(bare_spec()), RULE);

    // Deleted and made anew, it is another object of the same name.
    namespace.developer.call("delete deployment app").ok();
    namespace
        .developer
        .apply(&deployment("app", sound_spec()).to_string())
        .ok();
    namespace.refuses(&deployment("app", bare_spec()).to_string(), RULE);
}

#[test]
fn without_a_history_there_is_nothing_to_go_back_to() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("history", &[("portcullis.dev/enforce", "none")]);
    let forgetful = |spec| {
        let mut object = deployment("app", spec);
        object["spec"]["revisionHistoryLimit"] = json!(0);
        object.to_string()
    };
    namespace.developer.apply(&forgetful(bare_spec())).ok();
    revisions(&namespace, "Deployment", "app", 1);
    namespace.enforce("deny");
    namespace.developer.apply(&forgetful(sound_spec())).ok();
    eventually("the old revision to be gone", || {
        let sets = revisions(&namespace, "Deployment", "app", 1);
        let app = &sets[0]["spec"]["template"]["spec"]["containers"][0];
        if app["livenessProbe"].is_null() {
            Err(app.to_string())
        } else {
            Ok(())
        }
    });
    namespace.refuses(&forgetful(bare_spec()), RULE);
}

/// Without the comparison with the CronJob's template in `policy::precedent` the forged ones pass.
#[test]
fn a_job_made_by_hand_passes_if_its_cron_job_has_the_same_template() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("by-hand", &[("portcullis.dev/enforce", "none")]);
    let nightly = workload("CronJob", "nightly", bare_spec()).to_string();
    namespace.developer.apply(&nightly).ok();
    namespace.enforce("deny");
    let answer = namespace
        .developer
        .call("create job by-hand --from=cronjob/nightly");
    assert!(
        answer.stderr.contains("its CronJob has the same template"),
        "{}",
        answer.stderr
    );
    assert_warned(answer, RULE);

    let job = json_of(&namespace.developer, "get job/by-hand");
    let mut forged = workload(
        "Job",
        "forged",
        spec([json!({"name": "app", "image": "mine:1.0"})]),
    );
    forged["metadata"]["ownerReferences"] = job["metadata"]["ownerReferences"].clone();
    forged["metadata"]["annotations"] = json!({"cronjob.kubernetes.io/instantiate": "manual"});
    let refused = namespace.developer.feed("create -f -", &forged.to_string());
    assert_refused(refused.refusal(), RULE);
    forged["metadata"]["ownerReferences"][0]["name"] = json!("no-such");
    let refused = namespace.developer.feed("create -f -", &forged.to_string());
    assert_refused(refused.refusal(), RULE);
    let alone = workload("Job", "alone", bare_spec()).to_string();
    namespace.refuses(&alone, RULE);
}
