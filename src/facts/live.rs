//! Live answers: each question goes to the API server once for all reviews that ask it at the same time.
//!
//! ```text
//! review --get--> cache --miss--> judge asks --> flight (begun here, or joined) --> permit --> GET
//!                   ^                                                                          |
//!                   +------------------------- what exists, for its lifetime <-----------------+
//! ```
//!
//! Nothing is retried. What can't be found out before the deadline is unknown, and unknown never refuses.

use std::{
    cell::Cell,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use kube::Client;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{cache::Cache, request};
use crate::{
    policy::facts::{Answer, Known, Query, Unknown},
    webhook::metrics::{Fact, LookupOutcome, Metrics},
};

/// Requests to the API server at once. Each is a `get` of a millisecond or two, so this is more than ten thousand a
/// second; what is beyond waits here and not in the API server's queues, where it would starve others.
const CONCURRENT_REQUESTS: usize = 32;

/// From question to answer, the wait for a permit included. Below the 3 s of `timeoutSeconds`, with time left to judge and
/// to answer; a request that takes longer is given up, so that those who join it late don't wait for the dead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Questions of one review. A pod of 500 containers with two references each stays below it; a larger object could
/// make us ask the API server tens of thousands of times.
const MAX_QUESTIONS: usize = 1024;

/// Live answers for all reviews of this process.
#[derive(Clone, Debug)]
pub struct Live {
    shared: Arc<Core>,
}

/// The facts of one review: what is remembered, and what was asked for it.
///
/// A refusal must not rest on memory: before one is given, [`Facts::confirm`] forgets all that was not asked since the
/// review arrived.
pub struct Facts {
    core: Arc<Core>,
    arrived: Instant,
    deadline: Instant,
    answers: HashMap<Query<'static>, Gathered>,
    /// Something was answered from memory.
    remembered: Cell<bool>,
    /// Nothing is answered from memory any more.
    confirming: bool,
    /// What was not asked by now never will be.
    closed: bool,
}

struct Core {
    client: Client,
    metrics: Arc<Metrics>,
    cache: Cache,
    flights: Mutex<HashMap<Query<'static>, Flight>>,
    flight_numbers: AtomicU64,
    requests: Semaphore,
}

/// A question that is under way. It belongs to the reviews that wait for it: when the last leaves, it is dropped.
struct Flight {
    number: u64,
    begun: Instant,
    answer: WeakShared<BoxFuture<'static, Arc<Answer>>>,
}

/// Takes a flight off the list when it has ended, or nobody waits for it any more.
struct Landing {
    core: Arc<Core>,
    query: Query<'static>,
    number: u64,
}

struct Gathered {
    answer: Arc<Answer>,
    /// It was asked after the review arrived.
    live: bool,
}

// === impl Live ===

impl Live {
    /// Asks the API server of `config`, and counts in `metrics`. Must be called on a tokio runtime.
    pub fn connect(mut config: kube::Config, metrics: Arc<Metrics>) -> Result<Self, kube::Error> {
        config.default_retry = false; // an overloaded API server is not helped by asking again
        config.connect_timeout = Some(LOOKUP_TIMEOUT);
        Ok(Self {
            shared: Arc::new(Core {
                client: Client::try_from(config)?,
                metrics,
                cache: Cache::default(),
                flights: Mutex::default(),
                flight_numbers: AtomicU64::new(0),
                requests: Semaphore::new(CONCURRENT_REQUESTS),
            }),
        })
    }

    /// The facts for a review that arrived at `arrived` and must be judged at `deadline`.
    pub fn facts(&self, arrived: Instant, deadline: Instant) -> Facts {
        Facts {
            core: Arc::clone(&self.shared),
            arrived,
            deadline,
            answers: HashMap::new(),
            remembered: Cell::new(false),
            confirming: false,
            closed: false,
        }
    }
}

// === impl Facts ===

impl Facts {
    /// Asks all of `questions` at once. Each has an answer afterwards: [`Answer::Unknown`] where the deadline came
    /// first, or where the review has asked too much.
    pub async fn ask(&mut self, questions: Vec<Query<'static>>) {
        let room = MAX_QUESTIONS.saturating_sub(self.answers.len());
        let (core, since) = (&self.core, self.confirming.then_some(self.arrived));
        let deadline = self.deadline.min(Instant::now() + LOOKUP_TIMEOUT);
        let answers = join_all(questions.into_iter().enumerate().map(
            |(index, query)| async move {
                if index < room {
                    let (answer, begun) = core.ask(&query, since, deadline).await;
                    (query, answer, begun)
                } else {
                    let words =
                        format!("not asked: one object may refer to {MAX_QUESTIONS} others");
                    (
                        query,
                        Arc::new(Answer::Unknown(Unknown::Refused(words.into()))),
                        Instant::now(),
                    )
                }
            },
        ))
        .await;
        for (query, answer, begun) in answers {
            self.answers.insert(
                query,
                Gathered {
                    answer,
                    live: begun >= self.arrived,
                },
            );
        }
    }

    /// To be called before a refusal is given. True if the verdict may rest on something that was not asked since the
    /// review arrived: that is forgotten now, so judge again.
    pub fn confirm(&mut self) -> bool {
        let unconfirmed =
            self.remembered.take() || self.answers.values().any(|gathered| !gathered.live);
        self.answers.retain(|_, gathered| gathered.live);
        self.confirming = true;
        unconfirmed
    }

    /// Asks no more: what is not known by now is unknown.
    pub fn close(&mut self) {
        self.closed = true;
    }
}

impl Known for Facts {
    fn get(&self, query: &Query<'_>) -> Option<Arc<Answer>> {
        // A map of 'static questions answers shorter-lived ones: a HashMap is covariant in its key.
        let answers: &HashMap<Query<'_>, Gathered> = &self.answers;
        if let Some(gathered) = answers.get(query) {
            return Some(Arc::clone(&gathered.answer));
        }
        if self.closed {
            return Some(Arc::new(Answer::Unknown(Unknown::Deadline)));
        }
        if self.confirming {
            return None;
        }
        let answer = self.core.cache.get(query, self.arrived)?;
        self.remembered.set(true);
        self.core
            .metrics
            .lookups
            .count((query.into(), LookupOutcome::Cached));
        Some(answer)
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}

// === impl Core ===

impl Core {
    /// The answer, and when its question was begun. A flight counts only if it was begun at `since` or later.
    async fn ask(
        self: &Arc<Self>,
        query: &Query<'static>,
        since: Option<Instant>,
        deadline: Instant,
    ) -> (Arc<Answer>, Instant) {
        let asked = Instant::now();
        let (answer, begun) = self.flight(query, since);
        let answer = timeout_at(deadline, answer)
            .await
            .unwrap_or_else(|_| Arc::new(Answer::Unknown(Unknown::Deadline)));
        let fact = Fact::from(query);
        if begun < asked {
            self.metrics.lookups.count((fact, LookupOutcome::Joined));
        } else {
            self.metrics
                .lookups
                .count((fact, LookupOutcome::from(&*answer)));
            self.metrics
                .lookup_duration
                .record((fact,), asked.elapsed().as_secs_f64());
        }
        (answer, begun)
    }

    fn flight(
        self: &Arc<Self>,
        query: &Query<'static>,
        since: Option<Instant>,
    ) -> (Shared<BoxFuture<'static, Arc<Answer>>>, Instant) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(query)
            && since.is_none_or(|since| flight.begun >= since)
            && let Some(answer) = flight.answer.upgrade()
        {
            return (answer, flight.begun);
        }
        let begun = Instant::now();
        let number = self.flight_numbers.fetch_add(1, Ordering::Relaxed);
        let landing = Landing {
            core: Arc::clone(self),
            query: query.clone(),
            number,
        };
        let answer = async move { landing.core.fetch(&landing.query).await }
            .boxed()
            .shared();
        if let Some(answer) = answer.downgrade() {
            flights.insert(
                query.clone(),
                Flight {
                    number,
                    begun,
                    answer,
                },
            );
        }
        (answer, begun)
    }

    async fn fetch(&self, query: &Query<'static>) -> Arc<Answer> {
        let answer = timeout(LOOKUP_TIMEOUT, async {
            let _permit = self
                .requests
                .acquire()
                .await
                .expect("nobody closes this semaphore");
            request::answer(&self.client, query).await
        })
        .await;
        let answer = Arc::new(answer.unwrap_or(Answer::Unknown(Unknown::Deadline)));
        match *answer {
            Answer::Missing | Answer::Unknown(_) => {}
            Answer::Namespace(_)
            | Answer::Keys(_)
            | Answer::ServiceAccount(_)
            | Answer::LimitRanges(_)
            | Answer::Twin(_) => {
                self.cache
                    .insert(query.clone(), Arc::clone(&answer), Instant::now());
            }
        }
        answer
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

// === impl Landing ===

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self
            .core
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A later flight of the same question may have taken its place.
        if flights
            .get(&self.query)
            .is_some_and(|flight| flight.number == self.number)
        {
            flights.remove(&self.query);
        }
    }
}

// === labels ===

impl From<&Query<'_>> for Fact {
    fn from(query: &Query<'_>) -> Self {
        match query {
            Query::Namespace { .. } => Self::Namespace,
            Query::Secret { .. } => Self::Secret,
            Query::ConfigMap { .. } => Self::ConfigMap,
            Query::ServiceAccount { .. } => Self::ServiceAccount,
            Query::LimitRanges { .. } => Self::LimitRanges,
            Query::Twin { .. } => Self::Twin,
        }
    }
}

impl From<&Answer> for LookupOutcome {
    fn from(answer: &Answer) -> Self {
        match answer {
            Answer::Missing => Self::Missing,
            Answer::Unknown(Unknown::Deadline) => Self::Deadline,
            Answer::Unknown(_) => Self::Refused,
            Answer::Namespace(_)
            | Answer::Keys(_)
            | Answer::ServiceAccount(_)
            | Answer::LimitRanges(_)
            | Answer::Twin(_) => Self::Found,
        }
    }
}
