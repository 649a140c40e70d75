//! What the settings file adds to the rules, seen through the API server.

use serde_json::{Value, json};

use super::{
    installation::{Session, assert_refused, assert_warned},
    objects::{bare_spec, container, deployment, env_from_secret, sound_spec, spec, workload},
};

/// A sound pod spec whose container sets these env names.
fn with_env(names: &[&str]) -> Value {
    let mut app = container("app");
    app["env"] = names
        .iter()
        .map(|name| json!({"name": name, "value": "x"}))
        .collect();
    spec([app])
}

#[test]
fn required_env_is_asked_for_where_settings_say_so() {
    let session = Session::shared();
    let namespace = session.namespace("required-env");
    let message = namespace.refuses(&deployment("app", sound_spec()).to_string(), "required-env");
    assert!(message.contains("TZ"), "{message}");
    namespace
        .developer
        .apply(&deployment("app", with_env(&["TZ"])).to_string())
        .ok();
}

#[test]
fn a_name_that_the_twin_sets_must_be_set() {
    let session = Session::shared();
    let staging = session.named_namespace("parity-staging", &[]);
    let production = session.named_namespace("parity-production", &[]);
    let notification = |names| deployment("notification", with_env(names)).to_string();
    staging
        .developer
        .apply(&notification(&["SENDER", "SMTP_HOST"]))
        .ok();
    let message = production.refuses(&notification(&["SENDER"]), "env-parity");
    assert!(message.contains("SMTP_HOST"), "{message}");
    production
        .developer
        .apply(&notification(&["SENDER", "SMTP_HOST"]))
        .ok();
}

#[test]
fn an_expected_secret_is_not_looked_up() {
    let session = Session::shared();
    let namespace = session.namespace("expected");
    let reads = |secret| {
        let mut app = container("app");
        app["env"] = json!([env_from_secret("TOKEN", secret, "token")]);
        deployment("app", spec([app])).to_string()
    };
    namespace.refuses(&reads("forgotten"), "secret-reference");
    namespace.developer.apply(&reads("made-by-vault")).ok();
}

#[test]
fn a_user_that_settings_name_is_warned_and_not_refused() {
    let session = Session::shared();
    let namespace = session.namespace("warn-only");
    let pod = workload("Pod", "restored", bare_spec()).to_string();
    let answer = namespace.admin.feed(
        "create --as=restore-tool --as-group=system:masters -f -",
        &pod,
    );
    assert_warned(answer, "memory-limit");

    let mut other: Value = serde_json::from_str(&pod).expect("it was JSON before");
    other["metadata"]["name"] = json!("mine");
    let refusal = namespace
        .developer
        .feed("create -f -", &other.to_string())
        .refusal();
    let refusal = assert_refused(refusal, "memory-limit");
    assert!(
        refusal.contains("warnOnlyUsers"),
        "a bare Pod's refusal names this way out: {refusal}"
    );
}

#[test]
fn a_restore_brings_pods_back_with_the_owners_they_had() {
    let session = Session::shared();
    let namespace = session.namespace("restore");
    let restored = |name: &str| {
        let mut pod = workload("Pod", name, bare_spec());
        pod["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "of-another-cluster", "controller": true,
            "uid": "2f2b8b4e-0000-4000-8000-000000000000",
        }]);
        pod.to_string()
    };
    let by = |user: &str, name: &str| {
        let create = format!("create --as={user} --as-group=system:masters -f -");
        namespace.admin.feed(&create, &restored(name))
    };
    assert_warned(by("restore-tool", "one"), "memory-limit");
    assert_refused(by("somebody", "two").refusal(), "memory-limit");
    let mine = namespace.developer.feed("create -f -", &restored("three"));
    assert_refused(mine.refusal(), "memory-limit");
}

#[test]
fn the_people_on_call_can_debug_a_node() {
    let session = Session::shared();
    let namespace = session.namespace("oncall");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "sick-node"}});
    session.admin().apply(&node.to_string()).ok();
    let debug = |group: &str| {
        let words = format!(
            "debug node/sick-node --image=registry.example/tools:1.0 --attach=false --as=kim --as-group={group} \
             --as-group=system:masters"
        );
        namespace.admin.call(&words)
    };
    assert_refused(debug("accounting").refusal(), "memory-limit");
    assert_warned(debug("oncall"), "memory-limit");
    session.admin().call("delete node sick-node").ok();
}
