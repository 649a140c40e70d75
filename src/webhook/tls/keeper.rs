//! Keeps this replica's certificate fresh and of the authority that all replicas share.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Gauge;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use super::authority::{Authority, AuthorityError, CLOCK_SKEW, LEAF_LIFETIME, SecretStore};
use super::{Certificates, Pair, since_1970};
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
    /// The authority's certificate, in PEM.
    bundle: watch::Sender<Option<String>>,
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
        (bundle, expiry): (watch::Sender<Option<String>>, Gauge),
    ) -> Self {
        Self {
            store,
            names,
            certificates,
            bundle,
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
        self.bundle
            .send_replace(Some(authority.certificate_pem().to_owned()));
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
