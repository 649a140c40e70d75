//! The client's connection as the HTTP/2 library sees it: bytes that were read before come first, a
//! GOAWAY of the gate's own goes out between two frames, and the end is gentle.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

use super::super::buffer::Buffer;
use crate::gate::{
    inflight::{Busy, InFlight},
    socket::LINGER_BYTES,
};

/// GOAWAY with the highest stream there can be and NO_ERROR (RFC 9113, section 6.8): the client is
/// to open no more streams, and none that it has opened is refused.
const GOING_AWAY: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, // 8 bytes of GOAWAY, no flags, on the connection itself
    0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0,
];

/// How long a client may be silent while it reads the end, and how long that may take: what nginx
/// allows by `lingering_timeout` and `lingering_time`.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
const LINGER: Duration = Duration::from_secs(30);

/// The connection.
#[derive(Debug)]
pub(super) struct Wire {
    first: Buffer,
    stream: TcpStream,
    notice: Notice,
    /// What is left of a GOAWAY that has begun.
    unsent: &'static [u8],
    in_flight: InFlight,
    /// The kernel has not taken all that the library wrote.
    clogged: Option<Busy>,
    farewell: Option<Farewell>,
}

/// Has the wire say that the gate goes away.
///
/// The library's own graceful shutdown sends that GOAWAY and a PING at once, and refuses what
/// comes after the answer to the PING. But its client side, and so every client built on it,
/// answers a PING before it sends the requests that are already under way: they would be refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Notice(Arc<AtomicBool>);

/// The wait for the client's end after the gate's own.
#[derive(Debug)]
struct Farewell {
    quiet: Pin<Box<Sleep>>,
    end: Instant,
    bytes_left: usize,
    /// A drain waits for the client to have read everything.
    _busy: Busy,
}

// === impl Wire ===

impl Wire {
    pub(super) fn new(first: Buffer, stream: TcpStream, in_flight: InFlight) -> Self {
        Self {
            first,
            stream,
            notice: Notice::default(),
            unsent: &[],
            in_flight,
            clogged: None,
            farewell: None,
        }
    }

    pub(super) fn notice(&self) -> Notice {
        self.notice.clone()
    }

    /// Notes whether a drain has to wait for the kernel to take more.
    fn note<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() && self.clogged.is_none() {
            self.clogged = Some(self.in_flight.enter());
        }
        written
    }

    /// Finishes a GOAWAY that has begun.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, self.unsent))?;
            self.unsent = match self.unsent.get(written..) {
                Some(rest) if written > 0 => rest,
                _ => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let filled = self.first.filled();
        let here = filled.get(..into.remaining()).unwrap_or(filled);
        into.put_slice(here);
        let handled = here.len();
        self.first.consume(handled);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(context))?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(context))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The library flushes when it has written whole frames, and at no other time.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.notice.is_due() {
            self.unsent = &GOING_AWAY;
        }
        self.clogged = None;
        ready!(self.poll_unsent(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Ends the gate's side and waits for the client's end. Were the connection closed at once, the
    /// next WINDOW_UPDATE of a client that still reads would meet a reset, and it would lose what
    /// it has not read.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.farewell.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            self.farewell = Some(Farewell::begin(&self.in_flight));
        }
        let Self {
            stream, farewell, ..
        } = &mut *self;
        match farewell {
            Some(farewell) => farewell.poll(stream, context).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

// === impl Notice ===

impl Notice {
    /// Orders the GOAWAY; it goes out when the connection is driven next.
    pub(super) fn give(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

// === impl Farewell ===

impl Farewell {
    fn begin(in_flight: &InFlight) -> Self {
        let now = Instant::now();
        Self {
            quiet: Box::pin(sleep_until(now + SILENCE)),
            end: now + LINGER,
            bytes_left: LINGER_BYTES,
            _busy: in_flight.enter(),
        }
    }

    /// Reads what the client still says, until it ends or is silent for too long.
    fn poll(&mut self, stream: &mut TcpStream, context: &mut Context<'_>) -> Poll<()> {
        let mut waste = [0; 1024];
        loop {
            let mut into = ReadBuf::new(&mut waste);
            match Pin::new(&mut *stream).poll_read(context, &mut into) {
                Poll::Ready(Ok(())) if !into.filled().is_empty() => {
                    let now = Instant::now();
                    self.bytes_left = self.bytes_left.saturating_sub(into.filled().len());
                    if now >= self.end || self.bytes_left == 0 {
                        return Poll::Ready(());
                    }
                    self.quiet.as_mut().reset(self.end.min(now + SILENCE));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.quiet.as_mut().poll(context),
            }
        }
    }
}
