//! Pods of a story, as the API server knows them.

use portcullis::contract::GATE_CONTAINER;
use serde_json::Value;

use super::{node::Node, stage::Stage};
use crate::support::kubectl::Kubectl;

/// What the gate's container is called.
pub const GATE: &str = GATE_CONTAINER;

/// What the app's is called, in all stories.
pub const APP: &str = "app";

/// A pod at one moment.
pub struct Pod {
    kubectl: Kubectl,
    json: Value,
}

// === impl Stage ===

impl Stage {
    /// The pods of a Deployment that are there to stay.
    pub fn pods(&self, deployment: &str) -> Vec<Pod> {
        let get = format!("get pods --selector=app={deployment} --output=json");
        Pod::read_all(&self.kubectl, &get)
    }
}

// === impl Pod ===

impl Pod {
    /// Those that `kubectl get` finds, without those that are being deleted.
    pub fn read_all(kubectl: &Kubectl, get: &str) -> Vec<Self> {
        let list: Value =
            serde_json::from_str(&kubectl.call(get).ok()).expect("kubectl prints JSON");
        let pods = list["items"].as_array().expect("a list").iter();
        let staying = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        staying
            .map(|json| Self {
                kubectl: kubectl.clone(),
                json: json.clone(),
            })
            .collect()
    }

    /// The same pod now.
    pub fn again(&self) -> Result<Self, String> {
        let (namespace, name) = (self.namespace(), self.name());
        let get = format!("get pod {name} --namespace={namespace} --output=json");
        let json = self.kubectl.everywhere().call(&get).success_output()?;
        Ok(Self {
            kubectl: self.kubectl.clone(),
            json: serde_json::from_str(&json).map_err(|error| error.to_string())?,
        })
    }

    /// The same pod, once this container has been started again and all are ready.
    pub fn recovered(&self, container: &str) -> Result<Self, String> {
        let now = self.again()?;
        let (restarts, is_ready) = (now.restarts(container), now.is_ready());
        if is_ready && restarts > self.restarts(container) {
            return Ok(now);
        }
        let name = self.name();
        Err(format!(
            "{name}: {restarts} restarts of {container}, ready: {is_ready}"
        ))
    }

    fn namespace(&self) -> &str {
        let namespace = &self.json["metadata"]["namespace"];
        namespace.as_str().expect("a namespace")
    }

    pub fn name(&self) -> &str {
        self.json["metadata"]["name"].as_str().expect("a name")
    }

    pub fn node(&self) -> &str {
        self.json["spec"]["nodeName"]
            .as_str()
            .expect("it is scheduled")
    }

    pub fn has_gate(&self) -> bool {
        self.container(GATE).is_some()
    }

    pub fn is_ready(&self) -> bool {
        let conditions = self.json["status"]["conditions"].as_array();
        let mut conditions = conditions.expect("it runs").iter();
        conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// How often a container was started again.
    pub fn restarts(&self, container: &str) -> u64 {
        let status = self.container(container).expect("the container");
        status["restartCount"].as_u64().expect("a number")
    }

    /// How a container ended before it was started again.
    pub fn ended(&self, container: &str) -> &Value {
        let status = self.container(container).expect("the container");
        &status["lastState"]["terminated"]
    }

    /// With what a container has ended; null while it runs.
    pub fn exit_code(&self, container: &str) -> &Value {
        let status = self.container(container).expect("the container");
        &status["state"]["terminated"]["exitCode"]
    }

    /// The memory limit of an app container.
    pub fn memory_limit(&self, container: &str) -> &Value {
        let containers = self.json["spec"]["containers"].as_array();
        let mut containers = containers.expect("a list").iter();
        let found = containers.find(|found| found["name"] == container);
        &found.expect("the container")["resources"]["limits"]["memory"]
    }

    /// Kills a container's process.
    pub fn kill(&self, container: &str) {
        let status = self.container(container).expect("the container");
        let id = status["containerID"].as_str().expect("it runs");
        Node::named(self.node()).kill(id);
    }

    /// What its gate says of itself.
    pub fn gate(&self) -> Result<Value, String> {
        let (namespace, name) = (self.namespace(), self.name());
        let get =
            format!("get --raw /api/v1/namespaces/{namespace}/pods/{name}:15981/proxy/status");
        let status = self.kubectl.call(&get).success_output()?;
        serde_json::from_str(&status).map_err(|error| error.to_string())
    }

    /// The states that its gate has been in since it runs, but for the first, `closed`.
    pub fn states(&self) -> Result<Vec<String>, String> {
        let status = self.gate()?;
        let transitions = status["transitions"].as_array().expect("a list").iter();
        let to = |transition: &Value| transition["to"].as_str().expect("a state").to_owned();
        Ok(transitions.map(to).collect())
    }

    /// The status of a container.
    fn container(&self, name: &str) -> Option<&Value> {
        let status = &self.json["status"];
        ["initContainerStatuses", "containerStatuses"]
            .into_iter()
            .filter_map(|list| status[list].as_array())
            .flatten()
            .find(|container| container["name"] == name)
    }
}
