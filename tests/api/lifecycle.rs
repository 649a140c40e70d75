//! Installing, upgrading, breaking glass and uninstalling, on a control plane where nothing else is: whatever is taken
//! away first, pods start, and nothing is left.

use std::{fs, path::Path};

use portcullis::contract::GATE_LABEL;
use serde_json::{Value, json};

use super::{
    installation::{await_policy, launch},
    objects::{bare_spec, list, sound_spec, workload},
};
use crate::support::{
    kubectl::Kubectl,
    manifests::{BASE, called_by_url},
    planes::Plane,
    policies::Policies,
    server::{Launch, Server, authorize},
    wait::eventually,
};

/// A control plane that nothing of ours is on, until it is installed there; each test begins and ends without Portcullis.
pub struct Ground {
    pub plane: Plane,
    pub admin: Kubectl,
}

/// Portcullis on it.
pub struct Installed {
    pub manifests: Vec<Value>,
    pub launch: Launch,
    pub server: Option<Server>,
}

// === impl Ground ===

impl Ground {
    pub fn new() -> Self {
        let plane = Plane::take();
        let admin = plane.kubectl("admin");
        Self { plane, admin }
    }

    /// For files of a test.
    pub fn folder(&self) -> &Path {
        self.plane.folder()
    }

    /// A kustomization, applied, and our server with the rights that it gives.
    pub fn install(&self, kustomization: &str) -> Installed {
        let launch = launch(&self.plane);
        let manifests = called_by_url(&self.admin, kustomization, launch.port);
        self.apply(&manifests);
        self.start(manifests, launch)
    }

    pub fn start(&self, manifests: Vec<Value>, launch: Launch) -> Installed {
        authorize(&self.plane, &launch);
        let server = Some(launch.start());
        self.await_enforcement();
        Installed {
            manifests,
            launch,
            server,
        }
    }

    pub fn apply(&self, manifests: &[Value]) {
        self.admin.apply(&list(manifests.to_vec())).ok();
    }

    pub fn await_enforcement(&self) {
        eventually("a bare pod to be refused", || {
            let pod = workload("Pod", "canary", bare_spec()).to_string();
            let answer = self.admin.feed("create --dry-run=server -f -", &pod);
            let by_us = answer.stderr.contains("validate.portcullis.dev");
            by_us.then_some(()).ok_or(answer.stdout + &answer.stderr)
        });
    }

    /// Waits until nobody judges: a pod that breaks every rule and demands a gate is made as it stands.
    pub fn await_freedom(&self) {
        let mut pod = workload("Pod", "free", bare_spec());
        pod["metadata"]["labels"][GATE_LABEL] = json!("enabled");
        eventually("a pod that nobody judges", || {
            let answer = self
                .admin
                .feed("create --dry-run=server -o json -f -", &pod.to_string());
            let made = answer.success_output()?;
            let is_ours = made.contains("portcullis-gate");
            (!is_ours).then_some(()).ok_or(made)
        });
    }

    /// What our entries say, while both configurations are there.
    pub fn policies(&self) -> Result<Policies, String> {
        Policies::read(&self.admin)
    }

    /// All entries that may be `Fail` are so now.
    pub fn are_all(&self, policy: &str) -> bool {
        Policies::of(&self.admin).are_all(policy)
    }

    /// Waits until all of them are so.
    pub fn await_policy(&self, policy: &str) {
        await_policy(&self.admin, policy);
    }

    /// A sound pod that demands a gate can be made now, whatever is left of us.
    #[track_caller]
    pub fn takes_a_pod(&self, after: &str) {
        let mut pod = workload("Pod", "app", sound_spec());
        pod["metadata"]["labels"][GATE_LABEL] = json!("enabled");
        let answer = self.admin.feed("create -f -", &pod.to_string());
        let made = answer.success();
        assert_eq!(made, Ok(()), "after {after}");
        self.admin.call("delete pod app --now").ok();
    }

    /// Nothing of these objects is there any more, nor of what the server made beside them.
    #[track_caller]
    pub fn holds_none_of(&self, manifests: &[Value]) {
        for object in manifests {
            let title = title(object);
            let answer = self.admin.call_with(&get(object), None);
            assert!(answer.stderr.contains("NotFound"), "{title} is left");
        }
        let everything = "get namespaces,clusterroles,clusterrolebindings,validatingwebhookconfigurations,\
            mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,\
            flowschemas,prioritylevelconfigurations,customresourcedefinitions,secrets,configmaps,pods,leases";
        let left = self
            .admin
            .call(&format!("{everything} --all-namespaces -o name"))
            .ok();
        assert!(!left.contains("portcullis"), "left: {left}");
    }
}

// === impl Installed ===

impl Installed {
    /// As when all pods of ours are killed: they can write and say nothing more.
    pub fn kill(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill();
        }
    }

    /// As when the last pod of ours goes.
    pub fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }

    pub fn restart(&mut self) {
        self.stop();
        self.server = Some(self.launch.start());
    }

    /// Waits until the server has looked at both configurations, and one of these came of it.
    pub fn await_looks(&self, outcomes: &[&str]) {
        let server = self.server.as_ref().expect("it runs");
        eventually("the server to look at its configurations", || {
            let page = server
                .fetch("/metrics")
                .map_err(|error| error.to_string())?;
            let looked = ["validating", "mutating"].into_iter().all(|configuration| {
                page.lines().any(|line| {
                    line.starts_with("portcullis_webhook_registrations_total")
                        && line.contains(configuration)
                        && outcomes
                            .iter()
                            .any(|outcome| line.contains(&format!("\"{outcome}\"")))
                        && !line.ends_with(" 0")
                })
            });
            looked.then_some(()).ok_or(page)
        });
    }

    /// Takes the objects of these kinds away one by one, then all others, and makes a pod after each.
    fn uninstall(&mut self, ground: &Ground, first: &[&str]) {
        let objects = self.manifests.clone().into_iter();
        let (first, others): (Vec<_>, Vec<_>) =
            objects.partition(|object| first.contains(&kind(object)));
        assert!(!first.is_empty(), "there is none of these kinds");
        for object in first {
            // Its pods go with it.
            if matches!(kind(&object), "Namespace" | "Deployment") {
                self.stop();
            }
            let mut delete = get(&object);
            delete[0] = "delete";
            ground.admin.call_with(&delete, None).ok();
            ground.takes_a_pod(&title(&object));
        }
        // What went with its namespace is no error.
        ground
            .admin
            .feed("delete --ignore-not-found -f -", &list(others))
            .ok();
        ground.takes_a_pod("all");
        self.stop();
    }
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().expect("objects have kinds")
}

fn title(object: &Value) -> String {
    let name = &object["metadata"]["name"];
    format!("{} {}", kind(object), name.as_str().expect("and names"))
}

/// What asks kubectl for this object.
fn get(object: &Value) -> Vec<&str> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().expect("objects have names");
    let mut words = vec!["get", kind(object), name];
    if let Some(namespace) = metadata["namespace"].as_str() {
        words.extend(["--namespace", namespace]);
    }
    words
}

/// The commands of the README's page for who is on call, in their order.
pub fn on_call(place: usize) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("the README is there");
    let (_, page) = readme.split_once("\n## On call\n").expect("a page");
    let block = page.split("```sh\n").nth(place + 1).expect("a command");
    let (block, _) = block.split_once("\n```").expect("its end");
    assert_eq!(block.matches("kubectl ").count(), 1, "one command: {block}");
    block.to_owned()
}

#[test]
fn uninstalling_leaves_nothing_and_lets_pods_start_in_whatever_order_it_goes() {
    let ground = Ground::new();
    for first in [
        &["Namespace"][..],
        &[
            "ValidatingWebhookConfiguration",
            "MutatingWebhookConfiguration",
        ],
        &["MutatingWebhookConfiguration"],
        &["Deployment"],
        &[
            "ClusterRole",
            "ClusterRoleBinding",
            "Role",
            "RoleBinding",
            "ServiceAccount",
        ],
        &["Service", "ConfigMap", "NetworkPolicy"],
    ] {
        let mut installed = ground.install(BASE);
        installed.uninstall(&ground, first);
        ground.holds_none_of(&installed.manifests);
        ground.await_freedom();
    }

    // And in one go, as the README has it.
    let mut installed = ground.install(BASE);
    ground
        .admin
        .feed("delete -f -", &list(installed.manifests.clone()))
        .ok();
    installed.stop();
    ground.holds_none_of(&installed.manifests);
    ground.await_freedom();
}

#[test]
fn an_upgrade_is_the_same_command_and_never_stops_what_was_judged() {
    let ground = Ground::new();
    // An older release: one entry that patches, none that injects, fewer rights, and none of our own share of the
    // API server.
    let launch = launch(&ground.plane);
    let manifests = called_by_url(&ground.admin, BASE, launch.port);
    let mut older = manifests.clone();
    older.retain(|object| !matches!(kind(object), "FlowSchema" | "PriorityLevelConfiguration"));
    for object in &mut older {
        match kind(object) {
            "MutatingWebhookConfiguration" => {
                let entries = object["webhooks"].as_array_mut().expect("entries");
                entries.truncate(1);
            }
            "ClusterRole" => {
                let rules = object["rules"].as_array_mut().expect("rules");
                rules.retain(|rule| rule["resources"] != json!(["nodes"]));
            }
            _ => {}
        }
    }
    ground.apply(&older);
    let mut installed = ground.start(manifests, launch);

    ground.apply(&installed.manifests);
    // What was judged is judged on, before any new replica runs,
    let bare = workload("Pod", "bare", bare_spec()).to_string();
    ground.admin.feed("create -f -", &bare).refusal();
    // and the new replica opens what is new.
    installed.restart();
    let mut pod = workload("Pod", "app", sound_spec());
    pod["metadata"]["labels"][GATE_LABEL] = json!("enabled");
    eventually("a pod with a gate", || {
        let answer = ground
            .admin
            .feed("create --dry-run=server -o json -f -", &pod.to_string());
        let made = answer.success_output()?;
        made.contains("portcullis-gate").then_some(()).ok_or(made)
    });
    let names = |configuration: &Value| {
        let entries = configuration["webhooks"].as_array().expect("entries");
        let names = entries.iter().map(|entry| entry["name"].clone());
        names.collect::<Vec<_>>()
    };
    let shipped = installed.manifests.iter();
    for shipped in shipped.filter(|object| kind(object).ends_with("WebhookConfiguration")) {
        let mut get = get(shipped);
        get.extend(["-o", "json"]);
        let live = ground.admin.call_with(&get, None).ok();
        let live: Value = serde_json::from_str(&live).expect("kubectl prints JSON");
        let (mut live, shipped) = (names(&live), names(shipped));
        live.retain(|name| shipped.contains(name)); // there are our server's own, too
        assert_eq!(live, shipped, "in the order that they ship");
    }

    installed.uninstall(&ground, &["Namespace"]);
    ground.holds_none_of(&installed.manifests);
}

#[test]
fn everything_goes_by_the_command_of_the_readme_and_stays_gone() {
    let ground = Ground::new();
    let mut installed = ground.install(BASE);
    let delete = on_call(1);

    // Our server works, and must be out of the way at once.
    ground.admin.shell(&delete).ok();
    ground.await_freedom();
    ground.apply(&installed.manifests);
    installed.restart();
    ground.await_enforcement();

    // None is alive; and when one comes back, it makes none anew.
    installed.stop();
    ground.admin.shell(&delete).ok();
    installed.restart();
    installed.await_looks(&["absent"]);
    ground.await_freedom();

    // What undoes it is what installs.
    ground.apply(&installed.manifests);
    installed.restart();
    ground.await_enforcement();
    installed.uninstall(&ground, &["Deployment"]);
}
