//! Connections to the app: every address tried, a refusal reported and waited out.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    path::Path,
    queue::{Pass, Verdict},
    reason::Reason,
    switch::LossKind,
};

/// How long one address may take to answer. It is in the same pod: a whole second is already the
/// retransmission of a SYN that was dropped because the app's backlog is full.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Pauses between dials to an app that refuses: short first, since an app that crashed may be back
/// within 200 ms.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The app behind one port.
#[derive(Debug)]
pub(super) struct App {
    addresses: Vec<SocketAddr>,
    /// Which address worked last.
    preferred: AtomicUsize,
    /// The first address as a `Host` for requests without one.
    pub(super) authority: String,
}

// === impl App ===

impl App {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Self {
        let authority = addresses
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        Self {
            addresses,
            preferred: AtomicUsize::new(0),
            authority,
        }
    }

    /// The address that worked last.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses
            .get(self.preferred.load(Ordering::Relaxed))
            .copied()
    }

    /// Dials until the app answers, for as long as a request may be held: what was refused has
    /// reached nobody, so waiting loses and doubles nothing.
    ///
    /// `pass` is what the request may do when the app answers at once; if the gate closes
    /// meanwhile, the request waits in the hold queue, and passes with what it is given there.
    pub(super) async fn dial_patiently<F: Future<Output = ()>>(
        &self,
        path: &Arc<Path>,
        bytes: usize,
        mut pass: Pass,
        gone: impl Fn() -> F,
    ) -> Result<(TcpStream, Pass), Verdict> {
        let deadline = Instant::now() + path.hold.max_wait;
        let mut pause = FIRST_PAUSE;
        loop {
            let kind = match self.dial(path).await {
                Ok(stream) => return Ok((stream, pass)),
                Err(kind) => kind,
            };
            if Instant::now() + pause > deadline {
                return Err(Verdict::Refuse(match kind {
                    LossKind::Refused => Reason::AppRefused,
                    LossKind::Unreachable
                    | LossKind::Reset
                    | LossKind::ClosedIdle
                    | LossKind::ClosedBusy => Reason::AppUnreachable,
                }));
            }
            path.admission.hold_for(pause, bytes, gone()).await?;
            pause = LONGEST_PAUSE.min(pause * 2);
            if path.admission.is_closed() {
                pass = match path.admission.wait(bytes, gone()).await {
                    Verdict::Pass(pass) => pass,
                    other @ (Verdict::Refuse(_) | Verdict::ClientGone) => return Err(other),
                };
            }
        }
    }

    /// Tries every address once and reports what it means when none answers.
    async fn dial(&self, path: &Path) -> Result<TcpStream, LossKind> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let (before, from) = self.addresses.split_at(preferred.min(self.addresses.len()));
        let mut all_refused = true;
        for address in from.iter().chain(before) {
            match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let place = self.addresses.iter().position(|known| known == address);
                    self.preferred
                        .store(place.unwrap_or_default(), Ordering::Relaxed);
                    // Without it small writes wait for acknowledgements; failing costs only time.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => {
                    all_refused &= error.kind() == io::ErrorKind::ConnectionRefused;
                }
                Err(_elapsed) => all_refused = false,
            }
        }
        let (kind, counter) = if all_refused {
            (LossKind::Refused, &path.traffic.connects_refused)
        } else {
            (LossKind::Unreachable, &path.traffic.connects_failed)
        };
        counter.increment();
        if let Some(address) = self.address() {
            path.valve.lost(address, kind);
        }
        Err(kind)
    }
}
