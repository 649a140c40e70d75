//! What the machine is told.

use std::time::Duration;

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The app's ports were looked at.
    App(App),
    /// A check that began at this time has ended.
    Checked {
        /// Its place in the settings.
        check: usize,
        /// When it began.
        began: Duration,
        /// What it found; why it failed.
        result: Result<(), String>,
    },
    /// An attempt at warming up has ended.
    WarmedUp {
        /// The number that [`Effect::StartWarmup`] gave it.
        attempt: u32,
        /// How.
        outcome: Outcome,
    },
    /// 95 of 100 requests since the ramp's step began took no longer, if there were enough.
    RampLatency(Option<Duration>),
    /// Whether a hook of a stopping app container waits for the drain.
    HookWaits(bool),
    /// The gate is to let go.
    Drain(Order),
    /// Nothing is in flight any more and nothing is held.
    Empty,
}

/// What is known about the app's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// Nothing yet.
    Unknown,
    /// One of them refuses, and why.
    Refuses(String),
    /// All of them accept.
    Accepts(Life),
}

/// Which life of the app this is. Another number means that it was restarted in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life(pub u64);

/// How an attempt at warming up ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target was reached.
    Warm,
    /// Latency stopped improving, under the ceiling.
    Plateau,
    /// Neither, and why.
    NotWarm(String),
}

/// Who wants the gate to let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// SIGTERM: exit afterwards.
    Stop,
    /// `portcullis-gate drain`: unready at once.
    Command,
    /// `portcullis-gate drain --deleted`: ready for as long as it accepts.
    PodDeleted,
}
