//! What already runs is never held back: the requests of built-in controllers do not reach us, and nobody can
//! pass for one.

use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session, answers, assert_refused},
    objects::{bare_spec, sound_spec, workload},
};
use crate::support::wait::eventually;

/// The pods of one workload, when there are `count` of them.
pub fn pods(namespace: &Namespace, app: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} pods of {app}"), || {
        let list = namespace
            .admin
            .call(&format!("get pods -l app={app} -o json"))
            .ok();
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        if pods.len() == count {
            Ok(pods)
        } else {
            Err(list.to_string())
        }
    })
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"]
        .as_str()
        .expect("objects have names")
}

#[test]
fn old_workloads_live_on_and_nobody_can_pass_for_their_controllers() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("old", &[("portcullis.dev/enforce", "none")]);
    let mut old = workload("Deployment", "old", bare_spec());
    old["spec"]["replicas"] = json!(1);
    namespace.developer.apply(&old.to_string()).ok();
    pods(&namespace, "old", 1);
    namespace.enforce("deny");

    // It scales up,
    namespace
        .developer
        .call("scale deployment/old --replicas=2")
        .ok();
    let before = pods(&namespace, "old", 2);
    // a drained Pod comes back,
    namespace
        .developer
        .call(&format!("delete pod {}", name(&before[0])))
        .ok();
    let lost = name(&before[0]);
    let after = eventually("the drained pod's successor", || {
        let pods = pods(&namespace, "old", 2);
        if pods.iter().any(|pod| name(pod) == lost) {
            Err("still there".to_owned())
        } else {
            Ok(pods)
        }
    });
    // and the same Pod sent by a user, with the true owner and its UID, is judged as it stands.
    let mut forged = after[0].clone();
    forged["metadata"] = json!({
        "name": "forged",
        "labels": after[0]["metadata"]["labels"],
        "ownerReferences": after[0]["metadata"]["ownerReferences"],
    });
    forged
        .as_object_mut()
        .expect("a Pod is an object")
        .remove("status");
    assert!(
        forged["metadata"]["ownerReferences"][0]["uid"].is_string(),
        "{forged}"
    );
    let answer = namespace.developer.feed("create -f -", &forged.to_string());
    assert_refused(answer.refusal(), "memory-limit");
}

#[test]
fn an_old_cron_job_fires() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("cron", &[("portcullis.dev/enforce", "none")]);
    let mut old = workload("CronJob", "nightly", bare_spec());
    old["spec"]["suspend"] = json!(false);
    namespace.developer.apply(&old.to_string()).ok();
    namespace.enforce("deny");

    // A run that was missed is made up for at once, so the test need not wait for a minute to pass.
    let missed = r#"patch cronjob/nightly --subresource=status -p {"status":{"lastScheduleTime":"2024-06-01T00:00:00Z"}}"#;
    namespace.admin.call(missed).ok();
    let pod = pods(&namespace, "nightly", 1).remove(0);
    // A Job that has the template of its CronJob would be let in all the same, but not with nobody of ours alive.
    let job = pod["metadata"]["labels"]["job-name"].as_str();
    let job = job.expect("it is of a Job");
    let controller = "system:serviceaccount:kube-system:cronjob-controller";
    let object = (namespace.name.as_str(), job);
    let asked = answers(session.audit_log(), controller, object, 1);
    assert!(asked[0].is_none(), "{asked:?}");
}

/// What a Pod of one of our workloads was made from had no probe.
fn is_bare(pod: &Value) -> bool {
    pod["spec"]["containers"][0]["livenessProbe"].is_null()
}

#[test]
fn a_stateful_pod_of_an_old_revision_comes_back_in_the_middle_of_a_rollout() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("ordinal", &[("portcullis.dev/enforce", "none")]);
    let set = |spec| {
        let mut set = workload("StatefulSet", "old", spec);
        set["spec"]["replicas"] = json!(2);
        // There is no kubelet to make one ready, and the next wait for it.
        set["spec"]["podManagementPolicy"] = json!("Parallel");
        // The rollout has got to no pod yet.
        set["spec"]["updateStrategy"] =
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        set.to_string()
    };
    namespace.developer.apply(&set(bare_spec())).ok();
    pods(&namespace, "old", 2);
    namespace.enforce("deny");
    namespace.developer.apply(&set(sound_spec())).ok();

    let uid = |pod: &Value| pod["metadata"]["uid"].clone();
    let first = |pods: Vec<Value>| pods.into_iter().find(|pod| name(pod) == "old-0");
    let before = first(pods(&namespace, "old", 2)).expect("it has ordinals");
    namespace.developer.call("delete pod old-0").ok();
    let after = eventually("the ordinal to come back", || {
        let now = first(pods(&namespace, "old", 2));
        now.filter(|now| uid(now) != uid(&before))
            .ok_or_else(|| "still there".to_owned())
    });
    assert!(is_bare(&before) && is_bare(&after), "{after}");
}

#[test]
fn a_new_node_gets_its_pod_of_an_old_daemon_set() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("daemon", &[("portcullis.dev/enforce", "none")]);
    let old = workload("DaemonSet", "old", bare_spec()).to_string();
    namespace.developer.apply(&old).ok();
    namespace.enforce("deny");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "new-node"}});
    session.admin().apply(&node.to_string()).ok();
    // The pod says by its affinity for which node it is.
    let pod = eventually("the new node's pod", || {
        let list = namespace.admin.call("get pods -l app=old -o json").ok();
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let mut pods = pods.into_iter();
        pods.find(|pod| pod["spec"]["affinity"].to_string().contains("new-node"))
            .ok_or_else(|| list.to_string())
    });
    assert!(is_bare(&pod), "{pod}");
    session.admin().call("delete node new-node").ok();
}
