//! An API server on loopback that behaves as a test tells it to: to inject faults, and to count what is asked.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

use super::{Live, Meters};

/// What to do with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// 200 with this object.
    Object(Value),
    /// A `Status` with this code and reason.
    Status(u16, &'static str),
    /// Exactly this.
    Raw(u16, Bytes),
    /// The object, as soon as the semaphore has a permit.
    Held(Arc<Semaphore>, Value),
    /// The head and half of an object.
    Broken,
    /// Nothing, ever.
    Silence,
}

/// The server; it ends when it is dropped.
pub(crate) struct Api {
    address: SocketAddr,
    seen: Arc<Seen>,
    _connections: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    paths: Mutex<Vec<String>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

type Body = UnsyncBoxBody<Bytes, io::Error>;

// === impl Api ===

impl Api {
    pub(crate) async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, reply) = (Arc::new(Seen::default()), Arc::new(reply));
        let mut connections = JoinSet::new();
        let counted = Arc::clone(&seen);
        connections.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, reply) = (Arc::clone(&counted), Arc::clone(&reply));
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let asked = request.uri().path_and_query();
                        let path = asked.map_or_else(String::new, ToString::to_string);
                        answer(reply(&path), path, Arc::clone(&seen))
                    });
                    // An error is the client's, who has left.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            seen,
            _connections: connections,
        }
    }

    /// Serves these objects by their paths, whatever the query; everything else is not found.
    pub(crate) async fn of(objects: Vec<(&'static str, Value)>) -> Self {
        Self::start(move |path| {
            let path = path.split('?').next().unwrap_or_default();
            let found = objects.iter().find(|(known, _)| *known == path);
            found.map_or(Reply::Status(404, "NotFound"), |(_, object)| {
                Reply::Object(object.clone())
            })
        })
        .await
    }

    pub(crate) fn live(&self, meters: Meters) -> Live {
        let uri = format!("http://{}", self.address).parse().unwrap();
        Live::connect(kube::Config::new(uri), meters).unwrap()
    }

    /// The paths that were asked for, in order, with their queries.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen.paths.lock().unwrap().clone()
    }

    /// The most requests that were under way at once.
    pub(crate) fn most_at_once(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }
}

async fn answer(reply: Reply, path: String, seen: Arc<Seen>) -> Result<Response<Body>, Infallible> {
    seen.paths.lock().unwrap().push(path);
    let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(now, Ordering::SeqCst);
    tokio::task::yield_now().await; // let others come in before this one ends
    let (code, body) = match reply {
        Reply::Object(object) => (200, object.to_string().into()),
        Reply::Status(code, reason) => (code, status(code, reason).to_string().into()),
        Reply::Raw(code, body) => (code, body),
        Reply::Held(permits, object) => {
            permits.acquire().await.unwrap().forget();
            (200, object.to_string().into())
        }
        Reply::Broken => return Ok(Response::new(broken())),
        Reply::Silence => std::future::pending().await,
    };
    seen.now.fetch_sub(1, Ordering::SeqCst);
    let mut response = Response::new(
        Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    Ok(response)
}

fn status(code: u16, reason: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": format!("{reason} says the API server"),
    })
}

/// Half of an object, and then a broken connection; the half is on its way first.
fn broken() -> Body {
    let frames = stream::iter(0..).then(async |number| {
        tokio::task::yield_now().await;
        match number {
            0 => Ok(Frame::data(Bytes::from_static(
                b"{\"data\":{\"key\":\"dmFs",
            ))),
            1..8 => Ok(Frame::data(Bytes::from_static(b"dmFs"))),
            _ => Err(io::Error::other("gone")),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}
