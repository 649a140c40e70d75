//! Which namespaces are left out, and which only hear warnings.

use std::fmt::Write as _;

use super::{
    patient::{Labels, Patient},
    report::Line,
};
use crate::{
    contract::GATE_LABEL,
    policy::facts::{ENFORCE, PATCH},
};

/// Labels of a namespace that mean nothing but with one of these values.
const LABELS: [(&str, &[&str]); 3] = [
    (ENFORCE, &["deny", "warn", "none"]),
    (PATCH, &["enabled"]),
    (GATE_LABEL, &["enabled", "preferred", "disabled"]),
];

/// Names that a line lists.
const LISTED: usize = 8;

pub(super) async fn look(patient: &Patient) -> Vec<Line> {
    let namespaces = match patient.namespaces().await {
        Ok(namespaces) => namespaces,
        Err(why) => return vec![Line::unknown("labels of namespaces", &why)],
    };
    let at = |level: &str| {
        let found = namespaces.iter().filter(|(_, labels)| {
            let label = labels.get(ENFORCE);
            label.is_some_and(|value| value == level)
        });
        found.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    let fixed = ["kube-system", patient.namespace.as_str()];
    let mut text = format!("left out always: {}", fixed.join(", "));
    for (level, words) in [("none", "by label"), ("warn", "only warned")] {
        let names = at(level);
        if !names.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "; {words}: {}", listed(&names));
        }
    }
    let mut lines = vec![Line::ok(text)];
    for (name, labels) in namespaces {
        lines.extend(misspelt(name, labels));
    }
    lines
}

fn misspelt(name: &str, labels: &Labels) -> impl Iterator<Item = Line> {
    LABELS.into_iter().filter_map(move |(label, values)| {
        let value = labels.get(label)?;
        let known = values.contains(&value.as_str());
        (!known).then(|| {
            let values = values.join(", ");
            Line::warn(
                format!("namespace {name}: label {label}={value} counts as if it were not there"),
                format!("give it a value that counts ({values}): kubectl label --overwrite namespace {name} {label}=..."),
            )
        })
    })
}

/// The first of some names, and how many more there are.
pub(super) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let first: Vec<_> = names.iter().take(LISTED).map(AsRef::as_ref).collect();
    let first = first.join(", ");
    match names.len().saturating_sub(LISTED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_label_whose_value_means_nothing() {
        let labels: Labels = [
            (ENFORCE, "off"),
            (PATCH, "enabled"),
            (GATE_LABEL, "on"),
            ("team", "shop"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let lines: Vec<_> = misspelt("shop", &labels)
            .map(|line| serde_json::to_string(&line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("portcullis.dev/enforce=off"), "{lines:?}");
        assert!(lines[1].contains("portcullis.dev/gate=on"), "{lines:?}");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let names: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        assert_eq!(listed(&names), "0, 1, 2, 3, 4, 5, 6, 7 and 2 more");
        assert_eq!(listed(&names[..2]), "0, 1");
    }
}
