//! A workload may break a rule if it says why and its namespace allows that.

use serde_json::{Value, json};

use super::{
    installation::{Session, assert_refused, assert_warned},
    objects::{bare_container, container, deployment, spec},
};

const EXEMPT: &str = "portcullis.dev/exempt";

/// A Deployment whose only fault is that it has no memory limit, and that says so.
fn greedy() -> Value {
    let mut app = container("app");
    app["resources"]["limits"] = json!({"cpu": "100m"});
    let mut object = deployment("batch", spec([app]));
    object["metadata"]["annotations"] =
        json!({EXEMPT: "memory-limit: it takes what a night leaves"});
    object
}

/// Without the look at the namespace's label in `policy::exemption` the first refusal is none; without the look at the
/// stored object's exemptions in `policy::ratchet` the last two are none.
#[test]
fn an_exemption_counts_where_the_namespace_allows_it_and_leaves_nothing_behind() {
    let session = Session::shared();
    let strict = session.namespace("strict");
    let message = strict.refuses(&greedy().to_string(), "memory-limit");
    assert!(message.contains("counts for nothing"), "{message}");
    // Nor can who is bound to `edit` allow it.
    let allow = format!(
        "label namespace {} portcullis.dev/exemptions=allowed",
        strict.name
    );
    strict.developer.call(&allow).refusal();

    let lenient =
        session.labelled_namespace("lenient", &[("portcullis.dev/exemptions", "allowed")]);
    let answer = lenient.developer.apply(&greedy().to_string());
    assert!(answer.stderr.contains(EXEMPT), "{}", answer.stderr);
    assert_warned(answer, "memory-limit");
    let told = lenient
        .answers("batch", 1)
        .remove(0)
        .expect("we were asked");
    let by = &told.annotations["validate.portcullis.dev/lowered-by"];
    assert_eq!(by, "exemption");
    // It speaks of one rule, not of all.
    let mut bare = greedy();
    bare["spec"]["template"]["spec"] = spec([bare_container("app")]);
    lenient.refuses(&bare.to_string(), "liveness-probe");

    // With the exemption taken away and nothing else changed it is judged as if it were new,
    let annotate = format!("annotate deployment/batch {EXEMPT}-");
    let refused = lenient.developer.call(&annotate).refusal();
    assert_refused(refused, "memory-limit");
    // and so it is where the namespace has taken its leave back.
    let forbid = format!(
        "label namespace {} portcullis.dev/exemptions-",
        lenient.name
    );
    session.admin().call(&forbid).ok();
    crate::support::wait::eventually("the label to be gone", || {
        let image = "set image deployment/batch app=registry.example/app:2.0 --dry-run=server";
        lenient.developer.call(image).failure()
    });
}
