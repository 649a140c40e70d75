//! One client connection of HTTP/2 by prior knowledge, and the app's HTTP/2 connection behind it.
//!
//! Streams go to the app as streams: nothing is translated to HTTP/1, so nothing can be smuggled
//! on the way, and trailers, interim responses and both directions at once need no special care.

// The client's side.
mod wire;

// The app's side.
mod upstream;

// Bytes of one direction of a stream.
mod pipe;

// Heads: the request for the app, and what the gate answers.
mod head;

// One request.
mod stream;

use std::{future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::server;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use self::{
    stream::{Ended, Exchange},
    upstream::Upstream,
    wire::{Notice, Wire},
};
use super::buffer::Buffer;
use crate::gate::{
    dial::App,
    inflight::{Busy, FIRST_REQUEST},
    path::Path,
};

/// How long a client may take from the preface to its settings.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams at a time: what gRPC servers commonly allow is 100, what browsers open is less.
const MAX_STREAMS: u32 = 256;

/// Largest header list; the same as HTTP/1's largest head. `h2` derives from it how many
/// CONTINUATION frames it takes.
const MAX_HEADERS: u32 = 32 * 1024;

/// Resets of streams that nobody has looked at yet, before the connection is closed: answers the
/// crudest rapid reset (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;

/// How many more streams a client may reset before their answer than it lets be answered: answers
/// every other rapid reset. All streams of a held connection may run into their timeouts a few times.
const MAX_UNANSWERED: usize = 1000;

/// Resets that a client's own faults may provoke on one connection: answers MadeYouReset
/// (CVE-2025-8671).
const MAX_PROVOKED_RESETS: usize = 256;

/// What a connection may have sent that nobody has read, while its requests are held. Bodies are
/// not read then, so this is all that they can take; it is also the protocol's own default.
const HELD_WINDOW: u32 = 65_535;

/// The same once requests pass: enough for 100 MB/s at 10 ms.
const OPEN_WINDOW: u32 = 1 << 20;

/// What a stream may have sent that the other side has not taken.
const SEND_BUFFER: usize = 64 * 1024;

/// How long a client that was told to go elsewhere may take to stop opening streams. RFC 9113,
/// section 6.8, asks for a round trip at least; Go's HTTP/2 server takes a second for it, too.
const GRACE: Duration = Duration::from_secs(1);

/// How long a drain waits for the answer to a PING: as long as for a sign of life at the end.
const PONG_WAIT: Duration = wire::SILENCE;

/// What every client of HTTP/2 begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How far a client was told that the gate goes away.
#[derive(Debug)]
enum Leave {
    /// Not at all. A drain waits until then for its first request, should it have come late.
    Untold { owed: Option<(Instant, Busy)> },
    /// It is to open no more streams; from then on they are refused.
    Told { until: Instant, busy: Busy },
    /// Streams that it opens are refused once it has answered a PING, which it does when it has
    /// read all that came before. A drain waits until then for that.
    Final { until: Instant, _busy: Busy },
    /// It does not answer.
    Given,
}

/// Serves a client whose first bytes, already read, are those of HTTP/2. A drain waits for its first
/// request by `busy`.
pub(super) async fn serve(
    path: Arc<Path>,
    app: Arc<App>,
    client: TcpStream,
    first: Buffer,
    busy: Option<Busy>,
) {
    let wire = Wire::new(first, client, path.in_flight.clone());
    let notice = wire.notice();
    let handshake = server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .max_send_buffer_size(SEND_BUFFER)
        .initial_window_size(HELD_WINDOW)
        .initial_connection_window_size(HELD_WINDOW)
        .handshake(wire);
    let Ok(Ok(connection)) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        return;
    };
    let upstream = Arc::new(Upstream::new(app));
    let owed = busy.map(|busy| (Instant::now() + FIRST_REQUEST, busy));
    run(path, upstream, connection, notice, Leave::Untold { owed }).await;
}

async fn run(
    path: Arc<Path>,
    upstream: Arc<Upstream>,
    mut connection: server::Connection<Wire, Bytes>,
    notice: Notice,
    mut leave: Leave,
) {
    let mut valve = path.valve.clone();
    let mut streams = JoinSet::new();
    let (mut raised, mut unanswered) = (false, 0_usize);
    // Of a stream that has ended, but whose last bytes may still be in the library's memory.
    let mut ended_last: Option<Busy> = None;
    loop {
        if path.admission.is_closing() {
            leave = leave.step(&path, &notice, &mut connection);
        }
        if !raised && !path.admission.is_closed() {
            connection.set_target_window_size(OPEN_WINDOW);
            // Fails only while an earlier change is not acknowledged, and there was none.
            raised = connection.set_initial_window_size(OPEN_WINDOW).is_ok();
        }
        // Not biased: the connection must be driven while streams end, and streams must be
        // cleared away while requests come. All arms are cancel-safe.
        tokio::select! {
            accepted = poll_fn(|context| {
                let polled = connection.poll_accept(context);
                if polled.is_pending() {
                    // By now they are in the kernel's, or keep the wire busy.
                    ended_last = None;
                }
                polled
            }) => match accepted {
                Some(Ok((request, respond))) => {
                    let (path, upstream) = (Arc::clone(&path), Arc::clone(&upstream));
                    let busy = path.in_flight.enter();
                    streams.spawn(Exchange::new(path, upstream, respond).run(request, busy));
                    if let Leave::Untold { owed } = &mut leave {
                        *owed = None;
                    }
                }
                // The end, or an error after which there is nothing but the end.
                Some(Err(_)) | None => return,
            },
            Some(ended) = streams.join_next() => {
                unanswered = match &ended {
                    Ok((Ended::Unanswered, _)) => unanswered + 1,
                    Ok((Ended::Answered, _)) | Err(_) => unanswered.saturating_sub(1),
                };
                ended_last = ended.ok().map(|(_, busy)| busy);
                if unanswered > MAX_UNANSWERED {
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                }
            }
            () = leave.due(), if path.admission.is_closing() => {}
            _ = valve.changed() => {}
        }
    }
}

// === impl Leave ===

impl Leave {
    /// The next step, if its time has come.
    fn step(
        self,
        path: &Path,
        notice: &Notice,
        connection: &mut server::Connection<Wire, Bytes>,
    ) -> Self {
        let now = Instant::now();
        match self {
            // ## Untold => Told
            // By a GOAWAY that refuses nothing.
            Self::Untold { owed } if owed.as_ref().is_none_or(|(until, _)| *until <= now) => {
                notice.give();
                let until = now + GRACE;
                let busy = path.in_flight.enter();
                Self::Told { until, busy }
            }
            // ## Told => Final
            // By the same once more and a PING; its answer brings the GOAWAY that names the last
            // stream.
            Self::Told { until, busy } if until <= now => {
                connection.graceful_shutdown();
                let until = now + PONG_WAIT;
                Self::Final { until, _busy: busy }
            }
            // ## Final => Given
            // The drain goes on without it. Its answer may come later.
            Self::Final { until, .. } if until <= now => Self::Given,
            waiting @ (Self::Untold { .. }
            | Self::Told { .. }
            | Self::Final { .. }
            | Self::Given) => waiting,
        }
    }

    /// Waits until the next step's time has come.
    async fn due(&self) {
        match self {
            Self::Untold {
                owed: Some((at, _)),
            }
            | Self::Told { until: at, .. }
            | Self::Final { until: at, .. } => sleep_until(*at).await,
            Self::Untold { owed: None } => {}
            Self::Given => std::future::pending().await,
        }
    }
}
