//! Keeps this replica's certificate fresh, and of an authority that the API server is known to trust.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::Gauge;
use rustls::crypto::ring;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use super::bundle::Bundle;
use super::clock::Clock;
use super::lifetimes::Jitter;
use super::published::{Configurations, Published};
use super::store::{Store, StoreError};
use super::succession::{Step, Succession, SuccessionError};
use super::{Authority, AuthorityError, Certificates, Lifetimes, Pair, Trust, since_1970};
use crate::server::Latch;
use crate::telemetry::chain;
use kube::Client;

/// How often the Secret and the clock are looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// Pause after the first look that leaves something to wait for; doubled each time, up to [`PERIOD`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// An API server that has not answered in this time is not going to.
const DEADLINE: Duration = Duration::from_secs(10);

/// What was read of the Secret longer ago is not told to the API server any more. With a look that is late, and a write
/// that takes its time, an old answer is out of the way before [`Lifetimes::settling`] is over.
const STALE: Duration = Duration::from_secs(20);

/// Signs, serves and renews this replica's certificate, and publishes what clients need to trust it.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    configurations: Configurations,
    names: Vec<String>,
    certificates: Arc<Certificates>,
    trust: watch::Sender<Trust>,
    /// When the authority is over, in seconds since 1970.
    expiry: Gauge,
    lifetimes: Lifetimes,
    jitter: Jitter,
    clock: Clock,
    /// What the Secret held, and when that was read.
    known: Option<(Succession, Instant)>,
    /// What has been read back in every entry, and since when.
    published: Option<(Bundle, Instant)>,
    held: Option<Held>,
}

/// What is served now.
#[derive(Debug)]
struct Held {
    signer: Arc<Authority>,
    leaf: Pair,
}

/// How a look ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// All is as it must be.
    Settled,
    /// What is served is trusted; the API server has yet to be told of another authority, or to remember it.
    Trusted,
    /// What is served is not trusted everywhere yet.
    Untrusted,
}

/// The shared authority could not be had; what was served before is served on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeeperError {
    /// The Secret cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Secret holds something else.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// What the API server trusts cannot be read back.
    #[error("cannot read back the webhook configurations")]
    ReadBack(#[source] Box<kube::Error>),
    /// A certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// No answer in time.
    #[error("the API server did not answer in {DEADLINE:?}")]
    Deadline(#[from] Elapsed),
}

// === impl Keeper ===

impl Keeper {
    /// Serves certificates for these DNS names and IP addresses, once run, of an authority in a Secret of `namespace`.
    pub fn new(
        client: &Client,
        namespace: &str,
        names: Vec<String>,
        certificates: Arc<Certificates>,
        (trust, expiry): (watch::Sender<Trust>, Gauge),
    ) -> Self {
        Self {
            store: Store::new(client.clone(), namespace),
            configurations: Configurations::new(client.clone()),
            names,
            certificates,
            trust,
            expiry,
            lifetimes: Lifetimes::PROGRAM,
            jitter: Jitter::draw(ring::default_provider().secure_random),
            clock: Clock::default(),
            known: None,
            published: None,
            held: None,
        }
    }

    /// Keeps at it for ever; drops the latch when every entry of our configurations trusts what is served.
    pub async fn run(mut self, latch: Latch) {
        let mut latch = Some(latch);
        let mut pause = FIRST_PAUSE;
        loop {
            let standing = self.look(SystemTime::now()).await;
            match &standing {
                Ok(Standing::Settled | Standing::Trusted) => latch = None,
                Ok(Standing::Untrusted) => {}
                Err(error) => {
                    let waiting = latch.is_some();
                    tracing::warn!(error = chain(error), waiting, "no certificate authority");
                }
            }
            if matches!(standing, Ok(Standing::Settled)) {
                pause = FIRST_PAUSE;
                sleep(PERIOD).await;
            } else {
                sleep(pause).await;
                pause = (pause * 2).min(PERIOD);
            }
        }
    }

    /// One look at the Secret, the clock and the configurations.
    async fn look(&mut self, local: SystemTime) -> Result<Standing, KeeperError> {
        match timeout(DEADLINE, self.follow(local)).await {
            Ok(Ok(standing)) => Ok(standing),
            failed => {
                self.do_without(local)?;
                failed?
            }
        }
    }

    async fn follow(&mut self, local: SystemTime) -> Result<Standing, KeeperError> {
        let (shared, now) = self.share(local).await?;
        let bundle = shared.bundle();
        let trust = Trust::Bundle(bundle.to_pem());
        self.trust
            .send_if_modified(|told| std::mem::replace(told, trust.clone()) != trust);
        self.expiry
            .set(since_1970(shared.current().not_after()).as_secs_f64());
        self.known = Some((shared.clone(), Instant::now()));
        let published = self.configurations.read().await;
        self.compare(bundle, published.as_ref().ok());
        self.serve(&shared, now)?; // whatever is known of the configurations: without a certificate nobody can call
        let published = published.map_err(|error| KeeperError::ReadBack(Box::new(error)))?;
        Ok(self.standing(&shared, &published))
    }

    /// Remembers since when every entry has had all of this.
    fn compare(&mut self, bundle: Bundle, published: Option<&Published>) {
        if published.is_none_or(|published| !published.trusts(&bundle)) {
            if self.published.take().is_some() {
                tracing::info!(
                    "waiting for the webhook configurations to trust all our authorities"
                );
            }
        } else if self
            .published
            .as_ref()
            .is_none_or(|(old, _)| *old != bundle)
        {
            self.published = Some((bundle, Instant::now()));
        }
    }

    /// Signs by the authority that is current, once the API server is known to trust it; until then by the one before.
    fn serve(&mut self, shared: &Succession, now: SystemTime) -> Result<(), AuthorityError> {
        let current = shared.current();
        let Some(held) = &self.held else {
            return self.hold(Arc::clone(current), now); // there is nothing better
        };
        let is_over = held.signer.not_after() <= now;
        let may_change = self.is_settled(shared) || is_over && self.published.is_some();
        let signer = if may_change { current } else { &held.signer };
        if *signer == held.signer && (self.is_fresh(held, now) || is_over) {
            return Ok(());
        }
        self.hold(Arc::clone(signer), now)
    }

    fn standing(&self, shared: &Succession, published: &Published) -> Standing {
        let signer = self.held.as_ref().map(|held| &held.signer);
        let is_trusted =
            signer.is_some_and(|signer| published.trusts(&Bundle::of(signer.certificate())));
        if self.published.is_none() {
            // Somebody has overwritten it, or the registration has yet to come to it: either way it should look.
            self.trust.send_modify(|_| {});
        }
        let is_last = signer == Some(shared.current()) && !shared.is_under_way();
        match (is_trusted, is_last && self.published.is_some()) {
            (false, _) => Standing::Untrusted,
            (true, false) => Standing::Trusted,
            (true, true) => Standing::Settled,
        }
    }

    /// The API server does not answer: the leaf needs none, as the authority that signs it is in memory.
    fn do_without(&mut self, local: SystemTime) -> Result<(), KeeperError> {
        let is_stale = |(_, read): &(_, Instant)| read.elapsed() > STALE;
        if self.known.as_ref().is_some_and(is_stale) {
            self.trust.send_if_modified(|told| {
                let is_ours = matches!(told, Trust::Bundle(_));
                if is_ours {
                    *told = Trust::AsFound;
                }
                is_ours
            });
        }
        let now = self.clock.guess(local);
        match &self.held {
            Some(held) if !self.is_fresh(held, now) => {
                let signer = Arc::clone(&held.signer);
                Ok(self.hold(signer, now)?)
            }
            _ => Ok(()),
        }
    }

    /// What all replicas share, after what is to be done with it at this time, and that time.
    async fn share(&mut self, local: SystemTime) -> Result<(Succession, SystemTime), KeeperError> {
        // Each round is one that another replica has won.
        loop {
            let found = self.store.read().await?;
            let now = self.clock.tell(found.date, local);
            let (shared, why) = match &found.secret {
                None => self.begin(now).await?,
                Some(secret) => {
                    let shared = Succession::from_secret(secret)?;
                    match self.change(&shared, now).await? {
                        Some(change) => change,
                        None => return Ok((shared, now)),
                    }
                }
            };
            if self.store.write(found.secret, &shared).await?.is_some() {
                tracing::info!(why, "the authorities have changed");
                return Ok((shared, now));
            }
        }
    }

    /// What to put where there is no Secret.
    async fn begin(&self, now: SystemTime) -> Result<(Succession, &'static str), KeeperError> {
        // Deleted while we run: what clients trust.
        if let Some((known, _)) = self.known.as_ref().filter(|(known, _)| known.is_good(now)) {
            return Ok((known.clone(), "the Secret was deleted"));
        }
        let first = Succession::new(Authority::generate(now, &self.lifetimes)?);
        let beside = first.beside(self.in_use(now).await?, now, &self.lifetimes);
        Ok((beside.unwrap_or(first), "there was no Secret"))
    }

    /// What is to be written in place of what the Secret holds, and why; `None` when it is as it must be.
    async fn change(
        &self,
        shared: &Succession,
        now: SystemTime,
    ) -> Result<Option<(Succession, &'static str)>, KeeperError> {
        if !shared.is_good(now)
            && let Some((known, _)) = self.known.as_ref().filter(|(known, _)| known.is_good(now))
        {
            return Ok(Some((
                known.clone(),
                "an authority that is over was put there",
            )));
        }
        let step = shared.step(now, self.is_settled(shared), (&self.lifetimes, self.jitter));
        let mut change = None;
        if let Some(step) = step {
            let after = shared.clone().after(step, now, &self.lifetimes)?;
            change = Some((after, reason(step)));
        }
        // Somebody has put another authority there: what is served must be trusted on for as long.
        let before = change.as_ref().map_or(shared, |(after, _)| after);
        let beside = before.beside(self.in_use(now).await?, now, &self.lifetimes);
        Ok(beside
            .map(|beside| (beside, "what is in use is trusted on"))
            .or(change))
    }

    /// What must not lose its trust: the signer of what is served, or, where nothing is yet, whatever other replicas may serve by.
    async fn in_use(&self, now: SystemTime) -> Result<Bundle, KeeperError> {
        let Some(held) = &self.held else {
            let published = self.configurations.read().await;
            let published = published.map_err(|error| KeeperError::ReadBack(Box::new(error)))?;
            return Ok(published.anywhere());
        };
        if held.leaf.not_after() > now {
            Ok(Bundle::of(held.signer.certificate()))
        } else {
            Ok(Bundle::default())
        }
    }

    /// All of it has stood in every entry for the settling time.
    fn is_settled(&self, shared: &Succession) -> bool {
        self.published.as_ref().is_some_and(|(bundle, since)| {
            *bundle == shared.bundle() && since.elapsed() >= self.lifetimes.settling
        })
    }

    /// False when it is time for a new leaf.
    fn is_fresh(&self, held: &Held, now: SystemTime) -> bool {
        let end = held.leaf.not_after();
        if end >= held.signer.not_after() {
            return true; // a new one would live no longer
        }
        let left = end.duration_since(now).unwrap_or_default();
        !self.jitter.is_due(self.lifetimes.leaf, left)
    }

    fn hold(&mut self, signer: Arc<Authority>, now: SystemTime) -> Result<(), AuthorityError> {
        let leaf = signer.sign(&self.names, now, &self.lifetimes)?;
        self.certificates.serve(&leaf);
        let until = humantime::format_rfc3339_seconds(leaf.not_after());
        tracing::info!(names = self.names.join(","), %until, "serving a new certificate");
        self.held = Some(Held { signer, leaf });
        Ok(())
    }
}

fn reason(step: Step) -> &'static str {
    match step {
        Step::Begin => "the next one is published beside the current one",
        Step::Promote => "the next one signs from now on",
        Step::Replace => "the current one was over",
        Step::Date => "the previous one has an end",
        Step::Retire => "the previous one is trusted no longer",
    }
}

#[cfg(test)]
mod tests;
