//! What the machine wants done.

use std::time::Duration;

use super::Cause;
use crate::contract::OnFull;

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// From now on this happens to traffic.
    Pass(Passage),
    /// Begin an attempt at warming up.
    StartWarmup {
        /// Its number.
        attempt: u32,
    },
    /// Break off the attempt.
    StopWarmup,
    /// Look at everything now, not at the next period.
    CheckNow,
    /// The state has changed.
    Enter {
        /// From this one.
        from: State,
        /// To this one.
        to: State,
        /// Why.
        cause: Cause,
    },
    /// Let the waiting hooks of the app's container return.
    ReleaseHooks,
    /// The drain is done.
    Drained,
    /// End the process with this code.
    Exit(u8),
}

/// What may happen to traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It waits.
    Hold,
    /// So many requests may be in flight.
    Ramp {
        /// How many.
        limit: u32,
        /// What becomes of one that finds the step full.
        on_full: OnFull,
    },
    /// It passes.
    Open,
    /// It passes, and clients are told to go elsewhere; begun at this time.
    Draining(Duration),
    /// It is refused: the gate leaves without ever having opened.
    Refuse,
}

/// The name of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The app's port does not accept.
    Closed,
    /// It does; checks do not pass.
    Checking,
    /// They do; the app is not warm.
    Warming,
    /// Traffic passes, so many requests at a time.
    Ramping,
    /// Traffic passes.
    Open,
    /// It was open, and is not.
    Reclosed,
    /// It lets go.
    Draining,
}

// === impl State ===

impl State {
    /// Every state, in the order of a gate's life.
    pub const ALL: [Self; 7] = [
        Self::Closed,
        Self::Checking,
        Self::Warming,
        Self::Ramping,
        Self::Open,
        Self::Reclosed,
        Self::Draining,
    ];

    /// Its name in status, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Checking => "checking",
            Self::Warming => "warming",
            Self::Ramping => "ramping",
            Self::Open => "open",
            Self::Reclosed => "reclosed",
            Self::Draining => "draining",
        }
    }
}
