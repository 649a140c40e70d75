//! Each kind that carries a pod template is judged, and so is a kind that settings add.

use portcullis::policy::workload::KINDS;

use super::{
    installation::{Session, assert_refused},
    objects::{bare_spec, sound_spec, workload},
};
use crate::support::{audit::Event, kubectl::Answer};

/// Memory, since Jobs need no probes.
const RULE: &str = "memory-limit";

#[test]
fn each_kind_is_judged() {
    let session = Session::shared();
    let namespace = session.namespace("kinds");
    for kind in KINDS
        .iter()
        .map(|kind| kind.kind.as_ref())
        .chain(["Rollout"])
    {
        let name = kind.to_lowercase();
        let message = namespace.refuses(&workload(kind, &name, bare_spec()).to_string(), RULE);
        assert!(
            message.contains(&format!("{kind} {}/{name}", namespace.name)),
            "{message}"
        );
        namespace
            .developer
            .apply(&workload(kind, &name, sound_spec()).to_string())
            .ok();
    }
}

#[test]
fn each_kind_is_judged_again_when_its_template_changes() {
    let session = Session::shared();
    let namespace = session.namespace("updates");
    for kind in KINDS
        .iter()
        .filter(|kind| kind.update)
        .map(|kind| kind.kind.as_ref())
        .chain(["Rollout"])
    {
        if kind == "Job" {
            continue; // its template can't change
        }
        let name = kind.to_lowercase();
        namespace
            .developer
            .apply(&workload(kind, &name, sound_spec()).to_string())
            .ok();
        let bad = workload(kind, &name, bare_spec()).to_string();
        assert_refused(namespace.developer.replace(&bad).refusal(), RULE);
    }
}

#[test]
fn a_kind_whose_template_stands_elsewhere_is_judged_by_an_entry_of_its_own() {
    let session = Session::shared();
    let configuration = session
        .admin()
        .call("get validatingwebhookconfiguration portcullis -o jsonpath={.webhooks[*].name}")
        .ok();
    assert_eq!(
        configuration,
        "validate.portcullis.dev widgets.example.com.validate.portcullis.dev"
    );
    let namespace = session.namespace("widgets");
    let widget = |name: &str, spec| workload("Widget", name, spec).to_string();
    let refused = |answer: Answer| {
        let message = answer.refusal();
        let ours = r#"admission webhook "widgets.example.com.validate.portcullis.dev" denied the request: "#;
        assert!(message.contains(ours), "{message}");
        assert!(message.contains(RULE), "{message}");
    };

    refused(namespace.developer.apply(&widget("bad", bare_spec())));
    let developer = &namespace.developer;
    developer
        .feed("create -f -", &widget("good", sound_spec()))
        .ok();
    let others = [
        r#"patch widget/good --type=merge -p {"spec":{"size":2}}"#,
        r#"patch widget/good --type=merge -p {"spec":{"workload":{"note":"x"}}}"#,
        "label widget/good team=shop",
    ];
    for change in others {
        developer.call(change).ok();
    }
    refused(developer.replace(&widget("good", bare_spec())));

    let asked = namespace.answers("good", 1 + others.len() + 1);
    let asked: Vec<_> = asked
        .iter()
        .map(|answer| answer.as_ref().and_then(Event::decision))
        .collect();
    assert_eq!(asked, [Some("allow"), None, None, None, Some("deny")]);
}
