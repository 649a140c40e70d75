//! Releases of the API server and the nodes.

use super::{patient::Patient, report::Line};
use crate::policy::facts::{Answer, Query, Release};

/// `matchConditions` of webhooks, without which every pod of a controller would be judged, are on from here.
const LEAST: Release = Release::new(1, 30);

/// From here on a named `targetPort` finds the port of a native sidecar (endpointslice `findPort`).
const NATIVE: Release = Release::new(1, 33);

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let server = match patient.release().await {
        Ok(server) => server,
        Err(why) => return vec![Line::unknown("the API server's release", &why)],
    };
    let versions = patient.ask(Query::Versions).await;
    judge(server, &versions)
}

fn judge(server: Release, answer: &Answer) -> Vec<Line> {
    if server < LEAST {
        return vec![Line::fail(
            format!(
                "the API server is {server}, and {LEAST} is the least that Portcullis works on"
            ),
            format!("upgrade the control plane to {LEAST} or later"),
        )];
    }
    let Answer::Versions(versions) = answer else {
        let why = if let Answer::Unknown(unknown) = answer {
            unknown.to_string()
        } else {
            "there is no such list".to_owned()
        };
        return vec![
            Line::ok(format!("Kubernetes {server}")),
            Line::unknown("the nodes' releases", &why),
        ];
    };
    let nodes = match versions.oldest_node {
        None => "no nodes".to_owned(),
        Some(oldest) => {
            let names: Vec<_> = versions.architectures.iter().map(|name| &**name).collect();
            format!("oldest node {oldest} ({})", names.join(", "))
        }
    };
    let form = if server >= NATIVE && versions.oldest_node.is_none_or(|node| node >= NATIVE) {
        "native sidecars"
    } else {
        "ordinary containers (native sidecars from 1.33 on, of all nodes)"
    };
    vec![Line::ok(format!(
        "Kubernetes {server}, {nodes}; gates are {form}"
    ))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::facts::Versions;

    #[test]
    fn says_what_is_too_old_and_which_form_gates_have() {
        let release = |text: &str| text.parse::<Release>().unwrap();
        for (server, node, level, words) in [
            ("v1.29.9", "v1.29.9", "fail", "1.30 is the least"),
            ("v1.30.0", "v1.30.0", "ok", "gates are ordinary containers"),
            (
                "v1.34.4",
                "v1.32.1",
                "ok",
                "oldest node 1.32 (amd64); gates are ordinary containers",
            ),
            (
                "v1.34.4",
                "v1.33.0",
                "ok",
                "oldest node 1.33 (amd64); gates are native sidecars",
            ),
        ] {
            let answer = Answer::Versions(Versions {
                server: release(server),
                oldest_node: Some(release(node)),
                architectures: ["amd64".into()].into(),
            });
            let lines = serde_json::to_string(&judge(release(server), &answer)).unwrap();
            assert!(lines.contains(&format!("\"level\":\"{level}\"")), "{lines}");
            assert!(lines.contains(words), "{lines}");
        }
    }
}
