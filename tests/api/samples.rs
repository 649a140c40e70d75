//! The samples tell true stories: each is refused, or warned about, as its first lines say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::installation::{Session, assert_refused, assert_warned};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/samples");

/// The files of a folder, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(Path::new(SAMPLES).join(folder)).expect("the folder is there");
    let files: BTreeSet<_> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    files.into_iter().collect()
}

/// What the file's first lines say after `# HEADING: `.
fn told(file: &Path, heading: &str) -> Option<String> {
    let text = fs::read_to_string(file).expect("it can be read");
    text.lines().find_map(|line| {
        line.strip_prefix(&format!("# {heading}: "))
            .map(str::to_owned)
    })
}

#[test]
fn the_rejected_are_refused_and_the_accepted_pass() {
    let session = Session::shared();
    let shop = session.named_namespace("shop", &[]);
    for name in ["staging", "production"] {
        session.named_namespace(name, &[]);
    }
    session.named_namespace("playground", &[("portcullis.dev/patch", "enabled")]);
    session
        .admin()
        .call_with(&["apply", "-f", &format!("{SAMPLES}/given")], None)
        .ok();
    // The samples name their namespaces, and the developer has her rights in each.
    let apply = |file: &Path| {
        let file = file.to_str().expect("a plain name");
        shop.developer
            .everywhere()
            .call_with(&["apply", "-f", file], None)
    };

    for file in files("rejected") {
        let rule = told(&file, "Refused by").expect("the file says what refuses it");
        assert_refused(apply(&file).refusal(), &rule);
        let twin = Path::new(SAMPLES)
            .join("accepted")
            .join(file.file_name().expect("a file"));
        assert!(twin.exists(), "{} has no mended twin", file.display());
    }
    for file in files("accepted") {
        let answer = apply(&file);
        if let Some(rule) = told(&file, "Warned about by") {
            assert_warned(answer, &rule);
        } else {
            assert_eq!(answer.stderr, "", "{}", file.display());
            answer.ok();
        }
    }
}
