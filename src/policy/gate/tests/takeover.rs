//! Which ports go over to the gate, and how.

use super::*;

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
fn one_variable_tells_a_container_one_port() {
    let two = "ports: [{name: http, containerPort: 8080}, {name: grpc, containerPort: 9090}]";
    let both = format!("containers: [{{name: app, {two}}}]");
    let said = refusal(&told(&both, "takeover: env"), &facts());
    assert!(
        said.contains("PORT can tell container \"app\" one port only, and here are 8080 and 9090"),
        "{said}"
    );
    let one = told(&both, "{takeover: env, ports: [grpc]}");
    assert_eq!(document_of(&injected(&one, &facts())).ports().len(), 1);
    let each = "containers: [{name: a, ports: [{containerPort: 1}]}, {name: b, ports: [{containerPort: 2}]}]";
    let after = injected(&told(each, "takeover: env"), &facts());
    let told = ["15982", "15983"].map(|port| json!([{"name": "PORT", "value": port}]));
    assert_eq!(
        [0, 1].map(|index| after["spec"]["containers"][index]["env"].clone()),
        told
    );
}

#[test]
fn a_port_that_is_chosen_is_not_given_to_another() {
    let two = "ports: [{name: http, containerPort: 8080}, {name: grpc, containerPort: 9090}]";
    let pod = told(
        &format!("containers: [{{name: app, {two}}}]"),
        "ports: [http, {port: grpc, listen: 15982}]",
    );
    let after = injected(&pod, &facts());
    let listens = document_of(&after);
    let listens: Vec<_> = listens
        .ports()
        .iter()
        .map(|port| port.listen.unwrap().0.port())
        .collect();
    assert_eq!(listens, [15983, 15982]);
}

#[test]
fn ports_below_1024_are_taken_without_privileges() {
    let spec = "containers: [{name: app, ports: [{name: http, containerPort: 80}]}]";
    let sysctls = |spec: &str, config: &str| {
        let after = injected(&told(spec, config), &facts());
        after["spec"]["securityContext"]["sysctls"].clone()
    };
    let low = json!({"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"});
    assert_eq!(sysctls(spec, "takeover: env"), json!([low]));
    assert_eq!(
        sysctls(spec, "ports: [{port: http, listen: 443}]"),
        json!([low])
    );
    assert_eq!(
        sysctls(spec, ""),
        Value::Null,
        "its name goes over to 15982"
    );
    let other = json!({"name": "net.core.somaxconn", "value": "1024"});
    let own = |sysctls: Value| format!("{spec}\nsecurityContext: {}", json!({"sysctls": sysctls}));
    assert_eq!(
        sysctls(&own(json!([other])), "takeover: env"),
        json!([other, low])
    );
    let there = json!({"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"});
    assert_eq!(
        sysctls(&own(json!([there])), "takeover: env"),
        json!([there]),
        "what the pod says itself stands"
    );
}

#[test]
fn a_probe_that_asks_another_host_goes_on_asking_it() {
    let probes = "
livenessProbe: {httpGet: {host: 10.0.0.9, port: 8080}}
startupProbe: {tcpSocket: {host: 10.0.0.9, port: http}}
readinessProbe: {tcpSocket: {host: '', port: http}}";
    let after = injected(&told(&named_http(probes), "takeover: env"), &facts());
    let app = &after["spec"]["containers"][0];
    assert_eq!(app["livenessProbe"]["httpGet"]["port"], 8080);
    assert_eq!(
        app["startupProbe"]["tcpSocket"]["port"], 8080,
        "the name has gone"
    );
    assert_eq!(app["readinessProbe"]["tcpSocket"]["port"], 15982);
}
