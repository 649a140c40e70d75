//! Injection by its sentences, and whole pods as golden files.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that gets something else fails, whatever it is"
)]

use serde_json::{Value, json};

use super::*;
use crate::{
    contract::{self, GATE_CONFIG_ENV, POD_IPS_ENV},
    policy::{
        facts::PortRef,
        facts::{Answer, EXEMPTIONS, Namespace, Release, Service, ServicePort, Unknown, Versions},
        testing::{Facts, NAMESPACE, kind_of, limit_range, raw},
    },
    yaml,
};

/// A cluster whose releases have native sidecars.
pub(super) fn facts() -> Facts {
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

pub(super) fn parse(text: &str) -> Value {
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

pub(super) fn injecting(pod: &Value, facts: &Facts) -> Injecting {
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

pub(super) fn applied(pod: &Value, operations: &[Operation]) -> Value {
    let patch = serde_json::to_value(operations).unwrap();
    let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).expect("applies");
    pod
}

/// The gate's container, in whichever list it stands.
pub(super) fn gate_of(pod: &Value) -> &Value {
    let lists = ["initContainers", "containers"].map(|list| pod["spec"][list].as_array());
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container["name"] == GATE_CONTAINER)
        .expect("a gate")
}

/// The document that the gate will read, as the kubelet hands it over.
pub(super) fn document_of(pod: &Value) -> contract::Settings {
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

// === golden files ===

#[test]
fn a_named_port_goes_to_the_gate() {
    let pod = pod("
containers:
- name: app
  image: shop:1
  ports:
  - {name: http, containerPort: 8080, protocol: TCP}
  - {name: metrics, containerPort: 9090, protocol: TCP}
  readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 10, failureThreshold: 3}
  livenessProbe: {httpGet: {path: /live, port: http}}
  startupProbe: {tcpSocket: {port: http}}
  lifecycle: {postStart: {httpGet: {path: /warm, port: http}}}
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}
");
    insta::assert_json_snapshot!(injected(&pod, &facts()));
}

#[test]
fn a_number_goes_to_the_gate_where_the_app_is_told_another() {
    let pod = pod("
containers:
- name: app
  image: shop:1
  env: [{name: PORT, value: \"80\"}]
  ports: [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1, protocol: TCP}]
  readinessProbe: {httpGet: {path: /, port: 80}}
  lifecycle: {preStop: {exec: {command: [sh, -c, sleep 15]}}}
");
    insta::assert_json_snapshot!(injected(&pod, &by_number(facts(), 80)));
}

#[test]
fn beside_a_mesh_and_as_an_ordinary_container() {
    let pod = told(
        "
containers:
- name: app
  image: shop:1
  ports: [{name: grpc, containerPort: 50051, protocol: TCP}]
  readinessProbe: {grpc: {port: 50051}}
  env:
  - {name: DATABASE_USER, value: shop}
  - {name: DATABASE_URL, value: 'postgres://$(DATABASE_USER)@db/shop'}
  volumeMounts: [{name: tls, mountPath: /etc/tls, subPath: ca}]
- name: istio-proxy
  image: mesh:1
  ports: [{name: http-envoy-prom, containerPort: 15090, protocol: TCP}]
volumes: [{name: tls, secret: {secretName: tls}}]
",
        "
sidecar: container
readiness: http
checks:
- name: database
  postgres: {urlFrom: {env: DATABASE_URL}, caFile: /etc/tls/ca.crt}
warmup:
  requests: [{path: /price?currency=$USD}]
",
    );
    insta::assert_json_snapshot!(injected(&pod, &facts()));
}

// === who asks ===

#[test]
fn the_label_of_a_pod_wins_over_that_of_its_namespace() {
    for (own, namespace, exemptions, demand) in [
        (None, None, None, None),
        (None, Some("enabled"), None, Some(Demand::Enabled)),
        (None, Some("preferred"), None, Some(Demand::Preferred)),
        (None, Some("disabled"), None, None),
        (None, Some("on"), None, None),
        (Some("enabled"), None, None, Some(Demand::Enabled)),
        (
            Some("enabled"),
            Some("preferred"),
            None,
            Some(Demand::Enabled),
        ),
        (
            Some("preferred"),
            Some("enabled"),
            None,
            Some(Demand::Preferred),
        ),
        (Some("disabled"), None, None, None),
        (
            Some("disabled"),
            Some("enabled"),
            None,
            Some(Demand::Enabled),
        ),
        (Some("disabled"), Some("enabled"), Some("allowed"), None),
        (Some("true"), Some("enabled"), None, Some(Demand::Enabled)),
    ] {
        let mut pod = pod(PLAIN);
        match own {
            Some(own) => pod["metadata"]["labels"]["portcullis.dev/gate"] = json!(own),
            None => pod["metadata"]["labels"] = json!({}),
        }
        let labels = [("portcullis.dev/gate", namespace), (EXEMPTIONS, exemptions)];
        let labels = labels
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let facts = facts().with_labels(&labels.collect::<Vec<_>>());
        let found = match injecting(&pod, &facts) {
            Injecting::Done(injection) => Some(injection.demand),
            Injecting::Nothing => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, demand, "{own:?} in a namespace {namespace:?}");
    }
}

#[test]
fn a_namespace_that_can_not_be_read_has_asked_for_what_comes_without_a_label() {
    let query = Query::Namespace {
        name: NAMESPACE.into(),
    };
    let facts = facts().with(query, Answer::Unknown(Unknown::Deadline));
    let mut pod = pod(PLAIN);
    assert_eq!(injection(&pod, &facts).demand, Demand::Enabled);
    pod["metadata"]["labels"] = json!({});
    assert_eq!(injection(&pod, &facts).demand, Demand::Preferred);
}

#[test]
fn asks_for_all_that_it_lacks() {
    let pod = pod(PLAIN);
    let mut known = std::collections::HashMap::new();
    let bytes = raw(&pod);
    let workload = Workload::read(kind_of(&pod), NAMESPACE, &bytes)
        .unwrap()
        .unwrap();
    let facts = facts();
    let mut rounds = 0;
    let done = loop {
        match inject(&workload, &pod, &known, &facts.settings) {
            Injecting::Ask(questions) => {
                rounds += 1;
                assert!(!questions.is_empty() && rounds < 4);
                for query in questions {
                    let answer = facts.get(&query).unwrap();
                    assert!(known.insert(query, answer).is_none(), "asked twice");
                }
            }
            done => break done,
        }
    };
    assert!(matches!(done, Injecting::Done(_)), "{done:?}");
    assert_eq!(rounds, 1, "all at once");
}

#[test]
fn templates_stay_as_they_were_written() {
    let mut object = crate::policy::testing::deployment(parse(PLAIN));
    object["spec"]["template"]["metadata"]["labels"] = json!({"portcullis.dev/gate": "enabled"});
    assert!(matches!(injecting(&object, &facts()), Injecting::Nothing));
}

// === what it is told ===

#[test]
fn the_annotation_wins_over_profile_namespace_and_settings() {
    let facts = with_settings(
        "
gate:
  image: gate:1
  defaults: {drain: {delay: 1s, hookWait: 1s}, hold: {maxWait: 1s, maxRequests: 1}, readiness: http}
  profiles: {jvm: {hold: {maxWait: 3s}, notWarm: {after: 3s}}}
",
    );
    let namespace = Namespace {
        annotations: [
            (
                "portcullis.dev/gate-config".into(),
                "{drain: {delay: 2s}, hold: {maxWait: 2s}}".into(),
            ),
            ("portcullis.dev/gate-profile".into(), "jvm".into()),
        ]
        .into(),
        ..Namespace::default()
    };
    let query = Query::Namespace {
        name: NAMESPACE.into(),
    };
    let facts = facts.with(query, Answer::Namespace(namespace));
    let pod = told(PLAIN, "notWarm: {after: 4s}\nhold: {maxRequests: null}");
    let settings = settings_of(&pod, &facts);
    assert_eq!(settings["drain"]["hookWait"], "1s");
    assert_eq!(settings["drain"]["delay"], "2s");
    assert_eq!(settings["hold"]["maxWait"], "3s");
    assert_eq!(settings["notWarm"]["after"], "4s");
    assert_eq!(
        settings["hold"]["maxRequests"], 1000,
        "null takes a default away"
    );
    let after = injected(&pod, &facts);
    assert_eq!(
        gate_of(&after)["readinessProbe"]["httpGet"]["path"],
        "/ready"
    );
}

#[test]
fn a_mistake_is_named_with_its_line() {
    let facts = with_settings("gate: {image: gate:1, profiles: {jvm: {}, go: {}}}");
    let mut texts = Vec::new();
    for config in [
        "chekcs: []",
        "\nchecks:\n- name: db\n  tcp: {port: 5432}\n  timeout: 90m\n",
        "checks:\n- name: db\n  tcp: {port: 70000}\n",
        "checks:\n- {name: db, tcp: {port: 1}}\n- {name: db, tcp: {port: 2}}\n",
        "takeover: iptables",
        "drain: {delay: 5}",
        "- checks",
        "checks: [",
        "hold: {}\n---\nhold: {}\n",
        "ports: [web]",
        "ports: [http, 8080]",
        "ports: []",
        "ports: [70000]",
        "ports: [{port: http, listen: 15981}]",
        "takeover: env\nports: [{port: http, listen: 9}]",
        "resources: {limits: {memory: 128MB}}",
        "appReserve: 10",
        "checks: [{name: own, http: {host: checkout.shop.svc, port: 80}}]",
    ] {
        let facts = Facts {
            settings: facts.settings.clone(),
            ..Facts::default()
        };
        let facts = with_services(
            facts,
            vec![service("checkout", PortRef::Name("http".into()))],
        );
        texts.push(refusal(&told(PLAIN, config), &facts));
    }
    let mut unknown = pod(PLAIN);
    unknown["metadata"]["annotations"] = json!({"portcullis.dev/gate-profile": "rust"});
    texts.push(refusal(&unknown, &facts));
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn settings_of_the_installation_are_checked_when_they_are_read() {
    let refusal = |text: &str| Settings::from_value(parse(text)).unwrap_err().to_string();
    assert_eq!(
        refusal("gate: {profiles: {jvm: {warmup: {requests: []}}}}"),
        "gate.profiles.jvm.warmup.requests: warmup.requests: must hold 1 to 100 requests"
    );
    assert_eq!(
        refusal("gate: {defaults: {ramp: {duration: 10}}}"),
        "gate.defaults.ramp.duration: ramp.duration: expected a duration in quotes, such as \"250ms\""
    );
    assert!(refusal("gate: {image: ' '}").starts_with("gate.image: must name an image"));
}

#[test]
fn a_pod_that_must_have_a_gate_is_refused_and_one_that_would_like_one_goes_without() {
    assert!(refusal(&pod(PLAIN), &Facts::default()).contains("set gate.image"));
    let mut pod = told(PLAIN, "hold: 1");
    assert!(refusal(&pod, &facts()).contains("line 1: hold: invalid type"));
    pod["metadata"]["labels"]["portcullis.dev/gate"] = json!("preferred");
    let Injecting::Left { demand, warnings } = injecting(&pod, &facts()) else {
        panic!("not left");
    };
    assert_eq!((demand, warnings.len()), (Demand::Preferred, 1));
}

// === what follows from the pod ===

#[test]
fn a_readiness_probe_becomes_the_deep_check() {
    let check = |probe: &str| settings_of(&pod(&named_http(probe)), &facts())["checks"].clone();
    let http = check(
        "readinessProbe: {httpGet: {path: ready, port: http, httpHeaders: [{name: Host, value: shop}]}, timeoutSeconds: 2}",
    );
    assert_eq!(
        http,
        json!([{
            "name": "ready",
            "http": {"path": "/ready", "port": 8080, "headers": {"Host": "shop"}, "status": ["200-399"]},
            "period": "1s", "timeout": "2s", "successThreshold": 1, "failureThreshold": 30, "scope": "always",
        }])
    );
    assert_eq!(
        check("readinessProbe: {httpGet: {port: 8443, scheme: HTTPS}}")[0]["https"]["path"],
        "/"
    );
    assert_eq!(
        check("readinessProbe: {tcpSocket: {port: http}}")[0]["tcp"],
        json!({"port": 8080})
    );
    assert_eq!(
        check("readinessProbe: {grpc: {port: 9, service: s}}")[0]["grpc"]["service"],
        "s"
    );
    assert_eq!(
        check("readinessProbe: {exec: {command: [x]}}"),
        json!([]),
        "left to the kubelet"
    );
    assert_eq!(
        check("readinessProbe: {httpGet: {port: http, host: 10.0.0.9}}"),
        json!([])
    );
    let own = told(
        &named_http("readinessProbe: {httpGet: {port: http}}"),
        "checks: []",
    );
    assert_eq!(
        settings_of(&own, &facts())["checks"],
        json!([]),
        "unless the settings have checks"
    );
}

#[test]
fn http_is_spoken_where_probe_or_name_say_so() {
    let protocol = |port: &str, probe: &str| {
        let spec = format!("containers: [{{name: app, ports: [{port}], {probe}}}]");
        settings_of(&pod(&spec), &facts())["ports"][0]["protocol"].clone()
    };
    assert_eq!(protocol("{name: http-api, containerPort: 1}", ""), "http");
    assert_eq!(protocol("{name: grpc, containerPort: 1}", ""), "http");
    assert_eq!(protocol("{name: https, containerPort: 1}", ""), "tcp");
    assert_eq!(protocol("{name: redis, containerPort: 1}", ""), "tcp");
    assert_eq!(
        protocol(
            "{name: api, containerPort: 1}",
            "readinessProbe: {httpGet: {port: 1}}"
        ),
        "http"
    );
    let tls = "readinessProbe: {httpGet: {port: http, scheme: HTTPS}}";
    assert_eq!(protocol("{name: http, containerPort: 1}", tls), "tcp");
}

#[test]
fn several_ports_are_gated_and_metrics_are_not() {
    let pod = pod("
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  - {name: grpc, containerPort: 15982}
  - {name: http-metrics, containerPort: 9090}
  - {name: dns, containerPort: 53, protocol: UDP}
- name: other
  ports: [{name: http, containerPort: 8081}]
");
    let injection = injection(&pod, &facts());
    assert!(
        injection
            .warnings
            .iter()
            .any(|text| text.contains("port 53 (UDP)")),
        "{:?}",
        injection.warnings
    );
    let after = applied(&pod, &injection.operations);
    assert_eq!(
        after["metadata"]["annotations"]["portcullis.dev/gate-takeover"],
        "http=named-port,grpc=named-port,port-8081=none"
    );
    assert_eq!(injection.takeover, Takeover::Mixed);
    let ports: Vec<_> = document_of(&after).ports().to_vec();
    let of = |port: &contract::Port| (port.listen.map(|listen| listen.0.port()), port.app.port);
    let ports: Vec<_> = ports.iter().map(of).collect();
    // 15982 is the app's; the second port named http is not found by that name.
    assert_eq!(
        ports,
        [(Some(15983), 8080), (Some(15984), 15982), (None, 8081)]
    );
    assert_eq!(
        after["spec"]["containers"][0]["ports"][2],
        pod["spec"]["containers"][0]["ports"][2]
    );
}

#[test]
fn auto_looks_at_pod_and_services() {
    let named = "{name: http, containerPort: 8080}";
    let bare = "{containerPort: 8080}";
    let moves = "env: [{name: PORT, value: \"8080\"}]";
    let by_name = || with_services(facts(), vec![service("a", PortRef::Name("http".into()))]);
    let both = || {
        let services = [PortRef::Name("http".into()), PortRef::Number(8080)];
        with_services(facts(), services.map(|target| service("a", target)).into())
    };
    for (port, env, facts, takeover, warnings) in [
        (named, "", facts(), Takeover::NamedPort, 0),
        (named, "", by_name(), Takeover::NamedPort, 0),
        (named, "", both(), Takeover::NamedPort, 1),
        (named, "", by_number(facts(), 8080), Takeover::None, 1),
        (named, "", by_number(facts(), 9999), Takeover::NamedPort, 0),
        (named, moves, facts(), Takeover::NamedPort, 0),
        (named, moves, both(), Takeover::Env, 0),
        (named, moves, by_number(facts(), 8080), Takeover::Env, 0),
        (bare, "", facts(), Takeover::None, 1),
        (bare, moves, facts(), Takeover::Env, 0),
        (
            bare,
            "env: [{name: PORT, value: \"80\"}]",
            facts(),
            Takeover::None,
            1,
        ),
    ] {
        let pod = pod(&format!(
            "containers: [{{name: app, ports: [{port}], {env}}}]"
        ));
        let injection = injection(&pod, &facts);
        let found = (injection.takeover, injection.warnings.len());
        assert_eq!(
            found,
            (takeover, warnings),
            "{port} {env}: {:?}",
            injection.warnings
        );
    }
}

#[test]
fn env_moves_the_app_and_all_that_asks_it() {
    let pod = told(
        "
containers:
- name: app
  ports: [{name: http, containerPort: 8080}]
  env: [{name: SERVER_PORT, value: \"8080\"}, {name: LATER, value: x}]
  livenessProbe: {tcpSocket: {port: 8080}}
  lifecycle: {postStart: {httpGet: {port: http}}}
- name: watcher
  livenessProbe: {httpGet: {port: 8080}}
",
        "{takeover: env, portEnv: SERVER_PORT, checks: [{name: up, http: {port: 8080}}, {name: far, tcp: {host: db, port: 8080}}]}",
    );
    let after = injected(&pod, &facts());
    let app = &after["spec"]["containers"][0];
    assert_eq!(
        app["env"],
        json!([{"name": "SERVER_PORT", "value": "15982"}, {"name": "LATER", "value": "x"}])
    );
    assert_eq!(app["ports"], json!([{"containerPort": 15982}]));
    assert_eq!(app["livenessProbe"]["tcpSocket"]["port"], 15982);
    assert_eq!(app["lifecycle"]["postStart"]["httpGet"]["port"], 15982);
    assert_eq!(
        after["spec"]["containers"][1]["livenessProbe"]["httpGet"]["port"],
        15982
    );
    let settings: Value = serde_json::from_str(&document_of(&after).encode()).unwrap();
    assert_eq!(settings["ports"][0]["listen"], "[::]:8080");
    assert_eq!(
        settings["ports"][0]["app"],
        json!({"hostFrom": {"env": POD_IPS_ENV}, "port": 15982})
    );
    assert_eq!(settings["checks"][0]["http"]["port"], 15982, "the app's");
    assert_eq!(settings["checks"][1]["tcp"]["port"], 8080, "another's");
    let elsewhere = told(
        &named_http("env: [{name: PORT, valueFrom: {fieldRef: {fieldPath: x}}}]"),
        "takeover: env",
    );
    assert!(refusal(&elsewhere, &facts()).contains("reads PORT from somewhere else"));
    let other = told(
        &named_http("env: [{name: PORT, value: \"1\"}]"),
        "takeover: env",
    );
    assert!(refusal(&other, &facts()).contains("has PORT=1, which is not its port 8080"));
}

#[test]
fn a_gate_that_takes_nothing_over_still_decides_and_drains() {
    let pod = told(
        &named_http("readinessProbe: {httpGet: {port: http}}"),
        "takeover: none",
    );
    let injection = injection(&pod, &facts());
    assert_eq!(injection.warnings, Vec::<String>::new());
    let after = applied(&pod, &injection.operations);
    assert_eq!(
        after["spec"]["containers"][0]["ports"],
        pod["spec"]["containers"][0]["ports"]
    );
    assert_eq!(
        after["spec"]["containers"][0]["readinessProbe"],
        pod["spec"]["containers"][0]["readinessProbe"]
    );
    assert!(document_of(&after).ports()[0].listen.is_none());
    assert_eq!(
        gate_of(&after)["ports"].as_array().unwrap().len(),
        1,
        "its admin port alone"
    );
    assert_eq!(
        after["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"],
        "/drained"
    );
}

#[test]
fn what_is_published_before_it_is_ready_is_not_gated_unless_named() {
    let peers = || {
        let service = Service {
            publish_not_ready: true,
            ..service("peers", PortRef::Number(7000))
        };
        with_services(facts(), vec![service])
    };
    let spec = "containers: [{name: app, ports: [{name: http, containerPort: 8080}, {name: peer, containerPort: 7000}]}]";
    let of = |pod: &Value| {
        let injection = injection(pod, &peers());
        let after = applied(pod, &injection.operations);
        (
            document_of(&after).ports().len(),
            injection.warnings.join("\n"),
        )
    };
    let (ports, warnings) = of(&pod(spec));
    assert_eq!(ports, 1);
    assert!(
        warnings.contains("Service \"peers\" publishes pods that are not ready, so"),
        "{warnings}"
    );
    let (ports, warnings) = of(&told(spec, "ports: [http, peer]\ntakeover: named-port"));
    assert_eq!(ports, 2);
    assert!(
        warnings.contains("its clients will meet a closed gate"),
        "{warnings}"
    );
}

#[test]
fn the_drain_fits_into_the_grace_period_and_the_apps_own_sleep() {
    let of = |fields: &str, spec: &str, config: &str| {
        let pod = told(&format!("{}{spec}", named_http(fields)), config);
        let injection = injection(&pod, &facts());
        let after = applied(&pod, &injection.operations);
        let settings: Value = serde_json::from_str(&document_of(&after).encode()).unwrap();
        let drain =
            ["deadline", "delay", "streamDeadline"].map(|field| settings["drain"][field].clone());
        (json!(drain), injection.warnings.len())
    };
    assert_eq!(of("", "", ""), (json!(["17s", "5s", "15s"]), 0));
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 60", ""),
        (json!(["47s", "5s", "15s"]), 0)
    );
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 60", "appReserve: 40s"),
        (json!(["17s", "5s", "15s"]), 0)
    );
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 15", ""),
        (json!(["2s", "2s", "2s"]), 1)
    );
    assert_eq!(
        of("", "terminationGracePeriodSeconds: 5", ""),
        (json!(["0s", "0s", "0s"]), 1)
    );
    assert_eq!(
        of("", "", "drain: {deadline: 28s}"),
        (json!(["28s", "5s", "15s"]), 1)
    );
    assert_eq!(
        of("", "", "drain: {deadline: 1s}"),
        (json!(["1s", "1s", "1s"]), 0)
    );
    for hook in [
        "sleep: {seconds: 8}",
        "exec: {command: [/bin/sleep, 8s]}",
        "exec: {command: [/bin/sh, -c, sleep 8]}",
    ] {
        let hook = format!("lifecycle: {{preStop: {{{hook}}}}}");
        assert_eq!(of(&hook, "", ""), (json!(["8s", "5s", "8s"]), 0), "{hook}");
    }
    assert_eq!(
        of("lifecycle: {preStop: {sleep: {seconds: 2}}}", "", ""),
        (json!(["2s", "2s", "2s"]), 1)
    );
    assert_eq!(
        of("lifecycle: {preStop: {exec: {command: [sync]}}}", "", "").0[0],
        "17s"
    );
}

#[test]
fn a_check_that_closes_all_replicas_at_once_is_warned_about() {
    let pod = told(
        PLAIN,
        "checks: [{name: db, tcp: {host: db, port: 5432}, scope: always}, {name: up, tcp: {port: 8080}}]",
    );
    let warnings = injection(&pod, &facts()).warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("check \"db\" has scope always"));
}

// === what is shared with the app ===

/// An app with a variable of every origin.
const RICH: &str = "
containers:
- name: other
- name: app
  ports: [{name: http, containerPort: 8080}]
  env:
  - {name: URL, value: old}
  - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
  - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  - {name: URL, value: 'redis://:$(PASSWORD)@$(LIMIT)$(LATER)'}
  - {name: LATER, value: x}
  - {name: UNASKED, value: x}
  envFrom:
  - {configMapRef: {name: flags}}
  - {prefix: DB_, secretRef: {name: db}}
  - {prefix: DB_, secretRef: {name: extra}}
  volumeMounts:
  - {name: etc, mountPath: /etc}
  - {name: ca, mountPath: /etc/ca/, mountPropagation: HostToContainer}
";

/// Checks that name some of them.
const NAMING: &str = "
checks:
- {name: cache, redis: {urlFrom: {env: URL}}}
- {name: base, postgres: {urlFrom: {env: DB_URL}}}
- {name: flag, env: {name: FLAG}}
- {name: ca, file: {path: /etc/ca/root.pem}}
- {name: token, file: {path: /var/run/secrets/kubernetes.io/serviceaccount/token}}
";

#[test]
fn what_a_check_names_is_copied_and_optional() {
    let secret = |name: &'static str| Query::Secret {
        namespace: NAMESPACE.into(),
        name: name.into(),
    };
    let facts = facts()
        .with(
            secret("db"),
            Answer::Keys(vec!["URL".into(), "password".into()]),
        )
        .with(secret("extra"), Answer::Keys(vec!["OTHER".into()]));
    let after = injected(&told(RICH, NAMING), &facts);
    let gate = gate_of(&after);
    let borrowed: Vec<_> = gate["env"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .skip(3)
        .rev()
        .cloned()
        .collect();
    assert_eq!(
        borrowed,
        [
            json!({"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password", "optional": true}}}),
            json!({"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "containerName": "app"}}}),
            json!({"name": "URL", "value": "redis://:$(PASSWORD)@$(LIMIT)$(LATER)"}),
            json!({"name": "DB_URL", "valueFrom": {"secretKeyRef": {"name": "db", "key": "URL", "optional": true}}}),
            json!({"name": "FLAG", "valueFrom": {"configMapKeyRef": {"name": "flags", "key": "FLAG", "optional": true}}}),
        ]
    );
    assert_eq!(
        gate["volumeMounts"][0],
        json!({"name": "ca", "mountPath": "/etc/ca/", "readOnly": true})
    );
    assert_eq!(gate["volumeMounts"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_not_there_is_refused() {
    let config =
        "checks: [{name: db, postgres: {urlFrom: {env: URL}}}, {name: ca, file: {path: /etc/ca}}]";
    insta::assert_snapshot!(refusal(&told(PLAIN, config), &facts()), @r"
    annotation portcullis.dev/gate-config, line 1: checks[0].postgres.urlFrom.env: no container of the pod sets env URL
    annotation portcullis.dev/gate-config, line 1: checks[1].file.path: no volumeMount of the app holds /etc/ca, and the gate sees no other file of the app
    ");
}

// === which pods ===

#[test]
fn it_is_the_last_of_the_init_containers_where_releases_allow() {
    for (server, node, config, native) in [
        ("v1.34.4", Some("v1.33.0"), "", true),
        ("v1.34.4", None, "", true),
        ("v1.34.4", Some("v1.32.9"), "", false),
        ("v1.32.0", Some("v1.33.0"), "", false),
        ("v1.34.4", Some("v1.34.0"), "sidecar: container", false),
        ("v1.30.0", Some("v1.30.0"), "sidecar: native", true),
    ] {
        let facts = facts().with(Query::Versions, versions(server, node));
        let pod = told(
            &format!("{PLAIN}\ninitContainers: [{{name: migrate}}]"),
            config,
        );
        let after = injected(&pod, &facts);
        let list = if native {
            "initContainers"
        } else {
            "containers"
        };
        let gate = after["spec"][list].as_array().unwrap().last().unwrap();
        assert_eq!(gate["name"], GATE_CONTAINER, "{server} {node:?} {config}");
        assert_eq!(
            gate["restartPolicy"],
            if native { json!("Always") } else { Value::Null }
        );
        assert_eq!(after["spec"]["initContainers"][0]["name"], "migrate");
    }
    let unknown = facts().with(Query::Versions, Answer::Unknown(Unknown::Deadline));
    let after = injected(&pod(PLAIN), &unknown);
    assert_eq!(
        after["spec"]["containers"][1]["name"], GATE_CONTAINER,
        "works everywhere"
    );
}

#[test]
fn a_second_time_nothing_is_left_to_do() {
    for config in ["", "sidecar: container", "takeover: env", "takeover: none"] {
        let after = injected(&told(PLAIN, config), &facts());
        assert!(
            matches!(injecting(&after, &facts()), Injecting::Nothing),
            "{config}"
        );
    }
}

#[test]
fn a_gate_put_there_by_hand_is_left_alone() {
    let pod = pod("containers: [{name: app}, {name: portcullis-gate}]");
    assert!(matches!(injecting(&pod, &facts()), Injecting::Nothing));
}

#[test]
fn what_other_webhooks_add_afterwards_is_seen_to() {
    let mut after = injected(&pod(PLAIN), &facts());
    let proxy = json!({"name": "istio-proxy"});
    after["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(proxy.clone());
    let inits = after["spec"]["initContainers"].as_array_mut().unwrap();
    inits.push(json!({"name": "istio-init"}));
    after["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"] =
        json!("9090");
    let again = injection(&after, &facts());
    assert_eq!(again.takeover, Takeover::NamedPort);
    let whole = applied(&after, &again.operations);
    let names: Vec<_> = whole["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["istio-init", GATE_CONTAINER]);
    assert_eq!(
        whole["spec"]["containers"][1]["lifecycle"]["preStop"]["httpGet"]["path"],
        "/drained"
    );
    assert_eq!(
        whole["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeInboundPorts"],
        "9090,15981"
    );
    assert!(matches!(injecting(&whole, &facts()), Injecting::Nothing));
}

#[test]
fn a_mesh_that_came_first_is_not_the_app() {
    let pod = pod("
initContainers: [{name: istio-proxy, restartPolicy: Always, ports: [{name: http-envoy, containerPort: 15090}]}]
containers:
- {name: linkerd-proxy, ports: [{name: linkerd, containerPort: 4143}]}
- {name: app, ports: [{name: http, containerPort: 8080}]}
");
    let after = injected(&pod, &facts());
    assert_eq!(document_of(&after).ports().len(), 1);
    assert_eq!(
        after["spec"]["initContainers"][0],
        pod["spec"]["initContainers"][0]
    );
    assert_eq!(after["spec"]["initContainers"][1]["name"], GATE_CONTAINER);
}

#[test]
fn some_pods_can_have_no_gate() {
    let windows = format!("{PLAIN}\nos: {{name: windows}}");
    let windows_node = format!("{PLAIN}\nnodeSelector: {{kubernetes.io/os: windows}}");
    let host = format!("{PLAIN}\nhostNetwork: true");
    let worker = "containers: [{name: app}]".to_owned();
    let scraped =
        "containers: [{name: app, ports: [{name: metrics, containerPort: 1}]}]".to_owned();
    for (spec, why, namespaced) in [
        (windows, "it runs on Windows", true),
        (windows_node, "it runs on Windows", true),
        (host, "it has hostNetwork", true),
        (worker, "no container declares a TCP port", false),
        (scraped, "no container declares a TCP port", false),
    ] {
        let mut pod = pod(&spec);
        assert!(refusal(&pod, &facts()).contains(why), "{spec}");
        // Where a whole namespace asks, what takes no traffic is passed over.
        pod["metadata"]["labels"] = json!({});
        let facts = facts().with_labels(&[("portcullis.dev/gate", "preferred")]);
        match injecting(&pod, &facts) {
            Injecting::Left { warnings, .. } if namespaced => assert!(warnings[0].contains(why)),
            Injecting::Nothing if !namespaced => {}
            other => panic!("{spec}: {other:?}"),
        }
    }
}

#[test]
fn a_job_gets_a_gate_only_by_its_own_label_and_as_a_native_sidecar() {
    let mut job = pod(&format!("{PLAIN}\nrestartPolicy: Never"));
    assert_eq!(
        gate_of(&injected(&job, &facts()))["restartPolicy"],
        "Always"
    );
    let old = facts().with(Query::Versions, versions("v1.32.0", None));
    assert!(refusal(&job, &old).contains("it ends by itself"));
    let unknown = facts().with(Query::Versions, Answer::Unknown(Unknown::Deadline));
    assert!(refusal(&job, &unknown).contains("it ends by itself"));
    job["metadata"]["labels"] = json!({});
    let asking = facts().with_labels(&[("portcullis.dev/gate", "enabled")]);
    assert!(matches!(injecting(&job, &asking), Injecting::Nothing));
}

#[test]
fn a_pod_that_shares_its_processes_is_gated_as_any() {
    let plain = injection(&pod(PLAIN), &facts()).operations;
    let shared = injection(
        &pod(&format!("{PLAIN}\nshareProcessNamespace: true")),
        &facts(),
    )
    .operations;
    assert_eq!(plain, shared);
}

// === resources ===

#[test]
fn it_asks_for_little_and_keeps_the_qos_class() {
    let resources = |spec: &str, config: &str| {
        gate_of(&injected(&told(spec, config), &facts()))["resources"].clone()
    };
    let usual =
        json!({"limits": {"memory": "128Mi"}, "requests": {"cpu": "10m", "memory": "32Mi"}});
    assert_eq!(resources(PLAIN, ""), usual);
    let own = json!({"limits": {"memory": "64Mi"}, "requests": {"cpu": "5m", "memory": "32Mi"}});
    assert_eq!(
        resources(
            PLAIN,
            "resources: {requests: {cpu: 5m}, limits: {memory: 64Mi}}"
        ),
        own
    );
    let guaranteed = named_http("resources: {limits: {cpu: 1, memory: 1Gi}}");
    let class = json!({"limits": {"cpu": "100m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}});
    assert_eq!(resources(&guaranteed, ""), class, "Guaranteed");
    let burstable = named_http("resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 100m}}");
    assert_eq!(
        resources(&burstable, "")["limits"]["cpu"],
        "500m",
        "a quota may demand one"
    );
    let of_pod = format!("{PLAIN}\nresources: {{limits: {{cpu: 1}}}}");
    assert_eq!(
        resources(&of_pod, "")["requests"],
        json!({"memory": "32Mi"}),
        "the pod's own are for all"
    );
}

#[test]
fn limit_ranges_let_it_in() {
    for (item, expected) in [
        (
            json!({"min": {"cpu": "50m", "memory": "64Mi"}}),
            [("64Mi", "128Mi"), ("50m", "")],
        ),
        (
            json!({"max": {"cpu": "200m", "memory": "100Mi"}}),
            [("32Mi", "100Mi"), ("10m", "200m")],
        ),
        (
            json!({"default": {"cpu": "1"}}),
            [("32Mi", "128Mi"), ("10m", "500m")],
        ),
        (
            json!({"maxLimitRequestRatio": {"cpu": "10", "memory": "2"}}),
            [("64Mi", "128Mi"), ("50m", "500m")],
        ),
        (
            json!({"type": "Pod", "max": {"cpu": "2"}}),
            [("32Mi", "128Mi"), ("10m", "")],
        ),
    ] {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let facts = facts().with(query, Answer::LimitRanges(vec![limit_range(&item)]));
        // With requests of its own: what LimitRanger fills in would else make the pod Guaranteed.
        let burstable = named_http("resources: {requests: {cpu: 60m, memory: 80Mi}}");
        let after = injected(&pod(&burstable), &facts);
        let resources = &gate_of(&after)["resources"];
        let of = |side: &str, name: &str| {
            resources[side][name]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let found = ["memory", "cpu"].map(|name| (of("requests", name), of("limits", name)));
        let expected = expected.map(|(request, limit)| (request.to_owned(), limit.to_owned()));
        assert_eq!(found, expected, "{item}");
        let containers = facts.judge(&after).of("limit-range");
        assert!(
            !containers
                .iter()
                .any(|finding| finding.contains(GATE_CONTAINER)),
            "{containers:?}"
        );
    }
}

#[test]
fn an_injected_pod_passes_our_own_rules() {
    let sound = "
containers:
- name: app
  ports: [{name: http, containerPort: 8080}]
  readinessProbe: {httpGet: {path: /ready, port: http}}
  livenessProbe: {httpGet: {path: /live, port: http}}
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}
";
    for config in ["", "readiness: http", "sidecar: container", "takeover: env"] {
        let after = injected(&told(sound, config), &facts());
        let verdict = facts().judge(&after);
        let found = verdict
            .findings
            .iter()
            .filter(|finding| finding.container.as_deref() != Some("app"));
        assert_eq!(
            found.collect::<Vec<_>>(),
            Vec::<&Finding>::new(),
            "{config}"
        );
        assert_eq!(
            verdict.of("cpu-limit"),
            ["warn app /spec/containers/0/resources/limits/cpu"]
        );
    }
}

// === the rules ===

#[test]
fn a_workload_is_refused_for_what_its_pods_would_be_refused_for() {
    let mut object = crate::policy::testing::deployment(parse(PLAIN));
    let metadata = &mut object["spec"]["template"]["metadata"];
    metadata["labels"] = json!({"portcullis.dev/gate": "enabled"});
    metadata["annotations"] = json!({"portcullis.dev/gate-config": "\nhold: {maxWait: 1y}\n"});
    for label in ["deny", "warn"] {
        let facts = facts().with_labels(&[("portcullis.dev/enforce", label)]);
        let verdict = facts.judge(&object);
        assert_eq!(
            verdict.of("gate-config"),
            ["deny - /spec/template/metadata/annotations/portcullis.dev~1gate-config"],
            "{label}"
        );
        let text = "annotation portcullis.dev/gate-config, line 2: hold.maxWait: 1year is not between 1ms and 1h";
        assert!(
            verdict
                .message
                .replace('\n', " ")
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains(text),
            "{}",
            verdict.message
        );
    }
    object["spec"]["template"]["metadata"]["labels"] = json!({"portcullis.dev/gate": "on"});
    assert_eq!(
        facts().judge(&object).of("gate-config"),
        ["deny - /spec/template/metadata/labels"]
    );
}
