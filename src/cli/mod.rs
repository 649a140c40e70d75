//! The command line beside the server: the same rules on files, a rule explained, environments compared, the settings'
//! schema, a look at an installation, and at pods that are not ready.

/// What a terminal is shown, and what a pipe.
mod terminal;

/// Something to look at while it takes long.
mod progress;

/// The same work on many things, on every core.
mod cores;

/// What is given as files.
mod manifests;

/// The cluster of a kubeconfig, found as kubectl finds it.
mod cluster;

/// How verdicts are written.
mod output;

/// Reports for a browser.
mod page;

/// What is installed in it.
mod installed;

/// Options that some commands share.
mod options;

/// `portcullis audit`.
pub mod audit;

/// `portcullis check`.
pub mod check;

/// `portcullis doctor`.
pub mod doctor;

/// `portcullis explain`.
pub mod explain;

/// `portcullis parity`.
pub mod parity;

/// `portcullis report`.
pub mod report;

/// `portcullis settings`.
pub mod settings;

/// `portcullis why`.
pub mod why;

pub use cluster::ClusterError;
pub use options::{ClusterChoice, ClusterOptions, Format};
pub use terminal::Color;
