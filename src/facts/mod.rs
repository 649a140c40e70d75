//! Answers the judge's questions: live from the API server, or from given files.
//!
//! ```text
//! judge --Ask(queries)--> live:  cache -> flights -> API server -> keys / decode --+
//!   ^                     files: an index of the given documents                   |
//!   +------------------------------- answers --------------------------------------+
//! ```

/// What the service account may do, one table.
pub mod access;

/// The key names of a Secret or ConfigMap, read from its bytes as they pass.
mod keys;

/// What an API server's objects say, as answers.
mod decode;

/// What its Services and NetworkPolicies say.
mod network;

/// Which Secrets they declare.
mod producers;

/// Lists, page by page.
mod page;

/// Lists of workloads, however long.
mod pages;

/// Positive answers, remembered for a short time.
mod cache;

/// Questions that are under way.
mod flight;

/// One request, and what is said in place of its answer.
mod exchange;

/// One question, and what its answer means.
mod request;

/// What lookups are counted by.
mod meters;

/// Live answers.
pub mod live;

/// Answers from given documents.
pub mod files;

pub use files::Files;
pub use live::{Live, Step};
pub use meters::{Fact, Meters, Outcome};
pub use page::Page;
pub use pages::{Pages, Unlisted};

/// An API server that behaves as a test tells it to.
#[cfg(test)]
pub(crate) mod testing;
