//! What passes through the gate, as counters and gauges that the admin port reads without a lock.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use super::reason::Reason;

/// Upper bounds of the duration buckets in seconds. Neighbours differ by at most a factor of 2, so that a doubled p95
/// moves by a bucket (the ramp's latency guard asks for that); they reach to the longest hold.
pub const DURATION_BOUNDS: [f64; 34] = [
    0.000_25, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.003, 0.004, 0.005, 0.007_5, 0.01, 0.015,
    0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0,
    20.0, 30.0, 60.0, 120.0, 600.0,
];

/// How a request's wait in the hold queue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldEnd {
    /// It went on to the app.
    Released,
    /// It waited for as long as it may.
    Timeout,
    /// Its client left.
    ClientGone,
    /// The gate refused it: there was no room, or the gate began to refuse everything.
    Refused,
}

/// Counters and gauges of the data path.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Client connections that are open.
    pub connections: Gauge,
    /// Requests that went to the app and whose bodies, both ways, are not done; upgraded streams are not among them.
    pub in_flight: Gauge,
    /// Requests that wait for their response's headers under a ramp.
    pub ramp_slots: Gauge,
    /// Requests (for `tcp`: connections) that are held.
    pub held: Gauge,
    /// Bytes that the held requests take.
    pub held_bytes: Gauge,
    /// Upgraded streams and TCP connections that are open.
    pub streams: Gauge,
    /// Requests that a full ramp step delayed for the whole ramp wait, and that then passed.
    pub ramp_overflows: Counter,
    /// Requests that were sent again because the app had closed a kept connection before it read them.
    pub retries: Counter,
    /// Connections to the app that were refused.
    pub connects_refused: Counter,
    /// Connections to the app that failed otherwise.
    pub connects_failed: Counter,
    /// Time from a request's passing to its response's headers.
    pub latency: Durations,
    /// Time in the hold queue, by how it ended.
    holds: [Durations; HoldEnd::ALL.len()],
    responses: [Counter; 6],
    refusals: [Counter; Reason::ALL.len()],
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

/// A histogram of durations over [`DURATION_BOUNDS`].
#[derive(Debug)]
pub struct Durations {
    counts: [AtomicU64; DURATION_BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    counts: [u64; DURATION_BOUNDS.len() + 1],
    micros: u64,
}

// === impl HoldEnd ===

impl HoldEnd {
    /// Every end of a hold.
    pub const ALL: [Self; 4] = [
        Self::Released,
        Self::Timeout,
        Self::ClientGone,
        Self::Refused,
    ];

    /// The end as a metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Timeout => "timeout",
            Self::ClientGone => "client_gone",
            Self::Refused => "refused",
        }
    }
}

// === impl Traffic ===

impl Traffic {
    /// Responses sent to clients with a status of this class: 1 to 5; anything else is counted under 0.
    pub fn responses(&self, class: u8) -> u64 {
        self.responses
            .get(usize::from(class))
            .or_else(|| self.responses.first())
            .map_or(0, Counter::value)
    }

    /// Answers that the gate made itself for this reason.
    pub fn refusals(&self, reason: Reason) -> u64 {
        self.refusals.get(reason.index()).map_or(0, Counter::value)
    }

    /// Times spent in the hold queue by requests whose hold ended so.
    pub fn holds(&self, end: HoldEnd) -> Snapshot {
        self.hold(end).snapshot()
    }

    /// Counts a response by its status code.
    pub(super) fn responded(&self, status: u16) {
        let class = usize::from(status / 100);
        if let Some(counter) = self.responses.get(class).or_else(|| self.responses.first()) {
            counter.increment();
        }
    }

    /// Counts an answer of the gate itself.
    pub(super) fn refused(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(reason.index()) {
            counter.increment();
        }
    }

    /// Counts the end of a hold.
    pub(super) fn hold_ended(&self, end: HoldEnd, waited: Duration) {
        self.hold(end).record(waited);
    }

    fn hold(&self, end: HoldEnd) -> &Durations {
        let [released, timeout, gone, refused] = &self.holds;
        match end {
            HoldEnd::Released => released,
            HoldEnd::Timeout => timeout,
            HoldEnd::ClientGone => gone,
            HoldEnd::Refused => refused,
        }
    }
}

// === impl Counter ===

impl Counter {
    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl Gauge ===

impl Gauge {
    /// The number at this moment.
    pub fn value(&self) -> u64 {
        u64::try_from(self.0.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(super) fn add(&self, more: usize) {
        self.0
            .fetch_add(i64::try_from(more).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(super) fn sub(&self, less: usize) {
        self.0
            .fetch_sub(i64::try_from(less).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

// === impl Durations ===

impl Durations {
    /// The histogram at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let mut counts = [0; DURATION_BOUNDS.len() + 1];
        for (count, bucket) in counts.iter_mut().zip(&self.counts) {
            *count = bucket.load(Ordering::Relaxed);
        }
        Snapshot {
            counts,
            micros: self.micros.load(Ordering::Relaxed),
        }
    }

    pub(super) fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = DURATION_BOUNDS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.counts.get(place) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; DURATION_BOUNDS.len() + 1],
            micros: AtomicU64::new(0),
        }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Durations recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of the durations.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.micros)
    }

    /// Each bound in seconds with the number of durations at or under it, as Prometheus wants them; the last bound is
    /// infinite.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = DURATION_BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().scan(0, |total, count| {
            *total += count;
            Some(*total)
        }))
    }

    /// What was recorded between an earlier snapshot and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(&earlier.counts) {
            *count = count.saturating_sub(*before);
        }
        Self {
            counts,
            micros: self.micros.saturating_sub(earlier.micros),
        }
    }

    /// The bound under which this share (0 to 1) of the durations lies, or `None` when there are none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        // Counts stay far below 2^52, where the conversion to f64 would round.
        #[expect(
            clippy::as_conversions,
            clippy::cast_precision_loss,
            reason = "counts are far below 2^52"
        )]
        let reaches = |count: u64| count as f64 >= share * total as f64;
        let (bound, _) = self
            .cumulative()
            .find(|(_, count)| *count > 0 && reaches(*count))?;
        let [.., longest] = DURATION_BOUNDS;
        Some(Duration::from_secs_f64(bound.min(longest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let durations = Durations::default();
        assert_eq!(durations.snapshot().quantile(0.95), None);
        for _ in 0..95 {
            durations.record(Duration::from_millis(9));
        }
        for _ in 0..5 {
            durations.record(Duration::from_secs(4));
        }
        let snapshot = durations.snapshot();
        assert_eq!(snapshot.count(), 100);
        assert_eq!(snapshot.sum(), Duration::from_millis(95 * 9 + 20_000));
        assert_eq!(snapshot.quantile(0.95), Some(Duration::from_millis(10)));
        assert_eq!(snapshot.quantile(0.96), Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_difference_forgets_what_was_before() {
        let durations = Durations::default();
        durations.record(Duration::from_secs(1));
        let before = durations.snapshot();
        durations.record(Duration::from_millis(1));
        let window = durations.snapshot().since(&before);
        assert_eq!(window.count(), 1);
        assert_eq!(window.quantile(0.95), Some(Duration::from_millis(1)));
        assert_eq!(window.sum(), Duration::from_millis(1));
    }

    #[test]
    fn longer_than_the_last_bound_counts_as_infinite() {
        let durations = Durations::default();
        durations.record(Duration::from_secs(3600));
        let snapshot = durations.snapshot();
        assert_eq!(snapshot.cumulative().last(), Some((f64::INFINITY, 1)));
        assert_eq!(snapshot.quantile(0.5), Some(Duration::from_secs(600)));
    }

    #[test]
    fn responses_are_counted_by_class() {
        let traffic = Traffic::default();
        for status in [101, 200, 204, 404, 503, 999] {
            traffic.responded(status);
        }
        let classes: Vec<_> = (0..6).map(|class| traffic.responses(class)).collect();
        assert_eq!(classes, [1, 1, 2, 0, 1, 1]);
    }
}
