//! What is wrong with a settings document, field by field.

use std::{fmt, ops::RangeInclusive, time::Duration};

/// One field that does not hold what it must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field's path, such as `checks[1].timeout`.
    pub field: String,
    /// What is wrong and how to mend it.
    pub text: String,
}

/// Collects every problem of a document, so that one run shows them all.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" | "." => f.write_str(&self.text),
            field => write!(f, "{field}: {}", self.text),
        }
    }
}

// === impl Problems ===

impl Problems {
    pub(crate) fn add(&mut self, field: impl fmt::Display, text: impl fmt::Display) {
        self.0.push(Problem {
            field: field.to_string(),
            text: text.to_string(),
        });
    }

    /// Adds a problem unless `good`.
    pub(crate) fn require(&mut self, good: bool, field: impl fmt::Display, text: &str) {
        if !good {
            self.add(field, text);
        }
    }

    pub(crate) fn number<N: PartialOrd + fmt::Display>(
        &mut self,
        field: impl fmt::Display,
        value: &N,
        bounds: &RangeInclusive<N>,
    ) {
        if !bounds.contains(value) {
            let (low, high) = (bounds.start(), bounds.end());
            self.add(
                field,
                format_args!("{value} is not between {low} and {high}"),
            );
        }
    }

    pub(crate) fn duration(
        &mut self,
        field: impl fmt::Display,
        value: Duration,
        bounds: &RangeInclusive<Duration>,
    ) {
        if !bounds.contains(&value) {
            let [value, low, high] =
                [value, *bounds.start(), *bounds.end()].map(humantime::format_duration);
            self.add(
                field,
                format_args!("{value} is not between {low} and {high}"),
            );
        }
    }

    /// The first of `names` that stood before, if any, is a problem at `field(index)`.
    pub(crate) fn unique<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a str>,
        field: impl Fn(usize) -> String,
    ) {
        let mut seen = std::collections::BTreeSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if !seen.insert(name) {
                self.add(field(index), format_args!("{name:?} stands twice"));
            }
        }
    }

    pub(crate) fn into_result(self) -> Result<(), Vec<Problem>> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0)
        }
    }
}
