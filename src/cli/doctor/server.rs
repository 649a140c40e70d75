//! The server's Deployment: how many replicas answer, and of which release. That the API server reaches one is seen
//! elsewhere, so nothing here is called broken.

use serde_json::Value;

use super::{patient::Patient, registration::APPLY, report::Line};
use crate::cli::installed;

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let title = format!("Deployment {}/portcullis", patient.namespace);
    let line = match installed::deployment(&patient.api, &patient.namespace).await {
        Ok(Some(deployment)) => judge(&title, &deployment, &patient.namespace),
        Ok(None) => Line::warn(
            format!("{title} is not there: the server runs elsewhere, or not at all"),
            APPLY,
        ),
        Err(why) => Line::unknown(&title, &why),
    };
    vec![line]
}

fn judge(title: &str, deployment: &Value, namespace: &str) -> Line {
    let count = |field| {
        let count = deployment.pointer(field).and_then(Value::as_i64);
        count.unwrap_or_default()
    };
    let [wanted, available, updated] = [
        "/spec/replicas",
        "/status/availableReplicas",
        "/status/updatedReplicas",
    ]
    .map(count);
    let image = deployment.pointer("/spec/template/spec/containers/0/image");
    let image = image.and_then(Value::as_str).unwrap_or("no image");
    let own = env!("CARGO_PKG_VERSION");
    let scale = format!("kubectl -n {namespace} scale deployment/portcullis --replicas=2");
    if wanted == 0 {
        return Line::warn(format!("{title} is scaled to no replicas ({image})"), scale);
    }
    if available < wanted {
        return Line::warn(
            format!("{title}: {available} of {wanted} replicas are available ({image})"),
            format!(
                "see why: kubectl -n {namespace} get pods,events; if workloads are held up meanwhile, break the glass (README, On call)"
            ),
        );
    }
    if updated < wanted {
        return Line::warn(
            format!("{title}: {updated} of {wanted} replicas are of its newest revision ({image})"),
            format!("wait: kubectl -n {namespace} rollout status deployment/portcullis"),
        );
    }
    if wanted == 1 {
        return Line::warn(
            format!(
                "{title}: 1 replica ({image}); while it moves to another node nothing is judged"
            ),
            scale,
        );
    }
    match release(image) {
        Some(release) if release != own => Line::warn(
            format!(
                "{title} is of release {release}, and this doctor of {own}: it may look for what the other does not do"
            ),
            format!("use the doctor of {release}, or install {own}"),
        ),
        _ => Line::ok(format!(
            "{title}: {available} replicas are available ({image})"
        )),
    }
}

/// The tag of an image, where it is a release: `1.2.3`.
fn release(image: &str) -> Option<&str> {
    let (name, _) = image.split_once('@').unwrap_or((image, ""));
    let (_, tag) = name.rsplit_once(':')?;
    let numbers = tag.split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (numbers.clone().count() == 3 && numbers.into_iter().all(is_number)).then_some(tag)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(replicas: i64, [available, updated]: [i64; 2], image: &str) -> String {
        let deployment = json!({
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"image": image}]}}},
            "status": {"availableReplicas": available, "updatedReplicas": updated},
        });
        let line = judge("Deployment a/portcullis", &deployment, "a");
        serde_json::to_string(&line).unwrap()
    }

    #[test]
    fn all_replicas_are_to_be_there_new_and_of_this_release() {
        let own = format!(
            "registry.example:5000/portcullis:{}",
            env!("CARGO_PKG_VERSION")
        );
        for (replicas, status, image, level, words) in [
            (2, [2, 2], own.as_str(), "ok", "2 replicas are available"),
            (
                2,
                [2, 2],
                "portcullis@sha256:00",
                "ok",
                "portcullis@sha256:00",
            ),
            (2, [2, 2], "portcullis:nightly", "ok", "nightly"),
            (
                2,
                [1, 2],
                own.as_str(),
                "warn",
                "1 of 2 replicas are available",
            ),
            (0, [0, 0], own.as_str(), "warn", "is scaled to no replicas"),
            (
                2,
                [2, 1],
                own.as_str(),
                "warn",
                "1 of 2 replicas are of its newest",
            ),
            (1, [1, 1], own.as_str(), "warn", "1 replica "),
            (
                2,
                [2, 2],
                "portcullis:99.0.0@sha256:00",
                "warn",
                "is of release 99.0.0",
            ),
        ] {
            let line = said(replicas, status, image);
            assert!(line.contains(&format!("\"level\":\"{level}\"")), "{line}");
            assert!(line.contains(words), "{line}");
        }
    }
}
