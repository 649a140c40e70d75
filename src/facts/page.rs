//! Lists as an API server gives them, page by page: objects, and the table of nodes.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::policy::{
    facts::Release,
    template::{List, Map, Scalar, Text},
};

/// Objects on a page. One of 4 KiB each, managed fields included, fills a quarter of what a page may be.
pub(super) const PAGE: u32 = 250;

/// Objects on a page where each holds a pod template and a workload has ten or so (`revisionHistoryLimit`).
pub(super) const FEW: u32 = 25;

/// A namespace of 5,000 Services, or a cluster of 5,000 nodes, which is as large as Kubernetes is tested to be
/// (`docs/setup/best-practices/cluster-large`), is read to its end.
pub(super) const MAX_PAGES: usize = 20;

/// What asks for a list of nodes as `kubectl get nodes` prints it: a row of some 2 KiB each, where the object holds
/// the names of fifty images.
pub(super) const AS_TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The column that tells a kubelet's release (kubernetes `pkg/printers/internalversion/printers.go`).
const VERSION_COLUMN: &str = "Version";

/// The label of a node that tells its architecture; the kubelet sets it.
const ARCHITECTURE: &str = "kubernetes.io/arch";

/// One page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct Page<'a> {
    metadata: ListMetadata<'a>,
    #[serde(borrow)]
    items: List<&'a RawValue>,
}

/// One page of the table of nodes.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct NodePage<'a> {
    metadata: ListMetadata<'a>,
    column_definitions: List<Column<'a>>,
    rows: List<Row<'a>>,
}

/// What a page says of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kubelet: Release,
    pub(super) architecture: Option<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
pub(super) struct ListMetadata<'a> {
    #[serde(rename = "continue")]
    next: Option<Text<'a>>,
    remaining_item_count: Option<usize>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Column<'a> {
    name: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Row<'a> {
    cells: List<&'a RawValue>,
    object: Object<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Object<'a> {
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Metadata<'a> {
    labels: Map<'a, Scalar<'a>>,
}

// === impl Page ===

impl<'a> Page<'a> {
    pub(super) fn read(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// Its objects, as they were written.
    pub fn items(&self) -> impl Iterator<Item = &'a RawValue> {
        self.items.items().copied()
    }

    /// How many objects there are on the pages after this one, as far as the API server says so.
    pub fn remaining(&self) -> usize {
        self.metadata.remaining_item_count.unwrap_or_default()
    }

    /// What asks for the next page; `None` on the last.
    pub(super) fn next(&self) -> Option<&str> {
        self.metadata.next()
    }
}

// === impl NodePage ===

impl<'a> NodePage<'a> {
    pub(super) fn read(json: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(json)
    }

    /// The nodes; `None` if one does not tell its release.
    pub(super) fn nodes(&self) -> Option<Vec<Node>> {
        let mut columns = self.column_definitions.items();
        let version = columns.position(|column| &*column.name == VERSION_COLUMN)?;
        let node = |row: &Row<'_>| {
            let cell = row.cells.items().nth(version)?;
            let kubelet: Text<'_> = serde_json::from_str(cell.get()).ok()?;
            let architecture = row.object.metadata.labels.get(ARCHITECTURE);
            Some(Node {
                kubelet: kubelet.parse().ok()?,
                architecture: architecture.map(|name| name.as_written().into()),
            })
        };
        self.rows.items().map(node).collect()
    }

    /// What asks for the next page; `None` on the last.
    pub(super) fn next(&self) -> Option<&str> {
        self.metadata.next()
    }
}

// === impl ListMetadata ===

impl ListMetadata<'_> {
    pub(super) fn next(&self) -> Option<&str> {
        self.next.as_deref().filter(|next| !next.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_names_the_next_and_the_last_does_not() {
        for (next, expected) in [
            (json!("abc"), Some("abc")),
            (json!(""), None),
            (json!(null), None),
        ] {
            let page = json!({"metadata": {"continue": next}, "items": [{"a": 1}]}).to_string();
            let page = Page::read(&page).unwrap();
            assert_eq!(page.next(), expected);
            let items: Vec<_> = page.items().map(RawValue::get).collect();
            assert_eq!(items, [r#"{"a":1}"#]);
        }
    }

    #[test]
    fn the_table_of_nodes_tells_release_and_architecture() {
        let row = |version: &str| {
            json!({
                "cells": ["worker-1", "Ready", "<none>", "3d", version, "10.0.0.1"],
                "object": {"metadata": {"name": "worker-1", "labels": {"kubernetes.io/arch": "arm64"}}},
            })
        };
        let table = |rows: serde_json::Value| {
            let columns = ["Name", "Status", "Roles", "Age", "Version", "Internal-IP"];
            let columns = columns.map(|name| json!({"name": name, "type": "string"}));
            json!({"kind": "Table", "metadata": {}, "columnDefinitions": columns, "rows": rows})
                .to_string()
        };
        let read = |table: &str| NodePage::read(table).unwrap().nodes();
        let node = Node {
            kubelet: Release::new(1, 33),
            architecture: Some("arm64".into()),
        };
        assert_eq!(read(&table(json!([row("v1.33.2")]))), Some(vec![node]));
        assert_eq!(read(&table(json!([]))), Some(vec![]));
        assert_eq!(
            read(&table(json!([row("unknown")]))),
            None,
            "one unknown is enough"
        );
        assert_eq!(read("{}"), None, "no table at all");
    }
}
