//! What a rule reads below the template reaches it when an UPDATE changes it; what it reads beside the template,
//! changed alone, does not.

use std::collections::BTreeMap;

use portcullis::policy::rules::RULES;
use serde_json::{Value, json};

use super::{installation::Session, objects::list};
use crate::rules::explained::{as_read, fields, specimens, without};

/// A specimen that a Rollout's API takes as it is, whatever stands in it: beside `metadata` it has no schema.
fn rollout(specimen: &Value, name: &str) -> Value {
    let mut rollout = specimen.clone();
    rollout["apiVersion"] = json!("argoproj.io/v1alpha1");
    rollout["kind"] = json!("Rollout");
    rollout["metadata"]["name"] = json!(name);
    for place in ["labels", "annotations"] {
        let texts = rollout["metadata"][place].as_object_mut();
        for text in texts.into_iter().flat_map(|map| map.values_mut()) {
            *text = json!(text.to_string());
        }
    }
    rollout
}

/// Each field that rules read, with a specimen that has it and the pointer to it there.
fn read() -> BTreeMap<&'static str, (Value, String)> {
    let declared = RULES.iter().flat_map(|rule| rule.reads);
    let specimens = specimens();
    let found = declared.map(|read| {
        let place = specimens.iter().find_map(|specimen| {
            let mut all = Vec::new();
            fields(specimen, "", "", &mut all);
            let (pointer, _) = all
                .into_iter()
                .find(|(_, dotted)| as_read(dotted) == *read)?;
            Some((specimen.clone(), pointer))
        });
        (*read, place.expect("a specimen has each field"))
    });
    found.collect()
}

#[test]
fn an_update_is_sent_when_it_changes_what_a_rule_reads_below_the_template() {
    let session = Session::shared();
    // Specimens are full of faults, which are not the matter here.
    let namespace = session.labelled_namespace("fields", &[("portcullis.dev/enforce", "warn")]);
    let read = read();
    let named = || (0..).map(|number| format!("field-{number}")).zip(&read);
    let before = named().map(|(name, (_, (specimen, _)))| rollout(specimen, &name));
    let after =
        named().map(|(name, (_, (specimen, pointer)))| without(&rollout(specimen, &name), pointer));
    namespace.developer.feed("create -f -", &list(before)).ok();
    namespace.developer.replace(&list(after)).ok();

    for (name, (field, _)) in named() {
        let asked: Vec<_> = namespace
            .answers(&name, 2)
            .iter()
            .map(Option::is_some)
            .collect();
        let is_sent = !field.starts_with("workload.");
        assert_eq!(asked, [true, is_sent], "CREATE, then UPDATE of {field}");
    }
}
