//! What a gate is told.

use super::*;

#[test]
fn the_annotation_wins_over_profile_namespace_and_settings() {
    let facts = with_settings(
        "
gate:
  image: gate:1
  defaults: {drain: {delay: 1s, hookWait: 1s}, hold: {maxWait: 1s, maxRequests: 1}, readiness: exec}
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
        gate_of(&after)["readinessProbe"]["exec"]["command"][1],
        "probe"
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

#[test]
fn a_mistake_is_placed_in_the_layer_that_it_comes_from() {
    let settings =
        "gate: {image: gate:1, defaults: {ports: [web]}, profiles: {jvm: {ports: [api]}}}";
    let of = |annotations: &[(&str, &str)], config: &str| {
        let namespace = Namespace {
            annotations: annotations
                .iter()
                .map(|(name, text)| ((*name).into(), (*text).into()))
                .collect(),
            ..Namespace::default()
        };
        let query = Query::Namespace {
            name: NAMESPACE.into(),
        };
        let facts = with_settings(settings).with(query, Answer::Namespace(namespace));
        refusal(&told(PLAIN, config), &facts)
    };
    insta::assert_snapshot!(
        [
            of(&[], ""),
            of(
                &[(
                    "portcullis.dev/gate-config",
                    "\nports: [http]\nhold: {maxWait: 1}\n"
                )],
                ""
            ),
            of(&[("portcullis.dev/gate-config", "hold: [")], ""),
            of(&[("portcullis.dev/gate-profile", "jvm")], ""),
            of(&[("portcullis.dev/gate-profile", "go")], "ports: [http]"),
        ]
        .join("\n")
    );
}
