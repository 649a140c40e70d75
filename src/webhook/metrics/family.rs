//! One metric's series, one for each combination of its labels' values.

use std::marker::PhantomData;

use metrics::{Counter, Gauge, Histogram, Key, Label as Pair, Level, Metadata, Recorder};

use super::{Label, Metric};

/// A combination of labels: a tuple of [`Label`]s, in the order of the metric's label names.
pub trait Labels: Copy {
    /// Every combination of values, the last label changing fastest.
    fn combinations() -> Vec<Vec<&'static str>>;

    /// This one's place in [`Self::combinations`]; beyond the last for what is not counted.
    fn index(self) -> usize;
}

/// A handle that a recorder gives out.
pub trait Handle: Clone {
    /// The handle of one series.
    fn register(recorder: &dyn Recorder, key: &Key) -> Self;

    /// Counts nothing.
    fn noop() -> Self;
}

/// The series of one metric.
#[derive(Debug)]
pub struct Family<H, L> {
    series: Box<[H]>,
    labels: PhantomData<fn(L)>,
}

// === impl Labels ===

impl<A: Label> Labels for (A,) {
    fn combinations() -> Vec<Vec<&'static str>> {
        A::values().map(|value| vec![value]).collect()
    }

    fn index(self) -> usize {
        self.0.index()
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn combinations() -> Vec<Vec<&'static str>> {
        extend::<B>(<(A,)>::combinations())
    }

    fn index(self) -> usize {
        place((self.0,).index(), self.1)
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    fn combinations() -> Vec<Vec<&'static str>> {
        extend::<C>(<(A, B)>::combinations())
    }

    fn index(self) -> usize {
        place((self.0, self.1).index(), self.2)
    }
}

fn extend<L: Label>(combinations: Vec<Vec<&'static str>>) -> Vec<Vec<&'static str>> {
    let with_each = |values: Vec<&'static str>| {
        L::values().map(move |value| [values.as_slice(), &[value]].concat())
    };
    combinations.into_iter().flat_map(with_each).collect()
}

fn place<L: Label>(before: usize, label: L) -> usize {
    let count = L::values().count();
    if label.index() < count {
        before.saturating_mul(count).saturating_add(label.index())
    } else {
        usize::MAX
    }
}

// === impl Handle ===

impl Handle for Counter {
    fn register(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_counter(key, &METADATA)
    }

    fn noop() -> Self {
        Self::noop()
    }
}

impl Handle for Gauge {
    fn register(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_gauge(key, &METADATA)
    }

    fn noop() -> Self {
        Self::noop()
    }
}

impl Handle for Histogram {
    fn register(recorder: &dyn Recorder, key: &Key) -> Self {
        recorder.register_histogram(key, &METADATA)
    }

    fn noop() -> Self {
        Self::noop()
    }
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

// === impl Family ===

impl<H: Handle, L: Labels> Family<H, L> {
    /// Registers every series of `metric`.
    pub(crate) fn register(recorder: &dyn Recorder, metric: &Metric) -> Self {
        let series = L::combinations();
        let series = series
            .iter()
            .map(|values| one(recorder, metric, values))
            .collect();
        Self {
            series,
            labels: PhantomData,
        }
    }

    /// The series of these labels, to be kept by who counts it often.
    pub fn handle(&self, labels: L) -> H {
        self.get(labels).cloned().unwrap_or_else(H::noop)
    }

    /// `None` for what is not counted.
    fn get(&self, labels: L) -> Option<&H> {
        self.series.get(labels.index())
    }
}

impl<L: Labels> Family<Counter, L> {
    /// One more.
    pub fn count(&self, labels: L) {
        if let Some(counter) = self.get(labels) {
            counter.increment(1);
        }
    }
}

impl<L: Labels> Family<Histogram, L> {
    /// One sample, in seconds.
    pub fn record(&self, labels: L, seconds: f64) {
        if let Some(histogram) = self.get(labels) {
            histogram.record(seconds);
        }
    }
}

/// One series of `metric`, by the values of its labels.
pub(crate) fn one<H: Handle>(
    recorder: &dyn Recorder,
    metric: &Metric,
    values: &[&'static str],
) -> H {
    let pairs = metric.labels.iter().zip(values);
    let pairs: Vec<_> = pairs
        .map(|(name, value)| Pair::from_static_parts(name, value))
        .collect();
    H::register(recorder, &Key::from_parts(metric.name, pairs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::metrics::{Operation, Patched, Webhook};

    #[test]
    fn every_combination_has_a_place_of_its_own() {
        type Three = (Webhook, Operation, Patched);
        let combinations = Three::combinations();
        assert_eq!(combinations.len(), 3 * 3 * 2);
        let last = (Webhook::Inject, Operation::Other, Patched::Unchanged);
        assert_eq!(last.index(), combinations.len() - 1);
        let middle = (Webhook::Mutate, Operation::Create, Patched::Patched);
        assert_eq!(
            combinations[middle.index()],
            ["mutate", "create", "patched"]
        );
    }
}
