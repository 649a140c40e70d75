//! Load: reviews over TLS and HTTP/1.1, and how long each took.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, HandshakeKind, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_rustls::TlsConnector;

/// Idle connections that an API server keeps to a webhook (client-go's `MaxIdleConnsPerHost`).
pub const CONNECTIONS: usize = 25;

/// Where reviews go, and what they are.
#[derive(Clone)]
pub struct Target {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    /// The review of each number.
    pub review: Arc<dyn Fn(usize) -> Bytes + Send + Sync>,
}

/// How long reviews took, shortest first.
pub struct Latencies(Vec<Duration>);

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    kind: HandshakeKind,
}

// === impl Target ===

impl Target {
    /// So many reviews a second, each sent when it is due, whatever became of those before it: what waits for a connection
    /// is late, and its lateness counts.
    pub async fn open_loop(&self, per_second: u32, length: Duration) -> Latencies {
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS {
            idle.push(self.connect().await);
        }
        let idle = Arc::new(Mutex::new(idle));
        let (begun, pause) = (Instant::now(), Duration::from_secs(1) / per_second);
        let mut reviews = JoinSet::new();
        let mut due = begun;
        let mut number = 0;
        while due < begun + length {
            sleep_until(due).await;
            let (target, idle) = (self.clone(), Arc::clone(&idle));
            reviews.spawn(async move {
                let free = idle.lock().await.pop();
                let mut connection = match free {
                    Some(connection) => connection,
                    None => target.connect().await, // as an API server would
                };
                target.review(&mut connection, number).await;
                let mut idle = idle.lock().await;
                if idle.len() < CONNECTIONS {
                    idle.push(connection);
                }
                due.elapsed()
            });
            due += pause;
            number += 1;
        }
        Latencies::new(reviews.join_all().await)
    }

    /// As many as [`CONNECTIONS`] can carry, one after the other on each. Also says how many a second.
    pub async fn closed_loop(&self, length: Duration) -> (Latencies, f64) {
        let begun = Instant::now();
        self.while_it(move |_| begun.elapsed() < length).await
    }

    /// So many, as fast as they go.
    pub async fn all_of(&self, reviews: usize) -> (Latencies, f64) {
        self.while_it(move |number| number < reviews).await
    }

    /// One after the other on each connection, while this `goes_on` with the next number.
    async fn while_it(
        &self,
        goes_on: impl Fn(usize) -> bool + Copy + Send + 'static,
    ) -> (Latencies, f64) {
        let begun = Instant::now();
        let mut connections = JoinSet::new();
        for place in 0..CONNECTIONS {
            let target = self.clone();
            connections.spawn(async move {
                let mut connection = target.connect().await;
                let mut taken = Vec::new();
                let mut number = place;
                while goes_on(number) {
                    let sent = Instant::now();
                    target.review(&mut connection, number).await;
                    taken.push(sent.elapsed());
                    number += CONNECTIONS;
                }
                taken
            });
        }
        let latencies = Latencies::new(connections.join_all().await.concat());
        let rate = latencies.count() as f64 / begun.elapsed().as_secs_f64();
        (latencies, rate)
    }

    /// Connections that all come at once, one review each, handshake included. Also says how many handshakes were resumed.
    pub async fn burst(&self, connections: usize) -> (Latencies, usize) {
        let mut reviews = JoinSet::new();
        for number in 0..connections {
            let target = self.clone();
            reviews.spawn(async move {
                let begun = Instant::now();
                let mut connection = target.connect().await;
                target.review(&mut connection, number).await;
                (begun.elapsed(), connection.kind == HandshakeKind::Resumed)
            });
        }
        let (taken, resumed): (Vec<_>, Vec<_>) = reviews.join_all().await.into_iter().unzip();
        (
            Latencies::new(taken),
            resumed.into_iter().filter(|resumed| *resumed).count(),
        )
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address)
            .await
            .expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let name = ServerName::from(self.address.ip());
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await;
        let stream = stream.expect("a handshake with the server's own certificate");
        let kind = stream
            .get_ref()
            .1
            .handshake_kind()
            .expect("the handshake is over");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Connection { sender, kind }
    }

    async fn review(&self, connection: &mut Connection, number: usize) {
        let request = Request::post("/validate?timeout=3s")
            .header(header::HOST, "portcullis")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new((self.review)(number)))
            .expect("constant parts");
        connection
            .sender
            .ready()
            .await
            .expect("the connection is kept");
        let answer = connection
            .sender
            .send_request(request)
            .await
            .expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let body = answer
            .into_body()
            .collect()
            .await
            .expect("a whole answer")
            .to_bytes();
        assert!(
            body.windows(14).any(|part| part == b"\"allowed\":true"),
            "refused"
        );
    }
}

// === impl Latencies ===

impl Latencies {
    pub fn new(mut taken: Vec<Duration>) -> Self {
        taken.sort_unstable();
        Self(taken)
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency that this part of the reviews did not exceed, in milliseconds.
    pub fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let place = (part * last as f64).round() as usize;
        self.0
            .get(place)
            .map_or(0.0, |taken| taken.as_secs_f64() * 1e3)
    }
}
