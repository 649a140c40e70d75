//! What the API server sends us, and what it never does: shown by its audit log, to which every answer of
//! ours adds annotations.

use serde_json::{Value, json};

use super::{
    installation::{Session, answers, assert_refused, assert_warned},
    objects::{bare_spec, container, deployment, sound_spec, spec, workload},
};
use crate::support::audit::Event;

#[test]
fn an_answer_tells_the_audit_log_its_decision_and_its_rules() {
    let session = Session::shared();
    let namespace = session.namespace("audit");
    namespace.refuses(&deployment("bad", bare_spec()).to_string(), "memory-limit");
    namespace
        .developer
        .apply(&deployment("good", sound_spec()).to_string())
        .ok();

    let bad = namespace
        .answers("bad", 1)
        .remove(0)
        .expect("we were asked");
    assert_eq!(bad.decision(), Some("deny"));
    let annotation = |event: &Event, key: &str| {
        let key = format!("validate.portcullis.dev/{key}");
        event.annotations.get(&key).cloned().unwrap_or_default()
    };
    assert!(
        annotation(&bad, "denied").contains("memory-limit"),
        "{bad:?}"
    );
    assert_eq!(annotation(&bad, "warned"), "cpu-limit", "{bad:?}");
    assert_eq!(annotation(&bad, "lowered"), "", "{bad:?}");
    let good = namespace
        .answers("good", 1)
        .remove(0)
        .expect("we were asked");
    assert_eq!(good.decision(), Some("allow"));

    // What a user was spared is written down.
    let spared = workload("Pod", "spared", bare_spec()).to_string();
    let as_spared = "create --as=restore-tool --as-group=system:masters -f -";
    namespace.admin.feed(as_spared, &spared).ok();
    let object = (namespace.name.as_str(), "spared");
    let spared = answers(session.audit_log(), "admin", object, 1)
        .remove(0)
        .expect("we were asked");
    assert_eq!(spared.decision(), Some("warn"));
    assert_eq!(annotation(&spared, "denied"), "", "{spared:?}");
    let lowered = annotation(&spared, "lowered");
    assert!(
        lowered.split(',').any(|rule| rule == "memory-limit"),
        "{spared:?}"
    );
    let by = annotation(&spared, "lowered-by");
    assert_eq!(by, "warn-only-user", "{spared:?}");
}

#[test]
fn scale_status_finalizers_and_labels_never_reach_us() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("quiet", &[("portcullis.dev/enforce", "none")]);
    namespace
        .developer
        .apply(&deployment("old", bare_spec()).to_string())
        .ok();
    namespace.enforce("deny");

    let changes = [
        "scale deployment/old --replicas=1",
        "label deployment/old team=shop",
        "annotate deployment/old example.com/note=x",
        r#"patch deployment/old -p {"spec":{"replicas":2}}"#,
        r#"patch deployment/old -p {"metadata":{"finalizers":["example.com/hold"]}}"#,
        r#"patch deployment/old -p {"metadata":{"finalizers":null}}"#,
    ];
    for change in changes {
        namespace.developer.call(change).ok();
    }
    // The stock ClusterRole `edit` writes no status.
    let status =
        r#"patch deployment/old --subresource=status -p {"status":{"observedGeneration":1}}"#;
    namespace.admin.call(status).ok();
    // The same object, when what is judged changes.
    let answer = namespace
        .developer
        .call("set image deployment/old app=registry.example/app:2.0");
    assert_warned(answer, "memory-limit");

    let mut asked = namespace.answers("old", 1 + changes.len() + 1);
    assert!(
        asked.pop().is_some_and(|answer| answer.is_some()),
        "a new image is judged"
    );
    assert!(asked.iter().all(Option::is_none), "{asked:?}");
    let status = answers(session.audit_log(), "admin", (&namespace.name, "old"), 1);
    assert!(status[0].is_none(), "{status:?}");
}

#[test]
fn an_annotation_of_ours_reaches_us_when_it_comes_changes_and_goes() {
    let session = Session::shared();
    let namespace = session.namespace("annotations");
    namespace
        .developer
        .apply(&deployment("app", sound_spec()).to_string())
        .ok();
    let changes = [
        "portcullis.dev/note=a",
        "portcullis.dev/note=b",
        "portcullis.dev/note-",
    ];
    for change in changes {
        namespace
            .developer
            .call(&format!("annotate --overwrite deployment/app {change}"))
            .ok();
    }
    let asked = namespace.answers("app", 1 + changes.len());
    assert!(asked.iter().all(Option::is_some), "{asked:?}");
}

#[test]
fn excluded_namespaces_never_reach_us() {
    let session = Session::shared();
    for namespace in ["kube-system", "portcullis-system"] {
        let admin = session.admin().in_namespace(namespace);
        admin
            .feed(
                "create -f -",
                &deployment("not-judged", bare_spec()).to_string(),
            )
            .ok();
        let asked = answers(session.audit_log(), "admin", (namespace, "not-judged"), 1);
        assert!(asked[0].is_none(), "{asked:?}");
        admin.call("delete deployment not-judged").ok();
    }
}

#[test]
fn a_template_of_500_containers_is_within_the_cost_of_the_conditions() {
    let session = Session::shared();
    let namespace = session.namespace("large");
    let containers = (0..500).map(|number| {
        let mut container = container(&format!("app-{number}"));
        container["ports"][0]["containerPort"] = json!(1024 + number);
        container
    });
    // Not `apply`, which would copy the object into an annotation: annotations have a limit.
    namespace
        .developer
        .feed(
            "create -f -",
            &deployment("large", spec(containers)).to_string(),
        )
        .ok();
    let image =
        r#"[{"op":"replace","path":"/spec/template/spec/containers/499/image","value":"app:2"}]"#;
    namespace
        .developer
        .call(&format!("patch deployment/large --type=json -p {image}"))
        .ok();
    // A condition that fails would, with failurePolicy Ignore, leave us out without a word.
    let asked = namespace.answers("large", 2);
    assert!(asked.iter().all(Option::is_some), "{asked:?}");
}

#[test]
fn a_mirror_pod_of_a_node_never_reaches_us() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("mirror", &[("portcullis.dev/patch", "enabled")]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    let node = session
        .admin()
        .feed("apply -o json -f -", &node.to_string())
        .ok();
    let node: Value = serde_json::from_str(&node).expect("kubectl prints JSON");
    let mut pod = workload("Pod", "static-n1", bare_spec());
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "n1", "controller": true,
        "uid": node["metadata"]["uid"],
    }]);
    pod["spec"]["nodeName"] = json!("n1");
    let as_node = "create --as=system:node:n1 --as-group=system:nodes -f -";
    namespace.admin.feed(as_node, &pod.to_string()).ok();
    let asked = answers(
        session.audit_log(),
        "admin",
        (&namespace.name, "static-n1"),
        1,
    );
    assert!(asked[0].is_none(), "{asked:?}");

    // The very same Pod from anybody else is judged.
    pod["metadata"]["annotations"] = json!({});
    let answer = namespace.developer.feed("create -f -", &pod.to_string());
    assert_refused(answer.refusal(), "liveness-probe");
}
