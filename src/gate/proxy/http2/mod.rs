//! One client connection of HTTP/2 by prior knowledge, and the app's HTTP/2 connection behind it.
//!
//! Streams go to the app as streams: nothing is translated to HTTP/1, so nothing can be smuggled
//! on the way, and trailers, interim responses and both directions at once need no special care.

// The app's side.
mod upstream;

// Bytes of one direction of a stream.
mod pipe;

// One request.
mod stream;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use h2::server;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use self::{
    stream::{Ended, Exchange},
    upstream::Upstream,
};
use super::buffer::Buffer;
use crate::gate::{dial::App, path::Path, rewind::Rewind};

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

/// What every client of HTTP/2 begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a client whose first bytes, already read, are those of HTTP/2.
pub(super) async fn serve(path: Arc<Path>, app: Arc<App>, client: TcpStream, first: Buffer) {
    let handshake = server::Builder::new()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .max_send_buffer_size(SEND_BUFFER)
        .initial_window_size(HELD_WINDOW)
        .initial_connection_window_size(HELD_WINDOW)
        .handshake(Rewind::new(first, client));
    let Ok(Ok(connection)) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
        return;
    };
    let upstream = Arc::new(Upstream::new(app));
    run(path, upstream, connection).await;
}

async fn run(
    path: Arc<Path>,
    upstream: Arc<Upstream>,
    mut connection: server::Connection<Rewind, Bytes>,
) {
    let mut valve = path.valve.clone();
    let mut streams = JoinSet::new();
    let (mut leaving, mut raised) = (false, false);
    let mut unanswered = 0_usize;
    loop {
        if !leaving && path.admission.is_closing() {
            // Two steps: a GOAWAY that refuses nothing, and one that names the last stream when
            // the client has certainly read the first.
            connection.graceful_shutdown();
            leaving = true;
        }
        if !raised && !path.admission.is_closed() {
            connection.set_target_window_size(OPEN_WINDOW);
            // Fails only while an earlier change is not acknowledged, and there was none.
            raised = connection.set_initial_window_size(OPEN_WINDOW).is_ok();
        }
        // Not biased: the connection must be driven while streams end, and streams must be
        // cleared away while requests come. All three arms are cancel-safe.
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (path, upstream) = (Arc::clone(&path), Arc::clone(&upstream));
                    streams.spawn(Exchange::new(path, upstream, respond).run(request));
                }
                // The end, or an error after which there is nothing but the end.
                Some(Err(_)) | None => return,
            },
            Some(ended) = streams.join_next() => {
                unanswered = match ended {
                    Ok(Ended::Unanswered) => unanswered + 1,
                    Ok(Ended::Answered) | Err(_) => unanswered.saturating_sub(1),
                };
                if unanswered > MAX_UNANSWERED {
                    connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
                }
            }
            _ = valve.changed() => {}
        }
    }
}
