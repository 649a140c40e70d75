//! The state machine: from what self-checks tell of one entry to whether it may be `Fail`. Pure; time is passed in.
//!
//! ```text
//!          6 whole rounds in a row, over 30 s, with every ready replica among the answers
//!   none, Ignore ------------------------------------------------------------------------> Fail
//!                <------------------------------------------------------------------------
//!          for 60 s an API server could not call us, or did not reach one of the ready replicas
//! ```
//!
//! A round is whole when each API server had the entry refuse. Nothing but the API server's own word that it *could not
//! call us* leads back: not that it let something through, nor silence, nor another's refusal, nor that we had too
//! much to do, or whoever can make us busy could open the gate.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::check::Outcome;
use crate::policy::settings::FailurePolicy;
use crate::webhook::metrics::{Checked, Entry};

/// From the begin of one round to that of the next, where one takes no longer.
pub(super) const ROUND: Duration = Duration::from_secs(5);

/// Whole rounds in a row, at least, before an entry is `Fail`.
const ROUNDS: u32 = 6;

/// And for so long, at least.
const PROVED_FOR: Duration = Duration::from_secs(30);

/// How long somebody must have been unable to reach us before an entry is `Ignore` again: longer than a replica
/// takes to start, or a Service's endpoints to follow.
const BROKEN_FOR: Duration = Duration::from_secs(60);

/// What one round told.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// One check of each entry through each API server; none where it is not known which API servers there are.
    pub(super) checks: Vec<Check>,
    /// The replicas that the Service sends requests to; `Err` says why that is not known.
    pub(super) ready: Result<BTreeSet<String>, String>,
}

/// One check.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// The API server's address.
    pub(super) server: String,
    pub(super) entry: Entry,
    pub(super) outcome: Outcome,
}

/// All that is known of one entry.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    entry: Entry,
    opinion: Option<FailurePolicy>,
    /// The whole rounds since the last that was not.
    streak: Option<Streak>,
    /// Who does not reach us, or is not reached, since when.
    broken: BTreeMap<Party, Duration>,
    /// The doubt of the rounds since the last whole one, and how many had it.
    doubt: Option<(Option<Checked>, u32)>,
}

#[derive(Clone, Debug, Default)]
struct Streak {
    since: Duration,
    rounds: u32,
    replicas: BTreeSet<String>,
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Party {
    Server(String),
    Replica(String),
}

/// What is news to people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The entry may be `Fail`.
    Proved,
    /// It must not be any more.
    Broken(String),
    /// Rounds have not been whole for as long as a proof takes.
    Doubt(String),
}

// === impl Round ===

impl Round {
    /// Why it is not whole for this entry; `None` where it is.
    fn doubt(&self, entry: Entry) -> Option<(Option<Checked>, String)> {
        let mut checks = self.of(entry).peekable();
        if checks.peek().is_none() {
            return Some((
                None,
                "it is not known which API servers there are".to_owned(),
            ));
        }
        let mut failed = checks.filter_map(|check| {
            let why = check.outcome.doubt()?;
            Some((
                Some(check.outcome.label()),
                format!("through {}: {why}", check.server),
            ))
        });
        let unready = || {
            let why = self.ready.as_ref().err()?;
            Some((
                None,
                format!("it is not known which replicas there are: {why}"),
            ))
        };
        failed.next().or_else(unready)
    }

    fn of(&self, entry: Entry) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.entry == entry)
    }

    fn answered_by(&self, entry: Entry) -> impl Iterator<Item = &str> {
        self.of(entry).filter_map(|check| check.outcome.replica())
    }
}

// === impl Evidence ===

impl Evidence {
    pub(super) fn new(entry: Entry) -> Self {
        Self {
            entry,
            opinion: None,
            streak: None,
            broken: BTreeMap::new(),
            doubt: None,
        }
    }

    pub(super) fn entry(&self) -> Entry {
        self.entry
    }

    /// `None` while nothing speaks for either: whoever asked before may have known better.
    pub(super) fn opinion(&self) -> Option<FailurePolicy> {
        self.opinion
    }

    /// A pod that must have a gate is never to start without one: its entries stay `Fail` while we are dead.
    fn may_fall(&self) -> bool {
        self.entry == Entry::Validate
    }

    /// Takes a round into account that ended at `now`, a time since any fixed moment.
    pub(super) fn add(&mut self, now: Duration, round: &Round) -> Option<Change> {
        let broken = self.add_breakage(now, round);
        let Some((label, why)) = round.doubt(self.entry) else {
            self.doubt = None;
            return self.add_whole(now, round).or(broken);
        };
        self.streak = None;
        let doubt = self.add_doubt(label, why);
        broken.or(doubt)
    }

    fn add_whole(&mut self, now: Duration, round: &Round) -> Option<Change> {
        let streak = self.streak.get_or_insert_with(|| Streak {
            since: now,
            ..Streak::default()
        });
        streak.rounds = streak.rounds.saturating_add(1);
        let answers = round.answered_by(self.entry).map(str::to_owned);
        streak.replicas.extend(answers);
        let covers = |ready: &BTreeSet<String>| ready.is_subset(&streak.replicas);
        let is_proved = streak.rounds >= ROUNDS
            && now.saturating_sub(streak.since) >= PROVED_FOR
            && round.ready.as_ref().is_ok_and(covers);
        (is_proved && self.opinion.replace(FailurePolicy::Fail) != Some(FailurePolicy::Fail))
            .then_some(Change::Proved)
    }

    /// An end of patience needs the API server's word at its begin and at its end: one bad moment and then silence
    /// is none.
    fn add_breakage(&mut self, now: Duration, round: &Round) -> Option<Change> {
        self.forget(round);
        let unreachable = || {
            round
                .of(self.entry)
                .filter_map(|check| match &check.outcome {
                    Outcome::Unreachable(why) => Some((&check.server, why)),
                    Outcome::Proved(_) | Outcome::LetThrough(_) | Outcome::Unknown(_) => None,
                })
        };
        let (_, why) = unreachable().next()?;
        let answered: BTreeSet<_> = round.answered_by(self.entry).collect();
        let silent = round.ready.iter().flatten();
        let silent = silent.filter(|replica| !answered.contains(replica.as_str()));
        let silent = silent.cloned().map(Party::Replica);
        let parties = unreachable().map(|(server, _)| Party::Server(server.clone()));
        let mut given_up = None;
        for party in parties.chain(silent) {
            let since = *self.broken.entry(party.clone()).or_insert(now);
            if now.saturating_sub(since) >= BROKEN_FOR {
                given_up.get_or_insert(party);
            }
        }
        let change = Change::Broken(match given_up? {
            Party::Server(server) => format!("through {server}: {why}"),
            Party::Replica(replica) => format!("replica {replica} never answered; {why}"),
        });
        let falls = self.may_fall() && self.opinion != Some(FailurePolicy::Ignore);
        falls.then(|| {
            self.opinion = Some(FailurePolicy::Ignore);
            change
        })
    }

    /// Ends the clocks of those who got through, and of those who are gone.
    fn forget(&mut self, round: &Round) {
        let servers: BTreeMap<_, _> = round
            .of(self.entry)
            .map(|check| (&check.server, check.outcome.replica().is_some()))
            .collect();
        let answered: BTreeSet<_> = round.answered_by(self.entry).collect();
        self.broken.retain(|party, _| match party {
            Party::Server(server) => servers.get(server) == Some(&false),
            Party::Replica(replica) => {
                let ready = round.ready.as_ref();
                !answered.contains(replica.as_str())
                    && ready.map_or(true, |ready| ready.contains(replica))
            }
        });
    }

    fn add_doubt(&mut self, label: Option<Checked>, why: String) -> Option<Change> {
        let rounds = match self.doubt {
            Some((same, rounds)) if same == label => rounds.saturating_add(1),
            _ => 1,
        };
        self.doubt = Some((label, rounds));
        (rounds == ROUNDS).then_some(Change::Doubt(why))
    }
}

// === impl Change ===

impl Change {
    /// Says it to whoever reads the log.
    pub(super) fn tell(&self, entry: Entry) {
        let entry = entry.name();
        match self {
            Self::Proved => tracing::info!(entry, "proved: every API server reaches every replica"),
            Self::Broken(why) => tracing::warn!(
                entry,
                why,
                "proved wrong for {BROKEN_FOR:?}: failurePolicy goes back to Ignore"
            ),
            Self::Doubt(why) => {
                tracing::warn!(entry, why, "not proved: failurePolicy stays as it is");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use FailurePolicy::{Fail, Ignore};

    const A: &str = "https://10.0.0.1:6443/";
    const B: &str = "https://10.0.0.2:6443/";

    /// A machine, and a clock that goes by one round at a time.
    struct Run {
        evidence: Evidence,
        now: Duration,
        ready: Result<BTreeSet<String>, String>,
    }

    fn proved(replica: &str) -> Outcome {
        Outcome::Proved(replica.to_owned())
    }

    fn unreachable() -> Outcome {
        Outcome::Unreachable("x509".to_owned())
    }

    fn let_through() -> Outcome {
        Outcome::LetThrough("exceeded quota".to_owned())
    }

    fn unknown() -> Outcome {
        Outcome::Unknown("forbidden".to_owned())
    }

    impl Run {
        fn new(ready: &[&str]) -> Self {
            Self::of(Entry::Validate, ready)
        }

        fn of(entry: Entry, ready: &[&str]) -> Self {
            Self {
                evidence: Evidence::new(entry),
                now: Duration::ZERO,
                ready: Ok(ready.iter().map(|name| (*name).to_owned()).collect()),
            }
        }

        /// So many rounds through these API servers; the last change that they made.
        fn rounds(&mut self, count: u32, outcomes: &[(&str, Outcome)]) -> Option<Change> {
            let check = |(server, outcome): &(&str, Outcome)| Check {
                server: (*server).to_owned(),
                entry: self.evidence.entry(),
                outcome: outcome.clone(),
            };
            let round = Round {
                checks: outcomes.iter().map(check).collect(),
                ready: self.ready.clone(),
            };
            let mut last = None;
            for _ in 0..count {
                self.now += ROUND;
                last = self.evidence.add(self.now, &round).or(last);
            }
            last
        }

        fn opinion(&self) -> Option<FailurePolicy> {
            self.evidence.opinion()
        }
    }

    #[test]
    fn needs_so_many_whole_rounds_in_a_row_over_so_long() {
        let mut run = Run::new(&["a"]);
        assert_eq!(run.rounds(6, &[(A, proved("a"))]), None, "25 s");
        assert_eq!(run.rounds(1, &[(A, proved("a"))]), Some(Change::Proved));
        assert_eq!(run.opinion(), Some(Fail));
        assert_eq!(run.rounds(9, &[(A, proved("a"))]), None, "said once");

        // However slow rounds are, it takes six.
        let mut run = Run::new(&["a"]);
        for _ in 0..5 {
            run.now += Duration::from_secs(20);
            assert_eq!(run.rounds(1, &[(A, proved("a"))]), None);
        }
        assert_eq!(run.rounds(1, &[(A, proved("a"))]), Some(Change::Proved));
    }

    #[test]
    fn anything_else_in_between_begins_the_row_anew() {
        for other in [unreachable(), let_through(), unknown()] {
            let mut run = Run::new(&["a"]);
            run.rounds(6, &[(A, proved("a"))]);
            run.rounds(1, &[(A, other.clone())]);
            assert_eq!(run.rounds(6, &[(A, proved("a"))]), None, "{other:?}");
            assert_eq!(run.opinion(), None);
            run.rounds(1, &[(A, proved("a"))]);
            assert_eq!(run.opinion(), Some(Fail));
        }
    }

    #[test]
    fn no_other_answer_proves_anything_however_often() {
        for other in [let_through(), unknown()] {
            let mut run = Run::new(&["a"]);
            run.rounds(100, &[(A, other)]);
            assert_eq!(run.opinion(), None);
        }
        let mut run = Run::new(&["a"]);
        run.rounds(100, &[]);
        assert_eq!(run.opinion(), None, "no API server is known");
        run.ready = Err("forbidden".to_owned());
        run.rounds(100, &[(A, proved("a"))]);
        assert_eq!(run.opinion(), None, "the replicas are not known");
        run.ready = Ok(BTreeSet::new());
        run.rounds(7, &[(A, proved("a"))]);
        assert_eq!(
            run.opinion(),
            Some(Fail),
            "outside a cluster there are none"
        );
    }

    #[test]
    fn every_ready_replica_must_have_answered() {
        let mut run = Run::new(&["a", "b"]);
        run.rounds(20, &[(A, proved("a"))]);
        assert_eq!(run.opinion(), None, "b may serve another certificate");
        run.rounds(1, &[(A, proved("b"))]);
        assert_eq!(run.opinion(), Some(Fail));
    }

    #[test]
    fn every_api_server_must_have_proved_it() {
        let mut run = Run::new(&["a"]);
        run.rounds(20, &[(A, proved("a")), (B, unreachable())]);
        assert_ne!(run.opinion(), Some(Fail));
        run.rounds(7, &[(A, proved("a")), (B, proved("a"))]);
        assert_eq!(run.opinion(), Some(Fail));
        run.rounds(12, &[(A, proved("a")), (B, unreachable())]);
        assert_eq!(run.opinion(), Some(Fail), "55 s");
        let change = run.rounds(1, &[(A, proved("a")), (B, unreachable())]);
        let Some(Change::Broken(why)) = change else {
            panic!("{change:?}")
        };
        assert!(why.contains(B), "{why}");
        assert_eq!(run.opinion(), Some(Ignore), "one of two is enough");
    }

    #[test]
    fn a_replica_that_is_never_reached_is_enough_to_fall_back() {
        let mut run = Run::new(&["a", "b"]);
        run.rounds(7, &[(A, proved("a")), (B, proved("b"))]);
        assert_eq!(run.opinion(), Some(Fail));
        // b serves another certificate: every other call fails, and neither API server is cut off.
        for _ in 0..6 {
            run.rounds(1, &[(A, proved("a")), (B, unreachable())]);
            run.rounds(1, &[(A, unreachable()), (B, proved("a"))]);
        }
        assert_eq!(run.opinion(), Some(Fail), "55 s");
        run.rounds(1, &[(A, proved("a")), (B, unreachable())]);
        assert_eq!(run.opinion(), Some(Ignore));
        // It is taken out of the Service.
        run.ready = Ok(["a".to_owned()].into());
        run.rounds(7, &[(A, proved("a")), (B, proved("a"))]);
        assert_eq!(run.opinion(), Some(Fail));
    }

    #[test]
    fn one_success_in_time_keeps_it() {
        let mut run = Run::new(&["a"]);
        run.rounds(7, &[(A, proved("a"))]);
        for _ in 0..10 {
            run.rounds(12, &[(A, unreachable())]);
            run.rounds(1, &[(A, proved("a"))]);
        }
        assert_eq!(run.opinion(), Some(Fail));
    }

    #[test]
    fn silence_load_and_others_never_lead_back() {
        let mut run = Run::new(&["a"]);
        run.rounds(7, &[(A, proved("a"))]);
        for other in [let_through(), unknown()] {
            run.rounds(100, &[(A, other)]);
        }
        run.rounds(100, &[]);
        assert_eq!(run.opinion(), Some(Fail));
        // One bad moment, and then nothing is heard any more.
        run.rounds(1, &[(A, unreachable())]);
        run.rounds(100, &[(A, unknown())]);
        assert_eq!(run.opinion(), Some(Fail));
    }

    #[test]
    fn what_must_have_a_gate_waits_however_long_we_are_dead() {
        for entry in [Entry::Inject, Entry::InjectByNamespace] {
            let mut run = Run::of(entry, &["a"]);
            run.rounds(7, &[(A, proved("a"))]);
            run.rounds(1000, &[(A, unreachable())]);
            assert_eq!(run.opinion(), Some(Fail));
        }
    }

    #[test]
    fn who_finds_it_broken_takes_back_what_another_has_proved() {
        let mut run = Run::new(&["a"]);
        run.rounds(12, &[(A, unreachable())]);
        assert_eq!(run.opinion(), None, "another's Fail stays for now");
        run.rounds(1, &[(A, unreachable())]);
        assert_eq!(run.opinion(), Some(Ignore));
    }

    #[test]
    fn a_doubt_is_told_once_while_it_is_the_same() {
        let mut run = Run::new(&["a"]);
        assert_eq!(run.rounds(5, &[(A, unknown())]), None);
        let doubt = run.rounds(1, &[(A, unknown())]);
        let Some(Change::Doubt(why)) = doubt else {
            panic!("{doubt:?}")
        };
        assert_eq!(why, format!("through {A}: forbidden"));
        assert_eq!(run.rounds(50, &[(A, unknown())]), None);
        assert!(run.rounds(6, &[(A, let_through())]).is_some());
        run.rounds(1, &[(A, proved("a"))]);
        assert!(run.rounds(6, &[(A, let_through())]).is_some());
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            4 => prop_oneof![Just("a"), Just("b")].prop_map(proved),
            1 => Just(unreachable()),
            1 => Just(let_through()),
            1 => Just(unknown()),
        ]
    }

    proptest! {
        /// Whatever happens: `Fail` only right after enough whole rounds, and back only with two words of the API server
        /// that lie a minute apart, with no proof by it in between.
        #[test]
        fn no_walk_leads_to_fail_without_proof_nor_back_without_breakage(
            walk in prop::collection::vec((outcome(), outcome()), 0..200),
        ) {
            let mut run = Run::new(&["a", "b"]);
            let mut history: Vec<(Duration, [Outcome; 2])> = Vec::new();
            for (first, second) in walk {
                let before = run.opinion();
                run.rounds(1, &[(A, first.clone()), (B, second.clone())]);
                history.push((run.now, [first, second]));
                let now = run.opinion();
                let whole = |round: &&(Duration, [Outcome; 2])| {
                    round.1.iter().all(|outcome| outcome.replica().is_some())
                };
                if now != before && now == Some(Fail) {
                    let row: Vec<_> = history.iter().rev().take_while(whole).collect();
                    prop_assert!(row.len() >= 7, "{} rounds", row.len());
                    for replica in ["a", "b"] {
                        let answers = |outcome: &Outcome| outcome.replica() == Some(replica);
                        let is_there = row.iter().any(|(_, round)| round.iter().any(answers));
                        prop_assert!(is_there, "{} never answered", replica);
                    }
                }
                if now != before && now == Some(Ignore) {
                    let words: Vec<_> = history
                        .iter()
                        .filter(|(_, round)| round.contains(&unreachable()))
                        .map(|(at, _)| *at)
                        .collect();
                    prop_assert_eq!(words.last(), Some(&run.now));
                    let earlier = words.iter().any(|at| *at + BROKEN_FOR <= run.now);
                    prop_assert!(earlier);
                }
                prop_assert!(before.is_none() || now.is_some(), "an opinion is never lost");
            }
        }
    }
}
