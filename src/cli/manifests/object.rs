//! Documents into objects: which are judged, which are facts about others, which are neither.

use std::sync::Arc;

use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};

use super::input::{Input, Problem};
use crate::{
    facts::Files,
    policy::{
        settings::Settings,
        workload::{Malformed, WorkloadKind},
    },
    yaml::{self, Document, Places, Position},
};

/// How objects come by their namespace.
#[derive(Debug)]
pub(in crate::cli) struct Namespaces {
    /// For objects that name none.
    pub(in crate::cli) default: String,
    /// It was given with `-n`: then kubectl refuses objects that name another.
    pub(in crate::cli) required: bool,
}

/// What one input holds.
#[derive(Debug, Default)]
pub(in crate::cli) struct Contents<'s> {
    /// Objects to judge.
    pub(in crate::cli) subjects: Vec<Subject<'s>>,
    /// Objects that answer questions, and their namespaces.
    pub(in crate::cli) facts: Vec<(Value, String)>,
    /// Objects that are not judged.
    pub(in crate::cli) skipped: usize,
    /// Every object, in the order of the input; only when they are to be patched.
    pub(in crate::cli) all: Vec<Object<'s>>,
    /// What can't be read.
    pub(in crate::cli) problems: Vec<Problem>,
}

/// An object to judge. Kept as text: it takes a fifth of the memory of a parsed value.
#[derive(Debug)]
pub(in crate::cli) struct Subject<'s> {
    /// The input it is from.
    pub(in crate::cli) file: Arc<str>,
    /// Its kind.
    pub(in crate::cli) kind: &'s WorkloadKind,
    /// The namespace it goes to.
    pub(in crate::cli) namespace: String,
    /// `metadata.name`; empty where there is none.
    pub(in crate::cli) name: String,
    /// The object itself.
    pub(in crate::cli) json: Arc<RawValue>,
    places: Places,
}

/// An object as it was given.
#[derive(Debug)]
pub(in crate::cli) struct Object<'s> {
    /// Its kind, if it is judged.
    pub(in crate::cli) kind: Option<&'s WorkloadKind>,
    /// The namespace it goes to.
    pub(in crate::cli) namespace: String,
    /// The object itself.
    pub(in crate::cli) value: Value,
}

/// Reads the objects of inputs.
#[derive(Debug)]
pub(in crate::cli) struct Reader<'s> {
    pub(in crate::cli) settings: &'s Settings,
    pub(in crate::cli) namespaces: &'s Namespaces,
    /// Keep every object as it was given.
    pub(in crate::cli) keep: bool,
}

/// `apiVersion` and `kind`.
#[derive(Clone, Debug, Default)]
struct Type {
    api_version: String,
    kind: String,
}

// === impl Reader ===

impl<'s> Reader<'s> {
    /// What `input` holds.
    pub(in crate::cli) fn read(&self, input: &Input) -> Contents<'s> {
        let mut contents = Contents::default();
        match input.read() {
            Ok(text) => {
                for document in yaml::documents(&text) {
                    match document {
                        Ok(document) => self.sort(document, &Type::default(), input, &mut contents),
                        Err(error) => contents.problems.push(syntax(error, &text, input)),
                    }
                }
            }
            Err(problem) => contents.problems.push(problem),
        }
        contents
    }

    /// Puts an object where it belongs; a list's items each on their own. `inherited` is the type of items that name
    /// none.
    fn sort(
        &self,
        document: Document,
        inherited: &Type,
        input: &Input,
        contents: &mut Contents<'s>,
    ) {
        let text = |pointer| document.value.pointer(pointer).and_then(Value::as_str);
        let own = Type {
            api_version: text("/apiVersion").unwrap_or_default().to_owned(),
            kind: text("/kind").unwrap_or_default().to_owned(),
        };
        let is_bare = own.api_version.is_empty() && own.kind.is_empty();
        let Type { api_version, kind } = if is_bare { inherited.clone() } else { own };
        if api_version.is_empty() || kind.is_empty() {
            if input.found {
                contents.skipped += 1; // a Chart.yaml, values, a pipeline
            } else {
                let message = "not a Kubernetes object: it has no apiVersion and kind";
                contents
                    .problems
                    .push(problem(&document, "", message.into(), input));
            }
            return;
        }
        let items = document.value.get("items").filter(|items| items.is_array());
        if let Some(item) = items.and_then(|_| kind.strip_suffix("List")) {
            let inherited = Type {
                api_version,
                kind: item.to_owned(),
            };
            for item in document.into_items("items").unwrap_or_default() {
                self.sort(item, &inherited, input, contents);
            }
            return;
        }
        self.take(document, &Type { api_version, kind }, input, contents);
    }

    fn take(&self, document: Document, of: &Type, input: &Input, contents: &mut Contents<'s>) {
        let Type { api_version, kind } = of;
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let judged = self
            .settings
            .kinds()
            .find(|row| row.group == group && row.version == version && row.kind == *kind);
        let is_fact = Files::takes(api_version, kind);
        if judged.is_none() {
            contents.skipped += 1;
            if !is_fact && !self.keep {
                return;
            }
        }
        let namespace = match self.namespace(&document, kind) {
            Ok(namespace) => namespace,
            Err(message) => {
                contents
                    .problems
                    .push(problem(&document, "/metadata/namespace", message, input));
                return;
            }
        };
        let Document { value, places } = document;
        if self.keep {
            let (namespace, value) = (namespace.clone(), value.clone());
            contents.all.push(Object {
                kind: judged,
                namespace,
                value,
            });
        }
        let Some(kind) = judged else {
            if is_fact {
                contents.facts.push((value, namespace));
            }
            return;
        };
        let name = value.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.unwrap_or_default().to_owned();
        let json = to_raw_value(&value)
            .expect("a JSON value can be written as JSON")
            .into();
        let file = Arc::clone(&input.name);
        contents.subjects.push(Subject {
            file,
            kind,
            namespace,
            name,
            json,
            places,
        });
    }

    /// The namespace of an object, as kubectl has it.
    fn namespace(&self, document: &Document, kind: &str) -> Result<String, String> {
        let Namespaces { default, required } = self.namespaces;
        let own = document
            .value
            .pointer("/metadata/namespace")
            .and_then(Value::as_str);
        match own.filter(|own| !own.is_empty()) {
            Some(own) if *required && own != default && kind != "Namespace" => Err(format!(
                "the object's namespace is \"{own}\" and -n says \"{default}\": kubectl refuses that"
            )),
            Some(own) => Ok(own.to_owned()),
            None => Ok(default.clone()),
        }
    }
}

// === impl Contents ===

impl Contents<'_> {
    /// Puts what answers questions into `files`.
    pub(in crate::cli) fn index(&mut self, input: &Input, files: &mut Files) {
        for (object, namespace) in self.facts.drain(..) {
            if let Err(error) = files.add(&object, &namespace, &input.name) {
                let kind = object
                    .get("kind")
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                let message = format!("a {kind} that can't be read: {error}");
                let file = Arc::clone(&input.name);
                self.problems.push(Problem {
                    file,
                    position: None,
                    message,
                });
            }
        }
        for Subject {
            kind,
            namespace,
            name,
            json,
            ..
        } in &self.subjects
        {
            files.add_workload(kind, namespace, name, Arc::clone(json));
        }
    }
}

/// A parser's error; where it stumbled over a template, how to come by what the template makes.
fn syntax(error: yaml::Error, text: &str, input: &Input) -> Problem {
    let line = usize::try_from(error.position.line).unwrap_or(usize::MAX);
    let nearby = text.lines().skip(line.saturating_sub(2)).take(2);
    let templated = nearby.into_iter().any(|line| line.contains("{{"));
    let mut problem = Problem::syntax(&input.name, error);
    if templated {
        problem.message += "; this looks like a template: check what it makes, for example \
                            helm template . | portcullis check -";
    }
    problem
}

fn problem(document: &Document, pointer: &str, message: String, input: &Input) -> Problem {
    Problem {
        file: Arc::clone(&input.name),
        position: Some(document.position(pointer)),
        message,
    }
}

// === impl Subject ===

impl Subject<'_> {
    /// Where it begins, and where its values at `pointers` stand.
    pub(in crate::cli) fn positions(&self, pointers: &[&str]) -> (Position, Vec<Position>) {
        let all = std::iter::once("").chain(pointers.iter().copied());
        let mut found = self.places.find_in(&self.json, all).into_iter();
        let begin = found.next().unwrap_or(Position { line: 1, column: 1 });
        (begin, found.collect())
    }

    /// An object that can't be read as its kind.
    pub(in crate::cli) fn problem(&self, malformed: &Malformed) -> Problem {
        let pointer = pointer(&malformed.path);
        let (_, places) = self.positions(&[&pointer]);
        Problem {
            file: Arc::clone(&self.file),
            position: places.first().copied(),
            message: format!("not a {}: {malformed}", self.kind.kind),
        }
    }
}

/// `spec.containers[1].name` as a JSON pointer; near enough where a key holds a dot, since what does not exist stands
/// where the nearest value above it does.
fn pointer(path: &str) -> String {
    let path = path.replace('[', ".").replace(']', "");
    let tokens = path.split('.').filter(|token| !token.is_empty());
    tokens.flat_map(|token| ["/", token]).collect()
}
