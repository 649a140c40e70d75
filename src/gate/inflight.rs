//! Who is still being served: a drain ends when nobody is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

/// How long a drain waits for the first request of a new connection. A client that connects has
/// something to ask, but may wait for a core between the two. What browsers open ahead of need
/// is given up after it. Go's HTTP/2 server takes a second for what may be under way, too.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Counts everything that a drain waits for: new connections until the first request, or for
/// [`FIRST_REQUEST`], exchanges from the first byte of the request to the last byte of the response,
/// held requests, upgraded streams, TCP connections.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    busy: AtomicUsize,
    idle: Notify,
}

/// One that is being served; done when dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Busy(Arc<Inner>);

// === impl InFlight ===

impl InFlight {
    pub(super) fn enter(&self) -> Busy {
        self.0.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.0))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.0.busy.load(Ordering::Relaxed) == 0
    }

    /// Waits until nobody is being served.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.is_idle() {
                return;
            }
            idle.await;
        }
    }
}

// === impl Busy ===

impl Drop for Busy {
    fn drop(&mut self) {
        if self.0.busy.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    #[test]
    fn idle_only_when_the_last_has_left() {
        let in_flight = InFlight::default();
        let first = in_flight.enter();
        let second = in_flight.enter();
        let mut idle = task::spawn(in_flight.idle());
        assert_pending!(idle.poll());
        drop(first);
        assert_pending!(idle.poll());
        drop(second);
        assert!(idle.is_woken());
        assert_ready!(idle.poll());
    }

    #[test]
    fn a_panic_leaves_too() {
        let in_flight = InFlight::default();
        let busy = in_flight.enter();
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _busy = busy;
            panic!("a connection breaks");
        }));
        assert!(ended.is_err());
        assert_ready!(task::spawn(in_flight.idle()).poll());
    }
}
