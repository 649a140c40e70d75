//! The admission gate's shell: bytes in, bytes out.

/// Options, checked.
pub mod config;

/// Start, serve, leave.
pub mod serve;

/// Files whose content is looked at every so often.
pub mod polled;

/// What is served, and who vouches for it.
pub mod tls;

/// The answer while nothing is judged yet.
mod allow;

/// One table, and the handles that count.
pub mod metrics;

/// Opens the mouth of our webhook configurations.
mod registration;
