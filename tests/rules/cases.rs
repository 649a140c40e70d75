//! The cases that the rules must get right, one by one. Each names the findings, all of them, as `RULE LEVEL PATH`.

use portcullis::policy::{facts::LimitRange, settings::Settings, workload::KINDS};
use serde_json::{Value, json};

use super::{World, parse};

/// A container that no rule has anything to say about.
fn good() -> Value {
    parse(
        "
name: app
ports: [{name: http, containerPort: 8080}]
readinessProbe: {httpGet: {path: /ready, port: http}}
livenessProbe: {httpGet: {path: /live, port: http}}
resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 500m, memory: 64Mi}}
",
    )
}

/// [`good`] with these fields on top, as YAML.
fn app(fields: &str) -> Value {
    let mut container = good();
    container
        .as_object_mut()
        .unwrap()
        .extend(parse(fields).as_object().unwrap().clone());
    container
}

/// A Deployment whose pods have this spec.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every caller writes the spec on the spot"
)]
fn deployment(spec: Value) -> Value {
    of_kind(
        "apps/v1",
        "Deployment",
        "/spec/template",
        json!({"spec": spec}),
    )
}

/// An object of any kind whose template stands at `pointer`.
fn of_kind(version: &str, kind: &str, pointer: &str, template: Value) -> Value {
    let mut object = template;
    for token in pointer.rsplit('/').filter(|token| !token.is_empty()) {
        object = json!({token: object});
    }
    object["apiVersion"] = json!(version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": "checkout"});
    object
}

/// What the world says of an object, the paths below the pod spec of a Deployment.
fn said(world: &World, object: &Value) -> Vec<String> {
    let findings = world.judge(object).into_iter();
    let lines = findings.map(|finding| {
        let path = finding
            .path
            .trim_start_matches("/spec/template/spec/")
            .to_owned();
        format!("{} {} {path}", finding.rule, finding.level)
    });
    lines.collect()
}

#[track_caller]
fn finds(world: &World, spec: Value, findings: &[&str]) {
    assert_eq!(said(world, &deployment(spec)), findings);
}

#[track_caller]
fn finds_in_app(world: &World, fields: &str, findings: &[&str]) {
    finds(world, json!({"containers": [app(fields)]}), findings);
}

fn plain() -> World {
    World::default()
}

#[test]
fn every_kind_is_judged_at_its_template() {
    for kind in KINDS {
        let template = json!({"spec": {"containers": [{"name": "app"}]}});
        let object = of_kind(&kind.api_version(), &kind.kind, &kind.template, template);
        let found = plain().judge(&object);
        let probes = found
            .iter()
            .filter(|finding| finding.rule.as_str() == "readiness-probe")
            .count();
        assert_eq!(probes, usize::from(!kind.batch), "{}", kind.kind);
        let limit = found
            .iter()
            .find(|finding| finding.rule.as_str() == "memory-limit");
        let path = format!(
            "{}/spec/containers/0/resources/limits/memory",
            kind.template
        );
        assert_eq!(
            limit.map(|finding| &*finding.path),
            Some(&*path),
            "{}",
            kind.kind
        );
    }
}

#[test]
fn a_rollout_is_judged_when_settings_add_it() {
    let settings = json!({"workloads": [{
        "group": "argoproj.io", "version": "v1alpha1", "kind": "Rollout", "resource": "rollouts",
        "template": "/spec/template",
    }]});
    let world = World {
        settings: Settings::from_value(settings).unwrap(),
        ..plain()
    };
    let template = json!({"spec": {"containers": [app("livenessProbe: null")]}});
    let rollout = of_kind(
        "argoproj.io/v1alpha1",
        "Rollout",
        "/spec/template",
        template,
    );
    assert_eq!(
        said(&world, &rollout),
        ["liveness-probe deny containers/0/livenessProbe"]
    );
}

#[test]
fn init_containers_need_resources_and_no_probes() {
    let spec = json!({"containers": [good()], "initContainers": [{"name": "migrate"}]});
    finds(
        &plain(),
        spec,
        &[
            "cpu-request deny initContainers/0/resources/requests/cpu",
            "memory-request deny initContainers/0/resources/requests/memory",
            "memory-limit deny initContainers/0/resources/limits/memory",
            "cpu-limit warn initContainers/0/resources/limits/cpu",
        ],
    );
}

#[test]
fn native_sidecars_are_judged_as_apps() {
    let sidecar = app("{name: mesh, restartPolicy: Always, readinessProbe: null}");
    let spec = json!({"containers": [good()], "initContainers": [sidecar]});
    finds(
        &plain(),
        spec,
        &["readiness-probe deny initContainers/0/readinessProbe"],
    );
}

#[test]
fn ephemeral_containers_are_never_judged() {
    let debug = json!({"name": "debug", "envFrom": [{"secretRef": {"name": "gone"}}]});
    finds(
        &plain(),
        json!({"containers": [good()], "ephemeralContainers": [debug]}),
        &[],
    );
}

#[test]
fn jobs_and_pods_that_end_need_no_probes() {
    let bare = app("{readinessProbe: null, livenessProbe: null}");
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [bare]}});
    for (version, kind, pointer) in [
        ("batch/v1", "Job", "/spec/template"),
        ("batch/v1", "CronJob", "/spec/jobTemplate/spec/template"),
        ("v1", "Pod", ""),
    ] {
        let object = of_kind(version, kind, pointer, template.clone());
        assert!(said(&plain(), &object).is_empty(), "{kind}");
    }
}

#[test]
fn resources_of_the_pod_count_for_its_containers() {
    let spec = json!({
        "resources": {"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}},
        "containers": [app("resources: {}")],
    });
    finds(&plain(), spec, &[]);
}

#[test]
fn a_limit_counts_as_a_request_on_templates_too() {
    finds_in_app(&plain(), "resources: {limits: {cpu: 1, memory: 64Mi}}", &[]);
}

#[test]
fn defaults_of_a_limit_range_count() {
    let world = plain().limited(LimitRange {
        name: "defaults".into(),
        default: [("cpu".into(), "1".into()), ("memory".into(), "64Mi".into())].into(),
        ..LimitRange::default()
    });
    finds_in_app(&world, "resources: {}", &[]);
}

#[test]
fn conflicts_with_a_limit_range_are_found() {
    let of = |pod: bool, field: &str, quantity: &str| {
        let map = || [("memory".into(), quantity.into())].into();
        let mut item = LimitRange {
            name: "sizes".into(),
            pod,
            ..LimitRange::default()
        };
        match field {
            "min" => item.min = map(),
            "max" => item.max = map(),
            _ => item.max_limit_request_ratio = map(),
        }
        plain().limited(item)
    };
    for pod in [false, true] {
        for (field, bad, good) in [("min", "1Gi", "64Mi"), ("max", "32Mi", "64Mi")] {
            assert_eq!(
                rules(&of(pod, field, bad), "{}"),
                ["limit-range"],
                "{pod} {field} {bad}"
            );
            assert!(
                rules(&of(pod, field, good), "{}").is_empty(),
                "{pod} {field} {good}"
            );
        }
        let double =
            "resources: {requests: {cpu: 1, memory: 32Mi}, limits: {cpu: 1, memory: 64Mi}}";
        assert_eq!(
            rules(&of(pod, "ratio", "1.5"), double),
            ["limit-range"],
            "{pod}"
        );
        assert!(rules(&of(pod, "ratio", "2"), double).is_empty(), "{pod}");
    }
}

/// The rules that a Deployment with this app breaks.
fn rules(world: &World, fields: &str) -> Vec<&'static str> {
    let object = deployment(json!({"containers": [app(fields)]}));
    world
        .judge(&object)
        .into_iter()
        .map(|finding| finding.rule.as_str())
        .collect()
}

#[test]
fn optional_references_may_dangle() {
    finds_in_app(
        &plain(),
        "
env: [{name: A, valueFrom: {secretKeyRef: {name: gone, key: k, optional: true}}}]
envFrom: [{configMapRef: {name: gone, optional: true}}]
",
        &[],
    );
}

#[test]
fn keys_in_items_must_exist() {
    let world = plain().secret("tls", &["tls.crt"]);
    let volumes =
        parse("[{name: tls, secret: {secretName: tls, items: [{key: tls.key, path: k}]}}]");
    finds(
        &world,
        json!({"containers": [good()], "volumes": volumes}),
        &["secret-reference deny volumes/0/secret/items/0"],
    );
}

#[test]
fn env_from_with_a_prefix_brings_required_names() {
    let world = plain()
        .annotated("portcullis.dev/required-env", "SMTP_HOST")
        .config_map("mail", &["HOST"]);
    finds_in_app(
        &world,
        "envFrom: [{prefix: SMTP_, configMapRef: {name: mail}}]",
        &[],
    );
    finds_in_app(
        &world,
        "envFrom: [{prefix: IMAP_, configMapRef: {name: mail}}]",
        &["required-env deny containers/0/env"],
    );
}

#[test]
fn sources_of_projected_volumes_must_exist() {
    let volumes = parse(
        "[{name: all, projected: {sources: [{secret: {name: gone}}, {configMap: {name: gone}}]}}]",
    );
    finds(
        &plain(),
        json!({"containers": [good()], "volumes": volumes}),
        &[
            "secret-reference deny volumes/0/projected/sources/0/secret",
            "configmap-reference deny volumes/0/projected/sources/1/configMap",
        ],
    );
}

#[test]
fn the_service_accounts_pull_secrets_count() {
    let world = plain().service_account("builder", &["gone"]);
    finds(
        &world,
        json!({"containers": [good()], "serviceAccountName": "builder"}),
        &["pull-secret-reference deny serviceAccountName"],
    );
}

#[test]
fn a_named_port_that_does_not_resolve_is_denied() {
    finds_in_app(
        &plain(),
        "readinessProbe: {httpGet: {path: /ready, port: web}}",
        &["probe-port deny containers/0/readinessProbe/httpGet/port"],
    );
}

#[test]
fn a_port_of_another_container_is_warned_of_by_number_and_denied_by_name() {
    for (port, level) in [("9901", "warn"), ("admin", "deny")] {
        let probed = app(&format!("readinessProbe: {{tcpSocket: {{port: {port}}}}}"));
        let proxy = app(
            "{name: proxy, ports: [{name: admin, containerPort: 9901}, {name: http, containerPort: 80}]}",
        );
        finds(
            &plain(),
            json!({"containers": [probed, proxy]}),
            &[&format!(
                "probe-port {level} containers/0/readinessProbe/tcpSocket/port"
            )],
        );
    }
}

#[test]
fn unquoted_words_are_found_in_labels_annotations_and_env() {
    for word in ["on", "off", "yes", "no"] {
        let mut object =
            deployment(json!({"containers": [app(&format!("env: [{{name: A, value: {word}}}]"))]}));
        object["metadata"]["labels"] = parse(&format!("a: {word}"));
        object["spec"]["template"]["metadata"] = parse(&format!("annotations: {{a: {word}}}"));
        assert_eq!(
            said(&plain(), &object),
            [
                "string-value deny /metadata/labels/a",
                "string-value deny /spec/template/metadata/annotations/a",
                "string-value deny containers/0/env/0/value",
            ],
            "{word}"
        );
    }
}

#[test]
fn quantities_are_read_in_every_suffix() {
    // Each pair is one quantity, so neither is more than the other.
    for (request, limit) in [
        ("64Mi", "65536Ki"),
        ("1k", "1000"),
        ("1M", "1000k"),
        ("1G", "1e9"),
        ("1Gi", "1024Mi"),
        ("1Ti", "1024Gi"),
        ("1Pi", "1024Ti"),
        ("1Ei", "1024Pi"),
        ("1E3", "1k"),
        ("1T", "1000G"),
        ("1P", "1000T"),
        ("1E", "1000P"),
        ("1000m", "1"),
        ("0.5Gi", "512Mi"),
    ] {
        for (request, limit) in [(request, limit), (limit, request)] {
            let fields = format!(
                "resources: {{requests: {{cpu: 1, memory: \"{request}\"}}, limits: {{cpu: 1, memory: \"{limit}\"}}}}"
            );
            assert!(rules(&plain(), &fields).is_empty(), "{request} {limit}");
        }
        // And a little more is more.
        let fields = format!(
            "resources: {{requests: {{cpu: 1, memory: \"{request}\"}}, limits: {{cpu: 1, memory: \"1m\"}}}}"
        );
        assert_eq!(rules(&plain(), &fields), ["limit-range"], "{request}");
    }
}

#[test]
fn empty_strings_name_nothing() {
    finds_in_app(
        &plain(),
        "
env:
- {name: A, valueFrom: {secretKeyRef: {name: '', key: k}}}
- {name: B, value: ''}
",
        &["secret-reference deny containers/0/env/0/valueFrom/secretKeyRef"],
    );
    let spec = json!({"containers": [good()], "serviceAccountName": "", "imagePullSecrets": [{"name": ""}]});
    finds(&plain(), spec, &[]);
}

#[test]
fn null_fields_are_absent_and_unknown_fields_ignored() {
    let spec = json!({
        "containers": [app("{env: null, envFrom: [null], startupProbe: null, futureField: {a: [1]}}")],
        "initContainers": null, "volumes": null, "restartPolicy": null, "futureField": true,
    });
    finds(&plain(), spec, &[]);
    finds_in_app(
        &plain(),
        "readinessProbe: null",
        &["readiness-probe deny containers/0/readinessProbe"],
    );
}

#[test]
fn what_others_make_is_never_looked_up() {
    let settings = json!({"expectedSecrets": [{"namespace": "*", "name": "vault-*"}]});
    let world = World {
        settings: Settings::from_value(settings).unwrap(),
        ..plain()
    };
    let spec = json!({
        "serviceAccountName": "default",
        "containers": [app("envFrom: [{secretRef: {name: vault-db}}]")],
        "volumes": [{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}],
        "imagePullSecrets": [{"name": "vault-registry"}],
    });
    // Nothing exists in this world, so whatever was looked up would be missing.
    finds(&world, spec, &[]);
}

#[test]
fn a_missing_reference_only_warns_on_a_dry_run() {
    let world = World {
        dry_run: true,
        ..plain()
    };
    let spec = json!({
        "serviceAccountName": "gone",
        "imagePullSecrets": [{"name": "gone"}],
        "containers": [app("{envFrom: [{secretRef: {name: gone}}, {configMapRef: {name: gone}}], livenessProbe: null}")],
    });
    finds(
        &world,
        spec,
        &[
            "liveness-probe deny containers/0/livenessProbe",
            "secret-reference warn containers/0/envFrom/0/secretRef",
            "configmap-reference warn containers/0/envFrom/1/configMapRef",
            "pull-secret-reference warn imagePullSecrets/0",
            "service-account-reference warn serviceAccountName",
        ],
    );
}

#[test]
fn one_fault_is_one_finding() {
    // One Secret read in five places, one port asked by three probes.
    let spec = json!({
        "containers": [app("
env:
- {name: A, valueFrom: {secretKeyRef: {name: gone, key: a}}}
- {name: B, valueFrom: {secretKeyRef: {name: gone, key: b}}}
envFrom: [{secretRef: {name: gone}}]
readinessProbe: {httpGet: {path: /a, port: web}}
livenessProbe: {httpGet: {path: /b, port: web}}
startupProbe: {httpGet: {path: /c, port: web}}
")],
        "volumes": [
            {"name": "v", "secret": {"secretName": "gone"}},
            {"name": "p", "projected": {"sources": [{"secret": {"name": "gone"}}]}},
        ],
    });
    finds(
        &plain(),
        spec,
        &[
            "probe-port deny containers/0/readinessProbe/httpGet/port",
            "secret-reference deny containers/0/env/0/valueFrom/secretKeyRef",
        ],
    );
}
