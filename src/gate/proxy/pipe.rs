//! Bytes that pass through the kernel only: `splice` moves them from one connection to the other
//! by way of a pipe.

use std::{
    future::poll_fn,
    io,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    io::retry_on_intr,
    pipe::{PipeFlags, SpliceFlags, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream};

use crate::gate::socket::WriteError;

/// Pipes that may be taken at a time: two file descriptors and at most 64 KiB of the kernel's memory
/// each. Only for a receiver that is slower than its sender one is taken for more than a moment.
const MOST: usize = 64;

/// Empty pipes kept for later use. Few, because the kernel counts a user's pipes over all containers
/// of a node and makes further ones small (`pipe-user-pages-soft` in pipe(7)).
const KEPT: usize = 8;

/// What a pipe holds that nobody has enlarged (pipe(7)).
const CAPACITY: usize = 64 * 1024;

/// The pipes of all connections.
#[derive(Debug)]
pub(super) struct Pipes(Mutex<Stock>);

#[derive(Debug)]
struct Stock {
    kept: Vec<Ends>,
    taken: usize,
    most: usize,
}

#[derive(Debug)]
struct Ends {
    inlet: OwnedFd,
    outlet: OwnedFd,
}

/// A pipe that was taken. One that is dropped and not given back is closed, with what is in it.
#[derive(Debug)]
pub(super) struct Pipe<'a> {
    ends: Ends,
    seat: Seat<'a>,
}

/// One of the pipes that may be taken at a time.
#[derive(Debug)]
struct Seat<'a>(&'a Pipes);

// === impl Pipes ===

impl Default for Pipes {
    fn default() -> Self {
        Self(Mutex::new(Stock {
            kept: Vec::new(),
            taken: 0,
            most: MOST,
        }))
    }
}

impl Pipes {
    /// An empty pipe, unless too many are taken or the process is out of file descriptors.
    pub(super) fn take(&self) -> Option<Pipe<'_>> {
        let mut stock = self.stock();
        if stock.taken >= stock.most {
            return None;
        }
        let ends = stock.kept.pop().or_else(|| Ends::new().ok())?;
        stock.taken += 1;
        let seat = Seat(self);
        Some(Pipe { ends, seat })
    }

    /// Gives out no pipe any more.
    pub(super) fn forbid(&self) {
        let mut stock = self.stock();
        stock.most = 0;
        stock.kept.clear();
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ends ===

impl Ends {
    fn new() -> io::Result<Self> {
        let (outlet, inlet) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Self { inlet, outlet })
    }
}

// === impl Pipe ===

impl Pipe<'_> {
    /// Takes at most `limit` bytes of what has arrived: 0 bytes are the end, `WouldBlock` says that
    /// nothing has. The pipe must be empty, or it says so for another reason.
    pub(super) fn fill(&self, from: &TcpStream, limit: usize) -> io::Result<usize> {
        let limit = limit.min(CAPACITY);
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        from.try_io(Interest::READABLE, || {
            let inlet = &self.ends.inlet;
            Ok(retry_on_intr(|| {
                splice(from, None, inlet, None, limit, flags)
            })?)
        })
    }

    /// Writes the `length` bytes that are in it.
    ///
    /// Not cancel-safe: a dropped future may have written a part.
    pub(super) async fn empty(&self, to: &TcpStream, length: usize) -> Result<(), WriteError> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let mut left = length;
        while left > 0 {
            let written = to.try_io(Interest::WRITABLE, || {
                let outlet = &self.ends.outlet;
                Ok(retry_on_intr(|| {
                    splice(outlet, None, to, None, left, flags)
                })?)
            });
            let started = left < length;
            match written {
                Ok(0) => return Err(WriteError::new(started, io::ErrorKind::WriteZero.into())),
                Ok(written) => left -= written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|context| to.poll_write_ready(context))
                        .await
                        .map_err(|source| WriteError::new(started, source))?;
                }
                Err(source) => return Err(WriteError::new(started, source)),
            }
        }
        Ok(())
    }

    /// Gives it back for later use. It must be empty, or the next one to take it gets what is in it.
    pub(super) fn give_back(self) {
        let Self { ends, seat } = self;
        let mut stock = seat.0.stock();
        if stock.kept.len() < KEPT.min(stock.most) {
            stock.kept.push(ends);
        }
    }
}

// === impl Seat ===

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.stock().taken -= 1;
    }
}

/// Whether the system has no `splice` for connections, or lets the gate have none.
pub(super) fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

#[cfg(test)]
impl Pipes {
    /// Pipes of which the first is none, so that `splice` refuses it.
    pub(super) fn broken() -> Self {
        let inlet = || std::fs::File::create("/dev/null").unwrap().into();
        let (inlet, outlet) = (inlet(), inlet());
        let pipes = Self::default();
        pipes.stock().kept.push(Ends { inlet, outlet });
        pipes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_so_many_are_taken_and_few_are_kept() {
        let pipes = Pipes::default();
        let taken: Vec<_> = (0..MOST).map(|_| pipes.take().unwrap()).collect();
        assert!(pipes.take().is_none());
        taken.into_iter().for_each(Pipe::give_back);
        assert_eq!(pipes.stock().kept.len(), KEPT);
        assert!(pipes.take().is_some());
    }

    #[test]
    fn one_that_was_not_given_back_is_closed_and_frees_its_seat() {
        let pipes = Pipes::default();
        drop(pipes.take().unwrap());
        let stock = pipes.stock();
        assert_eq!((stock.kept.len(), stock.taken), (0, 0));
    }

    #[test]
    fn none_is_to_be_had_once_they_are_forbidden() {
        let pipes = Pipes::default();
        let taken = pipes.take().unwrap();
        pipes.forbid();
        taken.give_back();
        assert!(pipes.take().is_none());
        assert!(pipes.stock().kept.is_empty());
    }
}
