//! A certificate and key from files, such as cert-manager's Secret mounted: `--tls-cert` and `--tls-key`.

use std::path::PathBuf;
use std::sync::Arc;

use metrics::Counter;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::{Certificates, Pair, PairError};
use crate::telemetry::chain;
use crate::webhook::polled::{Files, PERIOD, ReadError};

/// Files that hold what is to be served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CertificateFiles {
    /// The chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// The leaf's key in PEM.
    pub key: PathBuf,
    /// What clients need to trust the chain, in PEM; `None` when somebody else, such as cert-manager's
    /// cainjector, writes `caBundle`.
    pub authority: Option<PathBuf>,
}

/// The files cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// One cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They can be read, but not used.
    #[error("{certificate} and {key}")]
    Pair {
        /// The chain's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        source: PairError,
    },
    /// The authority's file holds none.
    #[error("{path} holds no CERTIFICATE block in PEM")]
    Authority {
        /// The file.
        path: PathBuf,
    },
}

/// Looks at the files and serves what is in them.
#[derive(Debug)]
pub struct FileKeeper {
    names: CertificateFiles,
    files: Files,
    certificates: Arc<Certificates>,
    bundle: watch::Sender<Option<String>>,
    /// Contents that were served.
    applied: Counter,
    /// Contents that could not be.
    rejected: Counter,
}

// === impl CertificateFiles ===

impl CertificateFiles {
    fn paths(&self) -> Vec<PathBuf> {
        let pair = [self.certificate.clone(), self.key.clone()];
        pair.into_iter().chain(self.authority.clone()).collect()
    }

    fn parse(&self, contents: &[Vec<u8>]) -> Result<(Pair, Option<String>), FilesError> {
        let mut contents = contents.iter().map(Vec::as_slice);
        let mut next = || contents.next().unwrap_or_default();
        let pair = Pair::from_pem(next(), next()).map_err(|source| FilesError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })?;
        let Some(path) = &self.authority else {
            return Ok((pair, None));
        };
        let bundle = std::str::from_utf8(next())
            .ok()
            .filter(|bundle| CertificateDer::from_pem_slice(bundle.as_bytes()).is_ok())
            .ok_or_else(|| FilesError::Authority { path: path.clone() })?;
        Ok((pair, Some(bundle.to_owned())))
    }
}

// === impl FileKeeper ===

impl FileKeeper {
    /// Serves what the files hold now; an error if that can't be served.
    pub async fn start(
        names: CertificateFiles,
        certificates: Arc<Certificates>,
        bundle: watch::Sender<Option<String>>,
        (applied, rejected): (Counter, Counter),
    ) -> Result<Self, FilesError> {
        let files = Files::new(names.paths());
        let mut keeper = Self {
            names,
            files,
            certificates,
            bundle,
            applied,
            rejected,
        };
        keeper.look().await?;
        Ok(keeper)
    }

    /// Looks at the files for ever. What can't be served is counted and logged once for each content, and the
    /// last good pair is served on.
    pub async fn run(mut self) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.look().await {
                self.rejected.increment(1);
                tracing::error!(
                    error = chain(&error),
                    "certificate files rejected; serving the last good pair"
                );
            }
        }
    }

    async fn look(&mut self) -> Result<(), FilesError> {
        let Some(contents) = self.files.changed().await? else {
            return Ok(());
        };
        let (pair, bundle) = self.names.parse(contents)?;
        self.certificates.serve(&pair);
        self.bundle.send_replace(bundle);
        self.applied.increment(1);
        let until = humantime::format_rfc3339_seconds(pair.not_after());
        tracing::info!(file = %self.names.certificate.display(), %until, "serving a new certificate");
        Ok(())
    }
}
