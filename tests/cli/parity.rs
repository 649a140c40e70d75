//! `portcullis parity` on files, as CI has them.

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Said, folder, portcullis, run_in};

/// What staging has.
const STAGING: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: staging}
spec:
  template:
    spec:
      containers:
      - name: app
        env:
        - {name: LOG_LEVEL, value: debug}
        - {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: checkout, key: url}}}
        - {name: SMTP_HOST, valueFrom: {configMapKeyRef: {name: mail, key: host}}}
        envFrom:
        - configMapRef: {name: settings}
        - secretRef: {name: common}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report, namespace: staging}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: app}]}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: staging}
data: {FEATURE_X: \"on\", REGION: eu}
";

/// What production has.
const PRODUCTION: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: production}
spec:
  template:
    spec:
      containers:
      - name: app
        env:
        - {name: LOG_LEVEL, value: info}
        - {name: DATABASE_URL, value: postgres://hunter2@db}
        envFrom:
        - configMapRef: {name: settings}
        - secretRef: {name: common}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: production}
data: {REGION: us}
";

fn environments() -> TempDir {
    folder(&[
        ("staging/all.yaml", STAGING.as_bytes()),
        ("production/all.yaml", PRODUCTION.as_bytes()),
    ])
}

fn compare(folder: &TempDir, arguments: &[&str]) -> Said {
    run_in(folder, &[&["parity"], arguments].concat())
}

#[test]
fn what_differs_is_a_table() {
    let said = compare(&environments(), &["staging/", "production/"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    assert_snapshot!(said.out);
}

#[test]
fn every_name_is_shown_when_asked() {
    let said = compare(&environments(), &["staging/", "production/", "--all"]);
    assert_eq!(said.status, 1);
    assert_snapshot!(said.out);
}

#[test]
fn json_holds_every_name_and_keeps_its_shape() {
    let said = compare(&environments(), &["staging/", "production/", "-o", "json"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    assert_snapshot!(said.out);
}

#[test]
fn the_same_on_both_sides_is_exit_0() {
    let folder = environments();
    let said = compare(&folder, &["staging/", "./staging"]);
    assert_eq!(
        (said.status, said.out.as_str()),
        (0, "2 workloads, 6 env names in both: no difference\n")
    );
}

#[test]
fn text_is_coloured_when_asked_and_never_for_a_pipe() {
    let folder = environments();
    let arguments = ["staging/", "production/"];
    assert!(!compare(&folder, &arguments).out.contains('\u{1b}'));
    let coloured = compare(&folder, &[&arguments[..], &["--color=always"]].concat()).out;
    assert!(
        coloured.contains("\u{1b}[1;31mmissing\u{1b}[0m"),
        "{coloured}"
    );
}

#[test]
fn a_name_that_an_object_outside_the_files_may_bring_is_told_apart_from_a_missing_one() {
    let folder = environments();
    let other = PRODUCTION.replace("common", "other");
    std::fs::write(folder.path().join("production/all.yaml"), other).unwrap();
    let said = compare(&folder, &["staging/", "production/"]);
    assert_eq!(said.status, 1);
    let cause = "?  Secret \"other\": it is not among the given files, but may be in the cluster";
    assert!(said.out.contains(cause), "{}", said.out);
    let line = said.out.lines().find(|line| line.contains("SMTP_HOST"));
    assert_eq!(
        line.map(|line| line.split_whitespace().last()),
        Some(Some("?"))
    );
}

#[test]
fn what_cannot_be_read_is_told_and_exit_2() {
    let folder = environments();
    std::fs::write(folder.path().join("production/more.yaml"), "a: [\n").unwrap();
    let said = compare(&folder, &["staging/", "production/"]);
    assert_eq!(said.status, 2);
    assert!(
        said.err.starts_with("production/more.yaml:2:"),
        "{}",
        said.err
    );
    assert!(
        said.out.contains("missing"),
        "the rest is compared: {}",
        said.out
    );
    let said = compare(&folder, &["staging/", "./nowhere"]);
    assert_eq!(said.status, 2);
    assert!(
        said.err.starts_with("./nowhere: can't be read"),
        "{}",
        said.err
    );
}

#[test]
fn two_environments_on_one_side_are_not_mixed() {
    let folder = environments();
    let said = compare(&folder, &["./", "production/"]);
    assert_eq!(said.status, 2);
    assert_eq!(
        said.err,
        "./staging/all.yaml:2:1: there are two of Deployment checkout: name files of one environment, such as one \
         overlay\n"
    );
}

#[test]
fn options_that_can_not_be_used_are_exit_64() {
    for arguments in [
        &["parity", "staging"][..],
        &["parity", "Staging", "./x"],
        &["parity", "-", "-"],
        &[
            "parity",
            "--kubeconfig",
            "/nonexistent",
            "staging",
            "production",
        ],
    ] {
        let said = portcullis(arguments);
        assert_eq!((said.status, said.out.as_str()), (64, ""), "{}", said.err);
        assert!(!said.err.is_empty());
    }
}

#[test]
fn kinds_of_the_settings_are_compared_too() {
    let rollout = STAGING
        .replace("apps/v1", "argoproj.io/v1alpha1")
        .replace("Deployment", "Rollout");
    let settings = "workloads:\n- {group: argoproj.io, version: v1alpha1, kind: Rollout, resource: rollouts, template: /spec/template}\n";
    let folder = folder(&[
        ("staging/all.yaml", rollout.as_bytes()),
        ("production/none.yaml", b""),
        ("settings", settings.as_bytes()),
    ]);
    let said = compare(
        &folder,
        &["staging/", "production/", "--settings", "settings"],
    );
    assert_eq!(said.status, 1);
    assert!(said.out.contains("Rollout checkout"), "{}", said.out);
}

/// Entries of `env` that hold a value, in every place that a manifest may hold one.
fn entry() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["A", "B", "C"]);
    name.prop_flat_map(|name| {
        prop_oneof![
            Just(json!({"name": name, "value": "hunter2"})),
            Just(json!({"name": name, "value": "hunter2", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_output_ever_holds_a_value(
        ours in prop::collection::vec(entry(), 0..4),
        theirs in prop::collection::vec(entry(), 0..4),
        all in any::<bool>(),
    ) {
        let side = |env: &[Value]| {
            let container = json!({"name": "app", "env": env, "envFrom": [{"secretRef": {"name": "all"}}], "args": ["hunter2"]});
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "annotations": {"x": "hunter2"}},
                "spec": {"template": {"spec": {"containers": [container]}}},
            });
            let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "all"}, "stringData": {"KEY": "hunter2"}});
            format!("{deployment}\n---\n{secret}\n").into_bytes()
        };
        let folder = folder(&[("a.yaml", &side(&ours)), ("b.yaml", &side(&theirs))]);
        let all: &[&str] = if all { &["--all"] } else { &[] };
        for format in ["text", "json"] {
            let said = compare(&folder, &[&["a.yaml", "b.yaml", "-o", format], all].concat());
            prop_assert!(said.status < 2, "{}", said.err);
            prop_assert!(!said.out.contains("hunter2"), "{}", said.out);
            prop_assert!(!said.err.contains("hunter2"), "{}", said.err);
        }
    }
}
