//! What `portcullis serve` is told, and what becomes of it once it has been checked.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http::Uri;
use rustls::pki_types::DnsName;
use thiserror::Error;

use super::tls::CertificateFiles;
use crate::server::Limits;

/// From the accept to the end of the handshake, and from there to the end of the first request's head. The API
/// server dials when it has something to say, and gives up after `timeoutSeconds`: 3.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are the API server's to close: it does after 90 s (Go's `IdleConnTimeout`), and a request
/// that it sends while we close is one that it must not repeat. So we wait longer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The API server's heads are under 1 KiB; this leaves room for a proxy's additions.
const HEADER_BYTES: usize = 16 * 1024;

/// One read of a body: a record of TLS, of which there is never more at once. Each connection keeps its own, and there
/// may be a thousand: with 64 KiB a burst over all of them took 80 MiB more.
const BUFFER_BYTES: usize = 16 * 1024;

/// Probes and scrapes, each a connection of its own at worst.
const ADMIN_CONNECTIONS: usize = 64;

/// Options of `portcullis serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where the API server calls us, by TLS.
    #[arg(long, default_value = "[::]:8443", value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Where /live, /ready and /metrics are served, without TLS.
    #[arg(long, default_value = "[::]:8080", value_name = "ADDRESS")]
    admin_listen: SocketAddr,

    /// Kubeconfig of the API server; inside a cluster the pod's own ServiceAccount is used.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Our own namespace: where the Service and the Secret portcullis-ca are.
    #[arg(
        long,
        env = "PORTCULLIS_NAMESPACE",
        default_value = "portcullis-system"
    )]
    namespace: String,

    /// Name of our Service: the certificate is for SERVICE.NAMESPACE.svc.
    #[arg(long, default_value = "portcullis")]
    service: String,

    /// Name of this replica, and of no other: its pod's, inside a cluster.
    #[arg(long, env = "PORTCULLIS_REPLICA", default_value = "portcullis")]
    replica: String,

    /// More API servers to prove ourselves to than that of the kubeconfig, separated by commas; inside a cluster all are found.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "URL",
        requires = "kubeconfig"
    )]
    api_server: Vec<Uri>,

    /// Settings file in YAML; reloaded when its content changes.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// Image of portcullis-gate for the pods that ask for a traffic gate, where the settings name none. Without either,
    /// no pod gets one.
    #[arg(long, env = "PORTCULLIS_GATE_IMAGE", value_name = "IMAGE")]
    gate_image: Option<String>,

    /// More DNS names or IP addresses for the certificate that we sign ourselves, separated by commas.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        conflicts_with = "tls_cert"
    )]
    tls_san: Vec<SubjectName>,

    /// Certificate chain in PEM, in place of one that we sign ourselves; reloaded when its content changes.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Key of --tls-cert, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Authority of --tls-cert in PEM, to be written to caBundle; without it caBundle is left to others, such as
    /// cert-manager's cainjector.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,

    /// Connections at once. An API server keeps 25 idle ones, and opens more in a burst.
    #[arg(long, default_value = "1024", value_name = "N")]
    max_connections: NonZeroUsize,

    // Two, so that one large review or a burst of handshakes holds up nobody else. One costs no less CPU a request:
    // 8 microseconds for TLS and HTTP with either runtime.
    /// Threads that answer requests.
    #[arg(long, default_value = "2", value_name = "N")]
    worker_threads: NonZeroUsize,

    /// How long to go on accepting after SIGTERM, until every node has heard that this replica leaves.
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    drain_delay: Duration,

    /// How long requests in flight may then take.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    shutdown_timeout: Duration,
}

/// A name that a certificate can be for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SubjectName(String);

/// Not a name that a certificate can be for.
#[derive(Debug, Error)]
#[error("neither a DNS name nor an IP address")]
pub struct SubjectNameError;

/// Where certificates come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateSource {
    /// Our own authority, for these names.
    Own(Vec<String>),
    /// Files.
    Files(CertificateFiles),
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of the webhook.
    pub listen: SocketAddr,
    /// Of the admin endpoints.
    pub admin_listen: SocketAddr,
    /// `None`: inside a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Ours.
    pub namespace: String,
    /// The name of our Service.
    pub service: String,
    /// The name of this replica.
    pub replica: String,
    /// More API servers than that of the kubeconfig.
    pub api_servers: Vec<Uri>,
    /// `None`: defaults.
    pub settings: Option<PathBuf>,
    /// The gate's image, where settings name none.
    pub gate_image: Option<String>,
    /// What is served.
    pub certificates: CertificateSource,
    /// Bounds of the webhook's listener.
    pub limits: Limits,
    /// Threads that answer requests.
    pub worker_threads: NonZeroUsize,
}

// === impl ServeArgs ===

impl From<ServeArgs> for Config {
    fn from(args: ServeArgs) -> Self {
        let ServeArgs {
            listen,
            admin_listen,
            kubeconfig,
            namespace,
            service,
            replica,
            api_server: api_servers,
            settings,
            gate_image,
            tls_san,
            tls_cert,
            tls_key,
            tls_ca: authority,
            max_connections,
            worker_threads,
            drain_delay,
            shutdown_timeout,
        } = args;
        // clap has seen to it that neither file comes without the other.
        let certificates = if let (Some(certificate), Some(key)) = (tls_cert, tls_key) {
            CertificateSource::Files(CertificateFiles {
                certificate,
                key,
                authority,
            })
        } else {
            let ours = [format!("{service}.{namespace}.svc")];
            let more = tls_san.into_iter().map(|name| name.0);
            CertificateSource::Own(ours.into_iter().chain(more).collect())
        };
        let limits = Limits {
            connections: max_connections.get(),
            handshake_timeout: HANDSHAKE_TIMEOUT,
            header_timeout: HANDSHAKE_TIMEOUT,
            idle_timeout: Some(IDLE_TIMEOUT),
            header_bytes: HEADER_BYTES,
            buffer_bytes: BUFFER_BYTES,
            drain_delay,
            shutdown_timeout,
        };
        Self {
            listen,
            admin_listen,
            kubeconfig,
            namespace,
            service,
            replica,
            api_servers,
            settings,
            gate_image: gate_image.filter(|image| !image.is_empty()),
            certificates,
            limits,
            worker_threads,
        }
    }
}

// === impl Config ===

impl Config {
    /// Bounds of the admin listener: it is the last to close, and waits for nobody.
    pub fn admin_limits(&self) -> Limits {
        Limits {
            connections: ADMIN_CONNECTIONS,
            drain_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(1),
            ..self.limits
        }
    }
}

// === impl SubjectName ===

impl FromStr for SubjectName {
    type Err = SubjectNameError;

    fn from_str(name: &str) -> Result<Self, SubjectNameError> {
        if name.parse::<IpAddr>().is_ok() || DnsName::try_from(name).is_ok() {
            Ok(Self(name.to_owned()))
        } else {
            Err(SubjectNameError)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args = ["portcullis"].iter().chain(args);
        Cli::try_parse_from(args)
            .map(|cli| cli.serve.into())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn signs_for_the_service_and_for_extra_names() {
        let config = parse(&[
            "--namespace",
            "gates",
            "--tls-san",
            "127.0.0.1,webhook.local",
        ])
        .unwrap();
        let names = ["portcullis.gates.svc", "127.0.0.1", "webhook.local"].map(str::to_owned);
        assert_eq!(config.certificates, CertificateSource::Own(names.to_vec()));
    }

    #[test]
    fn serves_files_when_they_are_given() {
        let config = parse(&["--tls-cert", "tls.crt", "--tls-key", "tls.key"]).unwrap();
        assert_eq!(
            config.certificates,
            CertificateSource::Files(CertificateFiles {
                certificate: "tls.crt".into(),
                key: "tls.key".into(),
                authority: None,
            })
        );
    }

    #[test]
    fn rejects_what_cannot_work() {
        for (args, flag) in [
            (["--tls-cert", "tls.crt"], "--tls-key"),
            (["--tls-key", "tls.key"], "--tls-cert"),
            (["--tls-san", "not a name"], "--tls-san"),
            (["--max-connections", "0"], "--max-connections"),
            (["--drain-delay", "soon"], "--drain-delay"),
            (["--listen", "8443"], "--listen"),
        ] {
            let error = parse(&args).unwrap_err();
            assert!(error.contains(flag), "{args:?}: {error}");
        }
    }
}
