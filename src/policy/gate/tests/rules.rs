//! What a workload is told when it is applied.

use super::*;

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

/// A Deployment whose pods ask for a gate by this label.
fn asking(demand: &str, spec: &str) -> Value {
    let mut object = crate::policy::testing::deployment(parse(spec));
    let labels = json!({"app": "checkout", "portcullis.dev/gate": demand});
    object["spec"]["template"]["metadata"]["labels"] = labels;
    object
}

/// What a rule says of an object, each as `LEVEL MESSAGE`.
fn said(facts: &Facts, object: &Value, rule: RuleId) -> Vec<String> {
    let verdict = facts.judge(object);
    let findings = verdict
        .findings
        .iter()
        .filter(|finding| finding.rule == rule);
    findings
        .map(|finding| format!("{} {}", finding.level, finding.message))
        .collect()
}

#[test]
fn a_gate_that_can_not_be_is_refused_where_it_is_demanded_and_else_warned_about() {
    let spec = format!("{PLAIN}\nhostNetwork: true");
    for (demand, level) in [("enabled", "deny"), ("preferred", "warn")] {
        let found = said(&facts(), &asking(demand, &spec), RuleId::GateConfig);
        assert_eq!(
            found,
            [format!(
                "{level} the pod can have no gate: it has hostNetwork, where the gate's ports would be taken from the \
                 whole node"
            )]
        );
        let facts = facts().with_labels(&[("portcullis.dev/gate", demand)]);
        let object = crate::policy::testing::deployment(parse(&spec));
        assert_eq!(
            said(&facts, &object, RuleId::GateConfig),
            found,
            "asked by the namespace"
        );
    }
}

#[test]
fn labels_and_annotations_on_the_workload_itself_are_said_to_do_nothing() {
    let mut object = crate::policy::testing::deployment(parse(PLAIN));
    object["metadata"]["labels"] = json!({"portcullis.dev/gate": "enabled"});
    object["metadata"]["annotations"] = json!({"portcullis.dev/gate-config": "hold: 1"});
    assert_eq!(
        facts().judge(&object).of("gate-config"),
        [
            "warn - /metadata/labels/portcullis.dev~1gate",
            "warn - /metadata/annotations/portcullis.dev~1gate-config",
        ]
    );
    object["spec"]["template"]["metadata"] = object["metadata"].clone();
    assert_eq!(
        said(&facts(), &object, RuleId::GateConfig).len(),
        1,
        "the mistake in it alone"
    );
}

#[test]
fn an_opt_out_that_does_not_count_is_warned_about() {
    let facts = facts().with_labels(&[("portcullis.dev/gate", "enabled")]);
    let found = said(&facts, &asking("disabled", PLAIN), RuleId::GateConfig);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("warn label portcullis.dev/gate: disabled does not count"),
        "{found:?}"
    );
}

#[test]
fn the_workload_is_warned_of_what_goes_past_its_gates() {
    let warnings = |facts: Facts, object: &Value| said(&facts, object, RuleId::GateTakeover);
    let object = asking("enabled", PLAIN);
    assert_eq!(warnings(facts(), &object), [""; 0]);
    assert_eq!(
        warnings(by_number(facts(), 8080), &object),
        [
            "warn Service \"checkout\" sends to port 8080 by number, past the gate: set its targetPort to http"
        ]
    );

    let policy = |ports: Value| {
        let port = |port: &Value| IngressPort {
            protocol: "TCP".into(),
            port: Some(match port.as_i64() {
                Some(number) => PortRef::Number(i32::try_from(number).unwrap()),
                None => PortRef::Name(port.as_str().unwrap().into()),
            }),
            end: None,
        };
        let policy = NetworkPolicy {
            name: "front".into(),
            ingress: vec![ports.as_array().unwrap().iter().map(port).collect()],
            ..NetworkPolicy::default()
        };
        let query = Query::NetworkPolicies {
            namespace: NAMESPACE.into(),
        };
        facts().with(query, Answer::NetworkPolicies(vec![policy]))
    };
    assert_eq!(
        warnings(policy(json!([8080])), &object),
        [
            "warn NetworkPolicy \"front\" admits port 8080 but not 15982, where the gate listens: admit that, or the port's \
          name http"
        ]
    );
    for admitted in [json!([8080, 15982]), json!(["http"]), json!([9]), json!([])] {
        assert_eq!(
            warnings(policy(admitted.clone()), &object),
            [""; 0],
            "{admitted}"
        );
    }
}

#[test]
fn a_rollout_that_outruns_the_ramp_is_warned_about() {
    let outruns = |replicas: i64, min_ready: i64, config: &str| {
        let mut object = asking("enabled", PLAIN);
        object["spec"]["replicas"] = json!(replicas);
        object["spec"]["minReadySeconds"] = json!(min_ready);
        object["spec"]["template"]["metadata"]["annotations"] =
            json!({"portcullis.dev/gate-config": config});
        let said = said(&facts(), &object, RuleId::GateTakeover);
        said.iter()
            .any(|text| text.contains("is shorter than the gate's ramp of 10 s"))
    };
    assert!(outruns(2, 9, ""));
    assert!(!outruns(2, 10, ""));
    assert!(!outruns(1, 0, ""), "there is nothing to go on to");
    assert!(
        !outruns(2, 0, "warmup: {requests: [{path: /}]}"),
        "a warm app opens at once"
    );
    assert!(!outruns(2, 0, "ramp: {when: never}"));
}

#[test]
fn a_warm_up_that_outlasts_what_is_held_is_warned_about() {
    let said = |config: &str| {
        let mut object = asking("preferred", PLAIN);
        object["spec"]["template"]["metadata"]["annotations"] =
            json!({"portcullis.dev/gate-config": config});
        said(&facts(), &object, RuleId::GateTakeover)
    };
    let warmup = |fields: &str| format!("warmup: {{requests: [{{path: /}}]{fields}}}");
    assert_eq!(
        said(&warmup("")),
        [
            "warn warmup.maxDuration 1m is longer than hold.maxWait 10s: while a restarted app is warmed up again, requests \
             that have waited that long get 503"
        ]
    );
    let shorter = format!("{}\nnotWarm: {{after: 20s}}", warmup(""));
    assert!(
        said(&shorter)[0].starts_with("warn notWarm.after 20s is longer than hold.maxWait 10s"),
        "it opens before the warm-up is over"
    );
    for config in [
        warmup(", maxDuration: 10s"),
        format!("{}\nhold: {{maxWait: 60s}}", warmup("")),
        format!("{}\nhold: {{mode: refuse}}", warmup("")),
        format!("{}\nnotWarm: {{after: 10s}}", warmup("")),
        format!("{}\ntakeover: none", warmup("")),
        String::new(),
    ] {
        assert_eq!(said(&config), [""; 0], "{config}");
    }
    let never = format!("{}\nnotWarm: {{after: 10s, then: closed}}", warmup(""));
    assert_eq!(said(&never).len(), 1, "it stays shut after these 10 s");
}

#[test]
fn a_check_of_a_service_behind_gates_is_warned_about() {
    let stock = Service {
        selector: [("app".into(), "stock".into())].into(),
        ..service("stock", PortRef::Name("http".into()))
    };
    let asked = Service {
        name: "asked".into(),
        selector: [("app", "stock"), ("portcullis.dev/gate", "enabled")]
            .map(|(name, value)| (name.into(), value.into()))
            .into(),
        ..stock.clone()
    };
    let seeds = Service {
        name: "seeds".into(),
        publish_not_ready: true,
        ..stock.clone()
    };
    let own = service("checkout", PortRef::Number(9));
    let services = vec![stock, asked, seeds, own];
    let somewhere = with_services(facts(), services.clone());
    let everywhere =
        with_services(facts(), services).with_labels(&[("portcullis.dev/gate", "preferred")]);
    let said = |facts: &Facts, host: &str| {
        let mut object = asking("enabled", PLAIN);
        let check = format!("checks: [{{name: stock, tcp: {{host: {host}, port: 80}}}}]");
        object["spec"]["template"]["metadata"]["annotations"] =
            json!({"portcullis.dev/gate-config": check});
        said(facts, &object, RuleId::GateTakeover)
    };
    let other = format!("stock.{NAMESPACE}.svc.cluster.local.");
    for host in ["stock", &format!("stock.{NAMESPACE}"), &other] {
        assert_eq!(
            said(&somewhere, host),
            [""; 0],
            "nobody is known to be gated"
        );
        assert_eq!(
            said(&everywhere, host),
            [
                "warn check \"stock\" asks Service \"stock\", whose pods get gates too: if theirs wait for this workload in \
                 turn, none of them ever opens"
            ],
            "{host}"
        );
    }
    assert_eq!(said(&somewhere, "asked").len(), 1);
    let external = format!("stock.{NAMESPACE}.example");
    for host in ["seeds", "checkout", "gone", "stock.other", &external] {
        assert_eq!(said(&everywhere, host), [""; 0], "{host}");
    }
}

#[test]
fn a_limit_range_for_pods_that_has_no_room_for_the_gate_is_told_of() {
    let app =
        named_http("resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 200Mi}}");
    let ranged = |item: &Value| {
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let mut range = limit_range(item);
        range.pod = true;
        facts().with(query, Answer::LimitRanges(vec![range]))
    };
    for (item, config, refused) in [
        (json!({"max": {"memory": "328Mi"}}), "", None),
        (
            json!({"max": {"memory": "327Mi"}}),
            "",
            Some("has a memory limit of 328Mi; LimitRange \"bounds\" allows at most 327Mi"),
        ),
        (
            json!({"max": {"memory": "264Mi"}}),
            "resources: {limits: {memory: 64Mi}}",
            None,
        ),
        (
            json!({"maxLimitRequestRatio": {"memory": "2"}}),
            "",
            Some(
                "has a memory limit of 328Mi with a request of 160Mi; LimitRange \"bounds\" wants a limit of at most 2 times \
                 the request",
            ),
        ),
        // Without a gate it would not be let in either, which another rule says.
        (json!({"max": {"memory": "199Mi"}}), "", None),
    ] {
        let facts = ranged(&item);
        for (demand, level) in [("enabled", "deny"), ("preferred", "warn")] {
            let mut object = asking(demand, &app);
            object["spec"]["template"]["metadata"]["annotations"] =
                json!({"portcullis.dev/gate-config": config});
            let expected = refused.map(|why| {
                format!(
                    "{level} the pod can have no gate: with the gate it {why}; leave room for it, or set its resources in \
                     portcullis.dev/gate-config"
                )
            });
            assert_eq!(
                said(&facts, &object, RuleId::GateConfig),
                expected.into_iter().collect::<Vec<_>>(),
                "{item}"
            );
        }
        let pod = told(&app, config);
        match (injecting(&pod, &facts), refused) {
            (Injecting::Done(_), None) | (Injecting::Refuse(_), Some(_)) => {}
            (other, _) => panic!("the pod itself: {other:?}"),
        }
    }
}

#[test]
fn a_gate_counts_beside_init_containers_that_need_more() {
    let spec = format!(
        "{}\ninitContainers: [{{name: migrate, resources: {{limits: {{memory: 400Mi}}}}}}]",
        named_http("resources: {limits: {memory: 200Mi}}")
    );
    let fits = |max: &str| {
        let item = json!({"type": "Pod", "max": {"memory": max}});
        let query = Query::LimitRanges {
            namespace: NAMESPACE.into(),
        };
        let facts = facts().with(query, Answer::LimitRanges(vec![limit_range(&item)]));
        matches!(injecting(&pod(&spec), &facts), Injecting::Done(_))
    };
    assert!(fits("400Mi"), "migrate has ended when the gate starts");
}
