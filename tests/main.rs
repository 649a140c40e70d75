//! The integration tests: one crate, one link step.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "test helpers; clippy's in-tests allowances cover only #[test] functions; nobody imports this crate"
)]

#[cfg(feature = "webhook")]
mod allocations;

mod architecture;

mod docs;

mod rules;

mod yaml;

mod cli;

mod api;

mod manifests;

mod support;

mod webhook;

#[cfg(feature = "gate")]
mod gate_path;

#[cfg(feature = "gate")]
mod gate;

#[cfg(all(feature = "gate", feature = "webhook"))]
mod monitoring;

mod e2e;
