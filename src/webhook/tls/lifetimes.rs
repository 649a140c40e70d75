//! How long our certificates live and when they are renewed, in one place.

use std::time::Duration;

use rustls::crypto::SecureRandom;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Every duration that certificates of our own go by.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// From its making to an authority's end.
    pub authority: Duration,
    /// From its making to a leaf's end, or to the authority's if that is sooner.
    pub leaf: Duration,
    /// How far before its making an authority is valid already, and each of its leaves.
    pub backdated: Duration,
    /// How far two clocks of the cluster may be apart.
    pub skew: Duration,
    /// How long an authority has stood in every entry before anything is signed by it.
    pub settling: Duration,
}

/// How much earlier than at two thirds of a life this process renews: from nothing to a tenth of that life, so that
/// replicas which started together do not renew together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Jitter {
    per_mille: u32,
}

// === impl Lifetimes ===

impl Lifetimes {
    /// The program's.
    ///
    /// * A year for the authority, renewed after eight months at the latest: often enough that it is known to work.
    /// * A week for a leaf, as cert-manager's webhook has it. It is held in memory only, so a short life costs nothing
    ///   and makes a leaked one worth little.
    /// * Two years of backdating: whoever made a certificate, with a clock that was ahead by 400 days, is believed at once
    ///   by those whose clocks are right. Nothing is lost by it, as the key did not exist before.
    /// * A minute of settling: a webhook configuration reaches each API server by a watch, which is begun anew after 30 s
    ///   at most (client-go's reflector), and each replica of ours within six looks.
    pub const PROGRAM: Self = Self {
        authority: DAY.saturating_mul(365),
        leaf: DAY.saturating_mul(7),
        backdated: DAY.saturating_mul(2 * 365),
        skew: Duration::from_secs(60 * 60),
        settling: Duration::from_secs(60),
    };

    /// How long an authority is trusted after the last leaf was signed by it.
    pub(super) fn overlap(&self) -> Duration {
        self.leaf + self.skew
    }
}

// === impl Jitter ===

impl Jitter {
    /// Another one for each process.
    pub(super) fn draw(random: &dyn SecureRandom) -> Self {
        let mut bytes = [0; 4];
        // Without randomness there would be no TLS either; a replica that renews on the dot does no harm.
        let per_mille = random
            .fill(&mut bytes)
            .map_or(0, |()| u32::from_le_bytes(bytes) % 1000);
        Self { per_mille }
    }

    /// Whether what lives for `life` is to be renewed when this much of it is left.
    pub(super) fn is_due(self, life: Duration, left: Duration) -> bool {
        left <= life / 3 + life / 10 * self.per_mille / 1000
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring;

    use super::*;

    #[test]
    fn renews_in_the_tenth_of_a_life_before_two_thirds() {
        let (life, minute) = (DAY * 30, Duration::from_secs(60));
        let (punctual, hasty) = (Jitter::default(), Jitter { per_mille: 999 });
        assert!(punctual.is_due(life, DAY * 10) && !punctual.is_due(life, DAY * 10 + minute));
        assert!(hasty.is_due(life, DAY / 100 * 1299) && !hasty.is_due(life, DAY * 13));
    }

    #[test]
    fn draws_another_jitter_for_each_process() {
        let random = ring::default_provider().secure_random;
        let drawn: Vec<_> = (0..20).map(|_| Jitter::draw(random).per_mille).collect();
        assert!(drawn.iter().all(|drawn| *drawn < 1000));
        assert!(drawn.iter().any(|other| *other != drawn[0]));
    }
}
