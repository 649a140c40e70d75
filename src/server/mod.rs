//! What both programs serve with: listener, accept loop, TLS, admin endpoints, readiness and a graceful end.
//!
//! ```text
//! listener -> permit -> TLS handshake -> HTTP/1.1 keep-alive -> service      one task a connection
//!    ^                                        ^
//!    |  shutdown: answers say `Connection: close` for `drain_delay`, then accepting ends,
//!    +----------- idle connections close, and what is in flight has `shutdown_timeout` to finish
//! ```
//!
//! Nothing here knows what is served: listener, service, limits, counters and the shutdown signal are passed in.

pub(crate) mod listener;

mod connection;

mod serve;

mod readiness;

mod admin;

mod signal;

pub use admin::Admin;
pub use connection::{Ended, Handshake, Meters};
pub use listener::{BindError, bind};
pub use readiness::{Latch, Readiness};
pub use serve::{Handler, Limits, Tls, serve};
pub use signal::terminated;
