//! Probes: that they are there, and that liveness asks something else than readiness.

use super::{Context, Rule, RuleId, yaml};
use crate::policy::{
    finding::{Finding, Level, Offence},
    template::{Container, Handler, Port, Probe, Site, Text},
};

pub(super) static READINESS_PROBE: Rule = Rule {
    id: RuleId::ReadinessProbe,
    summary: "every app container of a long-running workload has a readiness probe",
    why: "Without a readiness probe a container is Ready the moment its process exists, so a \
          Service sends it requests while it still reads its configuration or opens its \
          connections, and a rollout removes old pods before new ones can serve. Judged are app \
          containers and native sidecars (init containers with `restartPolicy: Always`); \
          ordinary init containers and ephemeral containers may not have probes, and Jobs, \
          CronJobs and pods whose `restartPolicy` is not `Always` are not asked for any.",
    example: "\
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  livenessProbe:
    httpGet: {path: /live, port: http}
",
    fixed: "\
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  readinessProbe:
    httpGet: {path: /ready, port: http}
  livenessProbe:
    httpGet: {path: /live, port: http}
",
    level: Level::Deny,
    reads: &[
        "spec.containers.readinessProbe",
        "spec.initContainers.readinessProbe",
        "spec.initContainers.restartPolicy",
        "spec.restartPolicy",
    ],
    check: |context| require(context, RuleId::ReadinessProbe, &READINESS),
};

pub(super) static LIVENESS_PROBE: Rule = Rule {
    id: RuleId::LivenessProbe,
    summary: "every app container of a long-running workload has a liveness probe",
    why: "A process that hangs does not exit, so without a liveness probe nothing ever restarts \
          it: it stays Running, and with no readiness probe it even stays in its Service. Ask it \
          something cheap that depends on nothing else: a liveness probe that asks a database \
          restarts every replica at once when the database blinks. Judged are the same \
          containers as by `readiness-probe`.",
    example: "\
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  readinessProbe:
    httpGet: {path: /ready, port: http}
",
    fixed: "\
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  readinessProbe:
    httpGet: {path: /ready, port: http}
  livenessProbe:
    httpGet: {path: /live, port: http}
",
    level: Level::Deny,
    reads: &[
        "spec.containers.livenessProbe",
        "spec.initContainers.livenessProbe",
        "spec.initContainers.restartPolicy",
        "spec.restartPolicy",
    ],
    check: |context| require(context, RuleId::LivenessProbe, &LIVENESS),
};

pub(super) static PROBE_DISTINCT: Rule = Rule {
    id: RuleId::ProbeDistinct,
    summary: "a liveness probe is not the very same check as the readiness probe",
    why: "When both probes ask the same thing with the same patience, a pod that is merely not \
          ready (its cache is cold, its database is away) is killed instead of being left alone \
          until it recovers, and every replica is killed at the same moment. Ask something \
          cheaper, or let liveness wait longer (`failureThreshold` x `periodSeconds`, 3 x 10 s \
          unless set): the same endpoint with more patience is the pattern that the Kubernetes \
          documentation recommends, and passes. A port by name and the same port by number are \
          the same check.",
    example: "\
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  readinessProbe:
    httpGet: {path: /healthz, port: http}
  livenessProbe:
    httpGet: {path: /healthz, port: 8080}
",
    fixed: "\
containers:
- name: app
  ports:
  - {name: http, containerPort: 8080}
  readinessProbe:
    httpGet: {path: /healthz, port: http}
  livenessProbe:
    httpGet: {path: /healthz, port: 8080}
    failureThreshold: 6
",
    level: Level::Warn,
    reads: &[
        "spec.containers.livenessProbe",
        "spec.containers.ports",
        "spec.containers.readinessProbe",
        "spec.initContainers.livenessProbe",
        "spec.initContainers.ports",
        "spec.initContainers.readinessProbe",
        "spec.initContainers.restartPolicy",
    ],
    check: distinct,
};

/// One of the two probes that are demanded.
struct Demanded {
    field: &'static str,
    /// The path that the fix proposes.
    path: &'static str,
    probe: for<'c, 'a> fn(&'c Container<'a>) -> Option<&'c Probe<'a>>,
}

static READINESS: Demanded = Demanded {
    field: "readinessProbe",
    path: "/ready",
    probe: |container| container.readiness_probe.as_ref(),
};

static LIVENESS: Demanded = Demanded {
    field: "livenessProbe",
    path: "/live",
    probe: |container| container.liveness_probe.as_ref(),
};

fn require(context: &mut Context<'_>, rule: RuleId, demanded: &Demanded) {
    let workload = context.workload;
    if !workload.is_long_running() {
        return;
    }
    for site in workload.template.containers().filter(Site::is_long_running) {
        let Demanded { field, path, probe } = *demanded;
        let (fault, value) = match probe(site.container) {
            None if rule == RuleId::ReadinessProbe && context.patches_readiness(site) => continue,
            None => (format!("has no {field}"), ""),
            Some(probe) if probe.handler().is_none() => {
                (format!("has a {field} that asks nothing"), "{}")
            }
            Some(_) => continue,
        };
        context.report(Finding {
            rule,
            level: Level::Deny,
            container: Some(site.name().to_owned()),
            path: context.pointer(site, &format!("/{field}")),
            message: format!("container \"{}\" {fault}", site.name()),
            fix: Some(context.fix(site, proposal(site.container, field, path))),
            offences: vec![Offence::new(Some(site.name()), field, value)],
        });
    }
}

/// A probe of the port that the container declares first; it can only guess where none is declared.
fn proposal(container: &Container<'_>, field: &str, path: &str) -> String {
    let declared = container.ports.items().find(|port| port.is_tcp());
    let name = declared
        .and_then(|port| port.name.as_deref())
        .filter(|name| !name.is_empty());
    let number = declared.and_then(|port| port.container_port);
    match (name, number) {
        // A gRPC probe takes numbers only.
        (Some(name), Some(number)) if name.starts_with("grpc") => {
            format!("{field}:\n  grpc: {{port: {number}}}\n")
        }
        (Some(name), _) => {
            format!(
                "{field}:\n  httpGet: {{path: {path}, port: {}}}\n",
                yaml::scalar(name)
            )
        }
        (None, Some(number)) => {
            format!("{field}:\n  httpGet: {{path: {path}, port: {number}}}\n")
        }
        (None, None) => format!(
            "{field}:\n  httpGet: {{path: {path}, port: 8080}} # the port that the app listens on\n"
        ),
    }
}

fn distinct(context: &mut Context<'_>) {
    let workload = context.workload;
    for site in workload.template.containers().filter(Site::is_long_running) {
        let Container {
            readiness_probe,
            liveness_probe,
            ..
        } = site.container;
        let (Some(readiness), Some(liveness)) = (readiness_probe, liveness_probe) else {
            continue;
        };
        if !is_same_check(site.container, readiness, liveness)
            || liveness.patience() > readiness.patience()
        {
            continue;
        }
        let threshold = readiness.patience() / liveness.period() * 2;
        let yaml =
            format!("livenessProbe:\n  failureThreshold: {threshold} # or ask something cheaper\n");
        context.report(Finding {
            rule: RuleId::ProbeDistinct,
            level: Level::Warn,
            container: Some(site.name().to_owned()),
            path: context.pointer(site, "/livenessProbe"),
            message: format!(
                "container \"{}\": livenessProbe is the same check as readinessProbe and gives up \
                 no later, so a pod that is only not ready is killed",
                site.name()
            ),
            fix: Some(context.fix(site, yaml)),
            offences: vec![
                Offence::new(Some(site.name()), "livenessProbe", "")
                    .to_degree(readiness.patience() - liveness.patience()),
            ],
        });
    }
}

/// Both ask the same thing of the same place, once defaults are filled in and port names resolved.
fn is_same_check(container: &Container<'_>, one: &Probe<'_>, other: &Probe<'_>) -> bool {
    match (one.handler(), other.handler()) {
        (Some(Handler::HttpGet(one)), Some(Handler::HttpGet(other))) => {
            or(one.host.as_ref(), "") == or(other.host.as_ref(), "")
                && or(one.path.as_ref(), "/") == or(other.path.as_ref(), "/")
                && or(one.scheme.as_ref(), "HTTP") == or(other.scheme.as_ref(), "HTTP")
                && is_same_port(container, one.port.as_ref(), other.port.as_ref())
                && one.http_headers.items().eq(other.http_headers.items())
        }
        (Some(Handler::TcpSocket(one)), Some(Handler::TcpSocket(other))) => {
            or(one.host.as_ref(), "") == or(other.host.as_ref(), "")
                && is_same_port(container, one.port.as_ref(), other.port.as_ref())
        }
        (Some(Handler::Grpc(one)), Some(Handler::Grpc(other))) => {
            one.port == other.port && or(one.service.as_ref(), "") == or(other.service.as_ref(), "")
        }
        (Some(Handler::Exec(one)), Some(Handler::Exec(other))) => {
            one.command.items().eq(other.command.items())
        }
        _ => false,
    }
}

/// The text, where absent and empty both mean `default`.
fn or<'t>(text: Option<&'t Text<'_>>, default: &'t str) -> &'t str {
    text.map(Text::as_str)
        .filter(|text| !text.is_empty())
        .unwrap_or(default)
}

fn is_same_port(
    container: &Container<'_>,
    one: Option<&Port<'_>>,
    other: Option<&Port<'_>>,
) -> bool {
    let number = |port: &Port<'_>| match port {
        Port::Number(number) => Some(*number),
        Port::Name(name) => container.port(name).and_then(|port| port.container_port),
    };
    match (one, other) {
        (Some(one), Some(other)) => {
            one == other || number(one).is_some_and(|n| number(other) == Some(n))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::testing::{Facts, container, deployment};

    fn get(path: &str) -> Value {
        json!({"httpGet": {"path": path, "port": 8080}})
    }

    fn judged(rule: &str, object: &Value) -> Vec<String> {
        Facts::default().judge(object).of(rule)
    }

    /// The app container's fix by `rule`.
    fn fix(rule: &str, app: Value) -> String {
        let verdict = Facts::default().judge(&deployment(json!({"containers": [container(app)]})));
        let finding = verdict
            .findings
            .iter()
            .find(|finding| finding.rule.as_str() == rule);
        finding
            .and_then(|finding| finding.fix.clone())
            .expect("a fix")
            .yaml
    }

    #[test]
    fn each_probe_is_demanded_of_app_containers() {
        let bare = deployment(json!({"containers": [container(json!({}))]}));
        for (rule, field) in [
            ("readiness-probe", "readinessProbe"),
            ("liveness-probe", "livenessProbe"),
        ] {
            let path = format!("/spec/template/spec/containers/0/{field}");
            assert_eq!(judged(rule, &bare), [format!("deny app {path}")]);
            let app = container(json!({field: get("/")}));
            let probed = deployment(json!({"containers": [app]}));
            assert!(judged(rule, &probed).is_empty());
        }
    }

    #[test]
    fn a_probe_of_one_container_does_not_stand_in_for_another() {
        let proxy = json!({"name": "proxy"});
        let app = container(json!({"readinessProbe": get("/")}));
        assert_eq!(
            judged(
                "readiness-probe",
                &deployment(json!({"containers": [proxy, app]}))
            ),
            ["deny proxy /spec/template/spec/containers/0/readinessProbe"]
        );
    }

    #[test]
    fn a_probe_without_a_handler_asks_nothing() {
        for empty in [
            json!({}),
            json!({"periodSeconds": 5}),
            json!({"httpGet": null}),
        ] {
            let app = container(json!({"readinessProbe": empty}));
            let verdict = Facts::default().judge(&deployment(json!({"containers": [app]})));
            let message = &verdict.findings.first().expect("a finding").message;
            assert_eq!(
                message,
                "container \"app\" has a readinessProbe that asks nothing"
            );
        }
    }

    #[test]
    fn native_sidecars_are_asked_and_init_and_ephemeral_containers_are_not() {
        let app = container(json!({"readinessProbe": get("/")}));
        let pod = deployment(json!({
            "containers": [app],
            "initContainers": [
                {"name": "migrate"},
                {"name": "mesh", "restartPolicy": "Always"},
            ],
            "ephemeralContainers": [{"name": "debugger"}],
        }));
        assert_eq!(
            judged("readiness-probe", &pod),
            ["deny mesh /spec/template/spec/initContainers/1/readinessProbe"]
        );
    }

    #[test]
    fn what_runs_to_completion_needs_no_probes() {
        let containers = json!([{"name": "app"}]);
        let pod = |policy: Value| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "once"},
                "spec": {"restartPolicy": policy, "containers": containers},
            })
        };
        // Always is the default of the API server; a Job's template must name one of the others.
        for (policy, findings) in [
            (json!("Never"), 0),
            (json!("OnFailure"), 0),
            (json!("Always"), 1),
            (Value::Null, 1),
        ] {
            assert_eq!(judged("liveness-probe", &pod(policy)).len(), findings);
        }
        let template = json!({"spec": {"containers": containers}});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}});
        let cron = json!({
            "apiVersion": "batch/v1", "kind": "CronJob",
            "spec": {"jobTemplate": {"spec": {"template": template}}},
        });
        assert!(judged("liveness-probe", &job).is_empty());
        assert!(judged("liveness-probe", &cron).is_empty());
    }

    #[test]
    fn the_proposed_probe_asks_the_declared_port() {
        for (ports, yaml) in [
            (
                json!([{"name": "dns", "containerPort": 53, "protocol": "UDP"},
                       {"name": "web", "containerPort": 3000}]),
                "readinessProbe:\n  httpGet: {path: /ready, port: web}\n",
            ),
            (
                json!([{"containerPort": 3000}]),
                "readinessProbe:\n  httpGet: {path: /ready, port: 3000}\n",
            ),
            (
                json!([{"name": "grpc-api", "containerPort": 9000}]),
                "readinessProbe:\n  grpc: {port: 9000}\n",
            ),
            (
                json!(null),
                "readinessProbe:\n  httpGet: {path: /ready, port: 8080} # the port that the app \
                 listens on\n",
            ),
        ] {
            assert_eq!(fix("readiness-probe", json!({"ports": ports})), yaml);
        }
    }

    #[test]
    fn the_same_check_twice_is_found_however_it_is_written() {
        let ports = json!([{"name": "http", "containerPort": 8080}]);
        for (readiness, liveness) in [
            (get("/"), get("/")),
            (
                json!({"httpGet": {"port": "http"}}),
                json!({"httpGet": {"port": 8080, "path": "/", "scheme": "HTTP", "host": ""}}),
            ),
            (
                json!({"tcpSocket": {"port": 8080}}),
                json!({"tcpSocket": {"port": "http"}}),
            ),
            (
                json!({"grpc": {"port": 9000}}),
                json!({"grpc": {"port": 9000, "service": ""}}),
            ),
            (
                json!({"exec": {"command": ["ok"]}}),
                json!({"exec": {"command": ["ok"]}}),
            ),
            // A named port that does not exist, twice.
            (
                json!({"tcpSocket": {"port": "web"}}),
                json!({"tcpSocket": {"port": "web"}}),
            ),
        ] {
            let app = container(json!({
                "ports": ports, "readinessProbe": readiness, "livenessProbe": liveness,
            }));
            assert_eq!(
                judged("probe-distinct", &deployment(json!({"containers": [app]}))),
                ["warn app /spec/template/spec/containers/0/livenessProbe"]
            );
        }
    }

    #[test]
    fn checks_that_differ_are_left_alone() {
        let http = |fields: Value| {
            let mut get = json!({"port": 8080, "path": "/health"});
            get.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            json!({"httpGet": get})
        };
        let plain = http(json!({}));
        for (readiness, liveness) in [
            (plain.clone(), http(json!({"path": "/live"}))),
            (plain.clone(), http(json!({"scheme": "HTTPS"}))),
            (
                plain.clone(),
                http(json!({"httpHeaders": [{"name": "Host", "value": "a"}]})),
            ),
            (plain, json!({"tcpSocket": {"port": 8080}})),
            (
                json!({"grpc": {"port": 9000}}),
                json!({"grpc": {"port": 9000, "service": "live"}}),
            ),
            // Two named ports that both fail to resolve are not one port.
            (
                json!({"tcpSocket": {"port": "web"}}),
                json!({"tcpSocket": {"port": "admin"}}),
            ),
        ] {
            let app = container(json!({"readinessProbe": readiness, "livenessProbe": liveness}));
            let pod = deployment(json!({"containers": [app]}));
            assert!(judged("probe-distinct", &pod).is_empty());
        }
        // A container with neither is not one with two equal ones.
        let bare = deployment(json!({"containers": [container(json!({}))]}));
        assert!(judged("probe-distinct", &bare).is_empty());
    }

    #[test]
    fn the_same_check_with_more_patience_is_left_alone() {
        for (readiness, liveness, findings) in [
            (json!({}), json!({"failureThreshold": 4}), 0),
            (json!({}), json!({"periodSeconds": 20}), 0),
            (json!({}), json!({"failureThreshold": 0}), 1),
            (
                json!({"failureThreshold": 6}),
                json!({"failureThreshold": 3, "periodSeconds": 20}),
                1,
            ),
            (
                json!({"periodSeconds": 5}),
                json!({"periodSeconds": 5, "failureThreshold": 6}),
                0,
            ),
        ] {
            let probe = |pace: &Value| {
                let mut probe = get("/health");
                probe
                    .as_object_mut()
                    .unwrap()
                    .extend(pace.as_object().unwrap().clone());
                probe
            };
            let app = container(json!({
                "readinessProbe": probe(&readiness), "livenessProbe": probe(&liveness),
            }));
            let found = judged("probe-distinct", &deployment(json!({"containers": [app]})));
            assert_eq!(found.len(), findings, "{readiness} {liveness}");
        }
    }

    #[test]
    fn the_proposed_patience_is_enough() {
        let readiness = json!({"tcpSocket": {"port": 1}, "failureThreshold": 5});
        let liveness = json!({"tcpSocket": {"port": 1}, "periodSeconds": 20});
        let mut app = json!({"readinessProbe": readiness, "livenessProbe": liveness});
        assert!(judged("probe-distinct", &deployment(json!({"containers": [app]}))).is_empty());
        app["livenessProbe"]["failureThreshold"] = json!(2);
        let yaml = fix("probe-distinct", app.clone());
        assert_eq!(
            yaml,
            "livenessProbe:\n  failureThreshold: 4 # or ask something cheaper\n"
        );
        app["livenessProbe"]["failureThreshold"] = json!(4);
        assert!(judged("probe-distinct", &deployment(json!({"containers": [app]}))).is_empty());
    }
}
