//! What a workload refers to is looked up in the cluster, live.

use std::fs;

use serde_json::json;

use super::{
    installation::{Session, assert_refused, assert_warned},
    objects::{bare_spec, container, deployment, env_from_secret, list, secret, sound_spec, spec},
};

fn checkout() -> String {
    let mut app = container("app");
    app["env"] = json!([env_from_secret(
        "DATABASE_URL",
        "checkout-secrets",
        "database-url"
    )]);
    deployment("checkout", spec([app])).to_string()
}

#[test]
fn a_secret_made_a_moment_later_makes_the_same_apply_pass_at_once() {
    let session = Session::shared();
    let namespace = session.namespace("secret");
    let message = namespace.refuses(&checkout(), "secret-reference");
    assert!(message.contains("checkout-secrets"), "{message}");

    // The key is missing still: a refusal is never remembered.
    namespace
        .developer
        .apply(&secret("checkout-secrets", "db-url").to_string())
        .ok();
    let message = namespace.refuses(&checkout(), "secret-reference");
    assert!(message.contains("database-url"), "{message}");

    namespace
        .developer
        .apply(&secret("checkout-secrets", "database-url").to_string())
        .ok();
    namespace.developer.apply(&checkout()).ok();
}

#[test]
fn the_largest_secret_that_there_can_be_is_read() {
    let session = Session::shared();
    let namespace = session.namespace("large");
    // MaxSecretSize is 1 MiB, all values together (k8s.io/kubernetes `pkg/apis/core/types.go`).
    let mut large = secret("checkout-secrets", "database-url");
    large["stringData"]["database-url"] = json!("x".repeat(1024 * 1024));
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), large.to_string()).expect("the file is ours");
    let path = file.path().to_str().expect("a plain name");
    // Not by `apply`, whose annotation would hold all of it again.
    let create = ["create", "-f", path];
    namespace.developer.call_with(&create, None).ok();
    let answer = namespace.developer.apply(&checkout());
    assert_eq!(answer.stderr, "", "its keys were read in time");
    answer.ok();
}

#[test]
fn a_dry_run_is_only_warned_of_what_is_missing() {
    let session = Session::shared();
    let namespace = session.namespace("dry-run");
    let dry_run = "apply --dry-run=server -f -";
    assert_warned(
        namespace.developer.feed(dry_run, &checkout()),
        "secret-reference",
    );

    let bare = deployment("checkout", bare_spec()).to_string();
    let answer = namespace.developer.feed(dry_run, &bare);
    assert_refused(answer.refusal(), "readiness-probe");
}

/// Flux, and Argo CD's server-side diff, dry-run all objects before they apply the first of them. Without the leniency
/// for dry runs in `policy::weigh` nothing of such a set is ever applied.
#[test]
fn a_set_that_is_dry_run_as_a_whole_is_then_applied_and_its_deployment_alone_is_refused() {
    let session = Session::shared();
    let namespace = session.namespace("set");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "checkout"}});
    let mut app = container("app");
    let reference = env_from_secret("DATABASE_URL", "checkout-secrets", "database-url");
    app["env"] = json!([reference]);
    app["envFrom"] = json!([{"configMapRef": {"name": "checkout"}}]);
    let mut pod = spec([app]);
    pod["serviceAccountName"] = json!("checkout");
    pod["imagePullSecrets"] = json!([{"name": "registry"}]);
    let checkout = deployment("checkout", pod);
    let pull = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{\"auths\":{}}"},
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "checkout"}, "data": {"mode": "live"},
    });
    let secret = secret("checkout-secrets", "database-url");
    let set = list([account, secret, pull, map, checkout.clone()]);

    for dry_run in [
        "apply --dry-run=server -f -",
        "apply --server-side --field-manager=gitops --dry-run=server -f -",
    ] {
        let answer = namespace.developer.feed(dry_run, &set);
        for rule in [
            "secret-reference",
            "configmap-reference",
            "pull-secret-reference",
            "service-account-reference",
        ] {
            let told = answer.stderr.contains(&format!(": {rule}: "));
            assert!(told, "no warning for {rule}: {}", answer.stderr);
        }
        answer.ok();
    }
    // In earnest nothing is there yet,
    namespace.refuses(&checkout.to_string(), "secret-reference");
    // and the whole set comes in its own order.
    let applied = namespace
        .developer
        .feed("apply --server-side --field-manager=gitops -f -", &set);
    assert!(!applied.stderr.contains("-reference"), "{}", applied.stderr);
    applied.ok();
}

#[test]
fn a_folder_with_the_deployment_before_its_secret_passes_when_run_again() {
    let session = Session::shared();
    let namespace = session.namespace("folder");
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("1-deployment.json"), checkout()).expect("the folder is ours");
    let secret = secret("checkout-secrets", "database-url").to_string();
    fs::write(folder.path().join("2-secret.json"), secret).expect("the folder is ours");
    let apply = ["apply", "-f", folder.path().to_str().expect("a plain name")];

    let message = namespace.developer.call_with(&apply, None).refusal();
    let message = assert_refused(message, "secret-reference");
    assert!(message.contains("run it again"), "{message}");
    namespace.developer.call_with(&apply, None).ok();
}

#[test]
fn a_namespace_and_its_deployment_in_one_apply_are_never_refused() {
    let session = Session::shared();
    // What controllers make a moment after the namespace: no fault of who refers to it.
    let mut pod = sound_spec();
    pod["serviceAccountName"] = json!("default");
    pod["volumes"] = json!([{"name": "roots", "configMap": {"name": "kube-root-ca.crt"}}]);
    for round in 0..100 {
        let name = format!("at-once-{round}");
        let mut deployment = deployment("app", pod.clone());
        deployment["metadata"]["namespace"] = json!(name);
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let answer = session.admin().apply(&list([namespace, deployment]));
        assert_eq!(answer.stderr, "", "round {round}");
        answer.ok();
    }
}
