//! The proof that the API server reaches us: only with it does an entry of ours come to `failurePolicy: Fail`.
//!
//! ```text
//! every 5 s:  each API server x each entry --dry run of a Pod with a nonce--> API server --review--> some replica
//!                                                                                  |
//!             evidence <--- 403 with the nonce and the replica's name <--- refused by the entry that is named
//!                 |
//!                 v
//!             opinion: Fail, Ignore, or none yet ---> registration writes
//! ```
//!
//! What refuses is fixed, whatever the settings say, and holds in one namespace only, where nothing else is ever made.

mod check;

mod evidence;

mod reach;

mod ticket;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::metrics::{Entry, Metrics};
use crate::lease::Tenure;
use crate::policy::settings::FailurePolicy;
use evidence::{Evidence, ROUND};
pub(super) use reach::{ApiServers, Endpoints, Reach};
pub(super) use ticket::Ticket;

/// What is known of each entry; nothing, of one without evidence.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Opinions([Option<FailurePolicy>; Entry::ALL.len()]);

/// Makes the dry runs, while this replica holds the Lease.
#[derive(Clone)]
pub(super) struct Prover {
    reach: Reach,
    metrics: Arc<Metrics>,
}

// === impl Opinions ===

impl Opinions {
    /// Of the last replica that leaves in good order: nobody waits for a judge who will not come back. A pod that
    /// must have a gate waits on: it is never to start without.
    pub(super) const LEAVING: Self = Self([Some(FailurePolicy::Ignore), None, None]);

    pub(super) fn of(self, entry: Entry) -> Option<FailurePolicy> {
        let mut opinions = Entry::ALL.into_iter().zip(self.0);
        opinions.find_map(|(is, opinion)| (is == entry).then_some(opinion)?)
    }

    pub(super) fn set(&mut self, entry: Entry, opinion: Option<FailurePolicy>) {
        for (is, slot) in Entry::ALL.into_iter().zip(&mut self.0) {
            if is == entry {
                *slot = opinion;
            }
        }
    }
}

// === impl Prover ===

impl Prover {
    pub(super) fn new(reach: Reach, metrics: Arc<Metrics>) -> Self {
        Self { reach, metrics }
    }

    /// True unless another replica of ours is ready and stays.
    pub(super) async fn is_last_replica(&self) -> bool {
        self.reach.is_last_replica().await
    }

    /// Gathers evidence for ever, whenever it is this replica's turn, and tells what it thinks.
    pub(super) async fn run(
        mut self,
        mut tenure: watch::Receiver<Tenure>,
        opinions: watch::Sender<Opinions>,
    ) {
        while tenure
            .wait_for(|tenure| *tenure == Tenure::Held)
            .await
            .is_ok()
        {
            tokio::select! {
                () = self.prove(&opinions) => {}
                // Another replica has the word; what this one thought is void when its turn comes again.
                _ = tenure.wait_for(|tenure| *tenure != Tenure::Held) => {}
            }
            opinions.send_replace(Opinions::default());
        }
    }

    async fn prove(&mut self, opinions: &watch::Sender<Opinions>) {
        let begun = Instant::now();
        let mut evidence = Entry::ALL.map(Evidence::new);
        loop {
            let next = Instant::now() + ROUND;
            let round = self.reach.round().await;
            for check in &round.checks {
                let outcome = check.outcome.label();
                self.metrics.self_checks.count((check.entry, outcome));
            }
            let at = begun.elapsed();
            for evidence in &mut evidence {
                if let Some(change) = evidence.add(at, &round) {
                    change.tell(evidence.entry());
                }
            }
            opinions.send_if_modified(|before| {
                let mut now = *before;
                for evidence in &evidence {
                    now.set(evidence.entry(), evidence.opinion());
                }
                now != std::mem::replace(before, now)
            });
            sleep_until(next).await;
        }
    }
}
