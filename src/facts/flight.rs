//! Questions that are under way: whoever asks the same at the same time waits for the same answer.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;

use crate::policy::facts::{Answer, Query};

/// When a question went out, which may be some time after it was asked; `None` until then.
pub(super) type Sent = Arc<OnceLock<Instant>>;

/// All that are under way.
#[derive(Default)]
pub(super) struct Flights {
    list: Mutex<HashMap<Query<'static>, Flight>>,
    numbers: AtomicU64,
}

/// What one who asks waits for.
pub(super) struct Seat {
    pub(super) answer: Shared<BoxFuture<'static, Arc<Answer>>>,
    pub(super) sent: Sent,
    /// Somebody else had asked before.
    pub(super) joined: bool,
}

/// It belongs to those who wait for it: when the last leaves, it is dropped.
struct Flight {
    number: u64,
    sent: Sent,
    answer: WeakShared<BoxFuture<'static, Arc<Answer>>>,
}

/// Takes a flight off the list when it has ended, or nobody waits for it any more.
struct Landing {
    flights: Arc<Flights>,
    query: Query<'static>,
    number: u64,
}

// === impl Flights ===

impl Flights {
    /// A seat on the flight that is under way, or on a new one, which `fetch` makes. Who needs to know what was true at
    /// `since` or later takes none that went out before; one that has yet to go out is good for everybody, so a question
    /// that hundreds ask is not sent hundreds of times.
    pub(super) fn board(
        self: &Arc<Self>,
        query: &Query<'static>,
        since: Option<Instant>,
        fetch: impl FnOnce(Sent) -> BoxFuture<'static, Arc<Answer>>,
    ) -> Seat {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let in_time = |flight: &Flight| {
            let sent = flight.sent.get();
            sent.is_none_or(|sent| since.is_none_or(|since| *sent >= since))
        };
        if let Some(flight) = list.get(query)
            && in_time(flight)
            && let Some(answer) = flight.answer.upgrade()
        {
            return Seat {
                answer,
                sent: Arc::clone(&flight.sent),
                joined: true,
            };
        }
        let sent = Sent::default();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let landing = Landing {
            flights: Arc::clone(self),
            query: query.clone(),
            number,
        };
        let fetching = fetch(Arc::clone(&sent));
        let answer = async move {
            let _landing = landing;
            fetching.await
        };
        let answer = answer.boxed().shared();
        if let Some(answer) = answer.downgrade() {
            let flight = Flight {
                number,
                sent: Arc::clone(&sent),
                answer,
            };
            list.insert(query.clone(), flight);
        }
        Seat {
            answer,
            sent,
            joined: false,
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        let list = self.list.lock();
        list.unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl fmt::Debug for Flights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").finish_non_exhaustive()
    }
}

// === impl Landing ===

impl Drop for Landing {
    fn drop(&mut self) {
        let list = &self.flights.list;
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        // A later flight of the same question may have taken its place.
        let is_it = |flight: &Flight| flight.number == self.number;
        if list.get(&self.query).is_some_and(is_it) {
            list.remove(&self.query);
        }
    }
}
