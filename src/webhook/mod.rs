//! The admission gate's shell: bytes in, bytes out.

/// Options, checked.
pub mod config;

/// Start, serve, leave.
pub mod serve;

/// Files whose content is looked at every so often.
pub mod polled;

/// The settings in force.
pub mod settings;

/// What is served, and who vouches for it.
pub mod tls;

/// The layers round the service, outermost first.
pub mod stack;

/// The body, read within bounds.
mod body;

/// How many reviews at once, and who passes by the others.
mod shed;

/// An AdmissionReview, as it comes.
pub mod review;

/// One review: bytes to judge and back.
pub mod service;

/// What the API server is told.
pub mod respond;

/// One table, and the handles that count.
pub mod metrics;

/// Opens the mouth of our webhook configurations.
pub(crate) mod registration;

/// The proof that the API server reaches us.
mod proof;

/// Whole reviews in, whole answers out.
#[cfg(test)]
mod goldens;
