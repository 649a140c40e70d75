//! The API server, for our server alone, in a mood.

use std::{
    convert::Infallible,
    fs,
    future::pending,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Request, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::watch,
};

use crate::support::stream::client;

/// How it takes questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// Passes all on to the real one.
    Well,
    /// Answers none about Secrets, and lets go who asked when it changes.
    Silent,
    /// Has too much to do, for everybody: 429.
    Throttling,
}

/// A proxy before the real API server; it ends with this value.
pub(super) struct Upstream {
    /// With it, a server of ours asks here.
    pub(super) kubeconfig: PathBuf,
    mood: watch::Sender<Mood>,
    throttled: Arc<AtomicUsize>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Proxy {
    real: Client,
    mood: watch::Receiver<Mood>,
    throttled: Arc<AtomicUsize>,
}

// === impl Upstream ===

impl Upstream {
    /// Before the API server of this kubeconfig, with the rights of its user; all is well.
    pub(super) fn of(kubeconfig: &Path) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (mood, moods) = watch::channel(Mood::Well);
        let throttled = Arc::<AtomicUsize>::default();
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let proxy = Proxy {
            real: runtime.block_on(client(kubeconfig)),
            mood: moods,
            throttled: Arc::clone(&throttled),
        };
        runtime.spawn(proxy.serve(listener));

        let text = fs::read_to_string(kubeconfig).expect("it is there");
        let mut config: Value = serde_json::from_str(&text).expect("it is written as JSON");
        config["clusters"][0]["cluster"] = json!({"server": format!("http://127.0.0.1:{port}")});
        let kubeconfig = kubeconfig.with_extension("moody.kubeconfig");
        fs::write(&kubeconfig, config.to_string()).expect("the folder is ours");
        Self {
            kubeconfig,
            mood,
            throttled,
            _runtime: runtime,
        }
    }

    pub(super) fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// How many questions for the sake of reviews were answered 429.
    pub(super) fn throttled(&self) -> usize {
        self.throttled.load(Ordering::SeqCst)
    }
}

// === impl Proxy ===

impl Proxy {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let proxy = self.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| proxy.clone().answer(request));
                // An error is the client's, who has left.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    async fn answer(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let mood = *self.mood.borrow();
        match mood {
            Mood::Well => {}
            Mood::Silent if !request.uri().path().contains("/secrets/") => {}
            Mood::Silent => {
                if self.mood.wait_for(|now| *now != mood).await.is_err() {
                    pending::<()>().await;
                }
            }
            Mood::Throttling => {
                if is_of_a_review(request.uri().path()) {
                    self.throttled.fetch_add(1, Ordering::SeqCst);
                }
                return Ok(too_many_requests());
            }
        }
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_or_else(|_| Vec::new(), |body| body.to_bytes().into());
        let answer = self
            .real
            .send(Request::from_parts(head, Body::from(body)))
            .await;
        Ok(answer.unwrap_or_else(|error| {
            let mut answer = Response::new(Body::from(error.to_string().into_bytes()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }))
    }
}

/// About a namespace that is not ours. What keeps our own house is asked again the longer a test takes.
fn is_of_a_review(path: &str) -> bool {
    let namespace = path.strip_prefix("/api/v1/namespaces/");
    namespace.is_some_and(|name| !name.starts_with("portcullis-"))
}

/// As `kube-apiserver` has it (priority and fairness, and its limits of requests in flight).
fn too_many_requests() -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests",
        "message": "Too many requests, please try again later.",
    });
    let mut answer = Response::new(Body::from(status.to_string().into_bytes()));
    *answer.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let seconds = "1".parse().expect("a header's value");
    answer.headers_mut().insert(RETRY_AFTER, seconds);
    answer
}
