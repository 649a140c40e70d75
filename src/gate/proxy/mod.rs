//! HTTP between client and app: bytes are passed on, heads are read strictly and written anew.
//!
//! Each client connection has a connection to the app of its own, opened with its first request:
//! no pool, so no request of one client ever follows another client's on one connection.

// Memory for bytes on their way.
mod buffer;
mod pipe;

// What a field means to a proxy.
mod fields;

// A head from the client, and one from the app.
mod request;
mod response;

// A body, and how it is framed.
mod body;
mod chunked;

// What the gate answers by itself.
mod refusal;

// One request at the app.
mod exchange;

// One client connection.
mod http1;

// The same for HTTP/2.
mod http2;

pub(super) use body::copy;
pub(super) use buffer::{Blocks, Buffer};
pub(super) use http1::serve;
