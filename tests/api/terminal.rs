//! `portcullis check --facts cluster` says what admission says.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session},
    objects::{container, deployment, env_from_secret, secret, spec},
};
use crate::support::server::with_token;

/// Checks an object as who holds this kubeconfig: the exit status, and the findings.
fn check(namespace: &Namespace, kubeconfig: &Path, object: &str) -> (i32, Vec<Value>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args([
            "check",
            "--facts",
            "cluster",
            "-o",
            "json",
            "-n",
            &namespace.name,
        ])
        .args(["--kubeconfig".as_ref(), kubeconfig.as_os_str()])
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("portcullis starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(object.as_bytes()).expect("it reads all");
    drop(stdin);
    let output = child.wait_with_output().expect("portcullis ends");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let findings = report["findings"].as_array().expect("findings are a list");
    let status = output.status.code().expect("it ends by itself");
    (status, findings.clone())
}

/// Level, rule and message of a finding.
fn told(finding: &Value) -> [&str; 3] {
    ["level", "rule", "message"].map(|key| finding[key].as_str().expect("a string"))
}

#[test]
fn a_check_against_the_cluster_says_what_admission_says() {
    let session = Session::shared();
    let namespace = session.namespace("terminal");
    let mut app = container("app");
    app["env"] = json!([env_from_secret("DATABASE_URL", "checkout-secrets", "url")]);
    let object = deployment("checkout", spec([app])).to_string();
    let developer = namespace.developer.kubeconfig();

    let (status, findings) = check(&namespace, developer, &object);
    assert_eq!((status, findings.len()), (1, 1), "{findings:?}");
    let [level, rule, message] = told(&findings[0]);
    assert_eq!((level, rule), ("deny", "secret-reference"));
    // The refusal breaks its lines.
    let refusal = namespace.refuses(&object, rule);
    let words: Vec<_> = refusal.split_whitespace().collect();
    assert!(words.join(" ").contains(message), "{message}: {refusal}");

    let given = secret("checkout-secrets", "url").to_string();
    namespace.developer.apply(&given).ok();
    assert_eq!(check(&namespace, developer, &object), (0, vec![]));
    namespace.developer.apply(&object).ok();
}

#[test]
fn a_check_without_rights_warns_that_it_could_not_look() {
    let session = Session::shared();
    let namespace = session.namespace("no-rights");
    let token = namespace.admin.call("create token default").ok();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let text = with_token(namespace.admin.kubeconfig(), token.trim());
    fs::write(&kubeconfig, text).expect("the folder is ours");
    let mut app = container("app");
    app["env"] = json!([env_from_secret("DATABASE_URL", "checkout-secrets", "url")]);
    let object = deployment("checkout", spec([app])).to_string();

    let (status, findings) = check(&namespace, &kubeconfig, &object);
    assert_eq!(status, 0, "{findings:?}");
    let told: Vec<_> = findings.iter().map(told).collect();
    assert!(told.iter().all(|[level, ..]| *level == "warn"), "{told:?}");
    let reference = told.iter().find(|[_, rule, _]| *rule == "secret-reference");
    let [.., message] = reference.expect("the reference was not checked, and it says so");
    assert!(
        message.contains("checkout-secrets") && message.contains("not checked"),
        "{message}"
    );
}
