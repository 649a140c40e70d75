//! The certificate that is served: swapped at any time, never between the handshakes of one connection.
//!
//! ```text
//! Secret -> succession of authorities -> keeper -> leaf, signed in memory --+
//!                   |                      ^                                +--> Pair --> Certificates --> handshakes
//!                   v                      | read back                      |
//!            Trust -> registration -> caBundle of every entry               |
//! --tls-cert, --tls-key, polled by content ---------------------------------+
//! ```

mod lifetimes;

mod authority;

mod bundle;

// Which authorities there are, and what follows on what. Pure.
mod succession;

// The Secret that holds them.
mod store;

// What the webhook configurations tell the API server to trust.
mod published;

// The API server's.
mod clock;

mod keeper;

mod files;

#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use metrics::Gauge;
use rustls::ServerConfig;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

pub use authority::{Authority, AuthorityError};
pub(super) use files::serve_files;
pub use files::{CertificateFiles, FilesError};
pub use keeper::{Keeper, KeeperError};
pub use lifetimes::Lifetimes;
pub use store::StoreError;
pub use succession::SuccessionError;

/// A certificate chain, its key, and when it is over.
#[derive(Clone, Debug)]
pub struct Pair {
    certified: Arc<CertifiedKey>,
    not_after: SystemTime,
}

/// A chain and a key that cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PairError {
    /// The chain is not PEM.
    #[error("the certificate is not PEM")]
    CertificatePem(#[source] pem::Error),
    /// PEM without a certificate in it.
    #[error("there is no CERTIFICATE block")]
    NoCertificate,
    /// The first certificate is not X.509.
    #[error("the first certificate is not X.509: {0}")]
    Certificate(String),
    /// The key is not PEM, or of no kind that TLS knows.
    #[error("there is no private key in PEM")]
    KeyPem(#[source] pem::Error),
    /// The key is of another certificate.
    #[error("the key does not belong to the certificate")]
    Mismatch,
    /// The key is of a kind or size that is not served.
    #[error("the certificate and its key cannot be served")]
    Unusable(#[source] rustls::Error),
}

/// What clients must be given, to trust the certificate that is served.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Trust {
    /// There is no certificate yet.
    #[default]
    Unknown,
    /// These authorities, in PEM.
    Bundle(String),
    /// What they have been given: what our authorities are now could not be read of late, and an old answer must not
    /// take away what another replica has given since.
    AsFound,
    /// What somebody else gives them: cert-manager's cainjector, or a public authority.
    Others,
}

/// The pair that new handshakes are answered with.
#[derive(Debug)]
pub struct Certificates {
    current: ArcSwapOption<CertifiedKey>,
    /// When the served certificate is over, in seconds since 1970.
    expiry: Gauge,
}

// === impl Pair ===

impl Pair {
    /// Parses a PEM chain, leaf first, and the leaf's PEM key.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, PairError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(PairError::CertificatePem)?;
        if chain.is_empty() {
            return Err(PairError::NoCertificate); // said first: without it nobody asks for the key
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(PairError::KeyPem)?;
        Self::from_der(chain, key)
    }

    /// A chain, leaf first, and the leaf's key.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, PairError> {
        let leaf = chain.first().ok_or(PairError::NoCertificate)?;
        let not_after = not_after(leaf)?;
        let certified =
            CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
                if matches!(error, rustls::Error::InconsistentKeys(_)) {
                    PairError::Mismatch
                } else {
                    PairError::Unusable(error)
                }
            })?;
        Ok(Self {
            certified: Arc::new(certified),
            not_after,
        })
    }

    /// When the leaf is over.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

// === impl Certificates ===

impl Certificates {
    /// Nothing to serve yet: handshakes fail until the first [`Self::serve`].
    pub fn new(expiry: Gauge) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            expiry,
        }
    }

    /// Answers handshakes that begin from now on with this pair.
    pub fn serve(&self, pair: &Pair) {
        self.current.store(Some(Arc::clone(&pair.certified)));
        self.expiry.set(since_1970(pair.not_after).as_secs_f64());
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// TLS 1.2 and 1.3 by ring, HTTP/1.1, sessions resumed by ticket.
///
/// Tickets keep nothing on our side, so no number of clients can fill a cache; their keys roll every six hours
/// and live for twelve at most (rustls's `Ticketer`). Each replica has keys of its own: at another replica the
/// client falls back to a full handshake.
pub fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// When a certificate is over.
fn not_after(certificate: &CertificateDer<'_>) -> Result<SystemTime, PairError> {
    validity(certificate).map(|validity| validity.1)
}

/// When a certificate begins.
fn not_before(certificate: &CertificateDer<'_>) -> Result<SystemTime, PairError> {
    validity(certificate).map(|validity| validity.0)
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), PairError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|error| PairError::Certificate(error.to_string()))?;
    let validity = parsed.validity();
    let time = |seconds: i64| {
        let distance = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 {
            UNIX_EPOCH - distance
        } else {
            UNIX_EPOCH + distance
        }
    };
    Ok((
        time(validity.not_before.timestamp()),
        time(validity.not_after.timestamp()),
    ))
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
