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
fn a_revert_by_apply_passes_and_so_does_one_after_a_restart() {
    let session = Session::shared();
    let namespace = mended(&session, "revert", "Deployment");
    // As GitOps tools and `helm rollback` do it: the old manifest once more.
    let old = deployment("app", bare_spec()).to_string();
    assert_warned(namespace.developer.apply(&old), RULE);
    let new = deployment("app", sound_spec()).to_string();
    namespace.developer.apply(&new).ok();
    let by_server = "apply --server-side --force-conflicts --field-manager=gitops -f -";
    // The fields that the other way of applying has added stay, so this is no old revision.
    let answer = namespace.developer.feed("replace -f -", &old);
    assert_warned(answer, RULE);
    assert!(is_bare(&namespace, "deployment"));
    namespace.developer.feed(by_server, &new).ok();

    // A restart leaves a mark in the template, and makes a revision of its own.
    namespace
        .developer
        .call("rollout restart deployment/app")
        .ok();
    revisions(&namespace, "Deployment", "app", 3);
    let back = namespace
        .developer
        .call("rollout undo deployment/app --to-revision=0");
    back.ok();
    assert!(!is_bare(&namespace, "deployment"), "to before the restart");
    let sets = revisions(&namespace, "Deployment", "app", 3);
    let bare = sets.iter().find(|set| {
        let app = &set["spec"]["template"]["spec"]["containers"][0];
        app["livenessProbe"].is_null()
    });
    let number = bare.expect("the first revision is kept")["metadata"]["annotations"]
        ["deployment.kubernetes.io/revision"]
        .as_str()
        .expect("the controller counts")
        .to_owned();
    let back = format!("rollout undo deployment/app --to-revision={number}");
    assert_warned(namespace.developer.call(&back), RULE);
    assert!(is_bare(&namespace, "deployment"));
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

/// Each of these passes if `policy::precedent` looks at the template alone, and not at whose revision it is; the first
/// two if revisions that users write are not judged, and the third if the ratchet holds for ReplicaSets.
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
    // What others keep is not one's own.
    let mut other = workload("Deployment", "other", sound_spec());
    other["spec"]["template"]["metadata"]["labels"]["app"] = json!("alone");
    other["spec"]["selector"]["matchLabels"]["app"] = json!("alone-too");
    other["spec"]["template"]["metadata"]["labels"]["app"] = json!("alone-too");
    namespace.developer.apply(&other.to_string()).ok();
    let mut back = other;
    back["spec"]["template"]["spec"] = bare_spec();
    namespace.refuses(&back.to_string(), RULE);
}

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
