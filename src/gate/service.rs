//! The data path as a whole: its ports, its bounds, and its life from listening to drained.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use socket2::Socket;

/// One port that the gate stands in front of.
#[derive(Debug)]
pub struct Port {
    /// Bound, not listening: the data path calls `listen`, for `tcp` only at the first opening, so that until then
    /// clients are refused by the kernel as if nothing were there.
    pub socket: Socket,
    /// Addresses of the app, all of them the same port of the same app: tried in order, the last that worked first.
    pub app: Vec<SocketAddr>,
    /// What is spoken on the port.
    pub protocol: Protocol,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0, HTTP/1.1 and HTTP/2 without TLS, told apart by the client's first bytes.
    Http,
    /// Anything else over TCP, TLS included.
    Tcp,
}

/// The bounds and habits of the data path.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bounds of the hold queue.
    pub hold: HoldLimits,
    /// How long a request waits for a place in a full ramp step. 250 ms by default.
    pub ramp_wait: Duration,
    /// How an HTTP/2 request is refused.
    pub grpc_refusal: GrpcRefusal,
    /// Client connections that may be open at a time; each takes up to two file descriptors.
    pub max_connections: NonZeroUsize,
}

/// Bounds of the hold queue.
#[derive(Debug, Clone, Copy)]
pub struct HoldLimits {
    /// Requests that may be held at a time; 0 refuses at once whatever would be held.
    pub max_requests: usize,
    /// Bytes that held requests may take together. Bodies are never read while held, so these are their heads.
    pub max_bytes: usize,
    /// How long a request may be held.
    pub max_wait: Duration,
    /// Whether HTTP ports, too, do not listen before the first opening.
    pub refuse_to_accept: bool,
}

/// How a gRPC request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GrpcRefusal {
    /// As every other HTTP/2 request: `RST_STREAM` with `REFUSED_STREAM`, which says that nothing was processed
    /// (RFC 9113, section 8.7).
    #[default]
    RefusedStream,
    /// As a response with `grpc-status: 14` (UNAVAILABLE), for clients that do not retry a refused stream.
    Unavailable,
}
