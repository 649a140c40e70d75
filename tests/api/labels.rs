//! Labels of ours on a namespace: who may change them, also while we are gone.

use serde_json::{Value, json};

use super::installation::{Namespace, Session};
use crate::support::{kubectl::Answer, wait::eventually};

/// May change namespaces, in every way there is.
const KEEPER: &str = "namespace-keeper";

/// May do that too, and change our labels.
const PLATFORM: &str = "platform-team";

const LABEL: &str = "portcullis.dev/enforce";

fn grant(session: &Session) {
    let role = |name: &str, group: &str, resources: Value, verbs: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
            "rules": [{"apiGroups": [group], "resources": resources, "verbs": verbs}],
        })
    };
    let bind = |name: &str, users: &[&str]| {
        let subject = |user: &&str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user});
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": users.iter().map(subject).collect::<Vec<_>>(),
        })
    };
    let all = json!(["namespaces", "namespaces/status", "namespaces/finalize"]);
    let objects = [
        role("namespace-keeper", "", all, json!(["*"])),
        bind("namespace-keeper", &[KEEPER, PLATFORM]),
        role(
            "namespace-labeller",
            "portcullis.dev",
            json!(["namespaces"]),
            json!(["label"]),
        ),
        bind("namespace-labeller", &[PLATFORM]),
    ];
    session.admin().apply(&super::objects::list(objects)).ok();
}

/// A namespace that says how it is judged, once the users have their rights there.
fn guarded(session: &Session) -> Namespace {
    grant(session);
    let namespace = session.labelled_namespace("guarded", &[(LABEL, "warn")]);
    eventually("the rights of the keeper", || {
        let words = format!(
            "label namespace {} --overwrite team=shop --as {KEEPER}",
            namespace.name
        );
        session.admin().call(&words).success()
    });
    namespace
}

fn current(session: &Session, name: &str) -> Value {
    let printed = session
        .admin()
        .call(&format!("get namespace {name} -o json"))
        .ok();
    serde_json::from_str(&printed).expect("kubectl prints JSON")
}

/// Sets our label to `value` (or takes it away) as `user`, by the namespace itself and by each of its subresources.
fn label(session: &Session, user: &str, namespace: &Namespace, value: Option<&str>) -> [Answer; 3] {
    let admin = session.admin();
    let name = &namespace.name;
    let patch = json!({"metadata": {"labels": {LABEL: value}}}).to_string();
    let patched = |more: &[&str]| {
        let words = [
            "patch",
            "namespace",
            name,
            "--type=merge",
            "-p",
            &patch,
            "--as",
            user,
        ];
        admin.call_with(&[&words[..], more].concat(), None)
    };
    let own = patched(&[]);
    let status = patched(&["--subresource=status"]);
    let mut whole = current(session, name);
    whole["metadata"]["labels"][LABEL] = json!(value);
    let finalize = format!("replace --raw /api/v1/namespaces/{name}/finalize -f - --as {user}");
    [own, status, admin.feed(&finalize, &whole.to_string())]
}

fn refused(answers: [Answer; 3]) {
    for answer in answers {
        let said = answer.refusal();
        assert!(said.contains("say how a namespace is judged"), "{said}");
    }
}

/// Without the ValidatingAdmissionPolicy, or without one of its three resources, one of the refusals is none.
#[test]
fn labels_of_ours_are_changed_by_who_has_the_right_and_by_nobody_else() {
    let session = Session::shared();
    let namespace = guarded(&session);
    for value in [Some("none"), None] {
        refused(label(&session, KEEPER, &namespace, value));
    }
    assert_eq!(
        current(&session, &namespace.name)["metadata"]["labels"][LABEL],
        "warn"
    );
    let make = |name: &str, user: &str| {
        let labels = json!({LABEL: "none"});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let create = format!("create -f - --as {user}");
        session.admin().feed(&create, &object.to_string())
    };
    let said = make("guarded-anew", KEEPER).refusal();
    assert!(said.contains("say how a namespace is judged"), "{said}");

    for answer in label(&session, PLATFORM, &namespace, Some("none")) {
        answer.ok();
    }
    make("guarded-by-platform", PLATFORM).ok();
    // Who has no say in our labels can still change all else where they are.
    let words = format!(
        "label namespace {} --overwrite team=cart --as {KEEPER}",
        namespace.name
    );
    session.admin().call(&words).ok();
    assert_eq!(
        current(&session, &namespace.name)["metadata"]["labels"][LABEL],
        "none"
    );
}

#[test]
fn labels_of_ours_are_guarded_while_we_are_gone() {
    let session = Session::alone();
    let namespace = guarded(&session);
    session.stop_server();
    refused(label(&session, KEEPER, &namespace, Some("none")));
    for answer in label(&session, PLATFORM, &namespace, Some("none")) {
        answer.ok();
    }
    session.start_server();
    session.await_enforcement();
}
