//! Live answers: each question goes to the API server once for all reviews that ask it at the same time.
//!
//! ```text
//! review --get--> cache --miss--> judge asks --> flight (begun here, or joined) --> permit --> GET
//!                   ^                                                                          |
//!                   +------------------------- what exists, for its lifetime <-----------------+
//! ```
//!
//! Nothing is retried. What can't be found out before the deadline is unknown, but for what every review asks of its
//! namespace: there the last that was known counts.

use std::{cell::Cell, collections::HashMap, fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use kube::Client;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{
    cache::Cache,
    flight::{Flights, Seat, Sent},
    meters::{Fact, Meters, Outcome},
    pages::Pages,
    request,
};
use crate::policy::{
    facts::{Answer, Known, Lookup, Query, Unknown},
    workload::WorkloadKind,
};

/// Requests to the API server at once. Each is a `get` of a millisecond or two, so this is more than ten thousand a
/// second; what is beyond waits here and not in the API server's queues, where it would starve others.
const CONCURRENT_REQUESTS: usize = 32;

/// Beside these, for what every review asks: its namespace's labels and LimitRanges. All else rests on them, so nobody's
/// reviews with a thousand questions each may keep another's from its first two.
const CONCURRENT_SURROUNDINGS: usize = 8;

/// From question to answer, the wait for a permit included; and from a permit to the answer, for those who join late and
/// would wait for the dead. Below the 3 s of `timeoutSeconds`, with time left to judge and to answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The part of a review's time that is kept for [`Facts::confirm`]. Without it, who makes one answer slow would make all
/// that was remembered unknown, and what is unknown refuses nothing.
const KEPT_FOR_CONFIRMING: u32 = 4;

/// Questions of one review, beside those that every review asks. A pod of 500 containers with two references each stays
/// below it; a larger object could make us ask the API server tens of thousands of times.
const MAX_QUESTIONS: usize = 1024;

/// Rounds of questions, after which what is not known is unknown. An answer leads to further questions at most twice (a
/// namespace to its twin, and on to the workload there; a missing Secret to the groups of those who make some, and on to
/// them), for the stored object once more, then for its revisions; and all is asked again where a refusal is confirmed.
const ROUNDS: usize = 14;

/// One step of a pure function that asks before it answers.
#[derive(Debug)]
pub enum Step<T> {
    /// All of these must be known first.
    Ask(Vec<Query<'static>>),
    /// That is it.
    Done(T),
}

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
    /// Of what is asked before anything has to be confirmed.
    first_deadline: Instant,
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
    meters: Meters,
    cache: Cache,
    flights: Arc<Flights>,
    requests: Semaphore,
    surroundings: Semaphore,
}

struct Gathered {
    answer: Arc<Answer>,
    /// It was asked after the review arrived.
    live: bool,
}

// === impl Live ===

impl Live {
    /// Asks the API server of `config`, and counts in `meters`. Must be called on a tokio runtime.
    pub fn connect(mut config: kube::Config, meters: Meters) -> Result<Self, kube::Error> {
        config.default_retry = false; // an overloaded API server is not helped by asking again
        config.connect_timeout = Some(LOOKUP_TIMEOUT);
        Ok(Self {
            shared: Arc::new(Core {
                client: Client::try_from(config)?,
                meters,
                cache: Cache::default(),
                flights: Arc::default(),
                requests: Semaphore::new(CONCURRENT_REQUESTS),
                surroundings: Semaphore::new(CONCURRENT_SURROUNDINGS),
            }),
        })
    }

    /// The facts for a review that arrived at `arrived` and must be judged at `deadline`.
    pub fn facts(&self, arrived: Instant, deadline: Instant) -> Facts {
        Facts {
            core: Arc::clone(&self.shared),
            arrived,
            deadline,
            first_deadline: deadline - (deadline - arrived) / KEPT_FOR_CONFIRMING,
            answers: HashMap::new(),
            remembered: Cell::new(false),
            confirming: false,
            closed: false,
        }
    }

    /// Every object of `kind`, in one namespace or in all.
    pub fn list(&self, kind: &WorkloadKind, namespace: Option<&str>) -> Pages {
        Pages::new(self.shared.client.clone(), kind, namespace)
    }
}

// === impl Facts ===

impl Facts {
    /// What could not be found out, of all that was asked.
    pub fn unknown(&self) -> impl Iterator<Item = (&Query<'static>, &Unknown)> {
        self.answers
            .iter()
            .filter_map(|(query, gathered)| match gathered.answer.lookup() {
                Lookup::Unknown(unknown) => Some((query, unknown)),
                Lookup::Missing | Lookup::Found(_) => None,
            })
    }

    /// Asks all of `questions` at once. Each has an answer afterwards: [`Answer::Unknown`] where the deadline came
    /// first, or where the review has asked too much.
    pub async fn ask(&mut self, questions: Vec<Query<'static>>) {
        let counts = |query: &Query<'_>| !is_asked_for_every_review(query);
        let asked = self.answers.keys().filter(|query| counts(query)).count();
        let mut room = MAX_QUESTIONS.saturating_sub(asked);
        let questions = questions.into_iter().map(|query| {
            let fits = !counts(&query) || room > 0;
            room = room.saturating_sub(usize::from(counts(&query)));
            (query, fits)
        });
        let (core, since) = (&self.core, self.confirming.then_some(self.arrived));
        let deadline = if self.confirming {
            self.deadline
        } else {
            self.first_deadline
        };
        let deadline = deadline.min(Instant::now() + LOOKUP_TIMEOUT);
        let answers = join_all(questions.map(|(query, fits)| async move {
            let (answer, sent) = if fits {
                core.ask(&query, since, deadline).await
            } else {
                let words = format!("not asked: one object may refer to {MAX_QUESTIONS} others");
                let unknown = Answer::Unknown(Unknown::Refused(words.into()));
                (Arc::new(unknown), Instant::now())
            };
            (query, answer, sent)
        }))
        .await;
        for (query, answer, sent) in answers {
            let live = sent >= self.arrived || refuses_nothing(&query);
            self.answers.insert(query, Gathered { answer, live });
        }
    }

    /// Asks what `step` wants to know, round by round, until it is done.
    pub async fn settle<T>(&mut self, step: impl Fn(&dyn Known) -> Step<T>) -> T {
        self.settle_confirmed(|_| false, step).await
    }

    /// The same, but what `rests_on_facts` is given only on facts that were asked since the review arrived.
    pub async fn settle_confirmed<T>(
        &mut self,
        rests_on_facts: impl Fn(&T) -> bool,
        step: impl Fn(&dyn Known) -> Step<T>,
    ) -> T {
        let mut rounds = 0;
        loop {
            match step(self) {
                Step::Done(done) => {
                    if !rests_on_facts(&done) || !self.confirm() {
                        return done;
                    }
                }
                Step::Ask(questions) if rounds < ROUNDS => {
                    rounds += 1;
                    self.ask(questions).await;
                }
                Step::Ask(_) => self.close(),
            }
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
        if self.confirming && !refuses_nothing(query) {
            return None;
        }
        let answer = self.core.cache.get(query, self.arrived)?;
        self.remembered
            .set(self.remembered.get() || !refuses_nothing(query));
        self.core.meters.count(Fact::of(query), Outcome::Cached);
        Some(answer)
    }
}

/// The answer changes when somebody installs something, and is dear to get: it need not be confirmed.
fn refuses_nothing(query: &Query<'_>) -> bool {
    matches!(query, Query::Versions | Query::Groups)
}

fn is_asked_for_every_review(query: &Query<'_>) -> bool {
    matches!(query, Query::Namespace { .. } | Query::LimitRanges { .. })
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
    /// The answer, and when its question went out: at `since` or later.
    async fn ask(
        self: &Arc<Self>,
        query: &Query<'static>,
        since: Option<Instant>,
        deadline: Instant,
    ) -> (Arc<Answer>, Instant) {
        let asked = Instant::now();
        let Seat {
            answer,
            sent,
            joined,
        } = self.flights.board(query, since, |sent| {
            let (core, query) = (Arc::clone(self), query.clone());
            async move { core.fetch(&query, &sent).await }.boxed()
        });
        let answer = timeout_at(deadline, answer)
            .await
            .unwrap_or_else(|_| Arc::new(Answer::Unknown(Unknown::Deadline)));
        let fact = Fact::of(query);
        if joined {
            self.meters.count(fact, Outcome::Joined);
        } else {
            self.meters.count(fact, Outcome::of(&answer));
            self.meters.took(fact, asked.elapsed());
        }
        // Who makes us slow, or the API server, must not get rid of the rules that way.
        if matches!(*answer, Answer::Unknown(_))
            && is_asked_for_every_review(query)
            && let Some(last) = self.cache.last_known(query, asked)
        {
            self.meters.count(fact, Outcome::LastKnown);
            return (last, asked); // nobody will know better before the deadline
        }
        (answer, sent.get().copied().unwrap_or(asked))
    }

    async fn fetch(&self, query: &Query<'static>, sent: &Sent) -> Arc<Answer> {
        let permits = if is_asked_for_every_review(query) {
            &self.surroundings
        } else {
            &self.requests
        };
        // For as long as somebody waits; each of them has his own deadline.
        let permit = permits.acquire().await;
        let _permit = permit.expect("nobody closes this semaphore");
        sent.get_or_init(Instant::now);
        let answer = timeout(LOOKUP_TIMEOUT, request::answer(&self.client, query)).await;
        let answer = Arc::new(answer.unwrap_or(Answer::Unknown(Unknown::Deadline)));
        match answer.lookup() {
            Lookup::Missing | Lookup::Unknown(_) | Lookup::Found(Answer::Exists) => {}
            Lookup::Found(_) => {
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

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            Mutex,
            atomic::{AtomicBool, AtomicU64, Ordering},
        },
    };

    use bytes::Bytes;
    use metrics::{Counter, Histogram};
    use serde_json::json;

    use super::*;
    use crate::{
        facts::testing::{Api, Reply},
        policy::facts::{Release, Revision, Versions},
    };

    const CHECKOUT: &str = "/api/v1/namespaces/shop/secrets/checkout";

    fn secret(name: &str) -> Query<'static> {
        Query::Secret {
            namespace: "shop".into(),
            name: name.to_owned().into(),
        }
    }

    fn checkout() -> serde_json::Value {
        json!({"kind": "Secret", "data": {"url": "cG9zdGdyZXM="}})
    }

    fn facts(live: &Live) -> Facts {
        let now = Instant::now();
        live.facts(now, now + Duration::from_secs(60))
    }

    fn keys(names: &[&str]) -> Answer {
        Answer::Keys(names.iter().map(|name| Box::from(*name)).collect())
    }

    /// The answer to one question of one review.
    async fn one(live: &Live, query: Query<'static>) -> Answer {
        let mut facts = facts(live);
        if let Some(answer) = facts.get(&query) {
            return (*answer).clone();
        }
        facts.ask(vec![query.clone()]).await;
        (*facts.get(&query).unwrap()).clone()
    }

    fn refusal(answer: &Answer) -> String {
        let Answer::Unknown(Unknown::Refused(words)) = answer else {
            panic!("refused was expected: {answer:?}");
        };
        words.to_string()
    }

    /// Counts where a test can read.
    #[derive(Default)]
    struct Tally(Mutex<BTreeMap<(Fact, Outcome), Arc<AtomicU64>>>);

    fn live(api: &Api, tally: &Tally) -> Live {
        api.live(meters(tally))
    }

    fn meters(tally: &Tally) -> Meters {
        let counter = |fact, outcome| {
            let mut counts = tally.0.lock().unwrap();
            Counter::from_arc(Arc::clone(counts.entry((fact, outcome)).or_default()))
        };
        Meters::new(counter, |_| Histogram::noop())
    }

    fn counted(tally: &Tally, outcome: Outcome) -> u64 {
        tally.0.lock().unwrap()[&(Fact::Secret, outcome)].load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_exists_is_asked_once_and_remembered() {
        let (api, tally) = (
            Api::of(vec![(CHECKOUT, checkout())]).await,
            Tally::default(),
        );
        let live = live(&api, &tally);
        for _ in 0..3 {
            assert_eq!(one(&live, secret("checkout")).await, keys(&["url"]));
        }
        assert_eq!(api.asked(), [CHECKOUT]);
        assert_eq!(
            (
                counted(&tally, Outcome::Found),
                counted(&tally, Outcome::Cached)
            ),
            (1, 2)
        );
    }

    #[tokio::test]
    async fn what_is_missing_is_asked_each_time() {
        let exists = Arc::new(AtomicBool::new(false));
        let made = Arc::clone(&exists);
        let api = Api::start(move |_| {
            if made.load(Ordering::SeqCst) {
                Reply::Object(checkout())
            } else {
                Reply::Status(404, "NotFound")
            }
        })
        .await;
        let tally = Tally::default();
        let live = live(&api, &tally);
        assert_eq!(one(&live, secret("checkout")).await, Answer::Missing);
        assert_eq!(one(&live, secret("checkout")).await, Answer::Missing);
        exists.store(true, Ordering::SeqCst);
        assert_eq!(one(&live, secret("checkout")).await, keys(&["url"]));
        assert_eq!(
            (api.asked().len(), counted(&tally, Outcome::Missing)),
            (3, 2)
        );
    }

    #[tokio::test]
    async fn a_name_that_cannot_exist_is_missing_without_a_question() {
        let (api, tally) = (Api::of(vec![]).await, Tally::default());
        assert_eq!(
            one(&live(&api, &tally), secret("../../kube-system/secrets/x")).await,
            Answer::Missing
        );
        assert!(api.asked().is_empty());
    }

    #[tokio::test]
    async fn refusals_are_unknown_in_words_and_never_repeated() {
        for (code, reason) in [
            (403, "Forbidden"),
            (401, "Unauthorized"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
        ] {
            let (api, tally) = (
                Api::start(move |_| Reply::Status(code, reason)).await,
                Tally::default(),
            );
            let live = live(&api, &tally);
            let words = refusal(&one(&live, secret("checkout")).await);
            assert!(words.starts_with(&code.to_string()), "{words}");
            assert!(
                words.ends_with(&format!("{reason} says the API server")),
                "{words}"
            );
            assert_eq!(api.asked().len(), 1, "asked again after {code}");
            assert_eq!(counted(&tally, Outcome::Refused), 1);
            one(&live, secret("checkout")).await;
            assert_eq!(api.asked().len(), 2, "{code} was remembered");
        }
    }

    #[tokio::test]
    async fn a_not_found_of_somebody_else_is_unknown() {
        let api = Api::start(|_| Reply::Raw(404, "<html>no such page</html>".into())).await;
        let tally = Tally::default();
        assert_eq!(
            refusal(&one(&live(&api, &tally), secret("checkout")).await),
            "404 Not Found"
        );
        assert_eq!(counted(&tally, Outcome::Refused), 1);
    }

    #[tokio::test]
    async fn an_answer_that_makes_no_sense_is_unknown() {
        let too_large = Bytes::from(vec![b' '; 5 * 1024 * 1024]);
        for (reply, words) in [
            (Reply::Broken, "the answer broke off"),
            (Reply::Raw(200, "<html>".into()), "not the object"),
            (
                Reply::Raw(200, "{\"data\":{\"a\":".into()),
                "not the object",
            ),
            (Reply::Raw(200, too_large), "larger than any object"),
        ] {
            let (api, tally) = (Api::start(move |_| reply.clone()).await, Tally::default());
            let said = refusal(&one(&live(&api, &tally), secret("checkout")).await);
            assert!(said.contains(words), "{said}");
            assert_eq!(counted(&tally, Outcome::Refused), 1, "{said}");
        }
    }

    #[tokio::test]
    async fn no_api_server_at_all_is_unknown() {
        let gone = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let uri = format!("http://{gone}").parse().unwrap();
        let tally = Tally::default();
        let live = Live::connect(kube::Config::new(uri), meters(&tally)).unwrap();
        let words = refusal(&one(&live, secret("checkout")).await);
        assert_eq!(words, "no answer: Connection refused (os error 111)");
        assert_eq!(counted(&tally, Outcome::Refused), 1);
    }

    #[tokio::test]
    async fn silence_is_unknown_at_the_deadline() {
        let (api, tally) = (Api::start(|_| Reply::Silence).await, Tally::default());
        let live = live(&api, &tally);
        let now = Instant::now();
        let mut facts = live.facts(now, now + Duration::from_millis(50));
        let questions = vec![
            secret("checkout"),
            Query::Namespace {
                name: "shop".into(),
            },
        ];
        facts.ask(questions.clone()).await;
        for query in &questions {
            assert_eq!(
                *facts.get(query).unwrap(),
                Answer::Unknown(Unknown::Deadline)
            );
        }
        assert_eq!(counted(&tally, Outcome::Deadline), 1);
        assert!(
            live.shared.flights.is_empty(),
            "nobody waits, so nothing flies"
        );
    }

    #[tokio::test]
    async fn a_secret_of_one_mebibyte_is_read() {
        let value = "A".repeat(1024 * 1024 * 4 / 3);
        let (api, tally) = (
            Api::of(vec![(
                CHECKOUT,
                json!({"data": {"small": "", "large": value}}),
            )])
            .await,
            Tally::default(),
        );
        assert_eq!(
            one(&live(&api, &tally), secret("checkout")).await,
            keys(&["large", "small"])
        );
        assert_eq!(counted(&tally, Outcome::Found), 1);
    }

    #[tokio::test]
    async fn reviews_share_a_question_that_is_under_way() {
        let permits = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&permits);
        let api = Api::start(move |_| Reply::Held(Arc::clone(&held), checkout())).await;
        let tally = Tally::default();
        let live = live(&api, &tally);
        let ask = || one(&live, secret("checkout"));
        let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), async {
            permits.add_permits(1); // one answer for three
        });
        assert_eq!([first, second, third], [(); 3].map(|()| keys(&["url"])));
        assert_eq!(
            (
                counted(&tally, Outcome::Found),
                counted(&tally, Outcome::Joined)
            ),
            (1, 2)
        );
    }

    #[tokio::test]
    async fn who_waits_gets_the_answer_though_the_first_to_ask_left() {
        let permits = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&permits);
        let api = Api::start(move |_| Reply::Held(Arc::clone(&held), checkout())).await;
        let tally = Tally::default();
        let live = live(&api, &tally);
        let mut first = Box::pin(one(&live, secret("checkout")));
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(one(&live, secret("checkout")));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        permits.add_permits(1);
        assert_eq!(second.await, keys(&["url"]));
        assert_eq!(api.asked().len(), 1);
    }

    #[tokio::test]
    async fn a_refusal_is_confirmed_by_questions_that_came_after_the_review() {
        let (api, tally) = (
            Api::of(vec![(CHECKOUT, checkout())]).await,
            Tally::default(),
        );
        let live = live(&api, &tally);
        one(&live, secret("checkout")).await;

        let mut facts = facts(&live);
        assert!(facts.get(&secret("checkout")).is_some());
        assert!(facts.confirm(), "it rests on memory");
        assert!(facts.get(&secret("checkout")).is_none());
        facts.ask(vec![secret("checkout")]).await;
        assert!(facts.get(&secret("checkout")).is_some());
        assert!(!facts.confirm(), "it was asked for this review");
        assert!(facts.get(&secret("checkout")).is_some());
        assert_eq!(api.asked().len(), 2);
    }

    #[tokio::test]
    async fn a_question_from_before_the_review_confirms_nothing() {
        let permits = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&permits);
        let api = Api::start(move |_| Reply::Held(Arc::clone(&held), checkout())).await;
        let tally = Tally::default();
        let live = live(&api, &tally);
        let mut early = Box::pin(one(&live, secret("checkout")));
        assert!((&mut early).now_or_never().is_none());

        let mut facts = facts(&live);
        let both = async {
            facts.ask(vec![secret("checkout")]).await; // joins the early one
            assert!(facts.confirm(), "which may know less than the review");
            facts.ask(vec![secret("checkout")]).await;
            assert!(!facts.confirm());
        };
        permits.add_permits(2);
        tokio::join!(early, both);
        assert_eq!(api.asked().len(), 2);
    }

    fn shop() -> Query<'static> {
        Query::Namespace {
            name: "shop".into(),
        }
    }

    fn is_namespace(facts: &Facts) -> bool {
        let answer = facts.get(&shop());
        matches!(answer.as_deref(), Some(Answer::Namespace(_)))
    }

    #[tokio::test]
    async fn a_question_that_waits_for_its_turn_is_good_for_all_who_come_meanwhile() {
        let permits = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&permits);
        let reply = move |_: &str| Reply::Held(Arc::clone(&held), json!({"metadata": {}}));
        let (api, tally) = (Api::start(reply).await, Tally::default());
        let live = live(&api, &tally);
        let confirming = || async {
            let mut facts = facts(&live);
            facts.confirm();
            facts.ask(vec![shop()]).await;
            is_namespace(&facts)
        };
        let mut reviews: Vec<_> = (0..100)
            .map(|_| tokio_test::task::spawn(confirming()))
            .collect();
        for review in &mut reviews {
            assert!(review.poll().is_pending());
        }
        permits.add_permits(100);
        for answered in join_all(reviews).await {
            assert!(answered);
        }
        let asked = api.asked().len();
        assert!(asked <= CONCURRENT_SURROUNDINGS + 1, "{asked}");
    }

    #[tokio::test]
    async fn the_last_that_was_known_of_a_namespace_counts_when_nobody_answers() {
        for trouble in [
            Reply::Silence,
            Reply::Status(429, "TooManyRequests"),
            Reply::Broken,
        ] {
            let is_well = Arc::new(AtomicBool::new(true));
            let well = Arc::clone(&is_well);
            let reply = move |_: &str| {
                if well.load(Ordering::SeqCst) {
                    Reply::Object(json!({"metadata": {}}))
                } else {
                    trouble.clone()
                }
            };
            let (api, tally) = (Api::start(reply).await, Tally::default());
            let live = live(&api, &tally);
            one(&live, shop()).await;
            one(&live, secret("checkout")).await;
            is_well.store(false, Ordering::SeqCst);

            let now = Instant::now();
            let mut facts = live.facts(now, now + Duration::from_millis(200));
            assert!(is_namespace(&facts), "it is remembered");
            assert!(facts.confirm());
            let elsewhere = Query::Namespace {
                name: "elsewhere".into(),
            };
            let unknown = [secret("checkout"), elsewhere];
            facts.ask([&unknown[..], &[shop()]].concat()).await;
            assert!(is_namespace(&facts), "though it could not be confirmed");
            for query in &unknown {
                let answer = facts.get(query);
                assert!(
                    matches!(answer.as_deref(), Some(Answer::Unknown(_))),
                    "{answer:?}"
                );
            }
            assert!(!facts.confirm(), "nor will it be");
            let counts = tally.0.lock().unwrap();
            let counted = counts[&(Fact::Namespace, Outcome::LastKnown)].load(Ordering::Relaxed);
            assert_eq!(counted, 1);
        }
    }

    #[tokio::test]
    async fn a_list_is_read_page_by_page_to_its_end() {
        let service =
            |name| json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}}});
        let api = Api::start(move |path| {
            let (next, name) = match path {
                "/api/v1/namespaces/shop/services?limit=250" => ("bmV4dA", "cart"),
                "/api/v1/namespaces/shop/services?limit=250&continue=bmV4dA" => ("", "checkout"),
                other => panic!("asked for {other}"),
            };
            Reply::Object(json!({"metadata": {"continue": next}, "items": [service(name)]}))
        })
        .await;
        let query = Query::Services {
            namespace: "shop".into(),
        };
        let Answer::Services(services) = one(&api.live(Meters::unwatched()), query).await else {
            panic!("Services were expected");
        };
        let names: Vec<_> = services.iter().map(|service| &*service.name).collect();
        assert_eq!(names, ["cart", "checkout"]);
    }

    #[tokio::test]
    async fn a_revision_is_looked_for_page_by_page_and_never_remembered() {
        let set = |image| {
            json!({
                "metadata": {"ownerReferences": [{"uid": "its-uid", "controller": true}]},
                "spec": {"template": {"spec": {"image": image}}},
            })
        };
        let api = Api::start(move |path| {
            let list = "/apis/apps/v1/namespaces/shop/replicasets";
            let first = format!("{list}?labelSelector=app%3Dweb%2Ca%2Fb%3Dc&limit=25");
            let (next, image) = match path {
                path if path == first => ("bmV4dA", "app:2"),
                path if path == format!("{first}&continue=bmV4dA") => ("bW9yZQ", "app:1"),
                path if path == format!("{first}&continue=bW9yZQ") => ("", "app:0"),
                other => panic!("asked for {other}"),
            };
            Reply::Object(json!({"metadata": {"continue": next}, "items": [set(image)]}))
        })
        .await;
        let live = api.live(Meters::unwatched());
        let template = |image: &str| Query::Template {
            namespace: "shop".into(),
            revision: Revision::ReplicaSet {
                owner: "its-uid".into(),
                selector: "app=web,a/b=c".into(),
            },
            template: format!(
                r#"{{"annotations":{{}},"labels":{{}},"spec":{{"image":"{image}"}}}}"#
            )
            .into(),
        };
        assert_eq!(one(&live, template("app:1")).await, Answer::Exists);
        assert_eq!(api.asked().len(), 2, "what comes after it is not read");
        assert_eq!(one(&live, template("app:1")).await, Answer::Exists);
        assert_eq!(api.asked().len(), 4);
        assert_eq!(one(&live, template("app:3")).await, Answer::Missing);
        assert_eq!(api.asked().len(), 7);
    }

    #[tokio::test]
    async fn a_list_without_end_is_given_up_and_a_strange_token_is_not_followed() {
        for (token, said) in [
            ("bmV4dA", "not read: there are more than 5000"),
            ("../secrets", "not the object"),
        ] {
            let page = json!({"metadata": {"continue": token}, "items": []});
            let api = Api::start(move |_| Reply::Object(page.clone())).await;
            let query = Query::NetworkPolicies {
                namespace: "shop".into(),
            };
            let words = refusal(&one(&api.live(Meters::unwatched()), query).await);
            assert!(words.contains(said), "{words}");
            assert!(api.asked().len() <= 20, "{:?}", api.asked());
        }
    }

    /// An API server of 1.34 with a page for each of these kubelets.
    async fn nodes(kubelets: [&'static str; 2]) -> Api {
        Api::start(move |path| {
            let (next, kubelet, architecture) = match path {
                "/version" => return Reply::Object(json!({"gitVersion": "v1.34.4"})),
                "/api/v1/nodes?limit=250" => ("bmV4dA", kubelets[0], "amd64"),
                "/api/v1/nodes?limit=250&continue=bmV4dA" => ("", kubelets[1], "arm64"),
                other => panic!("asked for {other}"),
            };
            let labels = json!({"kubernetes.io/arch": architecture});
            Reply::Object(json!({
                "metadata": {"continue": next},
                "columnDefinitions": [{"name": "Name"}, {"name": "Version"}],
                "rows": [{"cells": ["worker", kubelet], "object": {"metadata": {"labels": labels}}}],
            }))
        })
        .await
    }

    #[tokio::test]
    async fn the_oldest_node_is_looked_for_among_all() {
        let api = nodes(["v1.34.1", "v1.32.9"]).await;
        let versions = one(&api.live(Meters::unwatched()), Query::Versions).await;
        let expected = Versions {
            server: Release::new(1, 34),
            oldest_node: Some(Release::new(1, 32)),
            architectures: ["amd64", "arm64"].map(Box::from).into(),
        };
        assert_eq!(versions, Answer::Versions(expected));

        let api = nodes(["v1.34.1", "who knows"]).await;
        let words = refusal(&one(&api.live(Meters::unwatched()), Query::Versions).await);
        assert!(words.contains("not the object"), "{words}");
    }

    #[tokio::test]
    async fn releases_are_not_asked_again_to_confirm_a_refusal() {
        let api = nodes(["v1.34.1", "v1.34.1"]).await;
        let live = api.live(Meters::unwatched());
        one(&live, Query::Versions).await;
        let mut facts = facts(&live);
        assert!(facts.get(&Query::Versions).is_some());
        assert!(!facts.confirm(), "nothing is refused for a release");
        assert!(facts.get(&Query::Versions).is_some());
        assert_eq!(api.asked().len(), 3, "the version and two pages");
    }

    #[tokio::test]
    async fn there_is_time_to_confirm_what_is_remembered_however_slow_the_rest_is() {
        let api = Api::start(|path| {
            if path.contains("/secrets/") {
                Reply::Silence
            } else {
                Reply::Object(json!({"metadata": {}}))
            }
        });
        let (api, tally) = (api.await, Tally::default());
        let live = live(&api, &tally);
        let namespace = Query::Namespace {
            name: "shop".into(),
        };
        one(&live, namespace.clone()).await;
        let now = Instant::now();
        let mut facts = live.facts(now, now + Duration::from_millis(400));
        assert!(facts.get(&namespace).is_some(), "it is remembered");
        facts.ask(vec![secret("slow")]).await;
        assert!(facts.confirm());
        facts.ask(vec![namespace.clone()]).await;
        let confirmed = facts.get(&namespace);
        assert!(
            matches!(confirmed.as_deref(), Some(Answer::Namespace(_))),
            "{confirmed:?}"
        );
    }

    #[tokio::test]
    async fn what_every_review_asks_waits_for_nobody_elses_questions() {
        let never = Arc::new(Semaphore::new(0));
        let api = Api::start(move |path| {
            if path.contains("/secrets/") {
                Reply::Held(Arc::clone(&never), checkout())
            } else {
                Reply::Object(json!({"metadata": {}}))
            }
        });
        let (api, tally) = (api.await, Tally::default());
        let live = live(&api, &tally);
        let mut flood = facts(&live);
        let questions = (0..2 * CONCURRENT_REQUESTS).map(|number| secret(&format!("s{number}")));
        let mut flood = tokio_test::task::spawn(flood.ask(questions.collect()));
        assert!(flood.poll().is_pending());
        while api.most_at_once() < CONCURRENT_REQUESTS {
            tokio::task::yield_now().await;
            assert!(flood.poll().is_pending());
        }
        let namespace = Query::Namespace {
            name: "shop".into(),
        };
        assert!(matches!(one(&live, namespace).await, Answer::Namespace(_)));
    }

    #[tokio::test]
    async fn bounds_the_requests_at_once() {
        let (api, tally) = (
            Api::start(|_| Reply::Object(checkout())).await,
            Tally::default(),
        );
        let mut facts = facts(&live(&api, &tally));
        facts
            .ask(
                (0..200)
                    .map(|number| secret(&format!("s{number}")))
                    .collect(),
            )
            .await;
        assert_eq!(api.asked().len(), 200);
        assert!(
            api.most_at_once() <= CONCURRENT_REQUESTS,
            "{}",
            api.most_at_once()
        );
        assert!(api.most_at_once() > 1, "one after the other");
    }

    #[tokio::test]
    async fn asks_no_more_than_a_review_may() {
        let (api, tally) = (
            Api::start(|_| Reply::Object(checkout())).await,
            Tally::default(),
        );
        let mut facts = facts(&live(&api, &tally));
        let questions: Vec<_> = (0..MAX_QUESTIONS + 2)
            .map(|number| secret(&format!("s{number}")))
            .collect();
        facts.ask(questions.clone()).await;
        assert_eq!(api.asked().len(), MAX_QUESTIONS);
        assert_eq!(
            *facts.get(&questions[MAX_QUESTIONS - 1]).unwrap(),
            keys(&["url"])
        );
        let beyond = facts.get(&questions[MAX_QUESTIONS]).unwrap();
        assert_eq!(
            refusal(&beyond),
            "not asked: one object may refer to 1024 others"
        );

        // What it is judged by is asked all the same.
        assert!(facts.get(&shop()).is_none());
        facts.ask(vec![shop()]).await;
        assert!(is_namespace(&facts));
    }

    #[tokio::test]
    async fn a_closed_review_has_an_answer_to_everything() {
        let (api, tally) = (Api::of(vec![]).await, Tally::default());
        let mut facts = facts(&live(&api, &tally));
        assert!(facts.get(&secret("checkout")).is_none());
        facts.close();
        assert_eq!(
            *facts.get(&secret("checkout")).unwrap(),
            Answer::Unknown(Unknown::Deadline)
        );
    }
}
