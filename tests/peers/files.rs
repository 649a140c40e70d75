//! Judged as files: what the programs of the peers say.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    case::{Case, NAMESPACE, Verdict},
    program::{GATOR, KUBE_SCORE, KYVERNO, Program},
};

/// A peer that reads files.
pub struct Peer {
    pub program: Program,
    judge: fn(&Path, &Case, &TempDir) -> Verdict,
}

pub const ALL: [Peer; 3] = [
    Peer {
        program: KYVERNO,
        judge: kyverno,
    },
    Peer {
        program: GATOR,
        judge: gator,
    },
    Peer {
        program: KUBE_SCORE,
        judge: kube_score,
    },
];

/// The checks of kube-score that are about what our cases are about.
const CHECKS: [&str; 4] = [
    "container-resources",
    "container-ports-check",
    "pod-probes",
    "pod-probes-identical",
];

/// Its grade for what must not be (`scorecard/scorecard.go`).
const CRITICAL: u64 = 1;

impl Peer {
    /// What it says of the case; of updates it can't be asked.
    pub fn judge(&self, program: &Path, case: &Case) -> Verdict {
        if case.is_update() {
            return Verdict::Unable("it reads files, which have no past".to_owned());
        }
        let folder = TempDir::new().expect("a temporary folder");
        (self.judge)(program, case, &folder)
    }
}

pub fn policy(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/policies");
    folder.join(name)
}

fn write(folder: &TempDir, name: &str, objects: &[Value]) -> PathBuf {
    let path = folder.path().join(name);
    let documents = objects.iter().map(|object| format!("---\n{object}\n"));
    fs::write(&path, documents.collect::<String>()).expect("the folder is ours");
    path
}

fn run(command: &mut Command) -> Output {
    command.output().expect("it was built for this machine")
}

fn unable(output: &Output) -> Verdict {
    let said = [&*output.stdout, &output.stderr].concat();
    Verdict::Unable(String::from_utf8_lossy(&said).into_owned())
}

fn kyverno(program: &Path, case: &Case, folder: &TempDir) -> Verdict {
    let (subject, mut others) = case.objects();
    // It knows of no kind that it was given no object of.
    others.extend(["Secret", "ConfigMap", "LimitRange"].map(|kind| {
        json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "any", "namespace": "another"}})
    }));
    let context = json!({
        "apiVersion": "cli.kyverno.io/v1alpha1",
        "kind": "Context",
        "metadata": {"name": "context"},
        "spec": {"resources": others},
    });
    let output = run(Command::new(program)
        .arg("apply")
        .arg(policy("kyverno.yaml"))
        .arg("--resource")
        .arg(write(folder, "subject.yaml", &[subject]))
        .arg("--context-file")
        .arg(write(folder, "context.yaml", &[context])));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match said.lines().find(|line| line.starts_with("pass:")) {
        Some(line) if line.starts_with("pass: 1, fail: 0, warn: 0, error: 0") => Verdict::Accept,
        Some(line) if line.starts_with("pass: 0, fail: 1, warn: 0, error: 0") => Verdict::Refuse,
        _ => unable(&output),
    }
}

fn gator(program: &Path, case: &Case, folder: &TempDir) -> Verdict {
    let (subject, mut objects) = case.objects();
    objects.push(subject);
    let output = run(Command::new(program)
        .args(["test", "--output=json", "--filename"])
        .arg(write(folder, "objects.yaml", &objects))
        .arg("--filename")
        .arg(policy("gatekeeper.yaml")));
    // Without a violation it prints `null`.
    let violations: Option<Option<Vec<Value>>> = serde_json::from_slice(&output.stdout).ok();
    match (output.status.code(), violations) {
        (Some(0), Some(None)) => Verdict::Accept,
        (Some(1), Some(Some(violations))) if !violations.is_empty() => Verdict::Refuse,
        _ => unable(&output),
    }
}

fn kube_score(program: &Path, case: &Case, folder: &TempDir) -> Verdict {
    let (subject, mut objects) = case.objects();
    // It looks at probes only where a Service sends traffic to the pods.
    objects.push(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "checkout", "namespace": NAMESPACE},
        "spec": {"selector": {"app": "checkout"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    let kind = subject["kind"].clone();
    objects.push(subject);
    let output = run(Command::new(program)
        .args([
            "score",
            "--output-format=json",
            "--ignore-container-cpu-limit",
        ])
        .args(["--enable-optional-test=container-ports-check"])
        .arg(write(folder, "objects.yaml", &objects)));
    let Ok(Value::Array(scored)) = serde_json::from_slice(&output.stdout) else {
        return unable(&output);
    };
    let Some(subject) = scored
        .iter()
        .find(|object| object["type_meta"]["kind"] == kind)
    else {
        return unable(&output);
    };
    let checks = subject["checks"].as_array().into_iter().flatten();
    let mut ours = checks.filter(|it| CHECKS.iter().any(|id| it["check"]["id"] == **id));
    let refused = ours.any(|it| it["grade"].as_u64() == Some(CRITICAL) && it["skipped"] != true);
    if refused {
        Verdict::Refuse
    } else {
        Verdict::Accept
    }
}
