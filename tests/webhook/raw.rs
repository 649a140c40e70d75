//! An HTTP/1.1 client that does exactly what a test says, and a server to be talked to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use portcullis::server::{Limits, Tls, serve};
use portcullis::webhook::metrics::Metrics;
use portcullis::webhook::tls::{Authority, Certificates, Lifetimes, server_config};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Nothing here takes this long; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Limits that no test comes near; each shortens the one that it is about.
pub(super) const LIMITS: Limits = Limits {
    connections: 64,
    handshake_timeout: PATIENCE,
    header_timeout: PATIENCE,
    idle_timeout: Some(PATIENCE),
    header_bytes: 16 * 1024,
    buffer_bytes: 64 * 1024,
    drain_delay: Duration::ZERO,
    shutdown_timeout: PATIENCE,
};

/// What the service and its test tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// A request to `/wait` has begun.
    pub(super) begun: Notify,
    /// Lets a request to `/wait` end.
    pub(super) go_on: Notify,
    /// A request to `/wait` was dropped unanswered.
    pub(super) dropped: Notify,
}

struct Dropped<'a>(&'a Signals);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

/// A server of the library, and how to reach it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) signals: Arc<Signals>,
    authority: Authority,
    metrics: Metrics,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(limits: Limits) -> Self {
        let authority = Authority::generate(SystemTime::now(), &Lifetimes::PROGRAM).unwrap();
        let certificates = Arc::new(Certificates::new(metrics::Gauge::noop()));
        let leaf = authority.sign(
            &["127.0.0.1".to_owned()],
            SystemTime::now(),
            &Lifetimes::PROGRAM,
        );
        certificates.serve(&leaf.unwrap());
        let tls = Tls::new(server_config(certificates).unwrap());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let signals = Arc::new(Signals::default());
        let service = {
            let signals = Arc::clone(&signals);
            tower::service_fn(move |request| answer(request, Arc::clone(&signals)))
        };
        let metrics = Metrics::new();
        let meters = metrics.server.clone();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(
            listener,
            Some(tls),
            service,
            (limits, meters),
            async {
                let _ = stopped.await;
            },
        ));
        Self {
            address,
            signals,
            authority,
            metrics,
            stop: Some(stop),
            served,
        }
    }

    /// A TLS client that trusts the server; its sessions are resumed.
    pub(super) fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        let pem = self.authority.certificate_pem().as_bytes();
        roots
            .add(CertificateDer::from_pem_slice(pem).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    pub(super) async fn connect(&self) -> Client<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        Client(within(self.client().connect(name, stream)).await.unwrap())
    }

    /// The value of a series, as `/metrics` would show it.
    pub(super) fn metric(&self, series: &str) -> u64 {
        let page = self.metrics.handle().render();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not in\n{page}"))
            .parse()
            .unwrap()
    }

    /// Waits until a series has a value: what is counted is counted a moment after the client sees its effect.
    pub(super) async fn until(&self, series: &str, value: u64) {
        within(async {
            while self.metric(series) != value {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Sends the shutdown signal.
    pub(super) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end that [`Self::stop`] has begun.
    pub(super) async fn ended(self) {
        within(self.served).await.unwrap();
    }
}

async fn answer(
    request: Request<Incoming>,
    signals: Arc<Signals>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    match path.as_str() {
        "/panic" => panic!("as the test asked"),
        "/wait" => {
            let guard = Dropped(&signals);
            signals.begun.notify_one();
            signals.go_on.notified().await;
            std::mem::forget(guard);
        }
        _ => {}
    }
    Ok(Response::new(Full::new(body)))
}

/// One connection.
pub(super) struct Client<S>(pub(super) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(super) async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Asks for a path; status line and headers of the answer. The body, always known in length, is read and
    /// thrown away.
    pub(super) async fn get(&mut self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
        self.head().await
    }

    pub(super) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within(self.0.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        within(self.0.read_exact(&mut body)).await.unwrap();
        head
    }

    /// Waits for the server to close, and returns what it still said.
    pub(super) async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = within(self.0.read_to_end(&mut rest)).await;
        rest
    }
}

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it takes too long")
}
