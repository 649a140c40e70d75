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

// What the webhook writes on pods and the gate reads: labels, annotations, the gate's settings.
pub mod contract;

// YAML as kubectl reads it, with the place of every value.
#[cfg(feature = "webhook")]
pub mod yaml;

// The judge. Pure.
#[cfg(feature = "webhook")]
pub mod policy;

// The settings file of the admission gate.
#[cfg(feature = "webhook")]
pub mod settings;

// Answers to the judge's questions: from a live cluster, or from files.
#[cfg(feature = "webhook")]
pub mod facts;

// The rules over what a cluster holds already.
#[cfg(feature = "webhook")]
pub mod audit;

// The traffic gate.
#[cfg(feature = "gate")]
pub mod gate;

// What both programs listen with.
pub mod server;

// What the pages of both programs look like.
pub mod html;

// What both programs log with.
pub mod telemetry;

// One writer among replicas.
#[cfg(feature = "webhook")]
mod lease;

// The admission server.
#[cfg(feature = "webhook")]
pub mod webhook;

// The rules in a terminal and in CI.
#[cfg(feature = "webhook")]
pub mod cli;
