//! The YAML reader against kubectl: `tests/fixtures/yaml` holds what kubectl 1.34 printed of each input.

use std::{collections::BTreeSet, fs, path::Path};

use portcullis::yaml;
use serde_json::{Deserializer, Value};

/// Where we differ, since the parser (saphyr, YAML 1.2) does; all but the first are refused here, never misread.
const KNOWN: &[(&str, &str)] = &[
    (
        "lenient_escape_slash",
        "`\\/` in quotes is an escape of YAML 1.2 only: kubectl refuses it",
    ),
    (
        "lenient_line_separators",
        "U+0085, U+2028 and U+2029 break lines in YAML 1.1 only",
    ),
    (
        "strict_comment_at_quote",
        "a comment without a space before it, after a quoted scalar",
    ),
    (
        "strict_tab_after_colon",
        "a tab right after the colon of a key",
    ),
    (
        "strict_after_end",
        "text after `...`: kubectl ignores it without a word",
    ),
    (
        "strict_not_utf8",
        "kubectl replaces bytes that are not UTF-8",
    ),
];

/// What kubectl said: the objects it read, or its error.
fn kubectl(said: &str) -> Result<Vec<Value>, String> {
    match said.lines().find_map(|line| line.strip_prefix("error: ")) {
        Some("no objects passed to patch") => Ok(Vec::new()),
        Some(error) => Err(error.to_owned()),
        None => Deserializer::from_str(said)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string()),
    }
}

fn ours(bytes: Vec<u8>) -> Result<Vec<Value>, yaml::Error> {
    let text = yaml::decode(bytes)?;
    yaml::documents(&text)
        .map(|document| Ok(document?.value))
        .collect()
}

/// Equal, when numbers are compared as Go would: 1.0 is 1, and 2^63 is a float.
fn alike(theirs: &Value, ours: &Value) -> bool {
    match (theirs, ours) {
        (Value::Array(theirs), Value::Array(ours)) => {
            theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(a, b)| alike(a, b))
        }
        (Value::Object(theirs), Value::Object(ours)) => {
            theirs.len() == ours.len()
                && theirs
                    .iter()
                    .all(|(key, a)| ours.get(key).is_some_and(|b| alike(a, b)))
        }
        (Value::Number(theirs), Value::Number(ours)) => {
            theirs == ours
                || theirs
                    .as_f64()
                    .zip(ours.as_f64())
                    .is_some_and(|(a, b)| (a - b).abs() <= a.abs() * 1e-15)
        }
        _ => theirs == ours,
    }
}

#[test]
fn reads_every_input_as_kubectl_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/yaml");
    let mut wrong = Vec::new();
    let mut differing = BTreeSet::new();
    let mut inputs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if !file
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "json")
        {
            continue;
        }
        inputs += 1;
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let (theirs, ours) = (
            kubectl(&fs::read_to_string(format!("{}.kubectl", file.display())).unwrap()),
            ours(fs::read(&file).unwrap()),
        );
        let same = match (&theirs, &ours) {
            (Ok(theirs), Ok(ours)) => {
                theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(a, b)| alike(a, b))
            }
            (theirs, ours) => theirs.is_err() && ours.is_err(),
        };
        if same {
            continue;
        }
        let refused = name.starts_with("strict_") && ours.is_err();
        if !refused && !name.starts_with("lenient_") {
            wrong.push(format!(
                "{name}\n  kubectl  {theirs:?}\n  ours     {ours:?}"
            ));
        }
        differing.insert(name);
    }
    assert!(inputs > 80, "only {inputs} inputs found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: BTreeSet<String> = KNOWN.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        differing, known,
        "the inputs that differ are those that KNOWN names"
    );
}

/// The places of some values of the only document of `text`.
fn places(text: &str, pointers: &[&str]) -> Vec<String> {
    let document = yaml::documents(text).next().unwrap().unwrap();
    pointers
        .iter()
        .map(|pointer| document.position(pointer).to_string())
        .collect()
}

#[test]
fn knows_where_yaml_values_stand() {
    let text = "# top\n---\nkind: Pod\nspec:\n  containers:\n  - name: a\n  - name: b\n    env: [{name: X, value: 'é'}, {name: Y}]\n";
    let pointers = [
        "",
        "/kind",
        "/spec/containers/1",
        "/spec/containers/1/name",
        "/spec/containers/1/env/1/name",
    ];
    assert_eq!(
        places(text, &pointers),
        ["3:1", "3:1", "7:5", "7:5", "8:35"]
    );
}

#[test]
fn knows_where_json_values_stand() {
    let text = "\n {\"kind\": \"Pod\",\n  \"spec\": {\"a/b\": [1,\n 22]}}";
    let pointers = ["", "/kind", "/spec", "/spec/a~1b/1", "/spec/nowhere"];
    assert_eq!(
        places(text, &pointers),
        ["2:2", "2:11", "3:11", "4:2", "3:11"]
    );
}

#[test]
fn an_absent_value_stands_where_the_nearest_one_above_does() {
    let text = "spec:\n  containers:\n  - name: a\n";
    let pointers = [
        "/spec/containers/0/livenessProbe/httpGet",
        "/spec/containers/7",
        "/status",
    ];
    assert_eq!(places(text, &pointers), ["3:5", "2:3", "1:1"]);
}

#[test]
fn what_an_alias_or_a_merge_brings_stands_where_it_is_used() {
    let text =
        "base: &base {cpu: 1, more: {deep: 2}}\nuse:\n  <<: *base\n  own: 1\ncopy: *base\nuse: 1\n";
    let pointers = ["/copy/more/deep", "/use"];
    assert_eq!(places(text, &pointers), ["5:1", "6:1"]);
    let merged = text.trim_end_matches("use: 1\n");
    assert_eq!(
        places(merged, &["/use/more/deep", "/use/own"]),
        ["3:3", "4:3"]
    );
}

#[test]
fn errors_tell_the_line_within_the_file_and_later_documents_are_read() {
    let text = "a: 1\n---\nb: [\n---\nc: 1\n--- d\ne: 1\n---\nf: 1\n";
    let read: Vec<_> = yaml::documents(text)
        .map(|document| {
            document
                .map(|document| document.value)
                .map_err(|error| error.position.line)
        })
        .collect();
    let object = |key: &str| Ok(serde_json::json!({ key: 1 }));
    assert_eq!(
        read,
        [object("a"), Err(4), object("c"), Err(6), object("f")]
    );
}

#[test]
fn nesting_is_bounded() {
    for open in ["[", "{a: ", "- "] {
        let error = yaml::documents(&open.repeat(200))
            .next()
            .unwrap()
            .unwrap_err();
        assert_eq!(error.message, "nested more than 128 levels deep", "{open}");
    }
    let json = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
    assert!(yaml::documents(&json).next().unwrap().is_err());
}

#[test]
fn bytes_that_are_no_text_are_refused_at_their_place() {
    let error = yaml::decode(b"a: 1\nb: \xff\xfe".to_vec()).unwrap_err();
    assert_eq!(
        (error.position.to_string().as_str(), error.message.as_str()),
        ("2:4", "not UTF-8 text: is this a binary file?")
    );
    assert!(
        yaml::decode(b"\xff\xfea".to_vec()).is_err(),
        "half a UTF-16 unit"
    );
    let error = yaml::documents("a: 1\n---\nb: \u{1b}[0m\n")
        .last()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (error.position.line, error.message.as_str()),
        (3, "control character U+001B: is this a binary file?")
    );
}

#[test]
fn a_list_is_taken_apart_with_the_places_of_its_items() {
    let yaml = "kind: List\nitems:\n- a: 1\n- a: 2\n  b: 3\n";
    let json = "{\"kind\": \"List\",\n\"items\": [\n {\"a\": 1}, {\"a\": 2,\n \"b\": 3}]}";
    for (text, expected) in [(yaml, ["3:3", "5:3"]), (json, ["3:2", "4:7"])] {
        let list = yaml::documents(text).next().unwrap().unwrap();
        let items = list.into_items("items").unwrap();
        let places =
            [items[0].position(""), items[1].position("/b")].map(|place| place.to_string());
        assert_eq!(places, expected);
    }
    let aliased = "base: &base [1, 2]\nitems: *base\n";
    let items = yaml::documents(aliased)
        .next()
        .unwrap()
        .unwrap()
        .into_items("items")
        .unwrap();
    let places: Vec<_> = items.iter().map(|item| item.position("").line).collect();
    assert_eq!(places, [2, 2]);
    assert!(
        yaml::documents("a: 1")
            .next()
            .unwrap()
            .unwrap()
            .into_items("items")
            .is_none()
    );
}
