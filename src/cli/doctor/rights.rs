//! May the server do what it must? Asked of the API server's own authorizer, right by right.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{patient::Patient, registration::APPLY, report::Line};
use crate::facts::access::{Access, LOOKUPS, SELF_CHECK_NAMESPACE, Scope, WRITES};

/// The server's ServiceAccount (`manifests/base/service-account.yaml`).
const ACCOUNT: &str = "portcullis";

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", patient.namespace);
    let questions = LOOKUPS.iter().chain(WRITES).flat_map(|access| {
        let names = match access.scope {
            Scope::All | Scope::SelfCheck => &[][..],
            Scope::Named(names) | Scope::Own(names) => names,
        };
        // Without a name the right must hold for all.
        let all = names.is_empty().then_some("");
        let names = names.iter().copied().chain(all);
        names.map(move |name| (access, name))
    });
    let answers = questions.map(async |(access, name)| {
        let review = review(&user, access, name, &patient.namespace);
        let answer = patient.review(REVIEWS, &review).await?;
        let allowed = answer.pointer("/status/allowed") == Some(&Value::Bool(true));
        Ok::<_, String>((!allowed).then(|| title(access, name)))
    });
    let answers: Result<Vec<_>, _> = join_all(answers).await.into_iter().collect();
    let answers = match answers {
        Ok(answers) => answers,
        Err(why) => return vec![Line::unknown(&format!("the rights of {user}"), &why)],
    };
    let count = answers.len();
    let missing: Vec<_> = answers.into_iter().flatten().collect();
    if missing.is_empty() {
        vec![Line::ok(format!(
            "{user} has all {count} rights that it needs"
        ))]
    } else {
        let missing = missing.join(", ");
        vec![Line::fail(format!("{user} may not {missing}"), APPLY)]
    }
}

fn review(user: &str, access: &Access, name: &str, own: &str) -> Value {
    let namespace = match access.scope {
        Scope::Own(_) => own,
        Scope::SelfCheck => SELF_CHECK_NAMESPACE,
        Scope::All | Scope::Named(_) => "",
    };
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{own}"),
        "system:authenticated".to_owned(),
    ];
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": user,
            "groups": groups,
            "resourceAttributes": {
                "verb": access.verb,
                "group": access.group,
                "resource": access.resource,
                "namespace": namespace,
                "name": name,
            },
        },
    })
}

/// `list services`, `get secrets/portcullis-ca`, `get deployments.apps`, `create pods in portcullis-self-check`.
fn title(access: &Access, name: &str) -> String {
    let Access {
        verb,
        group,
        resource,
        scope,
    } = access;
    let place = match scope {
        Scope::SelfCheck => format!(" in {SELF_CHECK_NAMESPACE}"),
        Scope::All | Scope::Named(_) | Scope::Own(_) => String::new(),
    };
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if name.is_empty() { "" } else { "/" };
    format!("{verb} {resource}{dot}{group}{slash}{name}{place}")
}
