//! The ports that probes and hooks ask: they exist, and are declared.

use std::fmt;

use super::{Context, Rule, RuleId, yaml};
use crate::policy::{
    finding::{Finding, Level, Offence},
    template::{
        Container, Handler, Port, Site, Text,
        probe::{HttpGet, HttpHeader, TcpSocket},
    },
};

pub(super) static PROBE_PORT: Rule = Rule {
    id: RuleId::ProbePort,
    summary: "the named port of a probe or hook exists in its container (else deny); the number \
              that a probe asks is declared (else warn)",
    why: "The kubelet looks a port's name up in the probed container only, never in the pod's \
          other containers. A name that is not there makes every probe fail, so the pod never \
          gets ready, or is restarted for ever; a `preStop` or `postStart` hook with such a name \
          fails as well. A number needs no declaration, so a number that the container does not \
          declare only warns: it is the usual sign of a probe copied from another app. Numbers \
          asked of another `host`, and those of hooks (which often call another container of the \
          pod), are not judged. Judged in every workload, Jobs too, wherever a probe is written.",
    example: "\
containers:
- name: app
  ports:
  - {name: web, containerPort: 3000}
  readinessProbe:
    httpGet: {path: /ready, port: http}
  livenessProbe:
    tcpSocket: {port: web}
",
    fixed: "\
containers:
- name: app
  ports:
  - {name: web, containerPort: 3000}
  readinessProbe:
    httpGet: {path: /ready, port: web}
  livenessProbe:
    tcpSocket: {port: web}
",
    level: Level::Deny,
    reads: &[
        "spec.containers.lifecycle",
        "spec.containers.livenessProbe",
        "spec.containers.ports",
        "spec.containers.readinessProbe",
        "spec.containers.startupProbe",
        "spec.initContainers.lifecycle",
        "spec.initContainers.livenessProbe",
        "spec.initContainers.ports",
        "spec.initContainers.readinessProbe",
        "spec.initContainers.startupProbe",
    ],
    check,
};

/// A probe or hook that asks a port of the pod.
#[derive(Clone, Copy)]
struct Asker<'c, 'a> {
    /// JSON pointer below the container to the field that holds the handler.
    field: &'static str,
    handler: Handler<'c, 'a>,
    port: Asked<'c>,
}

/// A port as it is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked<'c> {
    Name(&'c str),
    Number(i32),
}

fn check(context: &mut Context<'_>) {
    let workload = context.workload;
    for site in workload.template.containers() {
        let mut astray: Vec<_> = askers(site.container)
            .filter(|asker| !asker.is_answered(site.container))
            .collect();
        // One fault for each port, however many probes ask it.
        while let Some(Asker { port, .. }) = astray.first().copied() {
            let (same, rest): (Vec<_>, Vec<_>) =
                astray.into_iter().partition(|asker| asker.port == port);
            report(context, site, port, &same);
            astray = rest;
        }
    }
}

/// Every probe and hook of the container that asks a port.
fn askers<'c, 'a>(container: &'c Container<'a>) -> impl Iterator<Item = Asker<'c, 'a>> {
    let probes = [
        ("readinessProbe", &container.readiness_probe),
        ("livenessProbe", &container.liveness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let probes = probes
        .into_iter()
        .filter_map(|(field, probe)| Some((field, probe.as_ref()?.handler()?)));
    let hooks = container.lifecycle.iter().flat_map(|lifecycle| {
        [
            ("lifecycle/postStart", &lifecycle.post_start),
            ("lifecycle/preStop", &lifecycle.pre_stop),
        ]
    });
    let hooks = hooks.filter_map(|(field, hook)| {
        // A hook's `tcpSocket` does nothing, and its `exec` and `sleep` ask no port.
        Some((field, Handler::HttpGet(hook.as_ref()?.http_get.as_ref()?)))
    });
    probes.chain(hooks).filter_map(|(field, handler)| {
        let port = match handler {
            Handler::HttpGet(HttpGet { port, .. }) | Handler::TcpSocket(TcpSocket { port, .. }) => {
                match port.as_ref()? {
                    Port::Name(name) => Asked::Name(name),
                    Port::Number(number) => Asked::Number(*number),
                }
            }
            Handler::Grpc(grpc) => Asked::Number(grpc.port?),
            Handler::Exec(_) => return None,
        };
        Some(Asker {
            field,
            handler,
            port,
        })
    })
}

fn report(
    context: &mut Context<'_>,
    site: Site<'_, '_>,
    port: Asked<'_>,
    askers: &[Asker<'_, '_>],
) {
    let Some(first) = askers.first() else { return };
    let elsewhere = context
        .workload
        .template
        .containers()
        .filter(|other| (other.list, other.index) != (site.list, site.index))
        .find_map(|other| Some((other.name(), port.declared_in(other.container)?)));
    let other = elsewhere.map(|(other, _)| other);
    let yaml = mend(
        site.container,
        port,
        elsewhere.map(|(_, number)| number),
        askers,
    );
    context.report(Finding {
        rule: RuleId::ProbePort,
        // A number needs no declaration to work.
        level: if matches!(port, Asked::Name(_)) {
            Level::Deny
        } else {
            Level::Warn
        },
        container: Some(site.name().to_owned()),
        path: context.pointer(site, &format!("/{}/{}/port", first.field, first.kind())),
        message: message(site, port, other, askers),
        fix: yaml.map(|yaml| context.fix(site, yaml)),
        offences: (askers.iter())
            .map(|asker| Offence::new(Some(site.name()), asker.field, port.to_string()))
            .collect(),
    });
}

fn message(
    site: Site<'_, '_>,
    port: Asked<'_>,
    other: Option<&str>,
    askers: &[Asker<'_, '_>],
) -> String {
    let words: Vec<_> = askers.iter().map(Asker::words).collect();
    let verb = if askers.len() == 1 { "asks" } else { "ask" };
    let asks = format!(
        "container \"{}\": {} {verb} port",
        site.name(),
        words.join(", ")
    );
    match (port, other) {
        (Asked::Name(port), Some(other)) => format!(
            "{asks} \"{port}\", which only container \"{other}\" declares, and a name is looked up \
             in the probed container alone"
        ),
        (Asked::Name(port), None) if port.parse::<u16>().is_ok() => {
            format!("{asks} \"{port}\", which the quotes make a name; a number has none")
        }
        (Asked::Name(port), None) => format!(
            "{asks} \"{port}\", which the container does not have; {}",
            declared_in_words(site.container)
        ),
        (Asked::Number(port), Some(other)) => {
            format!("{asks} {port}, which container \"{other}\" declares, not this one")
        }
        (Asked::Number(port), None) => format!(
            "{asks} {port}, which the container does not declare; {}",
            declared_in_words(site.container)
        ),
    }
}

/// `it declares web (3000), 9090`.
fn declared_in_words(container: &Container<'_>) -> String {
    let ports: Vec<_> = (container.ports.items())
        .filter_map(|port| {
            let number = port.container_port?;
            Some(match port.name.as_deref().unwrap_or_default() {
                "" => number.to_string(),
                name => format!("{name} ({number})"),
            })
        })
        .collect();
    if ports.is_empty() {
        return String::from("it declares none");
    }
    format!("it declares {}", ports.join(", "))
}

/// One of `httpHeaders` as YAML.
fn header(header: &HttpHeader<'_>) -> String {
    let [name, value] =
        [&header.name, &header.value].map(|text| yaml::scalar(text.as_deref().unwrap_or_default()));
    format!("{{name: {name}, value: {value}}}")
}

/// Either the probes ask a port that is there, or the port is declared.
fn mend(
    container: &Container<'_>,
    port: Asked<'_>,
    elsewhere: Option<i32>,
    askers: &[Asker<'_, '_>],
) -> Option<String> {
    let declared = container.ports.items().find(|port| port.is_tcp());
    let instead = match (port, elsewhere) {
        // The containers of a pod share its address, so the number reaches the other one. That
        // may well be meant.
        (Asked::Name(_), Some(number)) => number.to_string(),
        (Asked::Number(_), Some(_)) => return None,
        (Asked::Name(name), None) if name.parse::<u16>().is_ok() => name.to_owned(),
        (Asked::Name(name), None) => match declared {
            Some(port) => port
                .name
                .as_deref()
                .filter(|name| !name.is_empty())
                .map_or_else(
                    || port.container_port.map(|number| number.to_string()),
                    |name| Some(yaml::scalar(name)),
                )?,
            None => {
                return Some(format!(
                    "ports:\n- {{name: {}, containerPort: 8080}} # the port that the app listens \
                     on\n",
                    yaml::scalar(name)
                ));
            }
        },
        (Asked::Number(number), None) => match declared.and_then(|port| port.container_port) {
            Some(number) => number.to_string(),
            None => return Some(format!("ports:\n- containerPort: {number}\n")),
        },
    };
    let mut yaml = String::new();
    for asker in askers {
        asker.write(&instead, &mut yaml);
    }
    Some(yaml)
}

impl fmt::Display for Asked<'_> {
    /// As YAML would write it, so that the name "80" is not the number 80.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

// === impl Asker ===

impl Asker<'_, '_> {
    /// The kubelet will find the port, and where a number is asked, the container declares it.
    fn is_answered(&self, container: &Container<'_>) -> bool {
        let is_hook = self.field.starts_with("lifecycle/");
        let host = match self.handler {
            Handler::HttpGet(HttpGet { host, .. }) | Handler::TcpSocket(TcpSocket { host, .. }) => {
                host.as_deref()
            }
            Handler::Grpc(_) | Handler::Exec(_) => None,
        };
        let is_elsewhere = host.is_some_and(|host| !host.is_empty());
        match self.port {
            Asked::Number(_) if is_hook || is_elsewhere => true,
            Asked::Number(_) | Asked::Name(_) => self.port.declared_in(container).is_some(),
        }
    }

    /// `readinessProbe`, `preStop hook`.
    fn words(&self) -> String {
        match self.field.rsplit_once('/') {
            Some((_, hook)) => format!("{hook} hook"),
            None => self.field.to_owned(),
        }
    }

    /// The field of its handler.
    fn kind(&self) -> &'static str {
        match self.handler {
            Handler::HttpGet(_) => "httpGet",
            Handler::TcpSocket(_) => "tcpSocket",
            Handler::Grpc(_) => "grpc",
            Handler::Exec(_) => "exec",
        }
    }

    /// The probe or hook as YAML that asks `port` (YAML already) instead, everything else kept.
    fn write(&self, port: &str, yaml: &mut String) {
        let mut fields = Vec::new();
        let mut keep = |name: &str, text: &Option<Text<'_>>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            fields.extend(text.map(|text| format!("{name}: {}", yaml::scalar(text))));
        };
        match self.handler {
            Handler::HttpGet(get) => {
                keep("host", &get.host);
                keep("scheme", &get.scheme);
                keep("path", &get.path);
                let headers: Vec<_> = get.http_headers.items().map(header).collect();
                if !headers.is_empty() {
                    fields.push(format!("httpHeaders: [{}]", headers.join(", ")));
                }
            }
            Handler::TcpSocket(tcp) => keep("host", &tcp.host),
            Handler::Grpc(grpc) => keep("service", &grpc.service),
            Handler::Exec(_) => {}
        }
        fields.push(format!("port: {port}"));
        let handler = format!("{}: {{{}}}\n", self.kind(), fields.join(", "));
        match self.field.split_once('/') {
            None => yaml.extend([self.field, ":\n  ", &handler]),
            Some((parent, hook)) => {
                // The hooks come last and share their parent.
                if !yaml.contains("lifecycle:\n") {
                    yaml.extend([parent, ":\n"]);
                }
                yaml.extend(["  ", hook, ":\n    ", &handler]);
            }
        }
    }
}

// === impl Asked ===

impl Asked<'_> {
    /// The number of the port, where `container` has it.
    fn declared_in(self, container: &Container<'_>) -> Option<i32> {
        let mut ports = container.ports.items();
        match self {
            Self::Name(name) => container.port(name)?.container_port,
            Self::Number(number) => {
                let is_declared =
                    ports.any(|port| port.is_tcp() && port.container_port == Some(number));
                is_declared.then_some(number)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::{
        finding::Finding,
        testing::{Facts, container, deployment},
    };

    fn findings(spec: Value) -> Vec<Finding> {
        let verdict = Facts::default().judge(&deployment(spec));
        let of_rule = verdict
            .findings
            .iter()
            .filter(|it| it.rule.as_str() == "probe-port");
        of_rule.cloned().collect()
    }

    fn of_app(fields: Value) -> Vec<Finding> {
        findings(json!({"containers": [container(fields)]}))
    }

    fn only(mut findings: Vec<Finding>) -> Finding {
        let finding = findings.pop().expect("a finding");
        assert_eq!(findings, [], "one fault, one finding");
        finding
    }

    fn line(finding: &Finding) -> String {
        format!("{} {}", finding.level, finding.path)
    }

    #[test]
    fn accepts_ports_that_are_there() {
        let ports = json!([
            {"name": "http", "containerPort": 8080},
            {"name": "grpc", "containerPort": 9000, "protocol": "TCP"},
        ]);
        for probe in [
            json!({"httpGet": {"port": "http"}}),
            json!({"httpGet": {"port": 8080}}),
            json!({"tcpSocket": {"port": "grpc"}}),
            json!({"grpc": {"port": 9000}}),
            json!({"exec": {"command": ["true"]}}),
            json!({}),
        ] {
            assert_eq!(of_app(json!({"ports": ports, "readinessProbe": probe})), []);
        }
    }

    #[test]
    fn denies_a_name_that_the_container_does_not_have() {
        let finding = only(of_app(json!({
            "ports": [{"name": "web", "containerPort": 3000}, {"containerPort": 9090}],
            "readinessProbe": {
                "httpGet": {"port": "http", "path": "/ready?x=1", "scheme": "HTTPS"},
            },
        })));
        assert_eq!(
            line(&finding),
            "deny /spec/template/spec/containers/0/readinessProbe/httpGet/port"
        );
        assert_eq!(
            finding.message,
            "container \"app\": readinessProbe asks port \"http\", which the container does not \
             have; it declares web (3000), 9090"
        );
        let fix = finding.fix.expect("a fix");
        assert_eq!(fix.at, "spec.template.spec.containers[name=app]");
        assert_eq!(
            fix.yaml,
            "readinessProbe:\n  httpGet: {scheme: HTTPS, path: \"/ready?x=1\", port: web}\n"
        );
    }

    #[test]
    fn looks_a_name_up_in_the_probed_container_alone() {
        let finding = only(findings(json!({"containers": [
            container(json!({"livenessProbe": {"tcpSocket": {"port": "admin"}}})),
            {"name": "proxy", "ports": [{"name": "admin", "containerPort": 9901}]},
        ]})));
        assert_eq!(
            line(&finding),
            "deny /spec/template/spec/containers/0/livenessProbe/tcpSocket/port"
        );
        assert_eq!(
            finding.message,
            "container \"app\": livenessProbe asks port \"admin\", which only container \"proxy\" \
             declares, and a name is looked up in the probed container alone"
        );
        // The containers of a pod share its address.
        assert_eq!(
            finding.fix.expect("a fix").yaml,
            "livenessProbe:\n  tcpSocket: {port: 9901}\n"
        );
    }

    #[test]
    fn warns_of_a_number_that_is_not_declared() {
        let finding = only(of_app(json!({
            "ports": [{"name": "web", "containerPort": 3000}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
        })));
        assert_eq!(
            line(&finding),
            "warn /spec/template/spec/containers/0/readinessProbe/httpGet/port"
        );
        assert_eq!(
            finding.message,
            "container \"app\": readinessProbe asks port 8080, which the container does not \
             declare; it declares web (3000)"
        );
        assert_eq!(
            finding.fix.expect("a fix").yaml,
            "readinessProbe:\n  httpGet: {path: /ready, port: 3000}\n"
        );
    }

    #[test]
    fn a_port_of_another_protocol_is_not_declared_for_a_probe() {
        let finding = only(of_app(json!({
            "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            "readinessProbe": {"tcpSocket": {"port": 53}},
        })));
        assert_eq!(
            finding.fix.expect("a fix").yaml,
            "ports:\n- containerPort: 53\n"
        );
    }

    #[test]
    fn a_number_of_another_container_is_named_and_only_warned_of() {
        for other in ["containers", "initContainers"] {
            let sidecar = json!({"name": "istio-proxy", "restartPolicy": "Always",
                                 "ports": [{"containerPort": 15021}]});
            let mut spec = json!({"containers": [container(
                json!({"readinessProbe": {"httpGet": {"port": 15021}}}),
            )]});
            match spec.get_mut(other).and_then(Value::as_array_mut) {
                Some(list) => list.push(sidecar),
                None => spec[other] = json!([sidecar]),
            }
            let finding = only(findings(spec));
            assert_eq!(
                finding.message,
                "container \"app\": readinessProbe asks port 15021, which container \
                 \"istio-proxy\" declares, not this one"
            );
            assert_eq!(finding.level.as_str(), "warn");
            assert_eq!(finding.fix, None);
        }
    }

    #[test]
    fn all_probes_that_ask_one_port_are_one_fault() {
        let get = json!({"httpGet": {"port": "http"}});
        let finding = only(of_app(json!({
            "readinessProbe": get, "livenessProbe": get, "startupProbe": get,
            "lifecycle": {"preStop": {"httpGet": {"port": "http", "path": "/quit"}}},
        })));
        assert_eq!(
            finding.message,
            "container \"app\": readinessProbe, livenessProbe, startupProbe, preStop hook ask port \
             \"http\", which the container does not have; it declares none"
        );
        assert_eq!(
            finding.fix.expect("a fix").yaml,
            "ports:\n- {name: http, containerPort: 8080} # the port that the app listens on\n"
        );
    }

    #[test]
    fn two_ports_are_two_faults() {
        let found = of_app(json!({
            "readinessProbe": {"httpGet": {"port": "web"}},
            "livenessProbe": {"httpGet": {"port": "admin"}},
        }));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn a_hook_may_ask_any_number_but_no_missing_name() {
        assert_eq!(
            of_app(json!({"lifecycle": {"preStop": {"httpGet": {"port": 15020}}}})),
            []
        );
        let headers = json!([{"name": "X-A", "value": "on"}]);
        let hook = json!({"httpGet": {"port": "quit", "path": "/", "httpHeaders": headers}});
        let finding = only(of_app(json!({
            "ports": [{"containerPort": 80}],
            "lifecycle": {"postStart": hook, "preStop": hook},
        })));
        assert_eq!(
            line(&finding),
            "deny /spec/template/spec/containers/0/lifecycle/postStart/httpGet/port"
        );
        let get = "httpGet: {path: /, httpHeaders: [{name: X-A, value: \"on\"}], port: 80}";
        assert_eq!(
            finding.fix.expect("a fix").yaml,
            format!("lifecycle:\n  postStart:\n    {get}\n  preStop:\n    {get}\n")
        );
    }

    #[test]
    fn a_number_asked_of_another_host_is_not_ours() {
        let get = json!({"httpGet": {"host": "169.254.169.254", "port": 80}});
        assert_eq!(of_app(json!({"readinessProbe": get})), []);
        let tcp = json!({"tcpSocket": {"host": "127.0.0.1", "port": "http"}});
        assert_eq!(
            of_app(json!({"readinessProbe": tcp})).len(),
            1,
            "a name is always looked up"
        );
    }

    #[test]
    fn a_number_in_quotes_is_a_name() {
        let finding = only(of_app(json!({
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"port": "8080"}},
        })));
        assert_eq!(
            finding.message,
            "container \"app\": readinessProbe asks port \"8080\", which the quotes make a name; a \
             number has none"
        );
        assert_eq!(
            finding.fix.expect("a fix").yaml,
            "readinessProbe:\n  httpGet: {port: 8080}\n"
        );
    }

    #[test]
    fn jobs_and_init_containers_are_judged_where_they_have_a_probe() {
        let template = json!({"spec": {
            "restartPolicy": "Never",
            "containers": [container(json!({"livenessProbe": {"tcpSocket": {"port": "http"}}}))],
        }});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": template}});
        assert_eq!(
            Facts::default().judge(&job).of("probe-port"),
            ["deny app /spec/template/spec/containers/0/livenessProbe/tcpSocket/port"]
        );
    }
}
