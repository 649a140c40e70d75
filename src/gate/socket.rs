//! What the data path does with a TCP connection beyond reading and writing.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{sleep, timeout},
};

/// How long and how much the gate reads after its last answer, so that the client reads the answer
/// before the kernel resets the connection for unread data.
const LINGER: Duration = Duration::from_secs(1);
pub(super) const LINGER_BYTES: usize = 256 * 1024;

/// Not everything could be written.
#[derive(Debug, thiserror::Error)]
#[error("the peer does not take what is sent")]
pub(super) struct WriteError {
    /// Whether the kernel took a part of it, so that the peer may have read it.
    pub(super) started: bool,
    source: io::Error,
}

// === impl WriteError ===

impl WriteError {
    pub(super) fn new(started: bool, source: io::Error) -> Self {
        Self { started, source }
    }

    /// The same error, when something was written before.
    pub(super) fn after(self, wrote_before: bool) -> Self {
        Self {
            started: self.started || wrote_before,
            ..self
        }
    }
}

/// Waits until the peer has closed its sending side or reset the connection, whatever it sent
/// before and nobody has read.
///
/// Nobody sends urgent data to a socket that did not ask for it, so that waiting for `PRIORITY`
/// means waiting for what tokio reports along with it: the closed reading side.
pub(super) async fn closed_by_peer(stream: &TcpStream) {
    // An error says the same: nobody is there.
    let _ = stream.ready(Interest::PRIORITY).await;
}

/// Waits until the client cannot be waiting for its response any more: it was reset, or `wait` has
/// passed since it closed its sending side.
pub(super) async fn abandoned_by_client(stream: &TcpStream, wait: Duration) {
    closed_by_peer(stream).await;
    if matches!(stream.take_error(), Ok(None)) {
        // Biased: which of the two ends the wait makes no difference. Both are cancel-safe.
        tokio::select! {
            biased;
            _ = stream.ready(Interest::ERROR) => {}
            () = sleep(wait) => {}
        }
    }
}

/// Whether the peer has sent something, or the end, that nobody has read. Does not wait.
pub(super) fn has_input(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    match SockRef::from(stream).peek(&mut byte) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

/// Waits until there is something to read, or the end, or an error.
pub(super) async fn readable(stream: &TcpStream) -> io::Result<()> {
    poll_fn(|context| stream.poll_read_ready(context)).await
}

/// Writes all parts in order, with one system call if the kernel takes them.
///
/// Not cancel-safe: a dropped future may have written a part.
pub(super) async fn write_all(stream: &TcpStream, parts: [&[u8]; 3]) -> Result<(), WriteError> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = slices.as_mut_slice();
    let mut started = false;
    // Skips empty parts.
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match stream.try_write_vectored(left) {
            Ok(0) => {
                return Err(WriteError::new(started, io::ErrorKind::WriteZero.into()));
            }
            Ok(written) => {
                started = true;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll_fn(|context| stream.poll_write_ready(context))
                    .await
                    .map_err(|source| WriteError::new(started, source))?;
            }
            Err(source) => return Err(WriteError::new(started, source)),
        }
    }
    Ok(())
}

/// Closes with a reset, so that the peer takes what came before for cut short.
pub(super) fn reset(stream: TcpStream) {
    // If it fails the peer sees an early end instead, which is all that is left to say.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// Closes after the peer had the time to read the last bytes that were sent to it.
pub(super) async fn close_gently(stream: TcpStream) {
    if SockRef::from(&stream)
        .shutdown(std::net::Shutdown::Write)
        .is_err()
    {
        return;
    }
    let drained = async {
        let mut waste = [0; 1024];
        let mut read = 0;
        while read < LINGER_BYTES {
            match stream.try_read(&mut waste) {
                Ok(0) => return,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if readable(&stream).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    };
    // Who has not closed by then has had the time to read.
    let _ = timeout(LINGER, drained).await;
}
