//! An app that has every kind of work at hand: answers, echoes, calls, downloads, upgraded streams.

use std::{net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
};

/// The app: HTTP/1 on one port, gRPC on the other.
pub struct App {
    pub web: u16,
    pub grpc: u16,
    _server: JoinSet<()>,
}

/// What a download begins with, and what it ends with once it may end.
pub const DOWNLOAD: [&[u8]; 2] = [&[b'a'; 100_000], &[b'z'; 100_000]];

/// A download in [`PIECES`] equal pieces; the path goes on with the pause after each, in milliseconds.
pub const PACED: &str = "/paced/";
pub const PIECES: usize = 30;
pub const PIECE: &[u8] = &[b'd'; 10_000];

/// What a `GET` answers: more than one segment.
pub const PAGE: &[u8] = &[b'p'; 4000];

type Body = BoxBody<Bytes, std::convert::Infallible>;

impl App {
    /// Starts it. Downloads end only after `finish` is true.
    pub async fn start(finish: watch::Receiver<bool>) -> Self {
        let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let grpc = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let ports = [&web, &grpc].map(|port| port.local_addr().unwrap().port());
        let mut server = JoinSet::new();
        let may_finish = finish.clone();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = web.accept().await.unwrap();
                connections.spawn(serve_web(stream, may_finish.clone()));
            }
        });
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = grpc.accept().await.unwrap();
                connections.spawn(serve_grpc(stream, finish.clone()));
            }
        });
        let [web, grpc] = ports;
        Self {
            web,
            grpc,
            _server: server,
        }
    }
}

async fn serve_web(stream: TcpStream, finish: watch::Receiver<bool>) {
    stream.set_nodelay(true).unwrap();
    let service = service_fn(move |request| answer(request, finish.clone()));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn answer(
    request: Request<Incoming>,
    finish: watch::Receiver<bool>,
) -> Result<Response<Body>, hyper::Error> {
    if request.headers().contains_key(header::UPGRADE) {
        return Ok(upgrade(request));
    }
    let body = match (request.method(), request.uri().path()) {
        (&Method::POST, _) => {
            let sent = request.into_body().collect().await?.to_bytes();
            Full::new(sent).boxed()
        }
        (_, "/download") => download(finish),
        (_, path) if path.starts_with(PACED) => {
            let pace = path[PACED.len()..].parse().unwrap();
            paced(Duration::from_millis(pace))
        }
        _ => Full::new(Bytes::from_static(PAGE)).boxed(),
    };
    Ok(Response::new(body))
}

/// Takes the connection and sends back what comes, to its end.
fn upgrade(request: Request<Incoming>) -> Response<Body> {
    tokio::spawn(async move {
        let Ok(stream) = hyper::upgrade::on(request).await else {
            return;
        };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
    });
    let mut response = Response::new(Full::default().boxed());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let websocket = HeaderValue::from_static("websocket");
    response.headers_mut().insert(header::UPGRADE, websocket);
    let upgrade = HeaderValue::from_static("upgrade");
    response.headers_mut().insert(header::CONNECTION, upgrade);
    response
}

fn download(mut finish: watch::Receiver<bool>) -> Body {
    let (chunks, sent) = mpsc::channel(1);
    tokio::spawn(async move {
        let [first, last] = DOWNLOAD.map(Bytes::from_static);
        let _ = chunks.send(first).await;
        let _ = finish.wait_for(|finish| *finish).await;
        let _ = chunks.send(last).await;
    });
    stream(sent)
}

fn paced(pause: Duration) -> Body {
    let (chunks, sent) = mpsc::channel(1);
    tokio::spawn(async move {
        for _ in 0..PIECES {
            let _ = chunks.send(Bytes::from_static(PIECE)).await;
            tokio::time::sleep(pause).await;
        }
    });
    stream(sent)
}

fn stream(mut chunks: mpsc::Receiver<Bytes>) -> Body {
    let chunks = futures_util::stream::poll_fn(move |context| {
        chunks
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    });
    StreamBody::new(chunks).boxed()
}

async fn serve_grpc(stream: TcpStream, finish: watch::Receiver<bool>) {
    stream.set_nodelay(true).unwrap();
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        calls.spawn(call(request, respond, finish.clone()));
    }
}

/// Sends back what it is sent; with `/watch` the trailers come only when streams may finish.
async fn call(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    mut finish: watch::Receiver<bool>,
) {
    let watches = request.uri().path() == "/watch";
    let Ok(mut send) = respond.send_response(Response::new(()), false) else {
        return;
    };
    let mut body = request.into_body();
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        let _ = send.send_data(data, false);
    }
    if watches {
        let _ = finish.wait_for(|finish| *finish).await;
    }
    let trailers = HeaderMap::from_iter([(
        header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let _ = send.send_trailers(trailers);
}
