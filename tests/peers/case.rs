//! A case: objects that are there, a workload that is applied, and what should become of it.

use std::{fs, path::Path};

use portcullis::yaml;
use serde_json::Value;

/// The namespace of objects that name none.
pub const NAMESPACE: &str = "shop";

/// One file of `cases/`.
pub struct Case {
    /// What it is about.
    pub group: String,
    /// What it shows.
    pub says: String,
    /// What is right.
    pub right: Verdict,
    /// What is applied, in this order. Only the last one is judged; an earlier one of its name is what it was before.
    pub documents: Vec<Value>,
}

/// What becomes of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is let in, perhaps with a warning.
    Accept,
    Refuse,
    /// It can't be judged, and why.
    Unable(String),
}

/// Every case, in the order of the files.
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/cases");
    let entries = fs::read_dir(folder).expect("the cases are there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

impl Case {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("readable");
        let mut lines = text.lines();
        let title = lines.next().and_then(|line| line.strip_prefix("# "));
        let (group, says) = title
            .and_then(|title| title.split_once(": "))
            .expect("a title");
        let right = match lines.next() {
            Some("# right: accept") => Verdict::Accept,
            Some("# right: refuse") => Verdict::Refuse,
            other => panic!("{}: what is right? {other:?}", path.display()),
        };
        let documents = yaml::documents(&text);
        Self {
            group: group.to_owned(),
            says: says.to_owned(),
            right,
            documents: documents.map(|it| it.expect("YAML").value).collect(),
        }
    }

    /// It is about a change of something that is there.
    pub fn is_update(&self) -> bool {
        let (subject, before) = self.documents.split_last().expect("a workload");
        before
            .iter()
            .any(|document| identity(document) == identity(subject))
    }

    /// The workload, and the other objects, each with its namespace, as files would hold them.
    pub fn objects(&self) -> (Value, Vec<Value>) {
        let mut documents = self.documents.clone();
        for document in &mut documents {
            let metadata = document["metadata"].as_object_mut().expect("metadata");
            metadata
                .entry("namespace")
                .or_insert_with(|| NAMESPACE.into());
        }
        let subject = documents.pop().expect("a workload");
        documents.retain(|document| identity(document) != identity(&subject));
        (subject, documents)
    }
}

fn identity(document: &Value) -> (&Value, &Value) {
    (&document["kind"], &document["metadata"]["name"])
}
