//! One connection from accept to end: handshake, requests one after the other, and how it ended.

use std::any::Any;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Counter, Gauge};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::serve::{Handler, Shared};

/// How a connection ended, as a metric's label.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Ended {
    /// Closed between two requests, by either side.
    Closed,
    /// Kept alive, but no further request head came within the idle limit.
    Idle,
    /// No TLS, or TLS that this server does not speak, or a client that does not trust the certificate.
    HandshakeFailed,
    /// The handshake was not done in time.
    HandshakeTimeout,
    /// The first request head was not complete in time.
    HeaderTimeout,
    /// Bytes that are no HTTP/1 request, or a head over the limit.
    BadRequest,
    /// The client went away, or its connection broke, while a request was under way.
    ClientLeft,
    /// Still busy when the time for shutting down was over.
    CutOff,
}

/// What a TLS handshake cost, as a metric's label.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Handshake {
    /// A signature and a key exchange.
    Full,
    /// From a ticket of an earlier connection: no signature.
    Resumed,
}

/// What a server counts. The names belong to who serves.
#[derive(Clone, Debug)]
pub struct Meters {
    /// Connections now open.
    pub open: Gauge,
    /// Failed accepts for want of descriptors or memory.
    pub accept_errors: Counter,
    /// Requests answered 500 because their handler panicked.
    pub panics: Counter,
    ended: BTreeMap<Ended, Counter>,
    handshakes: BTreeMap<Handshake, Counter>,
}

/// What becomes of one connection's requests: shared by its service and its timer.
#[derive(Debug, Default)]
struct Progress {
    served: AtomicBool,
    left: AtomicBool,
}

/// Set down in [`Progress`] that the request was dropped before it was answered, unless it was answered.
struct Answering<'a> {
    progress: &'a Progress,
    answered: bool,
}

// === impl Ended ===

impl Ended {
    /// Every way to end, in the order of a connection's life.
    pub const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Idle,
        Self::HandshakeFailed,
        Self::HandshakeTimeout,
        Self::HeaderTimeout,
        Self::BadRequest,
        Self::ClientLeft,
        Self::CutOff,
    ];

    /// The label's value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Idle => "idle",
            Self::HandshakeFailed => "handshake_failed",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::HeaderTimeout => "header_timeout",
            Self::BadRequest => "bad_request",
            Self::ClientLeft => "client_left",
            Self::CutOff => "cut_off",
        }
    }

    fn of(error: &hyper::Error) -> Self {
        if error.is_timeout() {
            Self::Idle // the first head has a timer of its own
        } else if error.is_parse() {
            Self::BadRequest
        } else {
            Self::ClientLeft
        }
    }
}

// === impl Handshake ===

impl Handshake {
    /// Both kinds.
    pub const ALL: &'static [Self] = &[Self::Full, Self::Resumed];

    /// The label's value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
        }
    }
}

// === impl Meters ===

impl Meters {
    /// Counters from the side that names them: one of each label's value.
    pub fn new(
        ended: impl Fn(Ended) -> Counter,
        handshakes: impl Fn(Handshake) -> Counter,
    ) -> Self {
        Self {
            open: Gauge::noop(),
            accept_errors: Counter::noop(),
            panics: Counter::noop(),
            ended: Ended::ALL.iter().map(|how| (*how, ended(*how))).collect(),
            handshakes: Handshake::ALL
                .iter()
                .map(|kind| (*kind, handshakes(*kind)))
                .collect(),
        }
    }

    /// Counts nothing: for a listener that nobody needs to watch.
    pub fn unwatched() -> Self {
        Self::new(|_| Counter::noop(), |_| Counter::noop())
    }

    pub(super) fn count_end(&self, how: Ended) {
        if let Some(counter) = self.ended.get(&how) {
            counter.increment(1);
        }
    }

    fn count_handshake(&self, kind: Option<HandshakeKind>) {
        let kind = match kind {
            Some(HandshakeKind::Resumed) => Handshake::Resumed,
            Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) | None => {
                Handshake::Full
            }
        };
        if let Some(counter) = self.handshakes.get(&kind) {
            counter.increment(1);
        }
    }
}

// === impl Answering ===

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.progress.left.store(true, Ordering::Relaxed);
        }
    }
}

/// Serves one accepted connection to its end.
pub(super) async fn run<H: Handler>(stream: TcpStream, handler: H, shared: &Shared) -> Ended {
    // Without it, an answer in two small writes waits 40 ms for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection gone before its first byte");
        return Ended::Closed;
    }
    let Some(tls) = &shared.tls else {
        return serve_http(stream, handler, shared).await;
    };
    let accept = TlsAcceptor::from(tls.config()).accept(stream);
    match timeout(shared.limits.handshake_timeout, accept).await {
        Ok(Ok(stream)) => {
            shared
                .meters
                .count_handshake(stream.get_ref().1.handshake_kind());
            serve_http(stream, handler, shared).await
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            Ended::HandshakeFailed
        }
        Err(_) => Ended::HandshakeTimeout,
    }
}

async fn serve_http<IO, H>(io: IO, handler: H, shared: &Shared) -> Ended
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Handler,
{
    let limits = &shared.limits;
    let progress = &Progress::default();
    let service = service_fn(move |request| {
        progress.served.store(true, Ordering::Relaxed);
        answer(handler.clone().oneshot(request), progress, shared)
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle_timeout) // hyper's runs from the end of the last answer
            .max_header_size(limits.header_bytes)
            .max_buf_size(limits.buffer_bytes)
            .serve_connection(TokioIo::new(io), service)
    );
    let mut first_head = pin!(sleep(limits.header_timeout));
    let mut awaiting_first = true;
    let mut stopping = false;
    let outcome = loop {
        tokio::select! {
            biased; // the connection first: what it has done decides over both timers
            outcome = connection.as_mut() => break outcome,
            // Cancel-safe, as is `sleep`: neither holds anything but its place in a list.
            () = shared.stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = first_head.as_mut(), if awaiting_first => {
                awaiting_first = false;
                if !progress.served.load(Ordering::Relaxed) {
                    return Ended::HeaderTimeout;
                }
            }
        }
    };
    match outcome {
        _ if progress.left.load(Ordering::Relaxed) => Ended::ClientLeft,
        Ok(()) => Ended::Closed,
        Err(error) => {
            tracing::debug!(%error, "connection ended early");
            Ended::of(&error)
        }
    }
}

/// One answer: the service's, or 500 if it panicked; with `Connection: close` once the server is leaving.
async fn answer<B>(
    call: impl Future<Output = Result<Response<B>, Infallible>>,
    progress: &Progress,
    shared: &Shared,
) -> Result<Response<Either<B, Full<Bytes>>>, Infallible> {
    let mut answering = Answering {
        progress,
        answered: false,
    };
    let outcome = unwinding(call).await;
    answering.answered = true;
    let mut response = match outcome {
        Ok(Ok(response)) => response.map(Either::Left),
        Err(_) => {
            // The panic's own text is in the log: the hook of `telemetry` wrote it where it happened.
            shared.meters.panics.increment(1);
            let body = Bytes::from_static(b"this request met a bug; others are not affected\n");
            let mut response = Response::new(Either::Right(Full::new(body)));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    if shared.leaving.load(Ordering::Relaxed) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Runs a future, and hands a panic in it to the caller.
///
/// `AssertUnwindSafe`: the future is never polled again, and what it shares with others is behind locks and
/// atomics.
async fn unwinding<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}
