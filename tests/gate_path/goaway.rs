//! How an HTTP/2 client is let go: nothing that it asked in good faith is lost.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::{RecvStream, client::ResponseFuture};
use http::{Request, Response, StatusCode};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    harness::{App, Client, Gate, PATIENCE, until},
    http2::echo,
};

/// What `last_stream_id` is in a GOAWAY that refuses nothing.
const NONE_REFUSED: u32 = 0x7fff_ffff;

fn get() -> Request<()> {
    Request::get("http://shop/").body(()).unwrap()
}

async fn answered(response: ResponseFuture) {
    let response = timeout(PATIENCE, response).await.expect("never answered");
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}

/// What has come to a connection and nobody has read, seen past the library that owns it.
struct Unread(std::net::TcpStream);

impl Unread {
    fn of(stream: TcpStream) -> (Self, TcpStream) {
        let stream = stream.into_std().unwrap();
        let twin = Self(stream.try_clone().unwrap());
        (twin, TcpStream::from_std(stream).unwrap())
    }

    fn has_goaway(&self) -> bool {
        const HEAD: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
        let mut bytes = [0; 256];
        let length = self.0.peek(&mut bytes).unwrap_or(0);
        bytes[..length].windows(HEAD.len()).any(|at| at == HEAD)
    }
}

/// The `h2` library's client answers a PING before it sends the requests that were begun before;
/// a gate that refuses what comes after that answer refuses them.
#[tokio::test]
async fn a_request_that_was_begun_before_the_goaway_was_read_is_answered() {
    let gate = Gate::open(echo(App::listen().await));
    let (unread, stream) = Unread::of(gate.client().await.stream);
    let (mut sender, mut connection) = h2::client::handshake::<_>(stream).await.unwrap();
    let (first, _) = sender.send_request(get(), true).unwrap();
    tokio::select! {
        () = answered(first) => {}
        _ = &mut connection => panic!("the connection has ended"),
    }
    gate.drain(Instant::now());
    // Nobody drives the client's connection meanwhile, as when its thread has no core.
    until("told to go", || unread.has_goaway()).await;
    let (second, _) = sender.send_request(get(), true).unwrap();
    let driven = tokio::spawn(connection);
    answered(second).await;
    timeout(PATIENCE, driven).await.unwrap().unwrap().unwrap();
    gate.drained().await;
}

#[tokio::test]
async fn a_client_that_comes_during_the_drain_gets_an_answer_and_is_then_told_to_go() {
    let gate = Gate::open(echo(App::listen().await));
    gate.drain(Instant::now() + PATIENCE);
    let stream = gate.client().await.stream;
    let (sender, mut connection) = h2::client::handshake::<_>(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    let driven = tokio::spawn(connection);
    // As gRPC's own clients do, it does not ask before it knows the server to be there.
    pings.ping(h2::Ping::opaque()).await.unwrap();
    let (response, _) = sender
        .ready()
        .await
        .unwrap()
        .send_request(get(), true)
        .unwrap();
    answered(response).await;
    timeout(PATIENCE, driven).await.unwrap().unwrap().unwrap();
}

/// One frame of HTTP/2.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GOAWAY: u8 = 7;

    async fn send(self, client: &mut Client) {
        let mut bytes = u32::try_from(self.payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(self.payload);
        client.send(bytes).await;
    }

    /// `GET /` of shop, by HPACK's static table.
    async fn ask(stream: u32, client: &mut Client) {
        const END_STREAM_AND_HEADERS: u8 = 5;
        let payload = [&[0x82, 0x86, 0x84, 0x41, 4], b"shop".as_slice()].concat();
        let (kind, flags) = (Self::HEADERS, END_STREAM_AND_HEADERS);
        let frame = Self {
            kind,
            flags,
            stream,
            payload,
        };
        frame.send(client).await;
    }

    /// The next frame of this kind.
    async fn next(kind: u8, client: &mut Client) -> Self {
        loop {
            let head = client.bytes(9).await;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let frame = Self {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                payload: client.bytes(usize::try_from(length).unwrap()).await,
            };
            if frame.kind == kind {
                return frame;
            }
        }
    }

    async fn goaway(client: &mut Client) -> u32 {
        let frame = Self::next(Self::GOAWAY, client).await;
        u32::from_be_bytes(frame.payload[..4].try_into().unwrap())
    }

    /// A connection on which nothing was asked.
    async fn connect(gate: &Gate) -> Client {
        let mut client = gate.client().await;
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let settings = Self {
            kind: Self::SETTINGS,
            flags: 0,
            stream: 0,
            payload: Vec::new(),
        };
        settings.send(&mut client).await;
        client
    }
}

#[tokio::test]
async fn the_last_goaway_comes_after_the_answer_to_a_ping_and_names_the_last_stream() {
    const ACK: u8 = 1;
    let gate = Gate::open(echo(App::listen().await));
    let mut client = Frame::connect(&gate).await;
    Frame::ask(1, &mut client).await;
    assert_eq!(Frame::next(Frame::HEADERS, &mut client).await.stream, 1);
    gate.drain(Instant::now() + PATIENCE);
    assert_eq!(Frame::goaway(&mut client).await, NONE_REFUSED);
    Frame::ask(3, &mut client).await;
    assert_eq!(Frame::next(Frame::HEADERS, &mut client).await.stream, 3);
    // Streams are refused in the end, even if a client answers no PING for long.
    assert_eq!(Frame::goaway(&mut client).await, NONE_REFUSED);
    let ping = Frame::next(Frame::PING, &mut client).await;
    Frame::ask(5, &mut client).await;
    assert_eq!(Frame::next(Frame::HEADERS, &mut client).await.stream, 5);
    Frame { flags: ACK, ..ping }.send(&mut client).await;
    assert_eq!(Frame::goaway(&mut client).await, 5);
    client
        .end()
        .await
        .expect("the gate ends it without a reset");
}

#[tokio::test]
async fn a_drain_waits_for_no_client_that_never_answers_and_never_leaves() {
    let gate = Gate::open(echo(App::listen().await));
    let mut client = Frame::connect(&gate).await;
    Frame::ask(1, &mut client).await;
    Frame::next(Frame::HEADERS, &mut client).await;
    let began = Instant::now();
    gate.drain(Instant::now());
    gate.drained().await;
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

/// An app that answers one call, its body only when told.
fn answer_late(app: App, size: usize) -> (SocketAddr, oneshot::Sender<()>) {
    let (address, (tell, told)) = (app.address, oneshot::channel());
    tokio::spawn(async move {
        let stream = app.accept_or_wait().await;
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        tokio::spawn(async move {
            told.await.unwrap();
            body.send_data(Bytes::from(vec![b'x'; size]), true).unwrap();
        });
        while connection.accept().await.is_some() {}
    });
    (address, tell)
}

/// Reads for as long as there is more and `so`.
async fn read(body: &mut RecvStream, so: impl Fn() -> bool) -> usize {
    let mut read = 0;
    while so()
        && let Some(data) = body.data().await
    {
        let data = data.unwrap_or_else(|error| panic!("{error} after {read}"));
        read += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    read
}

#[tokio::test]
async fn a_slow_reader_gets_the_end_of_the_last_response() {
    const SIZE: usize = 8 << 20;
    let (app, tell) = answer_late(App::listen().await, SIZE);
    let mut gate = Gate::open(app);
    // By then it listens.
    drop(gate.client().await);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(gate.address).await.unwrap();
    let (sender, mut connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    let (response, _) = sender
        .ready()
        .await
        .unwrap()
        .send_request(get(), true)
        .unwrap();
    let mut body = tokio::select! {
        response = response => response.unwrap().into_body(),
        _ = &mut connection => panic!("the connection has ended"),
    };
    gate.drain(Instant::now());
    tell.send(()).unwrap();
    let traffic = Arc::clone(&gate.traffic);
    let mut size = tokio::select! {
        size = read(&mut body, || traffic.in_flight.value() == 1) => size,
        _ = &mut connection => panic!("the connection has ended"),
    };
    assert!(size < SIZE, "the gate has to be ahead of its client");
    // The client's thread has no core for longer than it takes to say GOAWAY.
    let early = timeout(Duration::from_millis(1500), &mut gate.run).await;
    assert!(early.is_err(), "not all was read, {size} of {SIZE} were");
    let driven = tokio::spawn(connection);
    size += read(&mut body, || true).await;
    assert_eq!(size, SIZE);
    timeout(PATIENCE, driven).await.unwrap().unwrap().unwrap();
    gate.drained().await;
}
