//! The clock that certificates go by: the API server's, since it is the API server that judges them.

use std::time::SystemTime;

use tokio::time::Instant;

/// What time it is for the API server.
#[derive(Debug, Default)]
pub(super) struct Clock {
    told: Option<(SystemTime, Instant)>,
}

// === impl Clock ===

impl Clock {
    /// The time of an answer that tells it (`Date`), else of this machine.
    pub(super) fn tell(&mut self, date: Option<SystemTime>, local: SystemTime) -> SystemTime {
        self.told = date.map(|date| (date, Instant::now()));
        date.unwrap_or(local)
    }

    /// The time while the API server does not answer: this machine's, which goes on while it sleeps, but never less than
    /// has passed since the last answer. Too late a time does no harm where leaves are renewed by it; one that is too early does.
    pub(super) fn guess(&self, local: SystemTime) -> SystemTime {
        self.told
            .map_or(local, |(date, at)| local.max(date + at.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    #[tokio::test(start_paused = true)]
    async fn believes_the_api_server_and_without_it_whatever_is_later() {
        let (mut clock, now) = (Clock::default(), SystemTime::now());
        assert_eq!(clock.guess(now), now);
        assert_eq!(clock.tell(Some(now), now + YEAR), now);
        tokio::time::advance(YEAR).await;
        assert_eq!(clock.guess(now - YEAR), now + YEAR);
        assert_eq!(clock.guess(now + 2 * YEAR), now + 2 * YEAR);
        assert_eq!(clock.tell(None, now), now);
    }
}
