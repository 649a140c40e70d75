//! The rules over what a cluster holds already: every workload judged as if it were created now.
//!
//! ```text
//! kinds -> walk: lists page by page -> owner: judged through another? --no--> judge <--facts--> API server
//!                                                                               |
//!                       policy_report <-- report <-- record: what is kept of one, small
//! ```

/// Who is judged through the object that controls it.
mod owner;

/// Text that many records have in common, held once.
mod texts;

/// What is kept of one workload.
pub mod record;

/// Lists, judged page by page.
pub mod walk;

/// A namespace's records as an object that policy tools read.
pub mod policy_report;

/// All records, in order, and what can be said of them together.
pub mod report;

pub(crate) use owner::Object;
pub use record::{Claim, Effect, Record, Violation};
pub use report::{NamespaceSummary, Report, Unread};
pub use walk::{Batch, Scope, Walk};
