//! A message's body on its way from one connection to the other.

use std::{io, net::Shutdown, time::Duration};

use socket2::SockRef;
use tokio::{net::TcpStream, task::coop::consume_budget};

use super::{
    buffer::{Blocks, Buffer},
    chunked::{Chunked, Malformed, Piece},
    pipe,
};
use crate::gate::socket::{self, WriteError};

/// How the end of a body is known, and how much of it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked(Chunked),
    /// Until the connection ends.
    UntilClose,
}

/// How chunks are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// As chunks.
    Keep,
    /// Only their data, for readers that know no chunks.
    Unwrap,
}

/// From how much on a rest of known length is not copied: less has mostly come with the head.
///
/// Measured on loopback as the gate's CPU time a request (`tcp`, 64 connections): bodies of 64 KiB
/// took 12 to 16 us through a pipe, 23 to 25 through blocks of 32 KiB, 18 to 20 through blocks of
/// 128 KiB, and HAProxy 27 to 31; bodies of 1 KiB 8.6 to 9.1 through a pipe and 8.5 to 9.0 through
/// a block, so that what comes without a length needs no other way for small messages.
const BULK: u64 = 16 * 1024;

/// A body and the connections between which it goes.
#[derive(Debug)]
pub(super) struct Flow<'a> {
    pub(super) from: &'a TcpStream,
    pub(super) to: &'a TcpStream,
    pub(super) buffer: &'a mut Buffer,
    pub(super) blocks: &'a Blocks,
    pub(super) body: Body,
    pub(super) chunks: Chunks,
    /// Where the receiver is a client: how long to wait for the sender once the client has closed
    /// its own sending side.
    pub(super) half_closed: Option<Duration>,
}

/// Why a body did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The one who sends it broke off.
    #[error("the sender broke off")]
    Source(#[source] io::Error),
    /// Its chunks are malformed.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The one who receives it broke off.
    #[error(transparent)]
    Sink(#[from] WriteError),
    /// The one who receives it left while nothing came.
    #[error("the receiver left")]
    Abandoned,
}

/// What to do with the bytes at the start of a buffer.
#[derive(Debug, Default)]
struct Step {
    /// So many are passed on as they are,
    pass: usize,
    /// then these are written,
    insert: Vec<u8>,
    /// and so many more are left out.
    skip: usize,
}

// === impl Body ===

impl Body {
    /// A chunked body of which nothing has been read.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked::Size)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Done))
    }

    /// How much may pass without being looked at, where that is worth a pipe.
    fn bulk(&self) -> Option<usize> {
        match self {
            Self::Length(left) if *left >= BULK => {
                Some(usize::try_from(*left).unwrap_or(usize::MAX))
            }
            Self::UntilClose => Some(usize::MAX),
            Self::Length(_) | Self::Chunked(_) => None,
        }
    }

    /// Notes that so much of what [`bulk`](Self::bulk) allowed has passed.
    fn passed(&mut self, length: usize) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        }
    }

    fn step(&mut self, input: &[u8], chunks: Chunks) -> Result<Step, Malformed> {
        match self {
            Self::Length(left) => {
                let pass = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left -= u64::try_from(pass).unwrap_or(*left);
                Ok(Step {
                    pass,
                    ..Step::default()
                })
            }
            Self::Chunked(chunked) => chunked_step(chunked, input, chunks),
            Self::UntilClose => Ok(Step {
                pass: input.len(),
                ..Step::default()
            }),
        }
    }
}

/// Takes as many pieces as can be passed on together.
fn chunked_step(chunked: &mut Chunked, input: &[u8], chunks: Chunks) -> Result<Step, Malformed> {
    let mut step = Step::default();
    loop {
        let rest = input.get(step.pass..).unwrap_or_default();
        let Some(piece) = chunked.next(rest)? else {
            return Ok(step);
        };
        match piece {
            Piece::Data(length) => step.pass += length,
            Piece::Framing(length) if chunks == Chunks::Keep => step.pass += length,
            Piece::Framing(skip) => {
                step.skip = skip;
                return Ok(step);
            }
            Piece::Size { skip, size } => {
                step.skip = skip;
                if chunks == Chunks::Keep {
                    step.insert = format!("{size:x}\r\n").into_bytes();
                }
                return Ok(step);
            }
            Piece::End { skip, lines } => {
                step.skip = skip;
                if chunks == Chunks::Keep {
                    step.insert = lines;
                }
                return Ok(step);
            }
        }
    }
}

// === impl Flow ===

impl Flow<'_> {
    /// Writes `head` and then the whole body. Not cancel-safe: what was read may be lost.
    pub(super) async fn run(&mut self, mut head: &[u8]) -> Result<(), Broken> {
        let mut first = true;
        loop {
            let step = self.body.step(self.buffer.filled(), self.chunks)?;
            let pass = self.buffer.filled().get(..step.pass).unwrap_or_default();
            let parts = [head, pass, &step.insert];
            socket::write_all(self.to, parts)
                .await
                .map_err(|error| error.after(!first))?;
            (head, first) = (&[], false);
            self.buffer.consume(step.pass + step.skip);
            if self.body.is_done() {
                return Ok(());
            }
            if step.pass + step.skip > 0 {
                continue;
            }
            let more = match self.body.bulk() {
                Some(limit) => self.splice(limit).await?,
                None => self.fill().await?,
            };
            if more == 0 {
                return match self.body {
                    Body::UntilClose => Ok(()),
                    Body::Length(_) | Body::Chunked(_) => {
                        Err(Broken::Source(io::ErrorKind::UnexpectedEof.into()))
                    }
                };
            }
        }
    }

    /// Reads more of the body; 0 bytes are the end of the connection.
    async fn fill(&mut self) -> Result<usize, Broken> {
        // A sender that is always ahead must not keep all others waiting.
        consume_budget().await;
        loop {
            match self.buffer.read(self.from, self.blocks) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.buffer.release(self.blocks);
                    self.wait().await?;
                }
                read => return read.map_err(Broken::Source),
            }
        }
    }

    /// Passes on what comes without a copy, where there is a pipe to be had, when nothing is left in
    /// the buffer; 0 bytes are the end of the connection.
    async fn splice(&mut self, limit: usize) -> Result<usize, Broken> {
        consume_budget().await;
        self.buffer.release(self.blocks);
        loop {
            let Some(pipe) = self.blocks.pipes.take() else {
                return self.fill().await;
            };
            match pipe.fill(self.from, limit) {
                Ok(length) => {
                    let emptied = pipe.empty(self.to, length).await;
                    emptied.map_err(|error| error.after(true))?;
                    pipe.give_back();
                    self.body.passed(length);
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    pipe.give_back();
                    self.wait().await?;
                }
                Err(error) if pipe::is_refusal(&error) => self.blocks.pipes.forbid(),
                Err(error) => return Err(Broken::Source(error)),
            }
        }
    }

    async fn wait(&self) -> Result<(), Broken> {
        let readable = socket::readable(self.from);
        let Some(wait) = self.half_closed else {
            return readable.await.map_err(Broken::Source);
        };
        // Biased: what has come is passed on. Both arms are cancel-safe.
        tokio::select! {
            biased;
            ready = readable => ready.map_err(Broken::Source),
            () = socket::abandoned_by_client(self.to, wait) => Err(Broken::Abandoned),
        }
    }
}

/// Passes on all bytes until the end of `from`, and then that end.
pub(crate) async fn copy(
    from: &TcpStream,
    buffer: &mut Buffer,
    to: &TcpStream,
    blocks: &Blocks,
) -> io::Result<()> {
    let (body, chunks) = (Body::UntilClose, Chunks::Keep);
    let mut flow = Flow {
        from,
        to,
        buffer,
        blocks,
        body,
        chunks,
        half_closed: None,
    };
    flow.run(&[]).await.map_err(io::Error::other)?;
    SockRef::from(to).shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::gate::proxy::pipe::Pipes;

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn a_body_is_copied_where_splice_is_refused() {
        let mut blocks = Blocks::default();
        blocks.pipes = Pipes::broken();
        let ((mut sender, from), (to, mut receiver)) = (connection().await, connection().await);
        let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut flow = Flow {
            from: &from,
            to: &to,
            buffer: &mut Buffer::default(),
            blocks: &blocks,
            body: Body::Length(body.len().try_into().unwrap()),
            chunks: Chunks::Keep,
            half_closed: None,
        };
        let mut got = vec![0; body.len()];
        let (sent, passed, read) = tokio::join!(
            sender.write_all(&body),
            flow.run(b""),
            receiver.read_exact(&mut got)
        );
        sent.unwrap();
        passed.unwrap();
        read.unwrap();
        assert!(got == body, "other bytes came");
        assert!(blocks.pipes.take().is_none(), "splice is tried again");
    }
}
