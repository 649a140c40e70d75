//! The traffic gate: holds an app's traffic until there is evidence that the app is warm.
//!
//! ```text
//! client -> path -> admission (hold, ramp, refuse) -> proxy (http) or tunnel (tcp) -> app
//!             ^ Passage                     | AppLoss, Traffic (counters)
//!             |                             v
//!          Switch <---------------- the state machine and its checks
//! ```

// Deep checks: what is true of the app and of what it depends on.
pub mod check;

// Which life of the app this is.
pub mod identity;

// What makes a cold app a warm one.
pub mod warmup;

// What the gate is in, why, and what comes next. Pure.
pub mod state;

// Hears of all that, asks the machine, and does what it says.
pub mod keeper;

// What the gate shows of itself: the facts, a page for a browser, a page for a terminal.
pub mod status;

pub mod page;

pub mod screen;

// What the state machine tells the data path, and what the data path reports back.
pub mod switch;

// Why the gate answered by itself.
pub mod reason;

// Counters and gauges of the data path, read without locks.
pub mod traffic;

// Who may pass, who waits, who is refused.
mod queue;

// Who is still being served.
mod inflight;

// Connections to the app.
mod dial;

// What becomes of a connection: requests passed on one by one, or bytes as they come.
mod proxy;
mod socket;
mod tcp;
mod tunnel;

// What all connections share.
mod path;

// The ports: what the data path is told at its start, and its life from listening to drained.
pub mod service;

// How the gate is started, and how it is asked.
pub mod config;

pub mod metrics;

pub mod admin;

pub mod control;

pub mod process;
