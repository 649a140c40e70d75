//! Whatever pod comes: what injection writes, the gate accepts, and nothing else of the pod is touched.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Injecting,
    tests::{applied, document_of, facts, gate_of, injecting, parse},
};
use crate::contract::GATE_CONTAINER;

fn port() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just(Value::Null),
        Just(json!("http")),
        Just(json!("grpc")),
        Just(json!("metrics")),
        Just(json!("web-1")),
    ];
    let number = prop_oneof![
        Just(80),
        Just(8080),
        Just(15_982),
        Just(50_051),
        Just(65_535)
    ];
    let protocol =
        prop_oneof![4 => Just(json!("TCP")), 1 => Just(json!("UDP")), 1 => Just(Value::Null)];
    let host = proptest::option::of(Just(8080));
    (name, number, protocol, host).prop_map(|(name, number, protocol, host)| {
        json!({"name": name, "containerPort": number, "protocol": protocol, "hostPort": host})
    })
}

fn probe() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        Just(json!("http")),
        Just(json!(8080)),
        Just(json!("absent"))
    ];
    let path = prop_oneof![Just(""), Just("/ready"), Just("a b$(HOME)"), Just("?x=$y")];
    (port, path, 0..5_u8, proptest::option::of(0..4000_i32)).prop_map(
        |(port, path, kind, period)| {
            let handler = match kind {
                0 => json!({"httpGet": {"path": path, "port": port}}),
                1 => json!({"tcpSocket": {"port": port}}),
                2 => json!({"grpc": {"port": 8080, "service": path}}),
                3 => json!({"exec": {"command": [path]}}),
                _ => json!({"httpGet": {"port": port, "scheme": "HTTPS", "httpHeaders": [
                    {"name": "X-$A", "value": path}, {"name": "bad name", "value": "\n"},
                ]}}),
            };
            let mut probe = handler;
            probe["periodSeconds"] = json!(period);
            probe["failureThreshold"] = json!(period);
            probe
        },
    )
}

fn container(name: &'static str) -> impl Strategy<Value = Value> {
    let hook = prop_oneof![
        Just(Value::Null),
        Just(json!({"postStart": {"httpGet": {"port": "http"}}})),
        Just(json!({"preStop": {"sleep": {"seconds": 7}}})),
        Just(json!({"preStop": {"httpGet": {"port": 8080}}})),
    ];
    let env = prop_oneof![
        Just(Value::Null),
        Just(json!([{"name": "PORT", "value": "8080"}])),
        Just(json!([{"name": "URL", "value": "redis://$(A)"}, {"name": "PORT", "value": "80"}])),
    ];
    let limits = prop_oneof![Just(json!({})), Just(json!({"cpu": "1", "memory": "1Gi"}))];
    (
        proptest::collection::vec(port(), 0..4),
        proptest::option::of(probe()),
        hook,
        env,
        limits,
    )
        .prop_map(move |(ports, probe, hook, env, limits)| {
            json!({
                "name": name, "ports": ports, "readinessProbe": probe, "livenessProbe": probe,
                "lifecycle": hook, "env": env, "resources": {"limits": limits}, "unknown/field~": [null],
            })
        })
}

fn config() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just("takeover: env"),
        Just("takeover: named-port"),
        Just("takeover: none"),
        Just("sidecar: container\nreadiness: http\nresources: {limits: {cpu: 1}}"),
        Just("ports: [8080]\nwarmup: {requests: [{path: '/a?b=$(C)$$'}]}"),
        Just(
            "checks: [{name: cache, redis: {urlFrom: {env: URL}}}, {name: up, http: {port: 8080}}]"
        ),
        Just("drain: {deadline: 3s}"),
    ]
}

fn pods() -> impl Strategy<Value = Value> {
    (
        container("app"),
        proptest::option::of(container("other")),
        proptest::collection::vec(container("migrate"), 0..2),
        config(),
        (proptest::option::of(0..70_i64), any::<bool>()),
    )
        .prop_map(|(app, other, inits, config, (grace, named))| {
            let mut containers = vec![app];
            containers.extend(other);
            let mut pod = json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "labels": {"portcullis.dev/gate": "enabled"},
                    "annotations": {"portcullis.dev/gate-config": config, "a/b~c": "~1"},
                },
                "spec": {
                    "containers": containers, "initContainers": inits, "terminationGracePeriodSeconds": grace,
                    "futureField": {"a/b": 1},
                },
            });
            if named {
                pod["spec"]["containers"][0]["ports"] = parse("[{name: http, containerPort: 8080}]");
            }
            pod
        })
}

/// The pod without what injection may change in it.
fn untouched(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let metadata = pod["metadata"].as_object_mut().unwrap();
    metadata["annotations"]
        .as_object_mut()
        .unwrap()
        .retain(|name, _| ["a/b~c", "portcullis.dev/gate-config"].contains(&&**name));
    let spec = pod["spec"].as_object_mut().unwrap();
    spec.remove("volumes");
    spec.remove("securityContext");
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut).unwrap();
        containers.retain(|container| container["name"] != GATE_CONTAINER);
        for container in containers {
            for port in container["ports"].as_array_mut().unwrap() {
                for field in ["name", "hostPort", "hostIP", "containerPort"] {
                    port.as_object_mut().unwrap().remove(field);
                }
            }
            let env = container["env"].as_array_mut();
            if let Some(env) = env {
                env.retain(|entry| entry["name"] != "PORT");
            }
            if container["env"] == json!([]) {
                container["env"] = Value::Null;
            }
            if let Some(lifecycle) = container["lifecycle"].as_object_mut() {
                lifecycle.retain(|_, hook| hook["httpGet"]["path"] != "/drained");
                if lifecycle.is_empty() {
                    container["lifecycle"] = Value::Null;
                }
            }
            for asker in [
                "/readinessProbe",
                "/livenessProbe",
                "/lifecycle/postStart",
                "/lifecycle/preStop",
            ] {
                for handler in ["httpGet", "tcpSocket", "grpc"] {
                    let at = format!("{asker}/{handler}");
                    let asked = container.pointer_mut(&at).and_then(Value::as_object_mut);
                    if let Some(asked) = asked {
                        asked.remove("port");
                    }
                }
            }
        }
    }
    pod
}

/// Every value of a field of all ports of a pod, TCP only.
fn ports(pod: &Value, field: &str) -> Vec<String> {
    let lists = ["containers", "initContainers"].map(|list| pod["spec"][list].as_array().unwrap());
    let ports = lists
        .into_iter()
        .flatten()
        .filter_map(|container| container["ports"].as_array())
        .flatten();
    let tcp = ports.filter(|port| port["protocol"] != "UDP");
    tcp.map(|port| &port[field])
        .filter(|value| !value.is_null())
        .map(ToString::to_string)
        .collect()
}

fn distinct(values: &[String]) -> usize {
    values.iter().collect::<BTreeSet<_>>().len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_is_accepted_whole_and_once(pod in pods()) {
        let facts = facts();
        let injection = match injecting(&pod, &facts) {
            Injecting::Done(injection) => injection,
            Injecting::Refuse(findings) => {
                prop_assert!(!findings.is_empty());
                return Ok(());
            }
            other @ (Injecting::Ask(_) | Injecting::Nothing | Injecting::Left { .. }) => {
                return Err(TestCaseError::fail(format!("{other:?}")));
            }
        };
        let after = applied(&pod, &injection.operations);

        let settings = document_of(&after);
        let again = crate::contract::Settings::decode(&settings.encode()).unwrap();
        prop_assert_eq!(&again, &settings);
        prop_assert!(matches!(injecting(&after, &facts), Injecting::Nothing), "a second time");
        prop_assert_eq!(untouched(&pod), untouched(&after));

        // No two of a pod's ports come to share what they did not share before.
        for field in ["name", "containerPort"] {
            let (old, new) = (ports(&pod, field), ports(&after, field));
            prop_assert!(new.len() - distinct(&new) <= old.len() - distinct(&old), "{}: {:?}", field, new);
        }
        let own = gate_of(&after)["ports"].as_array().unwrap();
        let listens = settings.ports().iter().filter_map(|port| port.listen).count();
        prop_assert_eq!(own.len(), listens + 1);
    }
}
