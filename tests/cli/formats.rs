//! The formats of output, whole.

use insta::assert_snapshot;
use serde_json::Value;

use super::portcullis;

#[test]
fn text_is_a_block_an_object_with_the_fix_and_a_last_line_that_counts() {
    let said = portcullis(&["check", "shop"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    assert_snapshot!(said.out);
}

#[test]
fn text_is_coloured_when_asked_and_never_for_a_pipe() {
    let plain = portcullis(&["check", "shop"]).out;
    assert!(!plain.contains('\u{1b}'));
    assert_eq!(portcullis(&["check", "--color=never", "shop"]).out, plain);
    let coloured = portcullis(&["check", "--color=always", "shop"]).out;
    assert!(coloured.contains("\u{1b}[1;31mdeny\u{1b}[0m"), "{coloured}");
}

#[test]
fn json_is_one_object_with_findings_and_summary() {
    let said = portcullis(&["check", "-o", "json", "shop"]);
    assert_eq!((said.status, said.err.as_str()), (1, ""));
    assert_snapshot!(said.out);
    let parsed: Value = serde_json::from_str(&said.out).unwrap();
    let keys: Vec<_> = parsed["findings"][0].as_object().unwrap().keys().collect();
    let promised = [
        "rule",
        "level",
        "file",
        "apiVersion",
        "kind",
        "namespace",
        "name",
        "container",
        "path",
        "message",
        "fix",
    ];
    assert_eq!(keys, promised);
}

#[test]
fn json_without_a_finding_has_the_same_shape() {
    let said = portcullis(&["check", "-o", "json", "shop/catalog.yaml"]);
    assert_eq!(said.status, 0);
    assert_eq!(
        said.out,
        "{\"findings\":[],\"summary\":{\"objects\":1,\"denied\":0,\"warned\":0,\"skipped\":1}}\n"
    );
}

#[test]
fn sarif_carries_rules_places_and_what_could_not_be_read() {
    let said = portcullis(&["check", "-o", "sarif", "shop", "broken"]);
    assert_eq!(said.status, 2);
    let mut log: Value = serde_json::from_str(&said.out).unwrap();
    let rules = log["runs"][0]["tool"]["driver"]["rules"].take();
    let ids: Vec<_> = rules
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["id"])
        .collect();
    for result in log["runs"][0]["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(ids[index], &result["ruleId"]);
    }
    for result in log["runs"][0]["results"].as_array_mut().unwrap() {
        result["ruleIndex"].take(); // moves with every new rule
    }
    log["runs"][0]["tool"]["driver"]["semanticVersion"].take();
    assert_snapshot!(format!("{log:#}"));
}

#[test]
fn junit_is_a_suite_a_file_and_a_case_an_object() {
    let said = portcullis(&["check", "-o", "junit", "shop", "broken"]);
    assert_eq!(said.status, 2);
    assert_snapshot!(said.out);
}

#[test]
fn github_commands_are_one_line_each_and_escaped() {
    let said = portcullis(&["check", "-o", "github", "shop", "broken"]);
    assert_eq!(said.status, 2);
    assert_snapshot!(said.out);
}
