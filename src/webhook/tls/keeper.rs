//! Keeps this replica's certificate fresh and of the authority that all replicas share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Gauge;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use super::authority::{Authority, AuthorityError, CLOCK_SKEW, LEAF_LIFETIME, SecretStore};
use super::{Certificates, Pair, Trust, since_1970};
use crate::server::Latch;
use crate::telemetry::chain;

/// How often the Secret and the clock are looked at. By the wall clock, since timers stand still while a
/// machine sleeps.
const PERIOD: Duration = Duration::from_secs(60);

/// Pause after the first failure; doubled each time, up to [`PERIOD`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// An API server that has not answered in this time is not going to.
const DEADLINE: Duration = Duration::from_secs(10);

/// A new leaf is signed when less than this is left of the old: at two thirds of its life.
const RENEW_BEFORE: Duration = Duration::from_secs(LEAF_LIFETIME.as_secs() / 3);

/// Signs, serves and renews this replica's certificate, and publishes what clients need to trust it.
#[derive(Debug)]
pub struct Keeper {
    store: SecretStore,
    names: Vec<String>,
    certificates: Arc<Certificates>,
    trust: watch::Sender<Trust>,
    /// When the authority is over, in seconds since 1970.
    expiry: Gauge,
    held: Option<Held>,
}

/// What is served now.
#[derive(Debug)]
struct Held {
    authority: Authority,
    leaf: Pair,
}

/// The shared authority could not be had; what was served before is served on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// See there.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No answer in time.
    #[error("the API server did not answer in {DEADLINE:?}")]
    Deadline(#[from] Elapsed),
}

// === impl Keeper ===

impl Keeper {
    /// Serves certificates for these DNS names and IP addresses, once run.
    pub fn new(
        store: SecretStore,
        names: Vec<String>,
        certificates: Arc<Certificates>,
        (trust, expiry): (watch::Sender<Trust>, Gauge),
    ) -> Self {
        Self {
            store,
            names,
            certificates,
            trust,
            expiry,
            held: None,
        }
    }

    /// Keeps at it for ever; drops the latch when there is a certificate to serve.
    pub async fn run(mut self, latch: Latch) {
        let mut latch = Some(latch);
        let mut pause = FIRST_PAUSE;
        loop {
            let outcome = self.keep(SystemTime::now()).await;
            if self.held.is_some() {
                latch = None;
            }
            match outcome {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    sleep(PERIOD).await;
                }
                Err(error) => {
                    let waiting = latch.is_some();
                    tracing::warn!(error = chain(&error), waiting, "no certificate authority");
                    sleep(pause).await;
                    pause = (pause * 2).min(PERIOD);
                }
            }
        }
    }

    /// One look at the Secret and the clock.
    async fn keep(&mut self, now: SystemTime) -> Result<(), KeeperError> {
        match self.shared(now).await {
            Ok(shared) => match &mut self.held {
                Some(held) if held.authority == shared && held.is_fresh(now) => Ok(()),
                _ => self.hold(shared, now),
            },
            Err(error) => {
                // The leaf needs no API server: the authority that signs it is in memory.
                if let Some(held) = &mut self.held
                    && !held.is_fresh(now)
                {
                    held.leaf = held.authority.sign(&self.names, now)?;
                    self.certificates.serve(&held.leaf);
                }
                Err(error)
            }
        }
    }

    async fn shared(&self, now: SystemTime) -> Result<Authority, KeeperError> {
        let ours = self.held.as_ref().map(|held| &held.authority);
        Ok(timeout(DEADLINE, self.store.obtain(ours, now)).await??)
    }

    fn hold(&mut self, authority: Authority, now: SystemTime) -> Result<(), KeeperError> {
        let leaf = authority.sign(&self.names, now)?;
        self.certificates.serve(&leaf);
        self.expiry
            .set(since_1970(authority.not_after()).as_secs_f64());
        let bundle = authority.certificate_pem().to_owned();
        self.trust.send_replace(Trust::Bundle(bundle));
        let until = humantime::format_rfc3339_seconds(leaf.not_after());
        tracing::info!(names = self.names.join(","), %until, "serving a new certificate");
        self.held = Some(Held { authority, leaf });
        Ok(())
    }
}

// === impl Held ===

impl Held {
    /// False when it is time for a new leaf, also after the clock was set back to before this one's begin.
    fn is_fresh(&self, now: SystemTime) -> bool {
        let last = self.authority.not_after();
        let left = self
            .leaf
            .not_after()
            .duration_since(now)
            .unwrap_or_default();
        let is_last = self.leaf.not_after() >= last && now < last; // a new one would live no longer
        (is_last || left > RENEW_BEFORE) && left <= LEAF_LIFETIME + CLOCK_SKEW
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::super::authority::AUTHORITY_LIFETIME;
    use super::super::testing::ApiServer;
    use super::*;

    const NAME: &str = "portcullis.portcullis-system.svc";
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// One replica: its keeper, and what its clients see.
    struct Replica {
        keeper: Keeper,
        certificates: Arc<Certificates>,
        trust: watch::Receiver<Trust>,
    }

    impl Replica {
        fn new(server: &ApiServer) -> Self {
            let certificates = Arc::new(Certificates::new(Gauge::noop()));
            let (publish, trust) = watch::channel(Trust::Unknown);
            let store = SecretStore::new(server.client(), "portcullis-system");
            let names = vec![NAME.to_owned()];
            let publish = (publish, Gauge::noop());
            let keeper = Keeper::new(store, names, Arc::clone(&certificates), publish);
            Self {
                keeper,
                certificates,
                trust,
            }
        }

        fn served(&self) -> Vec<CertificateDer<'static>> {
            self.certificates
                .current
                .load_full()
                .expect("something is served")
                .cert
                .clone()
        }

        fn trust(&self) -> Trust {
            self.trust.borrow().clone()
        }

        /// A client that trusts `trust` accepts, at `now`, what this replica serves.
        fn is_trusted_by(&self, trust: &Trust, now: SystemTime) -> bool {
            let Trust::Bundle(pem) = trust else {
                return false;
            };
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
                .unwrap();
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let served = self.served();
            let name = ServerName::try_from(NAME).unwrap();
            let now = UnixTime::since_unix_epoch(since_1970(now));
            let verifier = verifier.build().unwrap();
            verifier
                .verify_server_cert(&served[0], &served[1..], &name, &[], now)
                .is_ok()
        }
    }

    #[tokio::test]
    async fn replicas_that_start_together_end_with_one_authority() {
        let server = ApiServer::default();
        let (mut one, mut two) = (Replica::new(&server), Replica::new(&server));
        let now = SystemTime::now();
        server.answer_reads_together(2); // both find nothing, both try to create
        let (first, second) = tokio::join!(one.keeper.keep(now), two.keeper.keep(now));
        first.and(second).unwrap();
        assert_eq!(one.trust(), two.trust());
        assert!(one.is_trusted_by(&two.trust(), now) && two.is_trusted_by(&one.trust(), now));
        assert_ne!(
            one.served()[0],
            two.served()[0],
            "each has a key of its own"
        );
    }

    #[tokio::test]
    async fn replicas_that_meet_an_expired_authority_end_with_one_new() {
        let server = ApiServer::default();
        let now = SystemTime::now();
        Replica::new(&server)
            .keeper
            .keep(now - AUTHORITY_LIFETIME - DAY)
            .await
            .unwrap();
        let old = server.secret();
        let (mut one, mut two) = (Replica::new(&server), Replica::new(&server));
        server.answer_reads_together(2);
        let (first, second) = tokio::join!(one.keeper.keep(now), two.keeper.keep(now));
        first.and(second).unwrap();
        assert_ne!(server.secret().unwrap().data, old.unwrap().data);
        assert_eq!(one.trust(), two.trust());
        assert!(one.is_trusted_by(&two.trust(), now));
    }

    #[tokio::test]
    async fn puts_back_an_authority_that_was_deleted() {
        let server = ApiServer::default();
        let mut replica = Replica::new(&server);
        let now = SystemTime::now();
        replica.keeper.keep(now).await.unwrap();
        let (data, before) = (server.secret().unwrap().data, replica.served());
        server.put(None);
        replica.keeper.keep(now).await.unwrap();
        assert_eq!(server.secret().unwrap().data, data);
        assert_eq!(replica.served(), before, "nothing changes for clients");
    }

    #[tokio::test]
    async fn follows_an_authority_that_another_has_put_there() {
        let (server, elsewhere) = (ApiServer::default(), ApiServer::default());
        let (mut replica, mut other) = (Replica::new(&server), Replica::new(&elsewhere));
        let now = SystemTime::now();
        replica.keeper.keep(now).await.unwrap();
        other.keeper.keep(now).await.unwrap();
        server.put(elsewhere.secret());
        replica.keeper.keep(now).await.unwrap();
        assert_eq!(replica.trust(), other.trust());
        assert!(replica.is_trusted_by(&other.trust(), now));
    }

    #[tokio::test]
    async fn renews_at_two_thirds_of_the_leafs_life() {
        let server = ApiServer::default();
        let mut replica = Replica::new(&server);
        let begin = SystemTime::now();
        replica.keeper.keep(begin).await.unwrap();
        let first = replica.served();
        replica.keeper.keep(begin + DAY * 4).await.unwrap();
        assert_eq!(replica.served(), first);
        replica.keeper.keep(begin + DAY * 5).await.unwrap();
        assert_ne!(replica.served(), first);
        assert!(replica.is_trusted_by(&replica.trust(), begin + DAY * 11));
    }

    #[tokio::test]
    async fn renews_without_an_api_server_after_a_long_sleep() {
        let server = ApiServer::default();
        let mut replica = Replica::new(&server);
        let begin = SystemTime::now();
        replica.keeper.keep(begin).await.unwrap();
        server.go_down();
        let later = begin + DAY * 400;
        assert!(!replica.is_trusted_by(&replica.trust(), later));
        replica.keeper.keep(later).await.unwrap_err();
        assert!(replica.is_trusted_by(&replica.trust(), later));
    }

    #[tokio::test]
    async fn renews_when_the_clock_is_set_back() {
        let server = ApiServer::default();
        let mut replica = Replica::new(&server);
        let begin = SystemTime::now();
        Replica::new(&server)
            .keeper
            .keep(begin - DAY * 30)
            .await
            .unwrap();
        replica.keeper.keep(begin).await.unwrap();
        let earlier = begin - DAY;
        assert!(!replica.is_trusted_by(&replica.trust(), earlier));
        replica.keeper.keep(earlier).await.unwrap();
        assert!(replica.is_trusted_by(&replica.trust(), earlier));
    }

    #[tokio::test]
    async fn a_leaf_never_outlives_its_authority() {
        let server = ApiServer::default();
        let mut replica = Replica::new(&server);
        let begin = SystemTime::now();
        replica.keeper.keep(begin).await.unwrap();
        let near_the_end = begin + AUTHORITY_LIFETIME - DAY;
        replica.keeper.keep(near_the_end).await.unwrap();
        let held = replica.keeper.held.as_ref().unwrap();
        assert_eq!(held.leaf.not_after(), held.authority.not_after());
        let last = replica.served();
        replica.keeper.keep(near_the_end + DAY / 2).await.unwrap();
        assert_eq!(replica.served(), last, "a new leaf would live no longer");
    }

    #[tokio::test]
    async fn a_secret_that_holds_something_else_is_left_alone() {
        let server = ApiServer::default();
        let mut replica = Replica::new(&server);
        replica.keeper.keep(SystemTime::now()).await.unwrap();
        let mut secret = server.secret().unwrap();
        secret
            .data
            .as_mut()
            .unwrap()
            .insert("tls.key".to_owned(), ByteString(b"no key".to_vec()));
        server.put(Some(secret.clone()));
        let error = Replica::new(&server)
            .keeper
            .keep(SystemTime::now())
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "Secret portcullis-ca holds no usable authority in tls.key; delete it to have a new one made"
        );
        assert_eq!(server.secret().unwrap().data, secret.data);
    }
}
