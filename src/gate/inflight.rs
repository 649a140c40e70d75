//! Who is still being served: a drain ends when nobody is.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Notify;

/// Counts everything that a drain waits for: exchanges from the first byte of the request to the
/// last byte of the response, held requests, upgraded streams, TCP connections.
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

    /// Waits until nobody is being served.
    pub(super) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.0.busy.load(Ordering::Relaxed) == 0 {
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
