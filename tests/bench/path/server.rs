//! The server under measurement: the real program in a process of its own, pinned to one core, with an API server of
//! ours behind it that answers at once.

use std::{
    convert::Infallible,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::Resumption};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A running `portcullis serve`; it ends with this value.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    roots: RootCertStore,
    _folder: tempfile::TempDir,
}

/// What the process has used so far.
pub struct Usage {
    pub cpu_seconds: f64,
    pub resident_kib: u64,
    pub peak_kib: u64,
}

// === impl Server ===

impl Server {
    /// Starts it on `core`, with facts from [`api`].
    pub async fn start(core: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let pair =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        fs::write(at("tls.crt"), pair.cert.pem()).expect("the folder is ours");
        fs::write(at("tls.key"), pair.signing_key.serialize_pem()).expect("the folder is ours");
        fs::write(at("kubeconfig"), kubeconfig(api().await)).expect("the folder is ours");
        let mut process = Command::new("taskset")
            .args(["-c", core, env!("CARGO_BIN_EXE_portcullis"), "serve"])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args([
                "--worker-threads",
                "1",
                "--drain-delay",
                "0s",
                "--log-format",
                "json",
            ])
            .arg("--kubeconfig")
            .arg(at("kubeconfig"))
            .arg("--tls-cert")
            .arg(at("tls.crt"))
            .arg("--tls-key")
            .arg(at("tls.key"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("taskset is part of util-linux");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let address = log
            .by_ref()
            .map_while(Result::ok)
            .inspect(|line| eprintln!("{line}"))
            .find_map(|line| listening(&line))
            .expect("the server says where it listens");
        // Its log must not fill the pipe.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        let mut roots = RootCertStore::empty();
        roots.add(pair.cert.der().clone()).expect("a certificate");
        Self {
            process,
            address,
            roots,
            _folder: folder,
        }
    }

    /// A client that trusts it.
    pub fn client(&self) -> Arc<ClientConfig> {
        client(self.roots.clone())
    }

    /// A client that resumes. By TLS 1.2, whose ticket serves any number of connections; those of TLS 1.3 serve one each.
    pub fn resuming_client(&self) -> Arc<ClientConfig> {
        let tls12 = &[&rustls::version::TLS12];
        client_of(self.roots.clone(), tls12, Resumption::default())
    }

    /// From `/proc`: user and system time, and resident memory.
    pub fn usage(&self) -> Usage {
        /// `USER_HZ` is 100 on every architecture that we build for.
        const TICKS_PER_SECOND: f64 = 100.0;
        let proc = Path::new("/proc").join(self.process.id().to_string());
        let stat = fs::read_to_string(proc.join("stat")).expect("the server runs");
        let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
        let ticks: f64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|n| n.parse().unwrap_or(0.0))
            .sum();
        let status = fs::read_to_string(proc.join("status")).expect("the server runs");
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
                .unwrap_or(0)
        };
        Usage {
            cpu_seconds: ticks / TICKS_PER_SECOND,
            resident_kib: kib("VmRSS"),
            peak_kib: kib("VmHWM"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that trusts these and makes a full handshake each time, as an API server does: Go resumes only where
/// `ClientSessionCache` is set, and client-go does not.
pub fn client(roots: RootCertStore) -> Arc<ClientConfig> {
    client_of(roots, rustls::DEFAULT_VERSIONS, Resumption::disabled())
}

fn client_of(
    roots: RootCertStore,
    versions: &[&'static rustls::SupportedProtocolVersion],
    resumption: Resumption,
) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("ring speaks all versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = resumption;
    Arc::new(config)
}

fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let webhook = line
        .get("webhook")
        .or_else(|| line.pointer("/fields/webhook"))?;
    webhook.as_str()?.parse().ok()
}

fn kubeconfig(api: SocketAddr) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "clusters": [{"name": "bench", "cluster": {"server": format!("http://{api}")}}],
        "users": [{"name": "bench", "user": {}}],
    })
    .to_string()
}

/// An API server where every object that a review names exists, with every key that it reads.
async fn api() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(object)),
            );
        }
    });
    address
}

async fn object(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let object = match request.uri().path() {
        path if path.ends_with("/limitranges") => json!({"kind": "LimitRangeList", "items": []}),
        path if path.contains("/secrets/") || path.contains("/configmaps/") => {
            json!({"data": {"key": "dmFsdWU="}})
        }
        _ => json!({"metadata": {"name": "shop"}}),
    };
    Ok(Response::new(Full::new(object.to_string().into())))
}
