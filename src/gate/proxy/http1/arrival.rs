//! From one request to the head of the next: the wait, the version that is spoken, the read.

use std::{future::poll_fn, io, task::Poll};

use tokio::time::{Instant, timeout, timeout_at};

use super::{Asked, Link, Session};
use crate::gate::{
    proxy::{
        http2,
        request::{self, Request},
    },
    reason::Reason,
    socket,
    switch::LossKind,
};

/// What ended the wait between two requests.
enum Woken {
    Client,
    App,
    Clock,
}

// === impl Session ===

impl Session {
    /// Whether the client's first bytes are those of HTTP/2; nothing when it leaves before.
    pub(super) async fn speaks_http2(&mut self) -> Option<bool> {
        if !self.wait_for_request().await {
            return None;
        }
        self.is_asked();
        let wait = self.path.client.head;
        let told_apart = async {
            loop {
                let filled = self.inbound.filled();
                if filled.len() >= http2::PREFACE.len() || !http2::PREFACE.starts_with(filled) {
                    return Some(filled.starts_with(http2::PREFACE));
                }
                if !self.read_line().await {
                    return None;
                }
            }
        };
        timeout(wait, told_apart).await.ok().flatten()
    }

    /// Reads the next head, or returns nothing when the client wants no more.
    pub(super) async fn next_request(&mut self) -> Result<Option<Asked>, Reason> {
        if self.inbound.is_empty() && !self.wait_for_request().await {
            return Ok(None);
        }
        self.is_asked();
        let mut block = self.path.blocks.take();
        let request = self.read_head(&mut block).await?;
        // A request that waits, in the hold queue or for the app, takes no more than it needs.
        let head = block.as_slice().to_vec();
        self.path.blocks.give(block);
        self.inbound.release(&self.path.blocks);
        Ok(request.map(|request| Asked { request, head }))
    }

    /// From the first byte of a request a drain waits until it is answered.
    fn is_asked(&mut self) {
        self.busy.get_or_insert_with(|| self.path.in_flight.enter());
    }

    /// Waits for the first bytes of a request. Meanwhile the app may close its connection.
    async fn wait_for_request(&mut self) -> bool {
        loop {
            match self.inbound.read(&self.client, &self.path.blocks) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.inbound.release(&self.path.blocks);
                }
                Err(_) => return false,
            }
            match self.idle().await {
                Woken::Client => {}
                Woken::App => self.check_link(),
                Woken::Clock => {
                    // It has had the time for its first request.
                    self.busy = None;
                    let end = self.last_seen + self.path.client.idle;
                    if Instant::now() >= end {
                        return false;
                    }
                    // Set anew only here: a clock that each request moved would cost each one.
                    self.idle_end.as_mut().reset(end);
                }
            }
        }
    }

    async fn idle(&mut self) -> Woken {
        poll_fn(|context| {
            // An error shows itself when the socket is read.
            if self.client.poll_read_ready(context).is_ready() {
                return Poll::Ready(Woken::Client);
            }
            if let Some(link) = &self.link
                && link.side.stream.poll_read_ready(context).is_ready()
            {
                return Poll::Ready(Woken::App);
            }
            self.idle_end.as_mut().poll(context).map(|()| Woken::Clock)
        })
        .await
    }

    /// Drops a kept connection on which the app sent something, or its end, without being asked.
    fn check_link(&mut self) {
        let Some(Link { side, .. }) = &mut self.link else {
            return;
        };
        match side.buffer.read(&side.stream, &self.path.blocks) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                side.buffer.release(&self.path.blocks);
            }
            Ok(_) | Err(_) => {
                self.link = None;
                self.lost(LossKind::ClosedIdle);
            }
        }
    }

    async fn read_head(&mut self, head: &mut Vec<u8>) -> Result<Option<Request>, Reason> {
        let mut deadline = None;
        loop {
            // RFC 9112, section 2.2: empty lines before a request are ignored.
            while self.inbound.filled().starts_with(b"\r\n") {
                self.inbound.consume(2);
            }
            let read = request::read(self.inbound.filled(), &self.app.authority, head)?;
            if let Some((length, request)) = read {
                self.inbound.consume(length);
                return Ok(Some(request));
            }
            let wait = self.path.client.head;
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + wait);
            match timeout_at(deadline, self.read_line()).await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(_elapsed) => return Err(Reason::HeadTimeout),
            }
        }
    }

    /// Reads until a line has ended: before that, parsing the head again would only cost. Returns
    /// false at the end of the connection. Cancel-safe: what was read stays in the buffer.
    async fn read_line(&mut self) -> bool {
        loop {
            let before = self.inbound.filled().len();
            match self.inbound.read(&self.client, &self.path.blocks) {
                Ok(0) => return false,
                Ok(_) => {
                    let filled = self.inbound.filled();
                    let new = filled.get(before..).unwrap_or_default();
                    if filled.len() >= request::MAX_HEAD || memchr::memchr(b'\n', new).is_some() {
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.inbound.release(&self.path.blocks);
                    if socket::readable(&self.client).await.is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }
}
