//! The ramp: how many requests may be in flight at which moment after opening.

use std::time::Duration;

/// A ramp under way. It cannot last longer than twice its duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ramp {
    steps: Vec<u32>,
    /// How long each step lasts if nothing holds it.
    each: Duration,
    /// The step that is being taken, an index into `steps`.
    step: usize,
    step_began: Duration,
    /// p95 of the step before, once one has ended.
    baseline: Option<Duration>,
    /// p95 of this step, as last heard.
    p95: Option<Duration>,
    /// By when it is over, held or not.
    ends: Duration,
}

// === impl Ramp ===

impl Ramp {
    /// Steps below `floor`, the concurrency at which the app has already served, are left out.
    pub(super) fn new(steps: &[u32], duration: Duration, floor: u32, now: Duration) -> Self {
        let mut steps: Vec<_> = steps.iter().map(|step| (*step).max(floor)).collect();
        steps.dedup();
        let count = u32::try_from(steps.len()).unwrap_or(u32::MAX).max(1);
        Self {
            steps,
            each: duration / count,
            step: 0,
            step_began: now,
            baseline: None,
            p95: None,
            ends: now + 2 * duration,
        }
    }

    /// What the requests of this step have taken so far.
    pub(super) fn hear(&mut self, p95: Option<Duration>) {
        self.p95 = p95;
    }

    /// Goes on to the step that is due. A step after whose beginning p95 has doubled is held.
    pub(super) fn advance(&mut self, now: Duration) {
        if now >= self.ends {
            self.step = self.steps.len();
        }
        while now >= self.due() && self.step < self.steps.len() && !self.is_held() {
            self.step_began = self.due();
            self.step += 1;
            self.baseline = self.p95.take().or(self.baseline);
        }
    }

    /// How many requests may be in flight; `None` when the ramp is over.
    pub(super) fn limit(&self) -> Option<u32> {
        self.steps.get(self.step).copied()
    }

    /// Which step of how many, counted from 1.
    pub(super) fn step(&self) -> (usize, usize) {
        (self.step + 1, self.steps.len())
    }

    /// When something may change next.
    pub(super) fn due(&self) -> Duration {
        self.step_began + self.each
    }

    pub(super) fn is_held(&self) -> bool {
        match (self.baseline, self.p95) {
            (Some(before), Some(now)) => now >= before * 2,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn takes_its_steps_in_equal_times() {
        let mut ramp = Ramp::new(&[4, 16, 64], 9 * SECOND, 0, 100 * SECOND);
        for (second, limit) in [
            (0, Some(4)),
            (2, Some(4)),
            (3, Some(16)),
            (8, Some(64)),
            (9, None),
        ] {
            ramp.advance((100 + second) * SECOND);
            assert_eq!(ramp.limit(), limit, "after {second} s");
        }
    }

    #[test]
    fn begins_no_lower_than_the_warm_up_ran() {
        let ramp = Ramp::new(&[4, 16, 64], 9 * SECOND, 16, SECOND);
        assert_eq!((ramp.limit(), ramp.step()), (Some(16), (1, 2)));
    }

    #[test]
    fn a_doubled_p95_holds_a_step_but_never_for_ever() {
        let mut ramp = Ramp::new(&[4, 16], 10 * SECOND, 0, Duration::ZERO);
        ramp.hear(Some(SECOND / 100));
        ramp.advance(5 * SECOND);
        ramp.hear(Some(SECOND / 50));
        ramp.advance(12 * SECOND);
        assert_eq!(ramp.limit(), Some(16), "p95 doubled from 10 ms to 20 ms");
        ramp.advance(20 * SECOND);
        assert_eq!(ramp.limit(), None, "twice its duration has passed");
    }

    #[test]
    fn a_step_that_recovers_goes_on() {
        let mut ramp = Ramp::new(&[4, 16], 10 * SECOND, 0, Duration::ZERO);
        ramp.hear(Some(SECOND / 100));
        ramp.advance(5 * SECOND);
        ramp.hear(Some(SECOND / 10));
        ramp.advance(11 * SECOND);
        assert_eq!(ramp.limit(), Some(16));
        ramp.hear(Some(SECOND / 90));
        ramp.advance(12 * SECOND);
        assert_eq!(ramp.limit(), None);
    }
}
