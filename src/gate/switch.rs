//! The one valve between the state machine and the traffic: the machine sets a [`Passage`], every connection reads it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::reason::Reason;

/// How many [`AppLoss`] reports may wait for the state machine. One is enough to make it look at the app, so what does
/// not fit is dropped: a thousand connections that break at once say the same thing a thousand times.
const LOSS_BACKLOG: usize = 64;

/// What may happen to a request that arrives now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Requests wait in the hold queue; nothing reaches the app.
    Hold,
    /// At most `limit` requests wait for their response headers at a time.
    Ramp {
        /// Requests that may wait for the app at a time; at least 1.
        limit: u32,
        /// What becomes of a request that found the step full for the whole ramp wait.
        on_full: OnFull,
    },
    /// Everything passes.
    Open,
    /// Everything is answered by the gate itself.
    Refuse(Reason),
    /// The end: everything still passes, but every client is told to go elsewhere.
    Draining(Drain),
}

/// What becomes of a request that found a ramp's step full for the whole ramp wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// It passes all the same, and is counted: an in-pod gate cannot move load to other pods.
    #[default]
    Pass,
    /// It is refused in a form that callers may retry.
    Refuse,
}

/// The three clocks of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drain {
    /// Until then the gate keeps accepting, even with nothing in flight: load balancers learn late that a pod leaves.
    pub settle: Instant,
    /// When upgraded streams (WebSockets) and TCP connections are cut.
    pub stream_deadline: Instant,
    /// When everything else is cut.
    pub deadline: Instant,
}

/// Something that a data connection learned about the app: a hint that the app may have been restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppLoss {
    /// The address that was dialled.
    pub app: SocketAddr,
    /// What happened.
    pub kind: LossKind,
}

/// What happened to a connection to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossKind {
    /// Nothing listens on the app's port.
    Refused,
    /// Dialling failed or timed out for another reason.
    Unreachable,
    /// The app's side was reset.
    Reset,
    /// The app closed the connection while it was idle, which keep-alive allows at any time.
    ClosedIdle,
    /// The app closed the connection while a response was due or under way.
    ClosedBusy,
}

/// The state machine's end: sets the passage.
#[derive(Debug, Clone)]
pub struct Switch {
    hot: Arc<Hot>,
    passage: watch::Sender<Passage>,
}

/// The data path's end: reads the passage, reports losses. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Valve {
    hot: Arc<Hot>,
    passage: watch::Receiver<Passage>,
    losses: mpsc::Sender<AppLoss>,
}

/// A copy of the passage's kind that each request can read without a lock.
#[derive(Debug)]
struct Hot {
    kind: AtomicU8,
    limit: AtomicU32,
}

/// The kind of passage, as each request reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fast {
    /// Pass at once.
    Pass,
    /// Pass at once, and say that the connection ends with this exchange.
    PassAndClose,
    /// Pass if fewer than so many are waiting for the app.
    Limit(u32),
    /// Look at the passage itself.
    Slow,
}

const SLOW: u8 = 0;
const OPEN: u8 = 1;
const DRAINING: u8 = 2;
const RAMP: u8 = 3;

/// A closed gate, and the three ends of it: for the state machine, for the data path, and the losses to be heard.
pub fn closed() -> (Switch, Valve, mpsc::Receiver<AppLoss>) {
    let hot = Arc::new(Hot {
        kind: AtomicU8::new(SLOW),
        limit: AtomicU32::new(0),
    });
    let (passage, receiver) = watch::channel(Passage::Hold);
    let (losses, heard) = mpsc::channel(LOSS_BACKLOG);
    let valve = Valve {
        hot: Arc::clone(&hot),
        passage: receiver,
        losses,
    };
    (Switch { hot, passage }, valve, heard)
}

// === impl Switch ===

impl Switch {
    /// Sets what happens to traffic from now on. Setting the same passage again wakes nobody.
    pub fn set(&self, passage: Passage) {
        let (kind, limit) = match passage {
            Passage::Hold | Passage::Refuse(_) => (SLOW, 0),
            Passage::Ramp { limit, .. } => (RAMP, limit.max(1)),
            Passage::Open => (OPEN, 0),
            Passage::Draining(_) => (DRAINING, 0),
        };
        self.hot.limit.store(limit, Ordering::Relaxed);
        self.hot.kind.store(kind, Ordering::Release);
        self.passage.send_if_modified(|current| {
            let changed = *current != passage;
            *current = passage;
            changed
        });
    }

    /// The passage that was set last.
    pub fn passage(&self) -> Passage {
        *self.passage.borrow()
    }
}

// === impl Valve ===

impl Valve {
    /// The passage at this moment.
    pub fn passage(&self) -> Passage {
        *self.passage.borrow()
    }

    /// Waits until the passage is another one than when this clone last looked.
    ///
    /// When the [`Switch`] is gone nothing will ever change again, so this waits for ever.
    pub async fn changed(&mut self) -> Passage {
        if self.passage.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        *self.passage.borrow_and_update()
    }

    /// Reports that a connection to the app was lost.
    pub fn lost(&self, app: SocketAddr, kind: LossKind) {
        // A full channel already holds what this report would say.
        let _ = self.losses.try_send(AppLoss { app, kind });
    }

    /// What a request that arrives now may do, without a lock.
    pub(super) fn fast(&self) -> Fast {
        match self.hot.kind.load(Ordering::Acquire) {
            OPEN => Fast::Pass,
            DRAINING => Fast::PassAndClose,
            RAMP => Fast::Limit(self.hot.limit.load(Ordering::Relaxed)),
            _ => Fast::Slow,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_gate_holds() {
        let (switch, valve, _heard) = closed();
        assert_eq!(switch.passage(), Passage::Hold);
        assert_eq!(valve.fast(), Fast::Slow);
    }

    #[test]
    fn every_passage_has_its_fast_form() {
        let (switch, valve, _heard) = closed();
        let now = Instant::now();
        let drain = Drain {
            settle: now,
            stream_deadline: now,
            deadline: now,
        };
        for (passage, fast) in [
            (Passage::Open, Fast::Pass),
            (
                Passage::Ramp {
                    limit: 4,
                    on_full: OnFull::Pass,
                },
                Fast::Limit(4),
            ),
            (
                Passage::Ramp {
                    limit: 0,
                    on_full: OnFull::Pass,
                },
                Fast::Limit(1),
            ),
            (Passage::Draining(drain), Fast::PassAndClose),
            (Passage::Refuse(Reason::Closed), Fast::Slow),
            (Passage::Hold, Fast::Slow),
        ] {
            switch.set(passage);
            assert_eq!(valve.fast(), fast, "{passage:?}");
            assert_eq!(valve.passage(), passage);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_passage_again_wakes_nobody() {
        let (switch, mut valve, _heard) = closed();
        switch.set(Passage::Hold);
        let woken = tokio::time::timeout(Duration::from_secs(1), valve.changed()).await;
        assert!(woken.is_err(), "woken by a passage that is no change");
        switch.set(Passage::Open);
        assert_eq!(valve.changed().await, Passage::Open);
    }

    #[test]
    fn a_flood_of_losses_is_bounded() {
        let (_switch, valve, mut heard) = closed();
        let app = SocketAddr::from(([127, 0, 0, 1], 80));
        for _ in 0..10 * LOSS_BACKLOG {
            valve.lost(app, LossKind::Reset);
        }
        let mut reports = 0;
        while heard.try_recv().is_ok() {
            reports += 1;
        }
        assert_eq!(reports, LOSS_BACKLOG);
    }
}
