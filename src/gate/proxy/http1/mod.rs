//! One client connection of HTTP/1 and the app connection that belongs to it.
//!
//! ```text
//! idle -> head read -> admitted -> sent -> response -> idle
//!          | refused    | refused   |        | 101 -> tunnel
//!          v            v           v        v
//!        answered     answered     sent once more, or 502
//! ```

// From one request to the head of the next.
mod arrival;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{
    buffer::Buffer,
    exchange::{Exchange, Failure},
    http2, refusal,
    request::Request,
    response::Response,
};
use crate::gate::{
    dial::App,
    inflight::{Busy, FIRST_REQUEST},
    path::{Counted, Path},
    queue::{Pass, Verdict},
    reason::Reason,
    socket,
    switch::LossKind,
    tunnel::{self, Side},
};

/// A request that may not be sent twice goes on a connection that was used within this time, or
/// on a new one: apps close idle connections after a second or more, never after this.
const SURELY_KEPT: Duration = Duration::from_millis(50);

/// One client connection.
#[derive(Debug)]
struct Session {
    path: Arc<Path>,
    app: Arc<App>,
    client: TcpStream,
    inbound: Buffer,
    link: Option<Link>,
    /// While a drain has to wait for the client.
    busy: Option<Busy>,
    idle_end: Pin<Box<Sleep>>,
    last_seen: Instant,
}

/// The connection to the app.
#[derive(Debug)]
struct Link {
    side: Side,
    /// Whether a request was answered on it.
    reused: bool,
}

/// A request whose head was read.
#[derive(Debug)]
struct Asked {
    request: Request,
    /// The head as the app gets it.
    head: Vec<u8>,
}

/// What happens to the client connection next.
#[derive(Debug)]
enum Next {
    /// It may send another request.
    Keep,
    /// It has got its last response.
    Close,
    /// It has got a part of a response.
    Reset,
    /// It has left.
    Gone,
    /// It became a tunnel.
    Tunnel(Side),
}

/// Serves a client until one of the two has had enough. A drain waits for its first request by `busy`.
pub(crate) async fn serve(path: Arc<Path>, app: Arc<App>, client: TcpStream, busy: Busy) {
    let last_seen = Instant::now();
    let idle_end = Box::pin(sleep(path.client.idle.min(FIRST_REQUEST)));
    let inbound = Buffer::default();
    let mut session = Session {
        path,
        app,
        client,
        inbound,
        link: None,
        busy: Some(busy),
        idle_end,
        last_seen,
    };
    match session.speaks_http2().await {
        Some(false) => {}
        Some(true) => {
            let Session {
                path,
                app,
                client,
                inbound,
                busy,
                ..
            } = session;
            // Boxed: connections of HTTP/1 need not have the room for it.
            return Box::pin(http2::serve(path, app, client, inbound, busy)).await;
        }
        None => return,
    }
    loop {
        let next = match session.next_request().await {
            Ok(Some(asked)) => session.answer(asked).await,
            Ok(None) => Next::Gone,
            Err(reason) => session.refuse(reason, true, false).await,
        };
        match next {
            Next::Keep => session.busy = None,
            // A drain waits until the client has had the time to read its last response.
            Next::Close => return socket::close_gently(session.client).await,
            Next::Reset => return socket::reset(session.client),
            Next::Gone => return,
            Next::Tunnel(app) => {
                let client = Side {
                    stream: session.client,
                    buffer: session.inbound,
                };
                return tunnel::run(&session.path, client, app).await;
            }
        }
    }
}

// === impl Session ===

impl Session {
    /// Gets a request answered: by the app if it may pass.
    async fn answer(&mut self, asked: Asked) -> Next {
        let Asked { request, head } = asked;
        let pass = match self.path.admission.pass_at_once() {
            Some(pass) => pass,
            None => match self.wait_for_passage(head.len()).await {
                Verdict::Pass(pass) => pass,
                refused @ (Verdict::Refuse(_) | Verdict::ClientGone) => {
                    return self.unserved(refused, &request).await;
                }
            },
        };
        let path = Arc::clone(&self.path);
        let in_flight = Counted::by(&path.traffic.in_flight);
        let next = self.ask(&request, &head, pass).await;
        drop(in_flight);
        self.last_seen = Instant::now();
        next
    }

    async fn wait_for_passage(&self, head: usize) -> Verdict {
        let bytes = head + self.inbound.filled().len();
        self.path
            .admission
            .wait(bytes, socket::closed_by_peer(&self.client))
            .await
    }

    /// Sends a request to the app, a second time only where that can do no harm.
    async fn ask(&mut self, request: &Request, head: &[u8], mut pass: Pass) -> Next {
        loop {
            let mut link = match self.usable_link(request) {
                Some(link) => link,
                None => match self.dial(head.len(), pass).await {
                    Ok((link, passed)) => {
                        pass = passed;
                        link
                    }
                    Err(verdict) => return self.unserved(verdict, request).await,
                },
            };
            let exchange = Exchange {
                path: &self.path,
                request,
                client: &self.client,
                inbound: &mut self.inbound,
                app: &mut link.side,
                slot: pass.slot.take(),
            };
            match exchange.run(head).await {
                Ok(response) if response.status == 101 => return Next::Tunnel(link.side),
                Ok(response) => return self.after(response, link),
                // Unsent, or idempotent and empty: once more, on a new connection.
                Err(Failure::NoAnswer { unsent, kind, slot })
                    if link.reused && (unsent || request.may_repeat()) =>
                {
                    self.path.traffic.retries.increment();
                    self.lost(kind);
                    pass = Pass { slot };
                }
                Err(failure) => return self.failed(failure, link, request).await,
            }
        }
    }

    /// The kept connection, if the request will surely not be lost on it.
    fn usable_link(&mut self, request: &Request) -> Option<Link> {
        let link = self.link.take()?;
        let safe = request.may_repeat()
            || (self.last_seen.elapsed() < SURELY_KEPT && !socket::has_input(&link.side.stream));
        safe.then_some(link)
    }

    async fn dial(&self, bytes: usize, pass: Pass) -> Result<(Link, Pass), Verdict> {
        let gone = || socket::closed_by_peer(&self.client);
        let (stream, pass) = self
            .app
            .dial_patiently(&self.path, bytes, pass, gone)
            .await?;
        let side = Side {
            stream,
            buffer: Buffer::default(),
        };
        Ok((
            Link {
                side,
                reused: false,
            },
            pass,
        ))
    }

    /// What follows a whole response.
    fn after(&mut self, response: Response, mut link: Link) -> Next {
        link.side.buffer.release(&self.path.blocks);
        // Bytes after the response answer nothing that was asked.
        if response.app_keeps && link.side.buffer.is_empty() {
            link.reused = true;
            self.link = Some(link);
        }
        if response.client_keeps {
            Next::Keep
        } else {
            Next::Close
        }
    }

    async fn failed(&mut self, failure: Failure, link: Link, request: &Request) -> Next {
        // Whatever the app has got is not whole, and must not look as if it were.
        socket::reset(link.side.stream);
        match failure {
            Failure::NoAnswer { kind, .. } | Failure::BrokeOff(kind) => {
                self.lost(kind);
                self.refuse(Reason::AppReset, true, request.is_head).await
            }
            Failure::Garbage => self.refuse(Reason::AppGarbage, true, request.is_head).await,
            Failure::Malformed => self.refuse(Reason::BadRequest, true, request.is_head).await,
            Failure::ClientGone => Next::Gone,
            Failure::Cut => Next::Reset,
            Failure::CutByApp(kind) => {
                self.lost(kind);
                Next::Reset
            }
        }
    }

    /// What becomes of a request that does not get to the app.
    async fn unserved(&mut self, verdict: Verdict, request: &Request) -> Next {
        match verdict {
            Verdict::Refuse(reason) => {
                // An unread body would be read as the next request.
                let closing = !request.keep_alive
                    || !request.body.is_done()
                    || self.path.admission.is_closing();
                self.refuse(reason, closing, request.is_head).await
            }
            Verdict::Pass(_) | Verdict::ClientGone => Next::Gone,
        }
    }

    /// Answers for the gate itself, and counts it.
    async fn refuse(&mut self, reason: Reason, closing: bool, is_head: bool) -> Next {
        self.path.traffic.refused(reason);
        self.path.traffic.responded(reason.status().as_u16());
        let answer = refusal::answer(reason, closing, is_head);
        match socket::write_all(&self.client, [&answer, &[], &[]]).await {
            Ok(()) if closing => Next::Close,
            Ok(()) => Next::Keep,
            Err(_) => Next::Gone,
        }
    }

    fn lost(&self, kind: LossKind) {
        if let Some(address) = self.app.address() {
            self.path.valve.lost(address, kind);
        }
    }
}
