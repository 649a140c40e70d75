//! A gate, apps that answer as told, and clients that speak bytes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use portcullis::gate::{
    service::{ClientWaits, DataPath, GrpcRefusal, HoldLimits, Limits, Port, Protocol},
    switch::{self, AppLoss, Drain, Passage, Switch},
    traffic::Traffic,
};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How long a test waits for what must happen: far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const LIMITS: Limits = Limits {
    hold: HoldLimits {
        max_requests: 1000,
        max_bytes: 1 << 20,
        max_wait: Duration::from_secs(10),
        refuse_to_accept: false,
    },
    ramp_wait: Duration::from_millis(250),
    grpc_refusal: GrpcRefusal::RefusedStream,
    max_connections: NonZeroUsize::new(20_000).unwrap(),
    client: ClientWaits {
        head: PATIENCE,
        idle: PATIENCE,
        half_closed: PATIENCE,
    },
};

/// A running data path with one port.
pub struct Gate {
    pub address: SocketAddr,
    pub switch: Switch,
    pub traffic: Arc<Traffic>,
    pub losses: mpsc::Receiver<AppLoss>,
    pub run: JoinHandle<std::io::Result<()>>,
}

impl Gate {
    pub fn start(app: SocketAddr, protocol: Protocol) -> Self {
        Self::with_limits(vec![app], protocol, &LIMITS)
    }

    /// A gate that is open from the start, before an app that speaks HTTP.
    pub fn open(app: SocketAddr) -> Self {
        let gate = Self::start(app, Protocol::Http);
        gate.switch.set(Passage::Open);
        gate
    }

    pub fn with_limits(app: Vec<SocketAddr>, protocol: Protocol, limits: &Limits) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
            .unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let (switch, valve, losses) = switch::closed();
        let traffic = Arc::new(Traffic::default());
        let port = Port {
            socket,
            app,
            protocol,
        };
        let path = DataPath::new(vec![port], limits, valve, Arc::clone(&traffic));
        let run = tokio::spawn(path.run());
        Self {
            address,
            switch,
            traffic,
            losses,
            run,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Begins a drain that is done when nothing is in flight after `settle`. Its deadlines are long after a test has lost
    /// its patience.
    pub fn drain(&self, settle: Instant) {
        let deadline = settle + 10 * PATIENCE;
        self.switch.set(Passage::Draining(Drain {
            settle,
            stream_deadline: deadline,
            deadline,
        }));
    }

    /// Waits until the drain is done.
    pub async fn drained(self) {
        let ended = timeout(PATIENCE, self.run).await;
        ended.expect("never drained").unwrap().unwrap();
    }

    /// One request on a connection of its own; the whole answer, until the gate closes.
    pub async fn ask(&self, request: &str) -> String {
        let mut client = self.client().await;
        client.send(request).await;
        client.rest().await
    }
}

/// Waits until something is so.
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

/// A connection that speaks bytes.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        // Right after the start nobody listens yet.
        let connect = async {
            loop {
                if let Ok(stream) = TcpStream::connect(address).await {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        Self::of(timeout(PATIENCE, connect).await.expect("nobody listens"))
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        let read = async {
            loop {
                if let Some(at) = find(&self.read, end.as_bytes()) {
                    let rest = self.read.split_off(at + end.len());
                    return String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest))
                        .into_owned();
                }
                let more = self.stream.read_buf(&mut self.read).await.unwrap();
                assert!(more > 0, "ended: {:?}", String::from_utf8_lossy(&self.read));
            }
        };
        timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("never read {end:?}"))
    }

    /// Reads a head.
    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// Reads a head, if another one comes.
    pub async fn next_head(&mut self) -> Option<String> {
        while find(&self.read, b"\r\n\r\n").is_none() {
            if self.stream.read_buf(&mut self.read).await.unwrap_or(0) == 0 {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// Reads so many bytes.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let read = async {
            while self.read.len() < count {
                let more = self.stream.read_buf(&mut self.read).await.unwrap();
                assert!(more > 0, "ended after {} of {count}", self.read.len());
            }
        };
        timeout(PATIENCE, read).await.expect("never read so much");
        let rest = self.read.split_off(count);
        std::mem::replace(&mut self.read, rest)
    }

    /// Reads a response whose body has a length.
    pub async fn response(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        (head, self.bytes(length).await)
    }

    /// Reads to the end of the connection.
    pub async fn rest(&mut self) -> String {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut self.read)).await;
        read.expect("never ended").unwrap();
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// How the connection ended: `Err` for a reset.
    pub async fn end(&mut self) -> std::io::Result<usize> {
        let read = timeout(PATIENCE, self.stream.read_to_end(&mut self.read)).await;
        read.expect("never ended")
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(": ")?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// An app whose connections the test takes one by one.
pub struct App {
    pub address: SocketAddr,
    listener: TcpListener,
}

impl App {
    pub async fn listen() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
        }
    }

    /// Listens where another app did.
    pub async fn listen_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self { address, listener }
    }

    pub async fn accept(&self) -> Client {
        let accepted = timeout(PATIENCE, self.listener.accept()).await;
        Client::of(accepted.expect("nobody connects").unwrap().0)
    }

    /// The next connection, however long it takes.
    pub async fn accept_or_wait(&self) -> TcpStream {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Answers every request with its own head as the body, for as long as the test runs.
    pub fn echo_heads(self) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (address, seen) = (self.address, Arc::clone(&heads));
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = self.listener.accept().await else {
                    return;
                };
                tokio::spawn(echo(Client::of(stream), Arc::clone(&seen)));
            }
        });
        (address, heads)
    }
}

async fn echo(mut client: Client, seen: Arc<Mutex<Vec<String>>>) {
    while let Some(head) = client.next_head().await {
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        client.bytes(length).await;
        seen.lock().unwrap().push(head.clone());
        let body = if head.starts_with("HEAD") { "" } else { &head };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            head.len()
        );
        if client.stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
