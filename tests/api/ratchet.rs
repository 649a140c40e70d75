//! A workload that is older than the rules can be changed and mended bit by bit, and nobody makes it worse.

use std::fs;

use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session, assert_refused, assert_warned},
    objects::{self, bare_container, bare_spec, container, deployment, sound_spec, spec},
};
use crate::support::{server::Launch, wait::eventually};

/// A namespace with Deployments of these names and specs, which are older than enforcement.
fn older(session: &Session, topic: &str, deployments: &[(&str, Value)]) -> Namespace {
    let namespace = session.labelled_namespace(topic, &[("portcullis.dev/enforce", "none")]);
    let deployments = deployments
        .iter()
        .map(|(name, spec)| deployment(name, spec.clone()));
    namespace.developer.apply(&objects::list(deployments)).ok();
    namespace.enforce("deny");
    namespace
}

/// What kubectl can send again.
fn stored(namespace: &Namespace, name: &str) -> Value {
    let printed = namespace
        .developer
        .call(&format!("get deployment/{name} -o json"))
        .ok();
    let mut object: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
    for field in [
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "managedFields",
    ] {
        let metadata = object["metadata"].as_object_mut();
        metadata.expect("objects have metadata").remove(field);
    }
    object
}

#[test]
fn an_update_of_an_old_workload_passes_with_warnings_and_says_why() {
    let session = Session::shared();
    let namespace = older(&session, "ratchet", &[("old", bare_spec())]);

    let answer = namespace
        .developer
        .call("set image deployment/old app=registry.example/app:2.0");
    assert!(
        answer.stderr.contains("that it had before this update"),
        "{}",
        answer.stderr
    );
    assert_warned(answer, "memory-limit");

    let told = namespace
        .answers("old", 2)
        .remove(1)
        .expect("we were asked");
    assert_eq!(told.decision(), Some("warn"));
    let annotation =
        |key: &str| told.annotations[&format!("validate.portcullis.dev/{key}")].clone();
    assert_eq!(annotation("lowered-by"), "ratchet");
    assert!(
        annotation("lowered")
            .split(',')
            .any(|rule| rule == "memory-limit"),
        "{told:?}"
    );
}

/// Without the comparison of violations in `policy::ratchet` each of these passes.
#[test]
fn an_old_workload_is_no_way_round_the_rules() {
    let session = Session::shared();
    let two = || spec([bare_container("app"), container("proxy")]);
    let namespace = older(
        &session,
        "round",
        &[("old", two()), ("forced", bare_spec())],
    );
    let patch = |operations: Value| {
        let operations = operations.to_string();
        let words = ["patch", "deployment/old", "--type=json", "-p", &operations];
        namespace.developer.call_with(&words, None)
    };
    let containers = "/spec/template/spec/containers";

    // One more container like the old one,
    let more =
        json!([{"op": "add", "path": format!("{containers}/-"), "value": bare_container("more")}]);
    let message = assert_refused(patch(more).refusal(), "memory-limit");
    let (_, refusal) = message
        .split_once("denied the request")
        .expect("it is a refusal");
    assert!(
        refusal.contains("\"more\"") && !refusal.contains("\"app\""),
        "only what is new is refused: {message}"
    );
    // a sound one spoilt,
    let spoilt = json!([{"op": "remove", "path": format!("{containers}/1/resources")}]);
    assert_refused(patch(spoilt).refusal(), "memory-limit");
    // their names exchanged,
    let exchanged = json!([
        {"op": "replace", "path": format!("{containers}/0/name"), "value": "proxy"},
        {"op": "replace", "path": format!("{containers}/1/name"), "value": "app"},
    ]);
    assert_refused(patch(exchanged).refusal(), "memory-limit");
    // the same under another name,
    let mut copy = stored(&namespace, "old");
    copy["metadata"]["name"] = json!("copy");
    let copied = namespace.developer.feed("create -f -", &copy.to_string());
    assert_refused(copied.refusal(), "memory-limit");
    // and the same deleted and made anew.
    let forced = stored(&namespace, "forced").to_string();
    let replaced = namespace.developer.feed("replace --force -f -", &forced);
    assert_refused(replaced.refusal(), "memory-limit");

    // A sound one never gets there.
    namespace
        .developer
        .apply(&deployment("sound", sound_spec()).to_string())
        .ok();
    namespace.refuses(
        &deployment("sound", bare_spec()).to_string(),
        "memory-limit",
    );
}

#[test]
fn what_is_reordered_or_only_renamed_stays_what_it_was() {
    let session = Session::shared();
    let two = [bare_container("app"), container("proxy")];
    let namespace = older(&session, "reordered", &[("old", spec(two.clone()))]);
    let [app, proxy] = two;
    let reordered = deployment("old", spec([proxy, app])).to_string();
    assert_warned(namespace.developer.apply(&reordered), "memory-limit");
    // Not by `apply`, which would merge lists by name.
    let mut object = stored(&namespace, "old");
    let app = "/spec/template/spec/containers/1";
    *object.pointer_mut(app).expect("it is there") = bare_container("web");
    let replace = |object: &Value| namespace.developer.replace(&object.to_string());
    assert_warned(replace(&object), "memory-limit");
    // With another image nobody knows that it is the same.
    let mut other = bare_container("other");
    other["image"] = json!("registry.example/other:1.0");
    *object.pointer_mut(app).expect("it is there") = other;
    assert_refused(replace(&object).refusal(), "memory-limit");
}

/// Without the value in the key of `policy::ratchet` the first passes, without the count the second, and without the
/// degree the third.
#[test]
fn what_was_wrong_becomes_wrong_neither_otherwise_nor_twice_nor_worse() {
    let session = Session::shared();
    let reading = |secrets: &[&str]| {
        let sources = secrets
            .iter()
            .map(|name| json!({"secretRef": {"name": name}}));
        let mut app = container("app");
        app["envFrom"] = sources.collect();
        spec([app])
    };
    let large = |memory: &str| {
        let mut app = container("app");
        app["resources"]["limits"]["memory"] = json!(memory);
        spec([app])
    };
    let old = [("reads", reading(&["gone"])), ("large", large("1Gi"))];
    let namespace = older(&session, "worse", &old);
    let most = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "most"},
        "spec": {"limits": [{"type": "Container", "max": {"memory": "512Mi"}}]},
    });
    namespace.admin.apply(&most.to_string()).ok();
    let update = |name: &str, spec: &Value| deployment(name, spec.clone()).to_string();
    for secrets in [&["never-there"][..], &["gone", "gone"]] {
        namespace.refuses(&update("reads", &reading(secrets)), "secret-reference");
    }
    let worse = update("large", &large("2Gi"));
    eventually("the LimitRange to count", || {
        let tried = namespace
            .developer
            .feed("apply --dry-run=server -f -", &worse);
        tried.failure()
    });
    namespace.refuses(&worse, "limit-range");
    let better = update("large", &large("768Mi"));
    assert_warned(namespace.developer.apply(&better), "limit-range");
}

#[test]
fn settings_turn_the_ratchet_off() {
    let session = Session::alone();
    let namespace = older(&session, "strict", &[("old", bare_spec())]);
    session.stop_server();
    let launch = session.launch();
    let strict = Launch {
        settings: launch.settings.with_extension("strict.yaml"),
        ..launch.clone()
    };
    let settings = format!("ratchet: off\n{}", objects::SETTINGS);
    fs::write(&strict.settings, settings).expect("the folder is ours");
    let strict = strict.start();
    let image = "set image deployment/old app=registry.example/app:2.0";
    eventually("an old violation to be refused", || {
        let tried = format!("{image} --dry-run=server");
        namespace.developer.call(&tried).failure()
    });
    strict.stop();
    session.start_server();
    session.await_enforcement();
    assert_warned(namespace.developer.call(image), "memory-limit");
}
