//! `portcullis parity` on the namespaces of a real API server.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    installation::Session,
    objects::{sound_spec, workload},
};
use crate::support::program::portcullis;

/// Exit status, standard output and standard error.
fn parity(kubeconfig: &Path, arguments: &[&str]) -> (i32, String, String) {
    let said = portcullis(kubeconfig, &[&["parity"], arguments].concat());
    (said.status, said.out, said.err)
}

/// A Deployment that reads a Secret whole, and these variables.
fn deployment(env: &Value) -> Value {
    let mut spec = sound_spec();
    spec["containers"][0]["env"] = env.clone();
    spec["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "all"}}]);
    workload("Deployment", "checkout", spec)
}

fn secret(keys: &[&str]) -> Value {
    let data: serde_json::Map<_, _> = keys
        .iter()
        .map(|key| ((*key).to_owned(), "hunter2".into()))
        .collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "all"}, "stringData": data})
}

#[test]
fn two_namespaces_are_compared_with_the_keys_of_their_secrets() {
    let session = Session::shared();
    let [staging, production] =
        ["parity-staging", "parity-production"].map(|it| session.namespace(it));
    let mode = json!({"name": "MODE", "value": "hunter2"});
    let ip = json!({"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}});
    for (namespace, keys, env) in [
        (&staging, &["URL", "NEW"][..], json!([mode, ip])),
        (
            &production,
            &["URL"][..],
            json!([mode, {"name": "IP", "value": "hunter2"}]),
        ),
    ] {
        namespace.admin.apply(&secret(keys).to_string()).ok();
        namespace.admin.apply(&deployment(&env).to_string()).ok();
    }
    let job = workload("CronJob", "report", sound_spec());
    staging.admin.apply(&job.to_string()).ok();

    let admin = session.admin();
    let names = [staging.name.as_str(), production.name.as_str()];
    let (status, out, err) = parity(admin.kubeconfig(), &[names[0], names[1], "-o", "json"]);
    assert_eq!((status, err.as_str()), (1, ""), "{out}");
    assert!(!out.contains("hunter2"), "{out}");
    let json: Value = serde_json::from_str(&out).expect("JSON");
    // The ReplicaSets of the Deployments are not told beside them.
    let told: Vec<_> = json["workloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let rows = it["env"].as_array().unwrap().iter();
            let rows: Vec<_> = rows
                .map(|row| {
                    format!(
                        "{} {}",
                        row["name"].as_str().unwrap(),
                        row["standing"].as_str().unwrap()
                    )
                })
                .collect();
            (
                it["kind"].as_str().unwrap(),
                it["inA"] == true,
                it["inB"] == true,
                rows.join(", "),
            )
        })
        .collect();
    let rows = "IP otherSource, MODE same, NEW missingInB, URL same".to_owned();
    assert_eq!(
        told,
        [
            ("CronJob", true, false, String::new()),
            ("Deployment", true, true, rows)
        ]
    );

    let (status, out, _) = parity(admin.kubeconfig(), &[names[0], names[0]]);
    assert_eq!(status, 0, "{out}");
}

#[test]
fn a_namespace_is_compared_with_files() {
    let session = Session::shared();
    let namespace = session.namespace("parity-files");
    let object = deployment(&json!([]));
    namespace.admin.apply(&secret(&["URL"]).to_string()).ok();
    namespace.admin.apply(&object.to_string()).ok();
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("all.yaml");
    std::fs::write(
        &file,
        format!("{object}\n---\n{}\n", secret(&["URL", "NEW"])),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let admin = session.admin();
    let (status, out, err) = parity(admin.kubeconfig(), &[&namespace.name, file]);
    assert_eq!((status, err.as_str()), (1, ""), "{out}");
    assert!(out.contains("1 name missing in parity-files"), "{out}");
}

#[test]
fn what_cannot_be_looked_at_is_exit_2() {
    let session = Session::shared();
    let namespace = session.namespace("parity-rights");
    namespace.admin.apply(&secret(&["URL"]).to_string()).ok();
    namespace
        .admin
        .apply(&deployment(&json!([{"name": "A", "value": "x"}])).to_string())
        .ok();
    let admin = session.admin();
    let (status, out, err) = parity(admin.kubeconfig(), &[&namespace.name, "parity-nowhere"]);
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("there is no namespace \"parity-nowhere\"; for a file or folder of that name, write ./parity-nowhere"), "{err}");

    // She may not list StatefulSets elsewhere.
    let developer = namespace.developer.kubeconfig();
    let (status, _, err) = parity(developer, &[&namespace.name, "kube-system"]);
    assert_eq!(status, 2);
    assert!(
        err.contains("can't look at namespace \"kube-system\"") && err.contains("forbidden"),
        "{err}"
    );
}
