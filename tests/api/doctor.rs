//! `portcullis doctor` on a sound installation, and with each fault made by hand.

use std::path::Path;

use portcullis::contract::{GATE_LABEL, GATE_TAKEOVER_ANNOTATION};
use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session},
    lifecycle::Ground,
    objects::{list, sound_spec, workload},
};
use crate::support::{
    doctor::{self, Said},
    manifests::BASE,
    program::portcullis,
    server::with_token,
    wait::eventually,
};

fn doctor(kubeconfig: &Path, dry_run_in: &Namespace) -> Said {
    doctor::ask(kubeconfig, &dry_run_in.name)
}

/// A Pod of the developer's, made by `kubectl create`.
fn pod(name: &str, label: Option<&str>) -> Value {
    let mut pod = workload("Pod", name, sound_spec());
    if let Some(value) = label {
        pod["metadata"]["labels"][GATE_LABEL] = json!(value);
    }
    pod
}

#[test]
fn a_sound_installation_is_found_sound_check_by_check() {
    let session = Session::alone();
    let namespace = session.namespace("doctor");
    let said = doctor(session.admin().kubeconfig(), &namespace);
    said.has("versions ok", "Kubernetes 1.");
    said.has(
        "registration ok",
        "ValidatingWebhookConfiguration portcullis",
    );
    said.has(
        "registration ok",
        "MutatingWebhookConfiguration portcullis: 5 entries, all open",
    );
    said.has(
        "label-guard ok",
        "ValidatingAdmissionPolicy portcullis-namespace-labels and its binding are there",
    );
    said.has("certificate ok", "all entries trust the same authority");
    said.has("certificate ok", "Secret portcullis-ca");
    said.has("reach ok", "validate.portcullis.dev");
    said.has("rights ok", "rights that it needs");
    said.has("namespaces ok", "kube-system, portcullis-system");
    for broken in [
        "versions",
        "registration",
        "label-guard",
        "certificate",
        "rights",
    ] {
        said.lacks(&format!("{broken} fail"), "");
        said.lacks(&format!("{broken} unknown"), "");
    }
}

#[test]
fn where_nothing_is_broken_the_exit_status_is_0_and_namespaces_that_are_left_out_are_named() {
    let ground = Ground::new();
    let mut installed = ground.install(BASE);
    let admin = &ground.admin;
    admin.call("create namespace legacy").ok();
    admin
        .call("label namespace legacy portcullis.dev/enforce=none")
        .ok();
    admin
        .call("label namespace default portcullis.dev/enforce=of")
        .ok();
    let said = doctor::ask(admin.kubeconfig(), "default");
    let left_out = doctor::ask(admin.kubeconfig(), "legacy");
    admin
        .call("label namespace default portcullis.dev/enforce-")
        .ok();
    admin.call("delete namespace legacy").ok();
    installed.stop();
    admin
        .feed("delete -f -", &list(installed.manifests.clone()))
        .ok();

    assert_eq!(said.status, 0, "{:#?}", said.lines);
    said.has("namespaces ok", "by label: legacy");
    said.has(
        "namespaces warn",
        "namespace default: label portcullis.dev/enforce=of",
    );
    said.has("gates ok", "pods with a gate: 0");
    // No node runs its pods.
    said.has("server warn", "0 of 2 replicas are available");
    assert_eq!(left_out.status, 2, "{:#?}", left_out.lines);
    left_out.has(
        "reach unknown",
        "namespace \"legacy\" is labelled portcullis.dev/enforce=none",
    );
}

#[test]
fn a_kubeconfig_that_cannot_be_used_is_a_usage_error() {
    let said = portcullis(Path::new("/nowhere/kubeconfig"), &["doctor"]);
    assert_eq!(said.status, 64);
    let named = said.err.contains("--kubeconfig /nowhere/kubeconfig");
    assert!(named, "{}", said.err);
}

#[test]
fn a_server_that_is_gone_and_a_wrong_authority_are_found() {
    let session = Session::alone();
    let namespace = session.namespace("doctor");
    let admin = session.admin();
    session.stop_server();
    let bundle = admin
        .call("get mutatingwebhookconfiguration portcullis -o jsonpath={.webhooks[0].clientConfig.caBundle}")
        .ok();
    // Another authority: the API server's own.
    let other = admin
        .call("get configmap kube-root-ca.crt --namespace kube-system -o json")
        .ok();
    let other: Value = serde_json::from_str(&other).expect("kubectl prints JSON");
    let other = other["data"]["ca.crt"].as_str().expect("a certificate");
    let replace = |bundle: &str| {
        for (kind, count) in [("validating", 2), ("mutating", 5)] {
            let patch: Vec<_> = (0..count)
                .map(|number| {
                    json!({"op": "replace", "path": format!("/webhooks/{number}/clientConfig/caBundle"), "value": bundle})
                })
                .collect();
            let patch = Value::from(patch).to_string();
            let kind = format!("{kind}webhookconfiguration");
            let arguments = ["patch", &kind, "portcullis", "--type=json", "-p", &patch];
            admin.call_with(&arguments, None).ok();
        }
    };
    let encoded = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(other)
    };
    replace(&encoded);
    let said = doctor(admin.kubeconfig(), &namespace);
    replace(&bundle);
    session.start_server();
    session.await_enforcement();

    assert_eq!(said.status, 1);
    said.has(
        "certificate fail",
        "not the authority in Secret portcullis-ca",
    );
    said.has("reach fail", "without a word from validate.portcullis.dev");
    // Fail, if it was proved before; then the API server says so itself.
    assert!(
        said.is_said("reach fail", "without a word from inject.portcullis.dev")
            || said.is_said(
                "reach fail",
                "failed calling webhook \"inject.portcullis.dev\""
            ),
        "{:#?}",
        said.lines
    );
}

#[test]
fn rights_and_configurations_that_are_gone_are_found() {
    let session = Session::alone();
    let namespace = session.namespace("doctor");
    let admin = session.admin();
    // As somebody would who trims the role by hand.
    let trimmed = r#"[{"op":"remove","path":"/rules/1"}]"#;
    let arguments = [
        "patch",
        "clusterrole",
        "portcullis",
        "--type=json",
        "-p",
        trimmed,
    ];
    admin.call_with(&arguments, None).ok();
    admin
        .call("delete mutatingwebhookconfiguration portcullis")
        .ok();
    let weakened = r#"{"spec":{"failurePolicy":"Ignore"}}"#;
    let guard = "validatingadmissionpolicy";
    let arguments = [
        "patch",
        guard,
        "portcullis-namespace-labels",
        "-p",
        weakened,
    ];
    admin.call_with(&arguments, None).ok();
    admin
        .call("delete validatingadmissionpolicybinding portcullis-namespace-labels")
        .ok();
    let said = doctor(admin.kubeconfig(), &namespace);
    admin.apply(&list(session.manifests().to_vec())).ok();
    // It looks once a minute, and when it starts.
    session.stop_server();
    session.start_server();
    session.await_enforcement();
    eventually("the server to open the configuration again", || {
        let said = doctor(admin.kubeconfig(), &namespace);
        let open = said
            .lines
            .iter()
            .any(|line| line.contains("5 entries, all open"));
        open.then_some(())
            .ok_or_else(|| format!("{:#?}", said.lines))
    });

    assert_eq!(said.status, 1);
    said.has("rights fail", "may not list limitranges");
    said.has(
        "registration fail",
        "MutatingWebhookConfiguration portcullis is not there",
    );
    said.has(
        "label-guard fail",
        "ValidatingAdmissionPolicy portcullis-namespace-labels has failurePolicy Ignore",
    );
    said.has(
        "label-guard fail",
        "ValidatingAdmissionPolicyBinding portcullis-namespace-labels is not there",
    );
}

#[test]
fn pods_without_their_gate_and_what_walks_past_one_are_found() {
    let session = Session::alone();
    let namespace = session.namespace("doctor");
    let admin = session.admin();
    // Made while nobody injects, and nobody waits for it.
    session.stop_server();
    let ignore = [1, 2].map(|entry| {
        json!({"op": "replace", "path": format!("/webhooks/{entry}/failurePolicy"), "value": "Ignore"})
    });
    let ignore = json!(ignore).to_string();
    let kind = "mutatingwebhookconfiguration";
    let arguments = ["patch", kind, "portcullis", "--type=json", "-p", &ignore];
    admin.call_with(&arguments, None).ok();
    for (name, label) in [("must", "enabled"), ("would", "preferred")] {
        let pod = pod(name, Some(label)).to_string();
        eventually("a pod without a gate", || {
            let answer = namespace.developer.feed("create -f -", &pod);
            answer.success()
        });
    }
    session.start_server();
    session.await_enforcement();
    let gated = pod("gated", Some("enabled")).to_string();
    eventually("a pod with a gate", || {
        let stored = namespace
            .developer
            .feed("create --dry-run=server -o yaml -f -", &gated)
            .ok();
        let injected = stored.contains(GATE_TAKEOVER_ANNOTATION);
        injected.then_some(()).ok_or(stored)
    });
    namespace.developer.feed("create -f -", &gated).ok();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "numeric"},
        "spec": {"selector": {"app": "gated"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "front"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "gated"}},
            "ingress": [{"ports": [{"port": 8080}]}],
        },
    });
    namespace.admin.apply(&list([service, policy])).ok();

    let said = doctor(admin.kubeconfig(), &namespace);
    let of = |name: &str| format!("{}/{name}", namespace.name);
    said.has("gates fail", &of("must"));
    said.has("gates warn", &of("would"));
    said.lacks("gates fail", &of("gated"));
    // The Deployment names another image than the server under test was told to inject.
    said.has(
        "gates warn pods whose gate is not of the image portcullis-gate:0.1.0",
        &of("gated"),
    );
    said.has(
        "services warn",
        "Service numeric, port 80, has targetPort 8080",
    );
    said.has(
        "network-policies warn",
        "NetworkPolicy front admits port 8080",
    );
}

#[test]
fn who_may_see_nothing_is_told_what_was_not_checked_and_why() {
    let session = Session::shared();
    let namespace = session.namespace("doctor");
    let token = namespace.admin.call("create token default").ok();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let text = with_token(namespace.admin.kubeconfig(), token.trim());
    std::fs::write(&kubeconfig, text).expect("the folder is ours");

    let said = doctor(&kubeconfig, &namespace);
    assert_eq!(said.status, 2, "{:#?}", said.lines);
    said.has("versions unknown", "the nodes' releases: not checked: ");
    for check in [
        "server",
        "registration",
        "label-guard",
        "certificate",
        "reach",
        "rights",
        "namespaces",
        "gates",
    ] {
        said.has(&format!("{check} unknown"), "is forbidden: User");
    }
}
