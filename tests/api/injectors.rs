//! Beside other injectors: whoever comes first, a pod has one gate, and it stands last.

use portcullis::contract::{GATE_CONTAINER, GATE_TAKEOVER_ANNOTATION};
use serde_json::{Value, json};

use super::{
    injection::{asking, created, gate, pod_of},
    installation::{Namespace, Session},
    objects::{container, sound_spec, workload},
};
use crate::support::{injector::Injector, wait::eventually};

/// Before us and after us, as the API server goes by names.
const TURNS: [&str; 2] = ["a-mesh", "z-mesh"];

/// The names in one of a pod's lists of containers.
fn names<'p>(pod: &'p Value, list: &str) -> Vec<&'p str> {
    let containers = pod["spec"][list].as_array();
    let name = |container: &'p Value| container["name"].as_str().expect("a name");
    containers.into_iter().flatten().map(name).collect()
}

/// What a mesh with a native sidecar does to a pod that lacks it.
fn mesh(pod: &Value) -> Value {
    if names(pod, "initContainers").contains(&"istio-proxy") {
        return json!([]);
    }
    let mut init = container("istio-init");
    let mut proxy = container("istio-proxy");
    for field in ["ports", "readinessProbe", "livenessProbe"] {
        init.as_object_mut().expect("an object").remove(field);
    }
    proxy["restartPolicy"] = json!("Always");
    proxy["ports"] = json!([{"name": "http-envoy-prom", "containerPort": 15090}]);
    proxy["readinessProbe"]["httpGet"]["port"] = json!(15090);
    proxy["livenessProbe"]["httpGet"]["port"] = json!(15090);
    add(pod, "initContainers", "-", [init, proxy])
}

/// What an injector does that puts an ordinary container before the app's.
fn agent(pod: &Value) -> Value {
    if names(pod, "containers").contains(&"agent") {
        return json!([]);
    }
    let mut agent = container("agent");
    agent.as_object_mut().expect("an object").remove("ports");
    for probe in ["readinessProbe", "livenessProbe"] {
        agent[probe] = json!({"exec": {"command": [format!("/{probe}")]}});
    }
    add(pod, "containers", "0", [agent])
}

/// Operations that put containers into a list of a pod, at `place`.
fn add(pod: &Value, list: &str, place: &str, containers: impl IntoIterator<Item = Value>) -> Value {
    let at = format!("/spec/{list}");
    let mut operations = Vec::new();
    if pod.pointer(&at).is_none() {
        operations.push(json!({"op": "add", "path": at, "value": []}));
    }
    for container in containers {
        let path = format!("{at}/{place}");
        operations.push(json!({"op": "add", "path": path, "value": container}));
    }
    operations.into()
}

/// Registers an injector, and waits until it is called.
fn register(
    session: &Session,
    turn: &str,
    namespace: &Namespace,
    patch: fn(&Value) -> Value,
) -> Injector {
    let name = format!("{turn}-{}", namespace.name);
    let injector = Injector::register(&session.admin(), &name, &namespace.name, patch);
    let pod = workload("Pod", "probe", sound_spec()).to_string();
    eventually("the injector to be called", || {
        let created = namespace
            .developer
            .feed("create --dry-run=server -f -", &pod);
        created.success()?;
        let shown = injector.shown();
        (!shown.is_empty())
            .then_some(())
            .ok_or_else(|| "not yet".to_owned())
    });
    injector
}

/// A pod that demands a gate. It has no token, whose volume would have another name each time.
fn pod(name: &str) -> Value {
    let mut spec = sound_spec();
    spec["automountServiceAccountToken"] = json!(false);
    asking(workload("Pod", name, spec), "enabled")
}

#[test]
fn a_gate_stands_behind_a_mesh_whichever_webhook_comes_first() {
    let session = Session::shared();
    let mut specs = Vec::new();
    for turn in TURNS {
        let namespace = session.namespace("mesh");
        let injector = register(&session, turn, &namespace, mesh);
        let stored = created(&namespace, &pod("app"));
        let first = &injector.shown()[0];
        assert_eq!(
            gate(first).is_some(),
            turn == "z-mesh",
            "{turn} came first: {first}"
        );

        let inits = names(&stored, "initContainers");
        assert_eq!(
            inits,
            ["istio-init", "istio-proxy", GATE_CONTAINER],
            "{turn}"
        );
        assert_eq!(names(&stored, "containers"), ["app"], "{turn}");
        let annotations = &stored["metadata"]["annotations"];
        assert_eq!(
            annotations[GATE_TAKEOVER_ANNOTATION], "http=named-port",
            "{turn}"
        );
        assert_eq!(
            annotations["traffic.sidecar.istio.io/excludeInboundPorts"],
            "15981"
        );
        let gate = gate(&stored).expect("a gate");
        assert_eq!(gate["restartPolicy"], "Always");
        assert_eq!(gate["ports"][0]["name"], "http", "not the mesh's: {gate}");
        specs.push(stored["spec"].clone());
    }
    assert_eq!(specs[0], specs[1], "the order leaves no trace");
}

#[test]
fn a_pod_that_is_made_again_as_it_was_stored_stays_as_it_was() {
    let session = Session::shared();
    for turn in TURNS {
        let namespace = session.namespace("again");
        let _injector = register(&session, turn, &namespace, mesh);
        let stored = created(&namespace, &pod("app"));
        let mut again = pod("again");
        again["metadata"]["labels"] = stored["metadata"]["labels"].clone();
        again["metadata"]["annotations"] = stored["metadata"]["annotations"].clone();
        again["spec"] = stored["spec"].clone();
        let again = created(&namespace, &again);
        assert_eq!(again["spec"], stored["spec"], "{turn}");
        assert_eq!(
            again["metadata"]["annotations"],
            stored["metadata"]["annotations"]
        );
    }
}

#[test]
fn a_container_that_comes_later_waits_for_the_drain_as_the_app_does() {
    let session = Session::shared();
    for turn in TURNS {
        let namespace = session.namespace("agent");
        let injector = register(&session, turn, &namespace, agent);
        let mut object = asking(workload("Deployment", "app", sound_spec()), "enabled");
        object["spec"]["replicas"] = json!(1);
        namespace.developer.apply(&object.to_string()).ok();
        let stored = pod_of(&namespace, "app");
        assert_eq!(
            gate(&injector.shown()[0]).is_some(),
            turn == "z-mesh",
            "{turn}"
        );
        assert_eq!(names(&stored, "containers"), ["agent", "app"], "{turn}");
        assert_eq!(names(&stored, "initContainers"), [GATE_CONTAINER], "{turn}");
        for container in stored["spec"]["containers"].as_array().expect("a list") {
            let hook = &container["lifecycle"]["preStop"]["httpGet"]["path"];
            assert_eq!(hook, "/drained", "{turn}: {container}");
        }
        // It was the second container when its port went over, if the agent came first.
        let app = &stored["spec"]["containers"][1];
        assert_eq!(app["ports"][0].get("name"), None, "{turn}: {app}");
        assert_eq!(
            app["readinessProbe"]["httpGet"]["port"], 8080,
            "{turn}: {app}"
        );
    }
}
