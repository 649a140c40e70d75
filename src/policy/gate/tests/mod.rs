//! Injection by its sentences, whole pods as golden files, and pods made at random.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that gets something else fails, whatever it is"
)]

mod checks;

mod config;

mod demand;

mod drain;

mod generated;

mod golden;

mod pods;

mod resources;

mod rules;

mod takeover;

use serde_json::{Value, json};

use super::*;
use crate::{
    contract::{self, GATE_CONFIG_ENV, POD_IPS_ENV},
    policy::{
        facts::PortRef,
        facts::{
            Answer, EXEMPTIONS, IngressPort, Namespace, NetworkPolicy, Release, Service,
            ServicePort, Unknown, Versions,
        },
        testing::{Facts, NAMESPACE, kind_of, limit_range, raw},
    },
    yaml,
};

/// A cluster whose releases have native sidecars.
fn facts() -> Facts {
    with_settings("gate: {image: registry.example/gate:1}")
}

fn with_settings(text: &str) -> Facts {
    Facts {
        settings: Settings::from_value(parse(text)).unwrap(),
        ..Facts::default()
    }
    .with(Query::Versions, versions("v1.34.4", Some("v1.33.1")))
}

fn versions(server: &str, oldest_node: Option<&str>) -> Answer {
    let release = |text: &str| text.parse::<Release>().unwrap();
    Answer::Versions(Versions {
        server: release(server),
        oldest_node: oldest_node.map(release),
        architectures: ["amd64".into()].into(),
    })
}

fn parse(text: &str) -> Value {
    let mut documents = yaml::documents(text);
    documents.next().expect("a document").expect("YAML").value
}

/// A Pod that asks for a gate, with this spec.
fn pod(spec: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "checkout", "labels": {"app": "checkout", "portcullis.dev/gate": "enabled"}},
        "spec": parse(spec),
    })
}

/// The same with settings.
fn told(spec: &str, config: &str) -> Value {
    let mut pod = pod(spec);
    pod["metadata"]["annotations"] = json!({"portcullis.dev/gate-config": config});
    pod
}

fn injecting(pod: &Value, facts: &Facts) -> Injecting {
    let bytes = raw(pod);
    let workload = Workload::read(kind_of(pod), NAMESPACE, &bytes)
        .unwrap()
        .unwrap();
    inject(&workload, pod, facts, &facts.settings)
}

fn injection(pod: &Value, facts: &Facts) -> Injection {
    match injecting(pod, facts) {
        Injecting::Done(injection) => injection,
        other => panic!("no gate: {other:?}"),
    }
}

fn injected(pod: &Value, facts: &Facts) -> Value {
    applied(pod, &injection(pod, facts).operations)
}

fn applied(pod: &Value, operations: &[Operation]) -> Value {
    let patch = serde_json::to_value(operations).unwrap();
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).expect("applies");
    pod
}

/// The gate's container, in whichever list it stands.
fn gate_of(pod: &Value) -> &Value {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container["name"] == GATE_CONTAINER)
        .expect("a gate")
}

/// The document that the gate will read, as the kubelet hands it over.
fn document_of(pod: &Value) -> contract::Settings {
    let env = gate_of(pod)["env"].as_array().unwrap();
    let entry = env
        .iter()
        .find(|entry| entry["name"] == GATE_CONFIG_ENV)
        .unwrap();
    let value = entry["value"].as_str().unwrap();
    assert!(
        !value.replace("$$", "").contains('$'),
        "the kubelet would expand it: {value}"
    );
    contract::Settings::decode(&value.replace("$$", "$")).expect("what is written is accepted")
}

fn settings_of(pod: &Value, facts: &Facts) -> Value {
    serde_json::from_str(&document_of(&injected(pod, facts)).encode()).unwrap()
}

fn refusal(pod: &Value, facts: &Facts) -> String {
    match injecting(pod, facts) {
        Injecting::Refuse(findings) => {
            let texts: Vec<_> = findings
                .into_iter()
                .map(|finding| finding.message)
                .collect();
            texts.join("\n")
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn service(name: &str, target: PortRef) -> Service {
    Service {
        name: name.into(),
        selector: [("app".into(), "checkout".into())].into(),
        ports: vec![ServicePort {
            name: "".into(),
            protocol: "TCP".into(),
            port: 80,
            target,
        }],
        ..Service::default()
    }
}

fn with_services(facts: Facts, services: Vec<Service>) -> Facts {
    let query = Query::Services {
        namespace: NAMESPACE.into(),
    };
    facts.with(query, Answer::Services(services))
}

fn by_number(facts: Facts, number: i32) -> Facts {
    with_services(facts, vec![service("checkout", PortRef::Number(number))])
}

fn named_http(fields: &str) -> String {
    format!(
        "containers:\n- name: app\n  ports: [{{name: http, containerPort: 8080}}]\n  {}\n",
        fields.trim().replace('\n', "\n  ")
    )
}

const PLAIN: &str = "containers: [{name: app, ports: [{name: http, containerPort: 8080}]}]";
