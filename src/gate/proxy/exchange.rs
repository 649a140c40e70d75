//! One request at the app: both directions at once, since an app may answer before it has read all.

use std::{
    io,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::{net::TcpStream, time::Instant};

use super::{
    body::{Body, Broken, Chunks, Flow},
    buffer::Buffer,
    request::Request,
    response::{self, Response},
};
use crate::gate::{path::Path, queue::Slot, socket, switch::LossKind, tunnel::Side};

/// Interim responses before the final one: far more than any app sends.
const MAX_INTERIM: usize = 16;

/// A request that may go to the app, and the connections of both sides.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) path: &'a Path,
    pub(super) request: &'a Request,
    pub(super) client: &'a TcpStream,
    pub(super) inbound: &'a mut Buffer,
    pub(super) app: &'a mut Side,
    /// The place in the ramp's step, free again when the response's head has come.
    pub(super) slot: Option<Slot>,
}

/// Why a request got no whole response.
#[derive(Debug)]
pub(super) enum Failure {
    /// The app closed the connection without a byte of an answer.
    NoAnswer {
        /// No byte of the request was sent.
        unsent: bool,
        /// How it closed.
        kind: LossKind,
        /// What the request may still use.
        slot: Option<Slot>,
    },
    /// The app closed the connection within the head of its answer.
    BrokeOff(LossKind),
    /// The app's answer is none; the client has got nothing of it.
    Garbage,
    /// The request's body is malformed; the client has got no answer.
    Malformed,
    /// The client has left.
    ClientGone,
    /// The client has got a part of a response that has no good end.
    Cut,
    /// The same, and it was the app that broke off.
    CutByApp(LossKind),
}

/// What the two directions tell each other.
#[derive(Debug, Default)]
struct Progress {
    /// The request was sent whole.
    sent: AtomicBool,
    /// The final response has begun.
    answered: AtomicBool,
}

/// The direction from the app to the client.
#[derive(Debug)]
struct Download<'a> {
    path: &'a Path,
    request: &'a Request,
    client: &'a TcpStream,
    app: &'a TcpStream,
    buffer: &'a mut Buffer,
    slot: Option<Slot>,
    asked: Instant,
    progress: &'a Progress,
    /// The app has sent at least a byte.
    has_spoken: bool,
}

// === impl Exchange ===

impl Exchange<'_> {
    /// Sends the request and passes the response on.
    pub(super) async fn run(self, head: &[u8]) -> Result<Response, Failure> {
        let Self {
            path,
            request,
            client,
            inbound,
            app: Side { stream, buffer },
            slot,
        } = self;
        let app = &*stream;
        let progress = &Progress::default();
        let (blocks, body) = (&path.blocks, request.body);
        let chunks = Chunks::Keep;
        let mut up = Flow {
            from: client,
            to: app,
            buffer: inbound,
            blocks,
            body,
            chunks,
            half_closed: None,
        };
        let asked = Instant::now();
        let has_spoken = false;
        let mut down = Download {
            path,
            request,
            client,
            app,
            buffer,
            slot,
            asked,
            progress,
            has_spoken,
        };
        if body.is_done() {
            // Most requests: their directions follow each other.
            return match up.run(head).await {
                Ok(()) => {
                    progress.sent.store(true, Ordering::Relaxed);
                    down.run().await
                }
                Err(Broken::Sink(error)) => Err(down.no_answer(!error.started, LossKind::Reset)),
                Err(_) => Err(Failure::ClientGone),
            };
        }
        let (sending, receiving) = (pin!(up.run(head)), pin!(down.run()));
        both(sending, receiving, progress).await
    }
}

/// Drives both directions until the response is whole or one of them fails.
async fn both(
    mut sending: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    mut receiving: Pin<&mut impl Future<Output = Result<Response, Failure>>>,
    progress: &Progress,
) -> Result<Response, Failure> {
    let mut refused_unsent = false;
    let mut sent = false;
    loop {
        // Biased: a response that is whole needs no more of the request. Both futures live until
        // the end, so that nothing is lost by a turn that the other one takes.
        tokio::select! {
            biased;
            response = &mut receiving => return match response {
                Ok(response) => {
                    let app_keeps = response.app_keeps && progress.is_sent();
                    Ok(Response { app_keeps, ..response })
                }
                Err(Failure::NoAnswer { kind, slot, .. }) => {
                    Err(Failure::NoAnswer { unsent: refused_unsent, kind, slot })
                }
                Err(failure) => Err(failure),
            },
            end = &mut sending, if !sent => {
                sent = true;
                match end {
                    Ok(()) => progress.sent.store(true, Ordering::Relaxed),
                    // It may have answered before it stopped reading.
                    Err(Broken::Sink(error)) => refused_unsent = !error.started,
                    Err(_) if progress.answered.load(Ordering::Relaxed) => {
                        return Err(Failure::Cut);
                    }
                    Err(Broken::Malformed(_)) => return Err(Failure::Malformed),
                    Err(Broken::Source(_) | Broken::Abandoned) => {
                        return Err(Failure::ClientGone);
                    }
                }
            }
        }
    }
}

// === impl Progress ===

impl Progress {
    fn is_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }
}

// === impl Download ===

impl Download<'_> {
    /// Passes on interim responses, the final one's head and its body.
    async fn run(&mut self) -> Result<Response, Failure> {
        let mut interim = 0;
        loop {
            let (head, response) = self.head().await?;
            let passed = match response.status {
                101 if self.request.upgrade && self.progress.is_sent() => {
                    self.answered(response.status);
                    self.write(&head).await
                }
                101 => Err(Failure::Garbage),
                100..200 if interim == MAX_INTERIM => Err(Failure::Garbage),
                100..200 if self.request.is_http10 => Ok(()),
                100..200 => self.write(&head).await,
                _ => {
                    self.answered(response.status);
                    self.body(&head, response.body).await
                }
            };
            passed?;
            if response.status >= 200 || response.status == 101 {
                return Ok(response);
            }
            interim += 1;
        }
    }

    /// Reads a head, and writes it for the client.
    async fn head(&mut self) -> Result<(Vec<u8>, Response), Failure> {
        loop {
            if !self.buffer.is_empty() {
                let mut head = self.path.blocks.take();
                // A body that is still under way would be read as the next request.
                let closing = self.path.admission.is_closing() || !self.progress.is_sent();
                match response::read(self.buffer.filled(), self.request, closing, &mut head) {
                    Ok(Some((length, response))) => {
                        self.buffer.consume(length);
                        // A body may take long; its head takes no more than it needs meanwhile.
                        let small = head.as_slice().to_vec();
                        self.path.blocks.give(head);
                        return Ok((small, response));
                    }
                    Ok(None) => self.path.blocks.give(head),
                    Err(response::Garbage) => return Err(Failure::Garbage),
                }
            }
            match self.buffer.read(self.app, &self.path.blocks) {
                Ok(0) => return Err(self.broke_off(LossKind::ClosedBusy)),
                Ok(_) => self.has_spoken = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait().await?,
                Err(_) => return Err(self.broke_off(LossKind::Reset)),
            }
        }
    }

    async fn wait(&mut self) -> Result<(), Failure> {
        self.buffer.release(&self.path.blocks);
        let wait = self.path.client.half_closed;
        // Biased: an answer that has come is passed on. Both arms are cancel-safe.
        tokio::select! {
            biased;
            // An error shows itself when the socket is read.
            _ = socket::readable(self.app) => Ok(()),
            () = socket::abandoned_by_client(self.client, wait) => Err(Failure::ClientGone),
        }
    }

    async fn body(&mut self, head: &[u8], body: Body) -> Result<(), Failure> {
        let chunks = if self.request.is_http10 {
            Chunks::Unwrap
        } else {
            Chunks::Keep
        };
        let (from, to, blocks) = (self.app, self.client, &self.path.blocks);
        let mut flow = Flow {
            from,
            to,
            buffer: self.buffer,
            blocks,
            body,
            chunks,
            half_closed: Some(self.path.client.half_closed),
        };
        flow.run(head).await.map_err(|broken| match broken {
            Broken::Source(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Failure::CutByApp(LossKind::ClosedBusy)
            }
            Broken::Source(_) => Failure::CutByApp(LossKind::Reset),
            Broken::Malformed(_) => Failure::Cut,
            Broken::Sink(_) | Broken::Abandoned => Failure::ClientGone,
        })
    }

    async fn write(&self, head: &[u8]) -> Result<(), Failure> {
        let written = socket::write_all(self.client, [head, &[], &[]]).await;
        written.map_err(|_| Failure::ClientGone)
    }

    /// Notes that the final response, or 101, has come.
    fn answered(&mut self, status: u16) {
        self.slot = None;
        self.progress.answered.store(true, Ordering::Relaxed);
        self.path.traffic.latency.record(self.asked.elapsed());
        self.path.traffic.responded(status);
    }

    fn broke_off(&mut self, kind: LossKind) -> Failure {
        if self.has_spoken {
            Failure::BrokeOff(kind)
        } else {
            self.no_answer(false, kind)
        }
    }

    fn no_answer(&mut self, unsent: bool, kind: LossKind) -> Failure {
        Failure::NoAnswer {
            unsent,
            kind,
            slot: self.slot.take(),
        }
    }
}
