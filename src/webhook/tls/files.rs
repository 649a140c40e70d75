//! A certificate and key from files, such as cert-manager's Secret mounted: `--tls-cert` and `--tls-key`.

use std::path::PathBuf;
use std::sync::Arc;

use metrics::Counter;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::{Certificates, Pair, PairError, Trust};
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
    trust: watch::Sender<Trust>,
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

    fn parse(&self, contents: &[Vec<u8>]) -> Result<(Pair, Trust), FilesError> {
        let mut contents = contents.iter().map(Vec::as_slice);
        let mut next = || contents.next().unwrap_or_default();
        let pair = Pair::from_pem(next(), next()).map_err(|source| FilesError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })?;
        let Some(path) = &self.authority else {
            return Ok((pair, Trust::Others));
        };
        let bundle = std::str::from_utf8(next())
            .ok()
            .filter(|bundle| CertificateDer::from_pem_slice(bundle.as_bytes()).is_ok())
            .ok_or_else(|| FilesError::Authority { path: path.clone() })?;
        Ok((pair, Trust::Bundle(bundle.to_owned())))
    }
}

// === impl FileKeeper ===

impl FileKeeper {
    /// Serves what the files hold now; an error if that can't be served.
    pub async fn start(
        names: CertificateFiles,
        certificates: Arc<Certificates>,
        trust: watch::Sender<Trust>,
        (applied, rejected): (Counter, Counter),
    ) -> Result<Self, FilesError> {
        let files = Files::new(names.paths());
        let mut keeper = Self {
            names,
            files,
            certificates,
            trust,
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
        let (pair, trust) = self.names.parse(contents)?;
        self.certificates.serve(&pair);
        self.trust.send_replace(trust);
        self.applied.increment(1);
        let until = humantime::format_rfc3339_seconds(pair.not_after());
        tracing::info!(file = %self.names.certificate.display(), %until, "serving a new certificate");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, rename, write};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::SystemTime;

    use metrics::Gauge;
    use rcgen::{KeyPair, generate_simple_self_signed};

    use super::*;
    use crate::webhook::metrics::{Metrics, Outcome};

    /// A folder as a kubelet mounts a Secret: `tls.crt -> ..data/tls.crt`, `..data -> ..N`.
    struct Mount {
        folder: tempfile::TempDir,
        updates: u32,
    }

    impl Mount {
        fn new(certificate: &str, key: &str) -> Self {
            let mut mount = Self {
                folder: tempfile::tempdir().unwrap(),
                updates: 0,
            };
            mount.update(certificate, key);
            for file in ["tls.crt", "tls.key"] {
                symlink(
                    Path::new("..data").join(file),
                    mount.folder.path().join(file),
                )
                .unwrap();
            }
            mount
        }

        /// What the kubelet's AtomicWriter does: a new folder, then one rename of the symlink to it.
        fn update(&mut self, certificate: &str, key: &str) {
            self.updates += 1;
            let (root, name) = (self.folder.path(), format!("..{}", self.updates));
            create_dir(root.join(&name)).unwrap();
            write(root.join(&name).join("tls.crt"), certificate).unwrap();
            write(root.join(&name).join("tls.key"), key).unwrap();
            symlink(&name, root.join("..data_tmp")).unwrap();
            rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        }

        fn names(&self) -> CertificateFiles {
            CertificateFiles {
                certificate: self.folder.path().join("tls.crt"),
                key: self.folder.path().join("tls.key"),
                authority: None,
            }
        }
    }

    fn pair() -> (String, String) {
        let made = generate_simple_self_signed(["portcullis.test".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    async fn start(names: CertificateFiles, metrics: &Metrics) -> Result<FileKeeper, FilesError> {
        let certificates = Arc::new(Certificates::new(Gauge::noop()));
        let reloads = |outcome| metrics.certificate_reloads.handle((outcome,));
        let counters = (reloads(Outcome::Applied), reloads(Outcome::Rejected));
        FileKeeper::start(
            names,
            certificates,
            watch::channel(Trust::Unknown).0,
            counters,
        )
        .await
    }

    fn served(keeper: &FileKeeper) -> CertificateDer<'static> {
        keeper
            .certificates
            .current
            .load_full()
            .expect("something is served")
            .cert[0]
            .clone()
    }

    #[tokio::test]
    async fn serves_the_new_pair_after_the_symlink_swap_of_a_kubelet() {
        let (first, second) = (pair(), pair());
        let mut mount = Mount::new(&first.0, &first.1);
        let mut keeper = start(mount.names(), &Metrics::new()).await.unwrap();
        assert_eq!(
            served(&keeper),
            CertificateDer::from_pem_slice(first.0.as_bytes()).unwrap()
        );
        mount.update(&second.0, &second.1);
        keeper.look().await.unwrap();
        assert_eq!(
            served(&keeper),
            CertificateDer::from_pem_slice(second.0.as_bytes()).unwrap()
        );
        assert_eq!(*keeper.trust.borrow(), Trust::Others);
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_last_good_pair_and_counts_each_bad_content_once() {
        let (first, second) = (pair(), pair());
        let mut mount = Mount::new(&first.0, &first.1);
        let metrics = Metrics::new();
        let keeper = start(mount.names(), &metrics).await.unwrap();
        let certificates = Arc::clone(&keeper.certificates);
        let good = certificates.current.load_full();
        mount.update(&second.0, &first.1);
        let running = tokio::spawn(keeper.run());
        tokio::time::sleep(PERIOD * 5).await; // on the paused clock: five looks
        running.abort();
        let page = metrics.handle().render();
        for (outcome, count) in [("applied", 1), ("rejected", 1)] {
            let series = "portcullis_webhook_certificate_reloads_total";
            let line = format!("{series}{{outcome=\"{outcome}\"}} {count}\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert!(Arc::ptr_eq(
            &good.unwrap(),
            &certificates.current.load_full().unwrap()
        ));
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_the_files() {
        let (certificate, key) = pair();
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        for (certificate, key, message) in [
            (
                certificate.as_str(),
                other_key.as_str(),
                "the key does not belong to the certificate",
            ),
            (&key, &key, "there is no CERTIFICATE block"),
            (&certificate, &certificate, "there is no private key in PEM"),
            ("", "", "there is no CERTIFICATE block"),
        ] {
            let mount = Mount::new(certificate, key);
            let error = start(mount.names(), &Metrics::new()).await.unwrap_err();
            let text = chain(&error);
            assert!(text.contains(message) && text.contains("tls.crt"), "{text}");
        }
    }

    #[tokio::test]
    async fn publishes_the_authority_that_it_is_given() {
        let (certificate, key) = pair();
        let mount = Mount::new(&certificate, &key);
        let authority = mount.folder.path().join("ca.crt");
        write(&authority, &certificate).unwrap();
        let names = CertificateFiles {
            authority: Some(authority.clone()),
            ..mount.names()
        };
        let keeper = start(names.clone(), &Metrics::new()).await.unwrap();
        assert_eq!(*keeper.trust.borrow(), Trust::Bundle(certificate));
        write(&authority, "nothing").unwrap();
        let error = start(names, &Metrics::new()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} holds no CERTIFICATE block in PEM", authority.display())
        );
    }

    #[tokio::test]
    async fn expiry_is_a_gauge() {
        let metrics = Metrics::new();
        let gauge = metrics
            .certificate_expiry
            .handle((crate::webhook::metrics::Certificate::Serving,));
        let certificates = Certificates::new(gauge);
        let authority = super::super::Authority::generate(SystemTime::UNIX_EPOCH).unwrap();
        let leaf = authority
            .sign(&["a.test".to_owned()], SystemTime::UNIX_EPOCH + PERIOD)
            .unwrap();
        certificates.serve(&leaf);
        let seconds = 7 * 24 * 60 * 60 + PERIOD.as_secs();
        let line = format!(
            "portcullis_webhook_certificate_expiry_timestamp_seconds{{certificate=\"serving\"}} {seconds}\n"
        );
        assert!(metrics.handle().render().contains(&line), "{line}");
    }
}
