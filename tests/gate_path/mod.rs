//! The gate's data path between real sockets: a client and an app that say exactly what the test says.

mod harness;

// Requests one by one.
mod http1;
mod http2;
