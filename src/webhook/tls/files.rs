//! A certificate and key from files, such as cert-manager's Secret mounted: `--tls-cert` and `--tls-key`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use tokio::sync::watch;

use super::{Certificates, Pair, PairError, Trust};
use crate::webhook::polled::{Polled, ReadError, Reloads};

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

/// Serves what the files hold, from now on and whenever they change; an error if that can't be served now.
pub(crate) async fn serve_files(
    names: CertificateFiles,
    certificates: Arc<Certificates>,
    trust: watch::Sender<Trust>,
    reloads: Reloads,
) -> Result<Polled<impl FnMut(&[Vec<u8>]) -> Result<(), FilesError>>, FilesError> {
    let paths = names.paths();
    let serve = move |contents: &[Vec<u8>]| {
        let (pair, trusted) = names.parse(contents)?;
        certificates.serve(&pair);
        trust.send_replace(trusted);
        let until = humantime::format_rfc3339_seconds(pair.not_after());
        tracing::info!(file = %names.certificate.display(), %until, "serving a new certificate");
        Ok(())
    };
    Polled::start(paths, serve, reloads).await
}

#[cfg(test)]
mod tests {
    use std::fs::write;
    use std::time::{Duration, SystemTime};

    use metrics::Gauge;
    use rcgen::{KeyPair, generate_simple_self_signed};
    use tokio::time::sleep;

    use super::super::{Authority, Lifetimes};
    use super::*;
    use crate::telemetry::chain;
    use crate::webhook::metrics::{Certificate, Metrics};
    use crate::webhook::polled::tests::{Mount, uncounted};

    const MINUTE: Duration = Duration::from_secs(60);

    fn mount((certificate, key): &(String, String)) -> Mount {
        Mount::new(&[("tls.crt", certificate), ("tls.key", key)])
    }

    fn names(mount: &Mount) -> CertificateFiles {
        CertificateFiles {
            certificate: mount.path("tls.crt"),
            key: mount.path("tls.key"),
            authority: None,
        }
    }

    fn pair() -> (String, String) {
        let made = generate_simple_self_signed(["portcullis.test".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn nothing_served() -> Arc<Certificates> {
        Arc::new(Certificates::new(Gauge::noop()))
    }

    fn served(certificates: &Certificates) -> CertificateDer<'static> {
        certificates
            .current
            .load_full()
            .expect("something is served")
            .cert[0]
            .clone()
    }

    async fn error(names: CertificateFiles) -> FilesError {
        let trust = watch::channel(Trust::Unknown).0;
        let started = serve_files(names, nothing_served(), trust, uncounted()).await;
        started.map(|_| ()).unwrap_err()
    }

    #[tokio::test]
    async fn serves_the_new_pair_after_the_symlink_swap_of_a_kubelet() {
        let (first, second) = (pair(), pair());
        let mut mount = mount(&first);
        let (certificates, (trust, trusted)) = (nothing_served(), watch::channel(Trust::Unknown));
        let started = serve_files(names(&mount), Arc::clone(&certificates), trust, uncounted());
        let mut polled = started.await.unwrap();
        assert_eq!(
            served(&certificates),
            CertificateDer::from_pem_slice(first.0.as_bytes()).unwrap()
        );
        mount.update(&[("tls.crt", &second.0), ("tls.key", &second.1)]);
        polled.look().await.unwrap();
        assert_eq!(
            served(&certificates),
            CertificateDer::from_pem_slice(second.0.as_bytes()).unwrap()
        );
        assert_eq!(*trusted.borrow(), Trust::Others);
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_last_good_pair_and_counts_each_bad_content_once() {
        let (first, second) = (pair(), pair());
        let mut mount = mount(&first);
        let (metrics, certificates) = (Metrics::new(), nothing_served());
        let trust = watch::channel(Trust::Unknown).0;
        let reloads = Reloads::of(&metrics.certificate_reloads);
        let started = serve_files(names(&mount), Arc::clone(&certificates), trust, reloads);
        let polled = started.await.unwrap();
        let good = served(&certificates);
        mount.update(&[("tls.crt", &second.0), ("tls.key", &first.1)]);
        let running = tokio::spawn(polled.run());
        sleep(MINUTE).await; // on the paused clock: six looks
        running.abort();
        let page = metrics.handle().render();
        for (outcome, count) in [("applied", 1), ("rejected", 1)] {
            let series = "portcullis_webhook_certificate_reloads_total";
            let line = format!("{series}{{outcome=\"{outcome}\"}} {count}\n");
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert_eq!(served(&certificates), good);
    }

    #[tokio::test]
    async fn says_what_is_wrong_with_the_files() {
        let (certificate, key) = pair();
        let other_key = KeyPair::generate().unwrap().serialize_pem();
        let none = String::new();
        for (certificate, key, message) in [
            (
                &certificate,
                &other_key,
                "the key does not belong to the certificate",
            ),
            (&key, &key, "there is no CERTIFICATE block"),
            (&certificate, &certificate, "there is no private key in PEM"),
            (&none, &none, "there is no CERTIFICATE block"),
        ] {
            let mount = mount(&(certificate.clone(), key.clone()));
            let text = chain(&error(names(&mount)).await);
            assert!(text.contains(message) && text.contains("tls.crt"), "{text}");
        }
    }

    #[tokio::test]
    async fn publishes_the_authority_that_it_is_given() {
        let pair = pair();
        let mount = mount(&pair);
        let authority = mount.path("ca.crt");
        write(&authority, &pair.0).unwrap();
        let names = CertificateFiles {
            authority: Some(authority.clone()),
            ..names(&mount)
        };
        let (trust, trusted) = watch::channel(Trust::Unknown);
        serve_files(names.clone(), nothing_served(), trust, uncounted())
            .await
            .unwrap();
        assert_eq!(*trusted.borrow(), Trust::Bundle(pair.0));
        write(&authority, "nothing").unwrap();
        assert_eq!(
            error(names).await.to_string(),
            format!("{} holds no CERTIFICATE block in PEM", authority.display())
        );
    }

    #[test]
    fn expiry_is_a_gauge() {
        let metrics = Metrics::new();
        let certificates =
            Certificates::new(metrics.certificate_expiry.handle((Certificate::Serving,)));
        let authority = Authority::generate(SystemTime::UNIX_EPOCH, &Lifetimes::PROGRAM).unwrap();
        let leaf = authority
            .sign(
                &["a.test".to_owned()],
                SystemTime::UNIX_EPOCH + MINUTE,
                &Lifetimes::PROGRAM,
            )
            .unwrap();
        certificates.serve(&leaf);
        let seconds = 7 * 24 * 60 * 60 + MINUTE.as_secs();
        let line = format!(
            "portcullis_webhook_certificate_expiry_timestamp_seconds{{certificate=\"serving\"}} {seconds}\n"
        );
        assert!(metrics.handle().render().contains(&line), "{line}");
    }
}
