//! `portcullis check --patch`: the objects as they were given, with what settings add to their pods.

use std::io::{self, Write};

use serde_json::{Value, json, value::to_raw_value};

use super::{super::manifests::object::Object, facts::Source};
use crate::policy::{
    operation::Operation,
    settings::Settings,
    workload::{KINDS, Workload},
};

/// Writes `objects` as one JSON `List`, which kubectl applies and jq reads.
pub(super) fn write(
    objects: Vec<Object<'_>>,
    source: &Source,
    settings: &Settings,
    out: &mut dyn Write,
) -> io::Result<()> {
    write!(out, "{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[")?;
    for (index, object) in objects.into_iter().enumerate() {
        writeln!(out, "{}", if index == 0 { "" } else { "," })?;
        serde_json::to_writer_pretty(&mut *out, &patched(object, source, settings))?;
    }
    writeln!(out, "\n]}}")
}

/// The object with what its pods will get written into its template. The server itself patches pods only, so that a
/// template stays as it was written; here a person wants to see what comes of it.
fn patched(object: Object<'_>, source: &Source, settings: &Settings) -> Value {
    let Object {
        kind,
        namespace,
        mut value,
    } = object;
    let at = kind.map(|kind| &*kind.template);
    let Some(template) = at.and_then(|at| value.pointer_mut(at)) else {
        return value;
    };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template.get("metadata"),
        "spec": template.get("spec"),
    });
    for operation in operations(&pod, &namespace, source, settings) {
        operation.apply(template);
    }
    value
}

fn operations(
    pod: &Value,
    namespace: &str,
    source: &Source,
    settings: &Settings,
) -> Vec<Operation> {
    let json = to_raw_value(pod).expect("a JSON value can be written as JSON");
    let kind = KINDS.iter().find(|kind| kind.is_pod());
    // What can't be read as its kind stays as it is: to tell so is the judge's part, not this one's.
    let pod = kind.and_then(|kind| Workload::read(kind, namespace, &json).ok().flatten());
    pod.map(|pod| source.patches(&pod, settings))
        .unwrap_or_default()
}
