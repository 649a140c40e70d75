//! Clients that never send anything twice: what one of them does not get is lost.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use h2::client::SendRequest as Calls;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};

use super::app::{DOWNLOAD, PAGE};

/// What a client does over and over.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A `GET` on a connection of its own.
    NewConnections,
    /// `GET` and `POST` in turns, on one connection for as long as the gate keeps it.
    KeepAlive,
    /// Unary calls, eight at a time on one connection.
    Grpc,
    /// One response that lasts until the drain is nearly over.
    Download,
    /// One call that does.
    Stream,
    /// One upgraded connection: a message, its echo, and so on to the end.
    WebSocket,
}

/// What one kind of client got, and did not get.
#[derive(Debug, Default)]
pub struct Tally {
    pub answered: AtomicU64,
    pub lost: Mutex<Vec<String>>,
}

/// Clients under way.
pub struct Clients {
    pub tallies: [Arc<Tally>; Kind::ALL.len()],
    tasks: JoinSet<()>,
}

/// What a client is told.
#[derive(Clone)]
pub struct Orders {
    /// The gate's ports.
    pub web: u16,
    pub grpc: u16,
    /// Whether a load balancer would still send something new to the gate.
    pub listed: watch::Receiver<bool>,
    /// Whether long streams come to their end.
    pub finish: watch::Receiver<bool>,
}

pub(super) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Calls at a time on a connection.
const CALLS: usize = 8;

// === impl Kind ===

impl Kind {
    pub const ALL: [Self; 6] = [
        Self::NewConnections,
        Self::KeepAlive,
        Self::Grpc,
        Self::Download,
        Self::Stream,
        Self::WebSocket,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::NewConnections => "new connections",
            Self::KeepAlive => "keep-alive",
            Self::Grpc => "gRPC",
            Self::Download => "download",
            Self::Stream => "gRPC stream",
            Self::WebSocket => "WebSocket",
        }
    }

    async fn work(self, orders: Orders, tally: &Tally) -> Outcome<()> {
        match self {
            Self::NewConnections => connect_anew(orders, tally).await,
            Self::KeepAlive => keep_alive(orders, tally).await,
            Self::Grpc => call(orders, tally).await,
            Self::Download => download(orders, tally).await,
            Self::Stream => watch_stream(orders, tally).await,
            Self::WebSocket => talk(orders, tally).await,
        }
    }
}

// === impl Tally ===

impl Tally {
    fn answered(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
    }
}

// === impl Clients ===

impl Clients {
    /// Three clients of each kind. Each stops at the first thing that it loses.
    pub fn start(orders: &Orders) -> Self {
        let tallies = Kind::ALL.map(|_| Arc::<Tally>::default());
        let mut tasks = JoinSet::new();
        for (kind, tally) in Kind::ALL.into_iter().zip(&tallies) {
            for _ in 0..3 {
                let (orders, tally) = (orders.clone(), Arc::clone(tally));
                tasks.spawn(async move {
                    if let Err(why) = kind.work(orders, &tally).await {
                        let lost = format!("{}: {why} ({why:?})", kind.name());
                        tally.lost.lock().unwrap().push(lost);
                    }
                });
            }
        }
        Self { tallies, tasks }
    }

    /// How many requests were answered so far; messages of WebSockets are none.
    pub fn answered(&self) -> u64 {
        let requests = Kind::ALL.into_iter().zip(&self.tallies);
        requests
            .filter(|(kind, _)| !matches!(kind, Kind::WebSocket))
            .map(|(_, tally)| tally.answered.load(Ordering::SeqCst))
            .sum()
    }

    /// Whether each kind of client has had an answer, or the beginning of one.
    pub fn are_all_served(&self) -> bool {
        self.tallies
            .iter()
            .all(|tally| tally.answered.load(Ordering::SeqCst) > 0)
    }

    pub fn lost(&self) -> Vec<String> {
        let lost = |tally: &Arc<Tally>| tally.lost.lock().unwrap().clone();
        self.tallies.iter().flat_map(lost).collect()
    }

    /// Waits until all have stopped.
    pub async fn stopped(&mut self) {
        while let Some(stopped) = self.tasks.join_next().await {
            stopped.unwrap();
        }
    }
}

pub(super) async fn dial(port: u16) -> Outcome<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

pub(super) async fn open_http1(port: u16) -> Outcome<http1::SendRequest<Full<Bytes>>> {
    let (sender, connection) = http1::handshake(TokioIo::new(dial(port).await?)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn whole(response: Response<Incoming>, expected: &[u8]) -> Outcome<()> {
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK && body == expected {
        return Ok(());
    }
    Err(format!("{status} with {} bytes", body.len()).into())
}

pub(super) fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header(header::HOST, "shop");
    request.body(Full::default()).unwrap()
}

async fn connect_anew(orders: Orders, tally: &Tally) -> Outcome<()> {
    while *orders.listed.borrow() {
        let mut sender = open_http1(orders.web).await?;
        whole(sender.send_request(get("/")).await?, PAGE).await?;
        tally.answered();
    }
    Ok(())
}

async fn keep_alive(orders: Orders, tally: &Tally) -> Outcome<()> {
    const CART: &[u8] = &[b'c'; 3000];
    while *orders.listed.borrow() {
        let mut sender = open_http1(orders.web).await?;
        // To its end: a gate that drains says so with the answer.
        while sender.ready().await.is_ok() {
            whole(sender.send_request(get("/")).await?, PAGE).await?;
            tally.answered();
            if sender.ready().await.is_err() {
                break;
            }
            let cart = Request::post("/cart").header(header::HOST, "shop");
            let cart = cart.body(Full::new(Bytes::from_static(CART))).unwrap();
            whole(sender.send_request(cart).await?, CART).await?;
            tally.answered();
        }
    }
    Ok(())
}

async fn open_http2(port: u16) -> Outcome<Calls<Bytes>> {
    let (sender, connection) = h2::client::handshake(dial(port).await?).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn call(orders: Orders, tally: &Tally) -> Outcome<()> {
    while *orders.listed.borrow() {
        let mut sender = open_http2(orders.grpc).await?;
        // Until the gate takes no more calls on this connection.
        'connection: loop {
            let mut calls = JoinSet::new();
            for _ in 0..CALLS {
                let Ok(ready) = sender.ready().await else {
                    finish_calls(&mut calls, tally).await?;
                    break 'connection;
                };
                sender = ready;
                let (response, mut body) = sender.send_request(rpc("/unary"), false)?;
                body.send_data(Bytes::from_static(b"ping"), true)?;
                calls.spawn(echoed(response));
            }
            finish_calls(&mut calls, tally).await?;
        }
    }
    Ok(())
}

async fn finish_calls(calls: &mut JoinSet<Outcome<()>>, tally: &Tally) -> Outcome<()> {
    while let Some(call) = calls.join_next().await {
        call??;
        tally.answered();
    }
    Ok(())
}

fn rpc(path: &str) -> Request<()> {
    let request = Request::post(format!("http://shop{path}"));
    let request = request.header(header::CONTENT_TYPE, "application/grpc");
    request.header(header::TE, "trailers").body(()).unwrap()
}

async fn echoed(response: h2::client::ResponseFuture) -> Outcome<()> {
    let mut body = response.await?.into_body();
    let mut echo = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        echo.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.ok_or("no trailers")?;
    if echo == b"ping" && trailers["grpc-status"] == "0" {
        return Ok(());
    }
    Err(format!("{echo:?} with {trailers:?}").into())
}

async fn download(orders: Orders, tally: &Tally) -> Outcome<()> {
    let mut sender = open_http1(orders.web).await?;
    let response = sender.send_request(get("/download")).await?;
    tally.answered();
    whole(response, &DOWNLOAD.concat()).await
}

async fn watch_stream(orders: Orders, tally: &Tally) -> Outcome<()> {
    let mut sender = open_http2(orders.grpc).await?.ready().await?;
    let (response, mut body) = sender.send_request(rpc("/watch"), false)?;
    tally.answered();
    body.send_data(Bytes::from_static(b"ping"), true)?;
    echoed(response).await
}

/// An upgraded connection.
pub(super) async fn upgrade(port: u16) -> Outcome<TcpStream> {
    let mut stream = dial(port).await?;
    let upgrade =
        "GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    Ok(stream)
}

/// Sends a message, and waits for its echo.
pub(super) async fn exchange_message(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"message").await?;
    let mut echo = [0; 7];
    stream.read_exact(&mut echo).await?;
    Ok(())
}

async fn talk(orders: Orders, tally: &Tally) -> Outcome<()> {
    let mut stream = upgrade(orders.web).await?;
    while !*orders.finish.borrow() {
        exchange_message(&mut stream).await?;
        tally.answered();
    }
    stream.shutdown().await?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _ => Err("more than was sent".into()),
    }
}
