//! The checks that a pod implies, and what they need of the app.

use super::*;

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
fn a_check_that_closes_all_replicas_at_once_is_warned_about() {
    let pod = told(
        PLAIN,
        "checks: [{name: db, tcp: {host: db, port: 5432}, scope: always}, {name: up, tcp: {port: 8080}}]",
    );
    let warnings = injection(&pod, &facts()).warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("check \"db\" has scope always"));
}

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
