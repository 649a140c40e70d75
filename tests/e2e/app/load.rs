//! A client that sends so many requests a second, whatever becomes of them, and none of them twice.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::report::{Moment, Summary};

/// A good answer that took longer is slow.
pub const SLOW: Duration = Duration::from_millis(250);

/// What to send.
#[derive(Args, Clone, Debug)]
pub struct Orders {
    /// Host and port.
    pub target: String,
    #[arg(long, default_value = "/page")]
    pub path: String,
    /// Requests a second.
    #[arg(long, default_value_t = 50)]
    pub rate: u32,
    /// How long to send.
    #[arg(long = "for", value_parser = humantime::parse_duration, default_value = "1h")]
    pub duration: Duration,
    #[arg(long, value_enum, default_value_t = Connections::New)]
    pub connections: Connections,
    /// When a request is given up.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "15s")]
    pub patience: Duration,
    /// Count from when all requests of two seconds have been answered. What was rolled out before may linger: nodes go on
    /// sending to pods that are gone until their kube-proxy has heard of it.
    #[arg(long)]
    pub settle: bool,
    /// The source port of the next connection, counted up by each; where there is none, the kernel chooses.
    #[arg(skip)]
    pub source_port: Option<Arc<AtomicU16>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Connections {
    /// One for each request.
    New,
    /// One that is free and, as far as anybody can tell, still open; else a new one.
    KeepAlive,
}

/// A request that has ended. Times are since the first one was sent.
#[derive(Clone, Debug)]
pub struct Sample {
    pub sent: Duration,
    pub ended: Duration,
    /// Why it failed.
    pub failed: Option<String>,
}

/// What the client has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub sent: u32,
    pub samples: Vec<Sample>,
}

/// The way to the server, with the connections that are free.
struct Route {
    address: SocketAddr,
    orders: Orders,
    free: Mutex<Vec<Sender>>,
}

type Sender = SendRequest<Empty<Bytes>>;

// === impl Sample ===

impl Sample {
    pub fn took(&self) -> Duration {
        self.ended.saturating_sub(self.sent)
    }
}

/// Sends until the time is over or `stop` is done, and waits for the last answer.
pub async fn run(
    address: SocketAddr,
    orders: Orders,
    seen: Arc<Mutex<Seen>>,
    stop: impl Future<Output = ()>,
) {
    let mut requests = JoinSet::new();
    tokio::select! {
        biased; // an end that is asked for first; dropped is only the wait for the next tick
        () = stop => {}
        () = send(address, orders, &seen, &mut requests) => {}
    }
    requests.join_all().await;
}

async fn send(
    address: SocketAddr,
    orders: Orders,
    seen: &Arc<Mutex<Seen>>,
    requests: &mut JoinSet<()>,
) {
    let began = Instant::now();
    let mut ticks = interval_at(began, Duration::from_secs(1) / orders.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let route = Arc::new(Route {
        address,
        orders,
        free: Mutex::default(),
    });
    loop {
        // The moment it is due, so that a client that is late does not flatter the server.
        let due = ticks.tick().await;
        let sent = due.saturating_duration_since(began);
        if sent >= route.orders.duration {
            return;
        }
        while requests.try_join_next().is_some() {}
        let (route, seen) = (Arc::clone(&route), Arc::clone(seen));
        seen.lock().expect("nobody panics").sent += 1;
        requests.spawn(async move {
            let patience = route.orders.patience;
            let failed = match timeout(patience, route.get()).await {
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some("no answer in time".to_owned()),
            };
            let ended = began.elapsed();
            let sample = Sample {
                sent,
                ended,
                failed,
            };
            seen.lock().expect("nobody panics").samples.push(sample);
        });
    }
}

// === impl Route ===

impl Route {
    async fn get(&self) -> Result<(), String> {
        let mut sender = match self.free() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let request = Request::get(&self.orders.path)
            .header(header::HOST, &self.orders.target)
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let sent = sender.send_request(request).await;
        let response = sent.map_err(|error| cause(&error))?;
        let status = response.status();
        let body = response.into_body().collect().await;
        body.map_err(|error| cause(&error))?;
        if status != StatusCode::OK {
            return Err(status.to_string());
        }
        if self.orders.connections == Connections::KeepAlive && sender.ready().await.is_ok() {
            self.free.lock().expect("nobody panics").push(sender);
        }
        Ok(())
    }

    /// The last used first, so that those which nobody needs grow old and are closed.
    fn free(&self) -> Option<Sender> {
        let mut free = self.free.lock().expect("nobody panics");
        free.retain(|sender| !sender.is_closed());
        free.pop()
    }

    async fn connect(&self) -> Result<Sender, String> {
        let stream = self.dial().await;
        let stream = stream.map_err(|error| format!("connect: {}", error.kind()))?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| cause(&error))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let (socket, any) = if self.address.is_ipv4() {
            (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED))
        } else {
            (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::UNSPECIFIED))
        };
        if let Some(port) = &self.orders.source_port {
            socket.bind((any, port.fetch_add(1, Ordering::Relaxed)).into())?;
        }
        socket.connect(self.address).await
    }
}

/// The innermost reason: "connection reset by peer" says more than "client error".
fn cause(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

// === impl Seen ===

impl Seen {
    /// How it went in one second.
    pub fn moment(&self, second: u64) -> Moment {
        let ended = u32::try_from(self.samples.len()).unwrap_or(u32::MAX);
        let mut moment = Moment {
            second,
            waiting: self.sent.saturating_sub(ended),
            ..Moment::default()
        };
        let mut took = Vec::new();
        let now = self.samples.iter();
        for sample in now.filter(|sample| sample.ended.as_secs() == second) {
            let count = match sample.failed {
                Some(_) => &mut moment.failed,
                None if sample.took() > SLOW => &mut moment.slow,
                None => &mut moment.quick,
            };
            *count += 1;
            took.extend(sample.failed.is_none().then(|| sample.took()));
        }
        took.sort_unstable();
        let p99 = rank(&took, 99).unwrap_or_default().as_millis();
        moment.p99_ms = u32::try_from(p99).unwrap_or(u32::MAX);
        moment
    }

    pub fn summary(&self) -> Summary {
        let mut took: Vec<_> = self.good().map(Sample::took).collect();
        took.sort_unstable();
        let slow = took.iter().filter(|took| **took > SLOW).count();
        let mut summary = Summary {
            sent: self.sent,
            slow: u32::try_from(slow).unwrap_or(u32::MAX),
            first_good_ms: self.good().map(|sample| sample.ended).min().map(as_ms),
            p50_ms: rank(&took, 50).map(as_ms),
            p99_ms: rank(&took, 99).map(as_ms),
            max_ms: took.last().copied().map(as_ms),
            ..Summary::default()
        };
        for reason in self
            .samples
            .iter()
            .filter_map(|sample| sample.failed.as_ref())
        {
            summary.failed += 1;
            *summary.reasons.entry(reason.clone()).or_default() += 1;
        }
        summary
    }

    fn good(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.failed.is_none())
    }
}

/// By nearest rank.
fn rank(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

fn as_ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
