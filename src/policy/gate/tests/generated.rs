//! Whatever pod comes: what injection writes, the gate accepts, and nothing else of the pod is touched.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{resources::class_of, *};
use crate::contract::{CheckKind, GATE_CONFIG_ANNOTATION, ValueFrom};

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
    let limits = prop_oneof![
        Just(json!({})),
        Just(json!({"cpu": "1"})),
        Just(json!({"cpu": "1", "memory": "1Gi"})),
    ];
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
                "volumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
            })
        })
}

/// A document of whatever sections.
fn config() -> impl Strategy<Value = String> {
    let sections = [
        vec![
            "",
            "takeover: env",
            "takeover: named-port",
            "takeover: none",
            "takeover: auto\nportEnv: URL",
        ],
        vec!["", "sidecar: container", "sidecar: native"],
        vec!["", "readiness: exec\nresources: {limits: {cpu: 1}}"],
        vec![
            "",
            "ports: [8080]",
            "ports: [{port: 8080, listen: 81, protocol: tcp}]",
            "ports: [http, 9]",
        ],
        vec![
            "",
            "warmup: {requests: [{path: '/a?b=$(C)$$'}], target: {p95: 50ms}}",
            "warmup: {requests: [{method: POST, path: /, safe: true, body: {file: /etc/ca/body}}]}",
        ],
        vec![
            "",
            "checks: []",
            "checks: [{name: cache, redis: {urlFrom: {env: URL}}}, {name: up, http: {port: 8080}}]",
            "checks: [{name: db, postgres: {urlFrom: {file: /etc/ca/url}, caFile: /etc/ca/$(A)}, scope: always}]",
            "checks: [{name: own, https: {path: /$$}}, {name: a, env: {name: PORT}}, {name: dns, dns: {name: db}}]",
        ],
        vec![
            "",
            "drain: {deadline: 3s}",
            "drain: {delay: 40s}",
            "appReserve: 0s",
        ],
        vec![
            "",
            "hold: {mode: refuse}",
            "hold: {mode: unlisten, maxWait: 1h}\nramp: {when: always}",
        ],
        vec![
            "",
            "notWarm: {then: closed}\nchecksFailed: {after: 1m, then: open}",
        ],
    ];
    let sections: Vec<_> = sections.into_iter().map(proptest::sample::select).collect();
    sections.prop_map(|sections| sections.join("\n"))
}

/// Services that send to the pods in one way or another, and the cluster's releases.
fn surroundings() -> impl Strategy<Value = (Vec<Service>, bool)> {
    let target = prop_oneof![
        Just(PortRef::Number(8080)),
        Just(PortRef::Number(80)),
        Just(PortRef::Name("http".into())),
        Just(PortRef::Name("grpc".into())),
    ];
    let service = (target, any::<bool>()).prop_map(|(target, publish_not_ready)| Service {
        publish_not_ready,
        ..service("any", target)
    });
    (proptest::collection::vec(service, 0..3), any::<bool>())
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
                    "labels": {"app": "checkout", "portcullis.dev/gate": "enabled"},
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

fn config_of(pod: &Value) -> &str {
    pod["metadata"]["annotations"][GATE_CONFIG_ANNOTATION]
        .as_str()
        .unwrap()
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

/// `value` as the kubelet hands it to a process: `expansion.Expand`, where `$(NAME)` of a name that is not set stays.
fn expanded(value: &str, set: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'))
        {
            match set.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

/// What the gate's process finds in its environment.
fn environment(gate: &Value) -> BTreeMap<String, String> {
    let mut set = BTreeMap::new();
    for entry in gate["env"].as_array().unwrap() {
        let value = match &entry["value"] {
            Value::String(value) => expanded(value, &set),
            _ => "10.0.0.1".to_owned(), // from a field, a Secret or a ConfigMap
        };
        set.insert(entry["name"].as_str().unwrap().to_owned(), value);
    }
    set
}

/// The gate, with this environment and these mounts, has all that its settings name.
fn has_what_it_names(settings: &contract::Settings, env: &BTreeMap<String, String>, gate: &Value) {
    let mounts = gate["volumeMounts"].as_array().unwrap();
    let mounts: Vec<_> = mounts
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    let mut named = vec![("env", POD_IPS_ENV)];
    for check in settings.checks() {
        match &check.kind {
            CheckKind::Env(check) => named.push(("env", &check.name)),
            CheckKind::Redis(check) | CheckKind::Postgres(check) => {
                named.push(match &check.url_from {
                    ValueFrom::Env(name) => ("env", name),
                    ValueFrom::File(path) => ("file", path),
                });
                named.extend(check.ca_file.as_deref().map(|file| ("file", file)));
            }
            _ => {}
        }
    }
    for (kind, name) in named {
        let there = match kind {
            "env" => env.contains_key(name),
            _ => mounts.iter().any(|mount| name.starts_with(mount)),
        };
        assert!(there, "{kind} {name}: {gate}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_written_is_accepted_whole_and_once(pod in pods(), (services, native) in surroundings()) {
        let release = if native { "v1.34.4" } else { "v1.31.0" };
        let facts = with_services(facts(), services).with(Query::Versions, versions(release, None));
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

        // The gate reads it from its environment, by the decoder that its own `run` uses.
        let env = environment(gate_of(&after));
        let settings = contract::Settings::decode(&env[GATE_CONFIG_ENV]).unwrap();
        prop_assert_eq!(&contract::Settings::decode(&settings.encode()).unwrap(), &settings);
        has_what_it_names(&settings, &env, gate_of(&after));
        prop_assert!(matches!(injecting(&after, &facts), Injecting::Nothing), "a second time");
        prop_assert_eq!(untouched(&pod), untouched(&after));
        if !config_of(&pod).contains("resources:") {
            prop_assert_eq!(class_of(&pod), class_of(&after));
        }

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
