//! Pods that ask for a gate get one: by their label or their namespace's, whoever makes them.

use std::process::Command;

use portcullis::contract::{
    GATE_CONFIG_ANNOTATION, GATE_CONTAINER, GATE_LABEL, GATE_STATE_DIR_ENV,
    GATE_TAKEOVER_ANNOTATION,
};
use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session},
    objects::{bare_container, container, list, sound_spec, spec, workload},
};
use crate::support::{server::GATE_IMAGE, wait::eventually};

/// The gate of a pod, wherever it stands.
pub fn gate(pod: &Value) -> Option<&Value> {
    ["initContainers", "containers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .find(|container| container["name"] == GATE_CONTAINER)
}

/// `object` with this label on its pods.
pub fn asking(mut object: Value, demand: &str) -> Value {
    let metadata = if object["kind"] == "Pod" {
        &mut object["metadata"]
    } else {
        &mut object["spec"]["template"]["metadata"]
    };
    metadata["labels"][GATE_LABEL] = json!(demand);
    object
}

/// The pod that is stored when the developer makes this one.
pub fn created(namespace: &Namespace, pod: &Value) -> Value {
    let stored = namespace
        .developer
        .feed("create -o json -f -", &pod.to_string());
    serde_json::from_str(&stored.ok()).expect("kubectl prints JSON")
}

/// The only pod of a Deployment.
pub fn pod_of(namespace: &Namespace, app: &str) -> Value {
    eventually("the Deployment's pod", || {
        let list = namespace
            .developer
            .call(&format!("get pods -l app={app} -o json"))
            .ok();
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        list["items"]
            .as_array()
            .and_then(|pods| pods.first().cloned())
            .ok_or_else(|| "none yet".to_owned())
    })
}

#[test]
fn the_pod_of_a_deployment_that_asks_gets_a_gate_and_its_template_does_not() {
    let session = Session::shared();
    let namespace = session.namespace("gate");
    let mut object = asking(workload("Deployment", "app", sound_spec()), "enabled");
    object["spec"]["replicas"] = json!(1);
    namespace.developer.apply(&object.to_string()).ok();

    let pod = pod_of(&namespace, "app");
    let gate = gate(&pod).unwrap_or_else(|| panic!("no gate in {pod}"));
    assert_eq!(gate["image"], GATE_IMAGE);
    // Server and nodes (there are none) are of a release that knows native sidecars.
    assert_eq!(&pod["spec"]["initContainers"][0], gate);
    assert_eq!(gate["restartPolicy"], "Always");
    assert_eq!(
        gate["ports"][0]["name"], "http",
        "the Service's port: {gate}"
    );
    let app = &pod["spec"]["containers"][0];
    assert_eq!(app["ports"][0].get("name"), None, "{app}");
    assert_eq!(app["readinessProbe"]["httpGet"]["port"], 8080, "{app}");
    let annotations = &pod["metadata"]["annotations"];
    assert_eq!(annotations[GATE_TAKEOVER_ANNOTATION], "http=named-port");

    let stored = namespace.developer.call("get deployment app -o json").ok();
    assert!(!stored.contains(GATE_CONTAINER), "{stored}");
}

#[test]
fn a_pod_s_label_goes_before_its_namespace_s() {
    let session = Session::shared();
    for (of_namespace, of_pod, gated) in [
        (None, None, false),
        (None, Some("enabled"), true),
        (None, Some("preferred"), true),
        (None, Some("disabled"), false),
        (Some("enabled"), None, true),
        (Some("enabled"), Some("preferred"), true),
        (Some("preferred"), None, true),
        (Some("preferred"), Some("disabled"), false),
        (Some("disabled"), None, false),
    ] {
        let labels: Vec<_> = of_namespace
            .into_iter()
            .map(|value| (GATE_LABEL, value))
            .collect();
        let namespace = session.labelled_namespace("asked", &labels);
        let pod = workload("Pod", "app", spec([container("app")]));
        let pod = match of_pod {
            Some(value) => asking(pod, value),
            None => pod,
        };
        let stored = created(&namespace, &pod);
        assert_eq!(
            gate(&stored).is_some(),
            gated,
            "namespace {of_namespace:?}, pod {of_pod:?}: {stored}"
        );
    }
}

/// `object` with this told to the gates of its pods.
fn told(mut object: Value, config: &str) -> Value {
    let metadata = if object["kind"] == "Pod" {
        &mut object["metadata"]
    } else {
        &mut object["spec"]["template"]["metadata"]
    };
    metadata["annotations"] = json!({GATE_CONFIG_ANNOTATION: config});
    object
}

#[test]
fn a_mistake_in_what_the_gate_is_told_is_refused_when_the_workload_is_applied() {
    let session = Session::shared();
    // Not even where nothing else is enforced would it be better found in a pod.
    let namespace = session.labelled_namespace("told", &[("portcullis.dev/enforce", "warn")]);
    let object = asking(workload("Deployment", "app", sound_spec()), "enabled");
    for (config, words) in [
        (
            "checks:\n- name: db\n  tcp: {host: db, port: 5432}\n  timeout: 90m\n",
            "line 4: checks[0].timeout: 1h 30m is not between 1ms and 1m",
        ),
        (
            "checks:\n- name: db\n  postgres: {urlFrom: {env: DATABASE_URL}}\n",
            "line 3: checks[0].postgres.urlFrom.env: no container of the pod sets env DATABASE_URL",
        ),
        (
            "hold: {}\nports: [grpc]\n",
            "line 2: ports[0]: no container declares a TCP port named \"grpc\" among its ports",
        ),
    ] {
        let refusal = namespace.refuses(&told(object.clone(), config).to_string(), "gate-config");
        // It breaks its lines.
        let refusal: Vec<_> = refusal.split_whitespace().collect();
        let refusal = refusal.join(" ");
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    let mended = told(object, "hold: {}\nports: [http]\n");
    namespace.developer.apply(&mended.to_string()).ok();
}

#[test]
fn a_service_that_walks_past_the_gate_is_warned_about_when_the_workload_is_applied() {
    let session = Session::shared();
    let namespace = session.namespace("past");
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "front"},
        "spec": {"selector": {"app": "app"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    namespace.developer.apply(&service.to_string()).ok();
    let object = asking(workload("Deployment", "app", sound_spec()), "enabled");
    let answer = namespace.developer.apply(&object.to_string());
    assert!(
        answer.stderr.contains(
            "gate-takeover: Service \"front\" sends to port 8080 by number, past the gate"
        ),
        "{}",
        answer.stderr
    );
    answer.ok();
}

/// A spec that Pod Security `restricted` admits.
fn restricted_spec(mut app: Value) -> Value {
    app["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    spec([app])
}

#[test]
fn what_watches_over_a_namespace_lets_gates_in() {
    let session = Session::shared();
    let labels = [
        ("pod-security.kubernetes.io/enforce", "restricted"),
        ("pod-security.kubernetes.io/enforce-version", "latest"),
    ];
    let namespace = session.labelled_namespace("watched", &labels);
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "all"},
        "spec": {"hard": {
            "requests.cpu": "2", "requests.memory": "2Gi", "limits.cpu": "20", "limits.memory": "4Gi",
        }},
    });
    let range = json!({
        "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "bounds"},
        "spec": {"limits": [{
            "type": "Container",
            "min": {"cpu": "5m", "memory": "16Mi"},
            "max": {"cpu": "1500m", "memory": "100Mi"},
            "maxLimitRequestRatio": {"cpu": "20", "memory": "2"},
        }]},
    });
    namespace.admin.apply(&list([quota, range])).ok();
    eventually("the quota to count", || {
        let hard = namespace
            .admin
            .call("get resourcequota all -o jsonpath={.status.hard}")
            .ok();
        hard.contains("limits.cpu").then_some(()).ok_or(hard)
    });
    // They do watch: without what the gate has, a container is refused by each of them.
    let root = workload("Pod", "root", sound_spec()).to_string();
    let refusal = namespace.developer.feed("create -f -", &root).refusal();
    assert!(refusal.contains("violates PodSecurity"), "{refusal}");
    let mut greedy = restricted_spec(container("app"));
    greedy["containers"][0]["resources"]["limits"]["memory"] = json!("128Mi");
    let greedy = workload("Pod", "greedy", greedy).to_string();
    let refusal = namespace.developer.feed("create -f -", &greedy).refusal();
    assert!(refusal.contains("100Mi"), "{refusal}");

    let mut low = container("app");
    low["ports"][0]["containerPort"] = json!(80);
    let mut guaranteed = container("app");
    guaranteed["resources"] = json!({"limits": {"cpu": "100m", "memory": "32Mi"}});
    for (name, app, config, class) in [
        ("named", container("app"), "", "Burstable"),
        (
            "exec",
            container("app"),
            "readiness: exec\nsidecar: container",
            "Burstable",
        ),
        ("low", low, "takeover: env", "Burstable"),
        ("guaranteed", guaranteed, "", "Guaranteed"),
    ] {
        let pod = asking(workload("Pod", name, restricted_spec(app)), "enabled");
        let stored = created(&namespace, &told(pod, config));
        assert!(gate(&stored).is_some(), "{name}: {stored}");
        assert_eq!(stored["status"]["qosClass"], class, "{name}: {stored}");
    }
}

#[test]
fn a_pod_that_asks_for_nothing_stays_best_effort() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("effort", &[("portcullis.dev/enforce", "none")]);
    let mut app = bare_container("app");
    app["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    let pod = asking(workload("Pod", "app", spec([app])), "enabled");
    let stored = created(&namespace, &pod);
    assert!(gate(&stored).is_some(), "{stored}");
    assert_eq!(stored["status"]["qosClass"], "BestEffort", "{stored}");
}

#[test]
fn defaults_for_pods_and_their_gates_do_not_get_in_each_others_way() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("patched", &[("portcullis.dev/patch", "enabled")]);
    let mut app = bare_container("app");
    app["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    app["livenessProbe"] = json!({"httpGet": {"path": "/live", "port": "http"}});
    let pod = asking(workload("Pod", "app", spec([app])), "enabled");
    let stored = created(&namespace, &pod);
    let app = &stored["spec"]["containers"][0];
    assert_eq!(
        app["resources"]["limits"]["memory"], "128Mi",
        "the settings' default: {app}"
    );
    // Patched in before the gate came, so it is the app that it asks.
    assert_eq!(app["readinessProbe"]["tcpSocket"]["port"], 8080, "{app}");
    let gate = gate(&stored).expect("a gate");
    assert_eq!(
        gate["resources"]["requests"]["memory"], "32Mi",
        "its own: {gate}"
    );
}

#[test]
fn the_gate_s_program_takes_what_the_stored_pod_gives_it() {
    let session = Session::shared();
    let namespace = session.namespace("program");
    let mut app = container("app");
    app["env"] = json!([{"name": "DATABASE_URL", "value": "postgres://db/$(SHOP)"}]);
    let config = "
readiness: exec
checks:
- name: database
  postgres: {urlFrom: {env: DATABASE_URL}}
warmup:
  requests: [{path: '/price?in=$(USD)&$$'}]
";
    let pod = told(
        asking(workload("Pod", "app", spec([app])), "enabled"),
        config,
    );
    let stored = created(&namespace, &pod);
    let gate = gate(&stored).expect("a gate");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-gate"));
        for entry in gate["env"].as_array().expect("a list") {
            let name = entry["name"].as_str().expect("a name");
            // The kubelet: `$$` is a plain `$`, and what stands in fields of the pod is looked up.
            let value = entry["value"].as_str().unwrap_or("127.0.0.1");
            command.env(name, value.replace("$$", "$"));
        }
        let command = command
            .args(arguments)
            .env(GATE_STATE_DIR_ENV, folder.path());
        command.output().expect("portcullis-gate starts")
    };
    let shown = run(&["settings"]);
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(shown.status.success(), "{said}");
    let settings: Value = serde_json::from_slice(&shown.stdout).expect("it prints JSON");
    assert_eq!(
        settings["warmup"]["requests"][0]["path"],
        "/price?in=$(USD)&$$"
    );
    assert_eq!(
        settings["checks"][0]["postgres"]["urlFrom"]["env"],
        "DATABASE_URL"
    );

    for place in ["/readinessProbe", "/lifecycle/preStop"] {
        let command = gate.pointer(&format!("{place}/exec/command"));
        let command = command.and_then(Value::as_array).expect("a command");
        let words: Vec<_> = command
            .iter()
            .map(|word| word.as_str().expect("a word"))
            .collect();
        // It understands, and says that no gate runs here.
        assert_eq!(run(&words[1..]).status.code(), Some(1), "{words:?}");
    }
}

#[test]
fn a_pod_that_demands_a_gate_waits_for_the_server_and_one_that_prefers_it_does_not() {
    let session = Session::alone();
    let namespace = session.namespace("gone");
    session.await_proof();
    session.stop_server();
    let pod = |name| asking(workload("Pod", name, sound_spec()), name);
    let create = |pod: &Value| {
        let pod = pod.to_string();
        namespace.developer.feed("create -f -", &pod)
    };
    let refusal = create(&pod("enabled")).refusal();
    assert!(
        refusal.contains("failed calling webhook \"inject.portcullis.dev\""),
        "{refusal}"
    );
    let preferring = created(&namespace, &pod("preferred"));
    assert!(gate(&preferring).is_none(), "nobody was there to inject");

    session.start_server();
    session.await_enforcement();
    let demanding = eventually("the pod to be made", || {
        create(&pod("enabled")).success()?;
        let stored = namespace.developer.call("get pod enabled -o json").ok();
        serde_json::from_str::<Value>(&stored).map_err(|error| error.to_string())
    });
    assert!(gate(&demanding).is_some(), "it waited for it");
}
