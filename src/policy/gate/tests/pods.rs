//! Which pods get a gate, in which form, and beside whom.

use super::*;

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

#[test]
fn a_native_sidecar_whose_policy_another_webhook_dropped_is_one_again() {
    let mut after = injected(&pod(PLAIN), &facts());
    let gate = after["spec"]["initContainers"][0].as_object_mut().unwrap();
    assert_eq!(gate.remove("restartPolicy"), Some(json!("Always")));
    let whole = injected(&after, &facts());
    assert_eq!(gate_of(&whole)["restartPolicy"], "Always");
}

#[test]
fn init_containers_go_first_and_have_the_network_as_it_is() {
    let inits = "initContainers: [{name: migrate, command: [migrate, db]}, {name: fetch}]";
    let pod = pod(&format!("{PLAIN}\n{inits}\ndnsPolicy: Default"));
    let after = injected(&pod, &facts());
    let [before, all] = [&pod, &after].map(|pod| pod["spec"]["initContainers"].as_array().unwrap());
    assert_eq!(
        all[..2],
        before[..],
        "the gate comes after them, and they are as they were"
    );
    assert_eq!(all.len(), 3);
    assert_eq!(after["spec"]["dnsPolicy"], "Default");
    let capabilities = &gate_of(&after)["securityContext"]["capabilities"];
    assert_eq!(
        capabilities,
        &json!({"drop": ["ALL"]}),
        "so it redirects nothing"
    );
}
