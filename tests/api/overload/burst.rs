//! Reviews straight at a server, as many as an API server could send and more.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::Command,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    Request, StatusCode,
    header::{CONTENT_TYPE, HOST, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

/// The place of a review's `uid`, until it has its own.
const UID: &str = "THE-UID";

/// What came back for a burst.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Judged: `allowed` was false.
    pub(super) refused: usize,
    /// 429, with the time after which to come again.
    pub(super) shed: usize,
    /// 504: no verdict in time.
    pub(super) late: usize,
    /// Anything else, in words.
    pub(super) other: BTreeMap<String, usize>,
}

/// Where reviews go.
#[derive(Clone)]
pub(super) struct Target {
    address: SocketAddr,
    tls: TlsConnector,
}

/// A review, but for its `uid`.
#[derive(Clone)]
pub(super) struct Review {
    before: Arc<str>,
    after: Arc<str>,
}

/// Connections that are open.
pub(super) struct Crowd {
    runtime: Runtime,
    connections: Vec<SendRequest<Full<Bytes>>>,
}

// === impl Target ===

impl Target {
    /// The server at this port of loopback, trusted by this `caBundle`.
    pub(super) fn new(port: u16, bundle: &str) -> Self {
        let pem = BASE64_STANDARD
            .decode(bundle)
            .expect("a bundle is in base64");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.expect("PEM")).expect("a certificate");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks all versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            address: ([127, 0, 0, 1], port).into(),
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// So many connections, each of which has had its answer to `review`: what many handshakes at once cost is not the
    /// question, and a machine under load takes its time for them.
    pub(super) fn crowd(&self, connections: usize, review: &Review) -> Crowd {
        allow_descriptors();
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let entered = runtime.block_on(async {
            let doors = Arc::new(Semaphore::new(16));
            let mut entering = JoinSet::new();
            for _ in 0..connections {
                let (target, doors, review) = (self.clone(), Arc::clone(&doors), review.of(0));
                entering.spawn(async move {
                    let _turn = doors.acquire().await;
                    target.enter(review).await
                });
            }
            entering.join_all().await
        });
        Crowd {
            runtime,
            connections: entered,
        }
    }

    /// A connection that is known to the server as one that asks and is answered, whatever the answer.
    async fn enter(&self, first: Bytes) -> SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let name = ServerName::from(self.address.ip());
        let stream = self.tls.connect(name, stream).await;
        let stream = stream.expect("its certificate is trusted");
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        send(&mut sender, first).await.expect("it answers");
        sender
    }
}

// === impl Crowd ===

impl Crowd {
    /// Sends so many reviews, on every connection as soon as it is free.
    pub(super) fn burst(self, reviews: usize, review: &Review) -> Tally {
        self.send(review, move |number| number < reviews)
    }

    /// Sends reviews until it is to stop.
    pub(super) fn flood(self, review: &Review, stop: &Arc<AtomicBool>) -> Tally {
        let stop = Arc::clone(stop);
        self.send(review, move |_| !stop.load(Ordering::Relaxed))
    }

    /// Sends while `goes_on` with a review of the next number.
    fn send(
        self,
        review: &Review,
        goes_on: impl Fn(usize) -> bool + Send + Sync + 'static,
    ) -> Tally {
        let (next, goes_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(goes_on));
        let mut senders = JoinSet::new();
        for mut connection in self.connections {
            let (next, goes_on) = (Arc::clone(&next), Arc::clone(&goes_on));
            let review = review.clone();
            let sending = async move {
                let mut tally = Tally::default();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if !goes_on(number) {
                        return tally;
                    }
                    let told = send(&mut connection, review.of(number)).await;
                    tally.count(told.and_then(|told| told.check(number)));
                }
            };
            senders.spawn_on(sending, self.runtime.handle());
        }
        let mut tally = Tally::default();
        for of_one in self.runtime.block_on(senders.join_all()) {
            tally.add(of_one);
        }
        tally
    }
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, review: Bytes) -> Result<Told, String> {
    let request = Request::post("/validate?timeout=3s")
        .header(HOST, "portcullis")
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(review))
        .expect("constant parts");
    sender
        .ready()
        .await
        .map_err(|error| format!("kept: {error}"))?;
    let answer = sender.send_request(request).await;
    let answer = answer.map_err(|error| format!("sent: {error}"))?;
    let (head, body) = answer.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| format!("answered: {error}"))?;
    Ok(Told {
        status: head.status,
        retry_after: head.headers.contains_key(RETRY_AFTER),
        body: serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string())?,
    })
}

/// An answer.
struct Told {
    status: StatusCode,
    retry_after: bool,
    body: Value,
}

enum Outcome {
    Refused,
    Shed,
    Late,
}

// === impl Told ===

impl Told {
    fn check(self, number: usize) -> Result<Outcome, String> {
        let response = &self.body["response"];
        match self.status {
            StatusCode::OK if response["uid"] != uid(number) => Err("another's answer".to_owned()),
            StatusCode::OK if response["allowed"] == false => Ok(Outcome::Refused),
            StatusCode::TOO_MANY_REQUESTS
                if self.retry_after && self.body["reason"] == "TooManyRequests" =>
            {
                Ok(Outcome::Shed)
            }
            StatusCode::GATEWAY_TIMEOUT if self.body["reason"] == "Timeout" => Ok(Outcome::Late),
            status => Err(format!("{status}: {}", self.body)),
        }
    }
}

// === impl Review ===

impl Review {
    /// Of this object, made by a user, in a body of so many bytes at least.
    pub(super) fn new(object: &Value, bytes: usize) -> Self {
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": UID,
                "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
                "name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"],
                "operation": "CREATE", "userInfo": {"username": "kim", "groups": []},
                "object": object, "oldObject": null, "dryRun": false,
            },
        });
        let text = review.to_string();
        let (before, after) = text.split_once(UID).expect("it is there");
        let padding = " ".repeat(bytes.saturating_sub(text.len()));
        Self {
            before: before.to_owned().into(),
            after: format!("{after}{padding}").into(),
        }
    }

    /// With the `uid` of this number.
    fn of(&self, number: usize) -> Bytes {
        [&*self.before, &*uid(number), &*self.after].concat().into()
    }
}

fn uid(number: usize) -> String {
    format!("review-{number}")
}

// === impl Tally ===

impl Tally {
    /// How many were answered as they may be.
    pub(super) fn answered(&self) -> usize {
        self.refused + self.shed + self.late
    }

    fn count(&mut self, outcome: Result<Outcome, String>) {
        match outcome {
            Ok(Outcome::Refused) => self.refused += 1,
            Ok(Outcome::Shed) => self.shed += 1,
            Ok(Outcome::Late) => self.late += 1,
            Err(other) => *self.other.entry(other).or_default() += 1,
        }
    }

    fn add(&mut self, of_one: Self) {
        let Self {
            refused,
            shed,
            late,
            other,
        } = of_one;
        self.refused += refused;
        self.shed += shed;
        self.late += late;
        for (words, times) in other {
            *self.other.entry(words).or_default() += times;
        }
    }
}

/// Lets this process, and the servers that it starts, open as many files as these tests need.
fn allow_descriptors() {
    static ALLOWED: Once = Once::new();
    ALLOWED.call_once(|| {
        let pid = std::process::id().to_string();
        let raised = Command::new("prlimit")
            .args(["--pid", &pid, "--nofile=4096:"])
            .status()
            .expect("prlimit is part of util-linux");
        assert!(raised.success(), "the hard limit (ulimit -Hn) is too low");
    });
}
