//! The signal that asks this process to end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

/// Resolves to the signal's name when SIGTERM (the kubelet) or SIGINT (a person) arrives.
///
/// The handlers stand from the call on, not from the first poll: a signal in between is not lost.
pub fn terminated() -> io::Result<impl Future<Output = &'static str>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            biased; // both are cancel-safe; which is named first matters to nobody
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}
