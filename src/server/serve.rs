//! The accept loop, and the order in which a server leaves.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::connection::{self, Ended, Meters};
use super::listener::accept;

/// The bounds of a server. Each program gives the reason beside its own values.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; what is beyond waits in the kernel's backlog.
    pub connections: usize,
    /// From the accept to the end of the TLS handshake.
    pub handshake_timeout: Duration,
    /// From the handshake to the end of the first request's head.
    pub header_timeout: Duration,
    /// From one answer to the end of the next request's head; `None` keeps idle connections for ever.
    pub idle_timeout: Option<Duration>,
    /// The request line and all headers together.
    pub header_bytes: usize,
    /// Read buffer of one connection; at least 8192.
    pub buffer_bytes: usize,
    /// From the shutdown signal to the end of accepting: those who have yet to hear that we leave still get an
    /// answer, with `Connection: close`.
    pub drain_delay: Duration,
    /// From the end of accepting to the end of the process's patience with requests in flight.
    pub shutdown_timeout: Duration,
}

/// What can be served: any tower service that answers every request, cloned for each.
pub trait Handler:
    Service<Request<Incoming>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
    /// The body of its answers.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static;
}

/// How a listener speaks TLS. The certificate is the resolver's of its configuration, and may change at any time.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ServerConfig>);

/// What each connection looks at.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) tls: Option<Tls>,
    pub(super) limits: Limits,
    pub(super) meters: Meters,
    /// Set with the shutdown signal: every answer ends its connection.
    pub(super) leaving: AtomicBool,
    /// Cancelled when accepting has ended: idle connections close.
    pub(super) stop: CancellationToken,
}

/// One more open connection, for as long as it lives.
struct Open(Arc<Shared>);

// === impl Handler ===

impl<S, B> Handler for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    type Body = B;
}

// === impl Tls ===

impl Tls {
    /// TLS by this configuration.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(config)
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0)
    }
}

// === impl Open ===

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.meters.open.increment(1.0);
        Self(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.meters.open.decrement(1.0);
    }
}

/// Serves until `shutdown` resolves and the last connection has ended, or `shutdown_timeout` is over.
///
/// Each connection is one task with its own clone of `handler`, cloned again for each request. A panic in a
/// request answers 500 to that request, and the connection lives on. TLS where `tls` is given.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Option<Tls>,
    handler: H,
    (limits, meters): (Limits, Meters),
    shutdown: impl Future<Output = ()>,
) {
    let leaving = AtomicBool::new(false);
    let stop = CancellationToken::new();
    let shared = Arc::new(Shared {
        tls,
        limits,
        meters,
        leaving,
        stop,
    });
    let connections = TaskTracker::new();
    let cut_off = CancellationToken::new();
    let accepting = accept_all(&listener, handler, &shared, (&connections, &cut_off));
    let until = async {
        shutdown.await;
        shared.leaving.store(true, Ordering::Relaxed);
        sleep(limits.drain_delay).await;
    };
    tokio::select! {
        biased; // shutdown first, or a flood of connections could hold it up
        () = until => {}
        // Cancel-safe: a connection is either in the backlog or handed to its task, never between.
        () = accepting => {}
    }
    drop(listener);
    shared.stop.cancel();
    connections.close();
    if timeout(limits.shutdown_timeout, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "cut off connections that were still busy"
        );
        cut_off.cancel();
        connections.wait().await;
    }
}

async fn accept_all<H: Handler>(
    listener: &TcpListener,
    handler: H,
    shared: &Arc<Shared>,
    (connections, cut_off): (&TaskTracker, &CancellationToken),
) {
    let permits = Arc::new(Semaphore::new(shared.limits.connections));
    loop {
        // The permit first: a connection that can't be served yet is better kept by the kernel than by us.
        let permit = Arc::clone(&permits)
            .acquire_owned()
            .await
            .expect("nobody closes this semaphore");
        let (stream, _) = accept(listener, &shared.meters.accept_errors).await;
        let (handler, cut_off) = (handler.clone(), cut_off.clone());
        let open = Open::new(shared);
        connections.spawn(async move {
            let shared = &open.0;
            let running = connection::run(stream, handler, shared);
            let how = cut_off
                .run_until_cancelled(running)
                .await
                .unwrap_or(Ended::CutOff);
            shared.meters.count_end(how);
            drop(permit);
        });
    }
}
