//! Which request is sent next, and when.

use std::time::Duration;

use tokio::time::Instant;

use super::shot::Shot;
use crate::contract::Warmup;

/// Hands out which request is sent next, and when.
#[derive(Debug)]
pub(super) struct Pacer {
    next: Instant,
    gap: Duration,
    /// Of each request: its credit, and how often it was sent.
    credits: Vec<(i64, u32)>,
    min: u32,
}

// === impl Pacer ===

impl Pacer {
    pub(super) fn new(settings: &Warmup, shots: &[Shot]) -> Self {
        Self {
            next: Instant::now(),
            gap: Duration::from_secs(1) / settings.rate,
            credits: vec![(0, 1); shots.len()],
            min: settings.min_requests,
        }
    }

    /// When the next request may be sent. What was not sent in time is not made up for.
    pub(super) fn slot(&mut self) -> Instant {
        let slot = self.next.max(Instant::now());
        self.next = slot + self.gap;
        slot
    }

    /// Whether each request has been sent as often as a verdict asks for.
    pub(super) fn is_complete(&self) -> bool {
        self.credits.iter().all(|(_, sent)| *sent >= self.min)
    }

    /// The next `count` requests: by weight, spread evenly (smooth weighted round robin, as nginx
    /// chooses servers). Until each has been sent often enough, those that have are left out.
    pub(super) fn draw(&mut self, shots: &[Shot], count: usize) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(count);
        for _ in 0..count {
            let complete = self.is_complete();
            let (min, mut total) = (self.min, 0);
            let mut best: Option<(usize, i64)> = None;
            for (index, (shot, credit)) in shots.iter().zip(&mut self.credits).enumerate() {
                if !complete && credit.1 >= min {
                    continue;
                }
                credit.0 += i64::from(shot.weight);
                total += i64::from(shot.weight);
                if best.is_none_or(|(_, most)| credit.0 > most) {
                    best = Some((index, credit.0));
                }
            }
            let Some((index, _)) = best else { break };
            if let Some(credit) = self.credits.get_mut(index) {
                credit.0 -= total;
                credit.1 = credit.1.saturating_add(1);
            }
            drawn.push(index);
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(weights: &[u32], min: u32) -> (Pacer, Vec<Shot>) {
        let shots: Vec<_> = weights
            .iter()
            .map(|weight| Shot::weighing(*weight))
            .collect();
        let json = format!(r#"{{"requests": [], "rate": 10, "minRequests": {min}}}"#);
        let settings: Warmup = serde_json::from_str(&json).unwrap();
        (Pacer::new(&settings, &shots), shots)
    }

    #[test]
    fn draws_by_weight_and_evenly() {
        let (mut pacer, shots) = pacer(&[3, 1], 1);
        assert_eq!(pacer.draw(&shots, 8), [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn each_request_is_sent_often_enough_before_weight_counts() {
        let (mut pacer, shots) = pacer(&[100, 1], 5);
        assert!(!pacer.is_complete());
        let drawn = pacer.draw(&shots, 8);
        assert_eq!(
            drawn.iter().filter(|shot| **shot == 1).count(),
            4,
            "and once in order"
        );
        assert!(pacer.is_complete());
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_to_the_rate_and_makes_up_for_nothing() {
        let (mut pacer, _) = pacer(&[1], 1);
        let start = Instant::now();
        assert_eq!(pacer.slot(), start);
        assert_eq!(pacer.slot(), start + Duration::from_millis(100));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(pacer.slot(), Instant::now());
        assert_eq!(pacer.slot(), Instant::now() + Duration::from_millis(100));
    }
}
