//! Judged by an API server: by Portcullis behind it, and by a ValidatingAdmissionPolicy within it.

use std::fs;

use serde_json::{Value, json};

use super::{
    case::{Case, Verdict},
    files::policy,
    support::{
        control_plane::{ControlPlane, DEVELOPER},
        kubectl::Kubectl,
        manifests::{BASE, called_by_url},
        server::{Launch, Server},
        wait::eventually,
    },
};

/// An API server with both judges. Each judges what the developer does, in namespaces with its label; what the admin
/// does there is judged by nobody.
pub struct Cluster {
    plane: ControlPlane,
    server: Server,
    pub version: String,
}

/// Who judges.
pub struct Judge {
    /// The value of the label of its namespaces.
    label: &'static str,
    /// What its refusals are known by.
    mark: &'static str,
}

pub const PORTCULLIS: Judge = Judge {
    label: "portcullis",
    mark: "validate.portcullis.dev",
};

pub const POLICY: Judge = Judge {
    label: "policy",
    mark: "ValidatingAdmissionPolicy",
};

const LABEL: &str = "judge";

impl Cluster {
    pub fn start() -> Self {
        let plane = ControlPlane::start();
        let admin = plane.kubectl("admin");
        let kubeconfig = plane.kubeconfig("admin").to_owned();
        let launch = Launch::on(&plane, kubeconfig, "enforce: deny\n");
        let only_the_developer = json!({
            "name": "by-the-developer",
            "expression": format!("request.userInfo.username == '{DEVELOPER}'"),
        });
        let mut objects = called_by_url(&admin, BASE, launch.port);
        let webhooks = objects
            .iter_mut()
            .filter_map(|it| it.get_mut("webhooks")?.as_array_mut());
        for webhook in webhooks.flatten() {
            webhook["namespaceSelector"] = json!({"matchLabels": {LABEL: PORTCULLIS.label}});
            conditions(webhook).push(only_the_developer.clone());
        }
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": DEVELOPER},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DEVELOPER}],
        }));
        objects.extend(policies(&only_the_developer));
        for name in ["elsewhere", PORTCULLIS.label, POLICY.label] {
            objects.push(namespace(name, name));
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        admin.apply(&list.to_string()).ok();
        let version: Value = serde_json::from_str(&admin.call("version -o json").ok()).unwrap();
        let cluster = Self {
            server: launch.start(),
            version: version["serverVersion"]["gitVersion"]
                .as_str()
                .unwrap()
                .to_owned(),
            plane,
        };
        for judge in [&PORTCULLIS, &POLICY] {
            cluster.await_judge(judge);
        }
        cluster
    }

    pub fn stop(self) {
        self.server.stop();
        self.plane.stop();
    }

    /// The API server learns of webhooks, policies and labels by watches, a moment after they are written.
    fn await_judge(&self, judge: &Judge) {
        let developer = self.plane.kubectl(DEVELOPER).in_namespace(judge.label);
        let bad = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "bad"},
            "spec": {
                "selector": {"matchLabels": {"app": "bad"}},
                "template": {
                    "metadata": {"labels": {"app": "bad"}},
                    "spec": {"containers": [{"name": "app", "image": "registry.example/app:1.0"}]},
                },
            },
        });
        eventually("a Deployment without anything to be refused", || {
            let answer = developer.feed("create --dry-run=server -f -", &bad.to_string());
            if answer.stderr.contains(judge.mark) {
                Ok(())
            } else {
                Err(answer.stdout + &answer.stderr)
            }
        });
    }

    /// What becomes of a case, in a namespace of its own.
    pub fn judge(&self, judge: &Judge, number: usize, case: &Case) -> Verdict {
        let name = format!("case-{number}-{}", judge.label);
        let admin = self.plane.kubectl("admin");
        admin.apply(&namespace(&name, judge.label).to_string()).ok();
        let admin = admin.in_namespace(&name);
        eventually("the ServiceAccount of the namespace", || {
            admin.call("get serviceaccount default").success()
        });
        let (subject, before) = case.documents.split_last().expect("a workload");
        for document in before {
            let there = document["metadata"]["namespace"].as_str();
            let admin = there.map_or_else(|| admin.clone(), |_| admin.everywhere());
            admin.apply(&document.to_string()).ok();
            if document["kind"] == "Deployment" {
                await_revision(&admin, document);
            }
        }
        let developer = self.plane.kubectl(DEVELOPER).in_namespace(&name);
        let answer = developer.apply(&subject.to_string());
        let said = answer.stderr.clone();
        match answer.success() {
            Ok(()) => Verdict::Accept,
            Err(_) if said.contains(judge.mark) => Verdict::Refuse,
            Err(why) => Verdict::Unable(why),
        }
    }
}

/// Its controller has seen it, and made its ReplicaSet.
fn await_revision(admin: &Kubectl, deployment: &Value) {
    let name = deployment["metadata"]["name"].as_str().expect("a name");
    eventually("the ReplicaSet of a Deployment", || {
        let object = admin
            .call(&format!("get deployment {name} -o json"))
            .success_output()?;
        let object: Value = serde_json::from_str(&object).map_err(|error| error.to_string())?;
        let seen = &object["status"]["observedGeneration"];
        if *seen == object["metadata"]["generation"] && !seen.is_null() {
            Ok(())
        } else {
            Err(format!("observed {seen}"))
        }
    });
}

fn namespace(name: &str, judge: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL: judge}},
    })
}

fn policies(condition: &Value) -> Vec<Value> {
    let text = fs::read_to_string(policy("vap.yaml")).expect("the policy is there");
    let documents = portcullis::yaml::documents(&text);
    let mut objects: Vec<_> = documents
        .map(|document| document.expect("YAML").value)
        .collect();
    conditions(&mut objects[0]["spec"]).push(condition.clone());
    objects
}

/// Its `matchConditions`.
fn conditions(object: &mut Value) -> &mut Vec<Value> {
    let conditions = &mut object["matchConditions"];
    if conditions.is_null() {
        *conditions = json!([]);
    }
    conditions.as_array_mut().expect("a list")
}
