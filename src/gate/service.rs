//! The data path as a whole: its ports, its bounds, and its life from listening to drained.

use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use metrics::Counter;
use socket2::Socket;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::{JoinSet, yield_now},
    time::sleep_until,
};
use tracing::error;

use super::{
    dial::App,
    inflight::Busy,
    path::{Counted, Path},
    proxy,
    switch::{Drain, Passage, Valve},
    tcp,
    traffic::Traffic,
};
use crate::server::listener;

/// Connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// After how much silence the kernel asks whether a client is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// The data path, ready to run.
#[derive(Debug)]
pub struct DataPath {
    ports: Vec<Port>,
    path: Arc<Path>,
    max_connections: usize,
}

/// One port that the gate stands in front of.
#[derive(Debug)]
pub struct Port {
    /// Bound, not listening: the data path calls `listen`, for `tcp` only at the first opening, so that until then
    /// clients are refused by the kernel as if nothing were there.
    pub socket: Socket,
    /// Addresses of the app, all of them the same port of the same app: tried in order, the last that worked first.
    pub app: Vec<SocketAddr>,
    /// What is spoken on the port.
    pub protocol: Protocol,
}

/// A port that listens.
#[derive(Debug)]
struct Door {
    path: Arc<Path>,
    app: Arc<App>,
    protocol: Protocol,
    connections: JoinSet<()>,
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0, HTTP/1.1 and HTTP/2 without TLS, told apart by the client's first bytes.
    Http,
    /// Anything else over TCP, TLS included.
    Tcp,
}

/// The bounds and habits of the data path.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bounds of the hold queue.
    pub hold: HoldLimits,
    /// How long a request waits for a place in a full ramp step. 250 ms by default.
    pub ramp_wait: Duration,
    /// How an HTTP/2 request is refused.
    pub grpc_refusal: GrpcRefusal,
    /// Client connections that may be open at a time; each takes up to two file descriptors.
    pub max_connections: NonZeroUsize,
    /// How long HTTP/1 clients are waited for.
    pub client: ClientWaits,
}

/// How long the gate waits for an HTTP/1 client.
#[derive(Debug, Clone, Copy)]
pub struct ClientWaits {
    /// From the first byte of a request's head to its last; then the client gets 408.
    pub head: Duration,
    /// For the next request on a connection; then the connection is closed.
    pub idle: Duration,
    /// How long a client that has closed its sending side may wait for its response to go on. It is told apart by nothing
    /// from one that has left without a reset, so this wait must end.
    pub half_closed: Duration,
}

/// Bounds of the hold queue.
#[derive(Debug, Clone, Copy)]
pub struct HoldLimits {
    /// Requests that may be held at a time; 0 refuses at once whatever would be held.
    pub max_requests: usize,
    /// Bytes that held requests may take together. Bodies are never read while held, so these are their heads.
    pub max_bytes: usize,
    /// How long a request may be held.
    pub max_wait: Duration,
    /// Whether HTTP ports, too, do not listen before the first opening.
    pub refuse_to_accept: bool,
}

/// How a gRPC request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GrpcRefusal {
    /// As every other HTTP/2 request: `RST_STREAM` with `REFUSED_STREAM`, which says that nothing was processed
    /// (RFC 9113, section 8.7).
    #[default]
    RefusedStream,
    /// As a response with `grpc-status: 14` (UNAVAILABLE), for clients that do not retry a refused stream.
    Unavailable,
}

// === impl DataPath ===

impl DataPath {
    /// A data path that takes its orders from `valve` and counts in `traffic`.
    pub fn new(ports: Vec<Port>, limits: &Limits, valve: Valve, traffic: Arc<Traffic>) -> Self {
        let path = Arc::new(Path::new(valve, traffic, limits));
        Self {
            ports,
            path,
            max_connections: limits.max_connections.get(),
        }
    }

    /// Serves until a drain is done: when nothing is in flight after the drain's settling time and
    /// nobody is left in the backlog, or at its deadline. Whatever is still open then is closed.
    ///
    /// Fails when a port cannot be listened on; ports are bound before, so this is rare.
    pub async fn run(self) -> io::Result<()> {
        let Self {
            ports,
            path,
            max_connections,
        } = self;
        let seats = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        let mut doors = JoinSet::new();
        let mut last_calls = Vec::new();
        for port in ports {
            let (call, called) = oneshot::channel();
            last_calls.push(call);
            let (path, seats) = (Arc::clone(&path), Arc::clone(&seats));
            doors.spawn(open_door(port, path, seats, called));
        }
        let mut valve = path.valve.clone();
        // Biased: no connection is accepted after the end of a drain. The first two arms live
        // through the whole loop; joining a task is cancel-safe.
        let ended = tokio::select! {
            biased;
            () = drained(&path, last_calls) => Ok(()),
            () = async { loop { valve.changed().await; path.admission.advance(); } } => Ok(()),
            Some(door) = doors.join_next() => door.map_err(io::Error::other).and_then(|door| door),
        };
        doors.shutdown().await;
        ended
    }
}

// === impl Door ===

impl Door {
    /// Serves a connection beside all others. From now on a drain waits for what is asked first on it.
    fn serve(&mut self, stream: TcpStream, seat: Option<OwnedSemaphorePermit>) {
        let (path, app) = (Arc::clone(&self.path), Arc::clone(&self.app));
        let (protocol, busy) = (self.protocol, path.in_flight.enter());
        self.connections.spawn(async move {
            let traffic = Arc::clone(&path.traffic);
            let _open = Counted::by(&traffic.connections);
            match protocol {
                Protocol::Http => proxy::serve(path, app, stream, busy).await,
                Protocol::Tcp => tcp::serve(path, app, stream, busy).await,
            }
            drop(seat);
        });
    }
}

/// Waits until a drain has begun and is done. Each port gets its last call when nothing is in flight.
async fn drained(path: &Path, last_calls: Vec<oneshot::Sender<Busy>>) {
    let mut valve = path.valve.clone();
    let Drain {
        settle,
        stream_deadline,
        deadline,
    } = loop {
        if let Passage::Draining(drain) = valve.passage() {
            break drain;
        }
        valve.changed().await;
    };
    let idle = async {
        sleep_until(settle).await;
        path.in_flight.idle().await;
        for call in last_calls {
            // A port that does not listen any more has ended the data path with its error.
            let _ = call.send(path.in_flight.enter());
        }
        loop {
            path.in_flight.idle().await;
            // What has come since the runtime looked at its sockets last, which may be long ago where
            // cores are scarce: it looks now, and whom it wakes goes first. (So it does on one thread,
            // which is all that the sidecar has.)
            yield_now().await;
            if path.in_flight.is_idle() {
                break;
            }
        }
    };
    let cut_streams = async {
        sleep_until(stream_deadline).await;
        path.streams_end.cancel();
        std::future::pending::<()>().await;
    };
    // Biased: which of two that are ready ends the drain makes no difference. All three live as
    // long as the drain.
    tokio::select! {
        biased;
        () = idle => {}
        () = sleep_until(deadline) => {}
        () = cut_streams => {}
    }
}

/// Listens on a port when its time has come and serves its connections; after the last call only
/// those that were made by then.
async fn open_door(
    port: Port,
    path: Arc<Path>,
    seats: Arc<Semaphore>,
    mut last_call: oneshot::Receiver<Busy>,
) -> io::Result<()> {
    let Port {
        socket,
        app,
        protocol,
    } = port;
    if protocol == Protocol::Tcp || path.hold.refuse_to_accept {
        first_opening(&path).await;
    }
    let listener = listen(socket)?;
    let mut door = Door {
        path,
        app: Arc::new(App::new(app)),
        protocol,
        connections: JoinSet::new(),
    };
    let call = loop {
        let next = async {
            // A seat first: who is not accepted waits in the kernel, which costs nothing here.
            let seat = Arc::clone(&seats).acquire_owned().await.ok();
            (accept(&listener, &mut door.connections).await, seat)
        };
        // Biased: the last call takes whoever has come. What is cancelled by it has accepted nobody.
        tokio::select! {
            biased;
            call = &mut last_call => break call,
            (stream, seat) = next => door.serve(stream, seat),
        }
    };
    // Without seats: they may be taken by connections on which nothing is asked any more.
    for stream in listener::backlog(listener)? {
        door.serve(stream, None);
    }
    // They have marks of their own, and the drain waits for these.
    drop(call);
    std::future::pending().await
}

async fn first_opening(path: &Path) {
    let mut valve = path.valve.clone();
    while matches!(valve.passage(), Passage::Hold | Passage::Refuse(_)) {
        valve.changed().await;
    }
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    // Accepted sockets take both from the listening one, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.set_keepalive(true)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts the next connection; meanwhile clears away those that have ended.
async fn accept(listener: &TcpListener, connections: &mut JoinSet<()>) -> TcpStream {
    // Each error is in the log with its reason; a count of them would say less.
    let errors = Counter::noop();
    loop {
        // Biased: those that ended first, since they may hold what a new one needs. Both arms are
        // cancel-safe.
        tokio::select! {
            biased;
            Some(ended) = connections.join_next() => {
                if let Err(broken) = ended && broken.is_panic() {
                    error!("a connection ended by a defect of the gate; all others go on");
                }
            }
            (stream, _) = listener::accept(listener, &errors) => return stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, net::Ipv4Addr};

    use super::*;

    #[tokio::test]
    async fn a_panic_in_one_connection_leaves_the_others() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(async { panic!("a defect") });
        connections.spawn(pending());
        let address = listener.local_addr().unwrap();
        let (client, _served) = tokio::join!(
            TcpStream::connect(address),
            accept(&listener, &mut connections)
        );
        assert!(client.is_ok());
        assert_eq!(
            connections.len(),
            1,
            "the broken one is cleared away, the other lives"
        );
    }
}
