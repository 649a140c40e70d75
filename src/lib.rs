//! Portcullis: Kubernetes says *Running*; Portcullis makes it mean *Ready*.
//!
//! ```text
//! admission gate
//!   bytes -> webhook::review -> policy::workload -> policy::judge --Ask(queries)--> facts --+
//!                                                       ^                                   |
//!                                                       +------------ answers --------------+
//!   bytes <- webhook::respond <- policy::verdict <--Done
//!
//! traffic gate
//!   contract -> gate::check --event--> gate::state --passage--> gate::switch -> gate::service -> app
//! ```

pub mod contract;

#[cfg(feature = "webhook")]
pub mod yaml;

#[cfg(feature = "webhook")]
pub mod policy;

#[cfg(feature = "webhook")]
pub mod settings;

#[cfg(feature = "webhook")]
pub mod facts;

#[cfg(feature = "gate")]
pub mod gate;

pub mod server;

pub mod telemetry;

#[cfg(feature = "webhook")]
pub mod webhook;

#[cfg(feature = "webhook")]
pub mod cli;
