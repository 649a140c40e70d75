//! Each rule refuses what it says it refuses, through the API server, and lets its fixed twin pass.

use std::collections::BTreeSet;

use portcullis::policy::rules::RuleId;
use serde_json::{Value, json};

use super::{
    installation::{Session, assert_warned},
    objects::{bare_spec, deployment, env_from_secret, secret, sound_spec, workload},
};

/// One way to break a rule.
struct Fault {
    rule: &'static str,
    /// What else the namespace holds.
    given: fn() -> Vec<Value>,
    /// Makes a sound container unsound.
    spoil: fn(&mut Value),
}

const DENIALS: &[Fault] = &[
    Fault {
        rule: "readiness-probe",
        given: nothing,
        spoil: |pod| remove(app(pod), "readinessProbe"),
    },
    Fault {
        rule: "liveness-probe",
        given: nothing,
        spoil: |pod| remove(app(pod), "livenessProbe"),
    },
    Fault {
        rule: "probe-port",
        given: nothing,
        spoil: |pod| app(pod)["readinessProbe"]["httpGet"]["port"] = json!("web"),
    },
    Fault {
        rule: "cpu-request",
        given: nothing,
        spoil: |pod| {
            remove(&mut app(pod)["resources"]["requests"], "cpu");
            remove(&mut app(pod)["resources"]["limits"], "cpu");
        },
    },
    Fault {
        rule: "memory-request",
        given: nothing,
        spoil: |pod| {
            remove(&mut app(pod)["resources"]["requests"], "memory");
            remove(&mut app(pod)["resources"]["limits"], "memory");
        },
    },
    Fault {
        rule: "memory-limit",
        given: nothing,
        spoil: |pod| remove(&mut app(pod)["resources"]["limits"], "memory"),
    },
    Fault {
        rule: "limit-range",
        given: || {
            vec![json!({
                "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"},
                "spec": {"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]},
            })]
        },
        spoil: |pod| app(pod)["resources"]["limits"]["memory"] = json!("65Mi"),
    },
    Fault {
        rule: "secret-reference",
        given: || vec![secret("there", "password")],
        spoil: |pod| app(pod)["env"] = json!([env_from_secret("PASSWORD", "there", "passwd")]),
    },
    Fault {
        rule: "configmap-reference",
        given: nothing,
        spoil: |pod| app(pod)["envFrom"] = json!([{"configMapRef": {"name": "absent"}}]),
    },
    Fault {
        rule: "pull-secret-reference",
        given: nothing,
        spoil: |pod| pod["imagePullSecrets"] = json!([{"name": "absent"}]),
    },
    Fault {
        rule: "service-account-reference",
        given: nothing,
        spoil: |pod| pod["serviceAccountName"] = json!("absent"),
    },
];

const WARNINGS: &[Fault] = &[
    Fault {
        rule: "probe-port",
        given: nothing,
        spoil: |pod| app(pod)["readinessProbe"]["httpGet"]["port"] = json!(3000),
    },
    Fault {
        rule: "probe-distinct",
        given: nothing,
        spoil: |pod| app(pod)["livenessProbe"] = app(pod)["readinessProbe"].clone(),
    },
    Fault {
        rule: "cpu-limit",
        given: nothing,
        spoil: |pod| remove(&mut app(pod)["resources"]["limits"], "cpu"),
    },
];

const fn nothing() -> Vec<Value> {
    Vec::new()
}

fn app(pod: &mut Value) -> &mut Value {
    &mut pod["containers"][0]
}

fn remove(object: &mut Value, key: &str) {
    object
        .as_object_mut()
        .expect("an object")
        .remove(key)
        .expect("a key to remove");
}

fn spoiled(fault: &Fault) -> String {
    let mut pod = sound_spec();
    (fault.spoil)(&mut pod);
    deployment("app", pod).to_string()
}

#[test]
fn each_rule_refuses_and_its_fixed_twin_passes() {
    let session = Session::shared();
    for fault in DENIALS {
        let namespace = session.namespace(fault.rule);
        for object in (fault.given)() {
            namespace.admin.apply(&object.to_string()).ok();
        }
        namespace.refuses(&spoiled(fault), fault.rule);
        let applied = namespace
            .developer
            .apply(&deployment("app", sound_spec()).to_string());
        assert!(
            !applied.stderr.contains("Warning"),
            "{}: {}",
            fault.rule,
            applied.stderr
        );
        applied.ok();
    }
}

#[test]
fn warnings_reach_the_client_and_refuse_nothing() {
    let session = Session::shared();
    let namespace = session.namespace("warnings");
    for fault in WARNINGS {
        assert_warned(namespace.developer.apply(&spoiled(fault)), fault.rule);
    }
}

#[test]
fn a_rollout_that_may_lose_pods_is_warned_about() {
    let session = Session::shared();
    let namespace = session.namespace("rollout-strategy");
    let mut object = deployment("app", sound_spec());
    object["spec"]["replicas"] = json!(2);
    assert_warned(
        namespace.developer.apply(&object.to_string()),
        "rollout-strategy",
    );
}

#[test]
fn a_value_that_is_no_string_is_refused_where_the_api_server_takes_it() {
    let session = Session::shared();
    let namespace = session.namespace("string-value");
    // Unquoted `on` in YAML. Of a built-in kind the API server itself refuses it; a Rollout it keeps as it is.
    let mut rollout = workload("Rollout", "app", sound_spec());
    rollout["spec"]["template"]["metadata"]["annotations"] = json!({"example.com/debug": true});
    namespace.refuses(&rollout.to_string(), "string-value");
    rollout["spec"]["template"]["metadata"]["annotations"] = json!({"example.com/debug": "on"});
    namespace.developer.apply(&rollout.to_string()).ok();
}

#[test]
fn a_namespace_may_ask_for_warnings_only_or_for_nothing() {
    let session = Session::shared();
    let bare = deployment("app", bare_spec()).to_string();

    let warned = session.labelled_namespace("enforce", &[("portcullis.dev/enforce", "warn")]);
    assert_warned(warned.developer.apply(&bare), "readiness-probe");

    let left_alone = session.labelled_namespace("enforce", &[("portcullis.dev/enforce", "none")]);
    let answer = left_alone.developer.apply(&bare);
    assert_eq!(answer.stderr, "");
    answer.ok();
    assert!(left_alone.answers("app", 1)[0].is_none(), "we were asked");
}

#[test]
fn every_rule_is_shown() {
    let shown = DENIALS.iter().chain(WARNINGS).map(|fault| fault.rule);
    // Those with a test of their own.
    let elsewhere = [
        "env-parity",
        "gate-config",
        "gate-takeover",
        "required-env",
        "rollout-strategy",
        "string-value",
    ];
    assert_eq!(
        shown.chain(elsewhere).collect::<BTreeSet<_>>(),
        RuleId::ALL
            .iter()
            .map(|id| id.as_str())
            .collect::<BTreeSet<_>>(),
    );
}
