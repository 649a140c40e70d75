//! A connection to what a check looks at.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::failure::{Failure, describe};

/// Where a check of the network goes.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A port of the app itself, at the addresses that the gate forwards to.
    App(Vec<SocketAddr>),
    /// Another host, looked up anew at every run.
    Host(String, u16),
}

/// Whom to trust.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// Anybody: the connection is encrypted, nothing more.
    Anybody,
    /// Who is certified by an authority in this PEM file, read anew at every run.
    File(String),
    /// Who is certified by an authority that the system trusts.
    System,
}

/// Accepts every certificate, but still has the handshake signed by its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

// === impl Target ===

impl Target {
    pub(super) async fn connect(&self, subject: &str) -> Result<TcpStream, Failure> {
        let connected = match self {
            Self::App(addresses) => TcpStream::connect(addresses.as_slice()).await,
            Self::Host(host, port) => {
                let addresses = resolve(host, *port, subject).await?;
                TcpStream::connect(addresses.as_slice()).await
            }
        };
        let stream = connected.map_err(|error| Failure::io(subject, &error))?;
        stream
            .set_nodelay(true)
            .map_err(|error| Failure::io(subject, &error))?;
        Ok(stream)
    }

    /// What to put into `Host`, `:authority` and SNI.
    pub(super) fn host(&self) -> String {
        match self {
            Self::App(addresses) => addresses
                .first()
                .map_or_else(String::new, |address| address.ip().to_string()),
            Self::Host(host, _) => host.clone(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::App(addresses) => addresses.first().map_or(0, SocketAddr::port),
            Self::Host(_, port) => *port,
        }
    }

    /// As an authority: IPv6 in brackets.
    pub(super) fn authority(&self) -> String {
        let (host, port) = (self.host(), self.port());
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(_) => write!(f, "the app's port {}", self.port()),
            Self::Host(..) => f.write_str(&self.authority()),
        }
    }
}

// === impl Trust ===

impl Trust {
    /// Handshakes with the server that calls itself `host`.
    pub(super) async fn handshake<S>(
        &self,
        stream: S,
        host: &str,
        subject: &str,
    ) -> Result<TlsStream<S>, Failure>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let connector = self.connector().map_err(|why| Failure::new(subject, why))?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Failure::new(subject, "its host name is none that TLS can verify"))?;
        connector
            .connect(name, stream)
            .await
            .map_err(|error| Failure::new(subject, describe_tls(&error)))
    }

    pub(super) fn connector(&self) -> Result<TlsConnector, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = match self {
            Self::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
                .with_no_client_auth(),
            Self::File(path) => builder
                .with_root_certificates(roots_in(path)?)
                .with_no_client_auth(),
            Self::System => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err("no authorities to trust: give caFile".to_owned());
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

// === impl Unverified ===

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Awaits `answer` and meanwhile runs the `driver` of its connection. A driver that ends first has
/// handed over all that was received, or leaves `answer` to fail by itself.
pub(super) async fn drive<T>(answer: impl Future<Output = T>, driver: impl Future) -> T {
    let (mut answer, mut driver) = (std::pin::pin!(answer), std::pin::pin!(driver));
    tokio::select! {
        biased; // which is looked at first makes no difference
        answer = &mut answer => answer,
        _ = &mut driver => answer.await,
    }
}

/// The addresses of `host`; never an empty list.
pub(super) async fn resolve(
    host: &str,
    port: u16,
    subject: &str,
) -> Result<Vec<SocketAddr>, Failure> {
    let unknown = || Failure::new(subject, format_args!("{host:?} cannot be resolved"));
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|_| unknown())?
        .collect();
    if addresses.is_empty() {
        return Err(unknown());
    }
    Ok(addresses)
}

fn roots_in(path: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let unreadable = || format!("caFile {path} holds no certificate in PEM that can be read");
    for certificate in CertificateDer::pem_file_iter(path).map_err(|_| unreadable())? {
        let certificate = certificate.map_err(|_| unreadable())?;
        roots.add(certificate).map_err(|_| unreadable())?;
    }
    if roots.is_empty() {
        return Err(unreadable());
    }
    Ok(roots)
}

/// rustls puts its own error inside an I/O error of kind `InvalidData`.
pub(super) fn describe_tls(error: &io::Error) -> String {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(rustls::Error::InvalidCertificate(_)) => {
            "its certificate is not to be trusted".to_owned()
        }
        Some(tls) => format!("TLS handshake failed: {tls}"),
        None => format!("TLS handshake failed: {}", describe(error)),
    }
}
