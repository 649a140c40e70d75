//! Does a bad object that goes to the API server come to us? Proved by dry runs, which store nothing.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    patient::{DryRun, Patient},
    report::Line,
};
use crate::{
    contract::{GATE_CONFIG_ANNOTATION, GATE_LABEL},
    policy::facts::ENFORCE,
};

/// How our refusals and warnings begin.
const OURS: &str = "portcullis: ";

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let namespace = &patient.dry_run_in;
    if let Some(why) = left_out(patient).await {
        let fix = "name another by --dry-run-in";
        return vec![Line::unknown("dry runs of bad objects", &why).with_fix(fix)];
    }
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let answer = patient.dry_run(&path, &bad_deployment()).await;
    let validating = tell(
        "a Deployment without probes",
        "validate.portcullis.dev",
        answer,
        patient,
    );
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let answer = patient.dry_run(&path, &bad_pod()).await;
    let mutating = tell(
        "a Pod with a bad gate-config",
        "inject.portcullis.dev",
        answer,
        patient,
    );
    vec![validating, mutating]
}

/// Why no object of the namespace comes to us, if none does.
async fn left_out(patient: &Patient) -> Option<String> {
    let namespace = &patient.dry_run_in;
    if *namespace == "kube-system" || *namespace == patient.namespace {
        return Some(format!("namespace \"{namespace}\" is always left out"));
    }
    let namespaces = patient.namespaces().await.ok()?;
    let Some(labels) = namespaces.get(namespace) else {
        return Some(format!("there is no namespace \"{namespace}\""));
    };
    let is_left_out = labels.get(ENFORCE).is_some_and(|level| level == "none");
    is_left_out.then(|| format!("namespace \"{namespace}\" is labelled {ENFORCE}=none"))
}

/// What an answer proves.
fn tell(what: &str, entry: &str, answer: Result<DryRun, String>, patient: &Patient) -> Line {
    let namespace = &patient.namespace;
    let pods = format!(
        "see whether it runs and what it says: kubectl -n {namespace} get pods; kubectl -n {namespace} logs \
         deployment/portcullis"
    );
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return Line::unknown(&format!("a dry run of {what}"), &why),
    };
    let refused = format!("admission webhook \"{entry}\" denied the request: {OURS}");
    if answer.message.contains(&refused) {
        return Line::ok(format!(
            "{what} was refused by us through the API server ({entry})"
        ));
    }
    if answer.message.contains("failed calling webhook") {
        return Line::fail(
            format!("the API server can't call us: {}", answer.message),
            pods,
        );
    }
    if answer.warnings.iter().any(|warning| warning.contains(OURS)) && answer.status.is_success() {
        return Line::ok(format!(
            "{what} came to us through the API server and was let in with warnings: the rules only warn in namespace \"{}\"",
            patient.dry_run_in
        ));
    }
    let by_us = answer
        .message
        .contains("portcullis.dev\" denied the request");
    if answer.status.is_success() || by_us {
        return Line::fail(
            format!(
                "{what} passed the API server without a word from {entry}: it does not call us, or we do not answer in time"
            ),
            pods,
        );
    }
    let line = Line::unknown(
        &format!(
            "a dry run of {what} in namespace \"{}\"",
            patient.dry_run_in
        ),
        &format!(
            "the API server refused it before it came to us: {}",
            answer.message
        ),
    );
    if answer.status == StatusCode::FORBIDDEN {
        line.with_fix(
            "name another namespace by --dry-run-in, or ask as somebody who may create it there",
        )
    } else {
        line
    }
}

/// Refused for as long as one rule about probes or resources denies.
fn bad_deployment() -> Value {
    let labels = json!({"app.kubernetes.io/name": "portcullis-doctor"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"generateName": "portcullis-doctor-"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [bad_container()]}},
        },
    })
}

/// Demands a gate, with settings that no gate can have.
fn bad_pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "portcullis-doctor-",
            "labels": {GATE_LABEL: "enabled"},
            "annotations": {GATE_CONFIG_ANNOTATION: "portcullisDoctor: true\n"},
        },
        "spec": {"containers": [bad_container()]},
    })
}

fn bad_container() -> Value {
    json!({"name": "app", "image": "portcullis-doctor", "ports": [{"name": "http", "containerPort": 8080}]})
}
