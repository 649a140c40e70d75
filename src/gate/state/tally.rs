//! One check's results in a row: whether it counts as passing or failing.

use std::time::Duration;

use super::Cause;
use crate::contract::{Check, Scope};

/// What the machine knows of one check.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    name: String,
    scope: Scope,
    success_threshold: u32,
    failure_threshold: u32,
    standing: Standing,
    /// Equal results in a row.
    streak: u32,
    /// Why the last run failed; `None` when it passed.
    failure: Option<String>,
    /// It has passed since the gate opened, or stood so when it did. Only such a check can close
    /// the gate again: one that failed when a policy opened the gate says nothing new.
    trusted: bool,
}

/// What a check's results amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Too few results.
    Unknown,
    /// As many passes in a row as its success threshold asks for, and not as many failures since
    /// as its failure threshold does.
    Passing,
    /// The reverse.
    Failing,
}

/// Passes in a row that re-open a gate. Two, so that a check that fails every other time does not
/// make the gate flap.
const REOPENING_STREAK: u32 = 2;

// === impl Tally ===

impl Tally {
    pub(super) fn new(check: &Check) -> Self {
        Self {
            name: check.name.clone(),
            scope: check.scope,
            success_threshold: check.success_threshold,
            failure_threshold: check.failure_threshold,
            standing: Standing::Unknown,
            streak: 0,
            failure: None,
            trusted: false,
        }
    }

    /// Forgets all results: they were those of an app that is gone.
    pub(super) fn reset(&mut self) {
        self.standing = Standing::Unknown;
        self.streak = 0;
        self.failure = None;
        self.trusted = false;
    }

    pub(super) fn count(&mut self, result: Result<(), String>) {
        let failure = result.err();
        let repeated = self.streak > 0 && failure.is_some() == self.failure.is_some();
        self.streak = if repeated {
            self.streak.saturating_add(1)
        } else {
            1
        };
        let (threshold, standing) = match failure {
            None => (self.success_threshold, Standing::Passing),
            Some(_) => (self.failure_threshold, Standing::Failing),
        };
        // Before the first opening a single failure is known to be one: there is nothing to blink.
        if self.streak >= threshold || (self.standing == Standing::Unknown && failure.is_some()) {
            self.standing = standing;
        }
        self.trusted |= self.standing == Standing::Passing;
        self.failure = failure;
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    pub(super) fn is_always(&self) -> bool {
        self.scope == Scope::Always
    }

    pub(super) fn on_opening(&mut self) {
        self.trusted = self.standing == Standing::Passing;
    }

    /// Whether its failing closes an open gate.
    pub(super) fn recloses(&self) -> bool {
        self.is_always() && self.trusted && self.standing == Standing::Failing
    }

    /// Whether it lets a gate re-open in front of an app that was found well before.
    pub(super) fn lets_reopen(&self) -> bool {
        !self.is_always() || (self.standing == Standing::Passing && self.streak >= REOPENING_STREAK)
    }

    /// Whether it lets a restarted gate open in front of an app that did not restart.
    pub(super) fn lets_resume(&self) -> bool {
        !self.is_always() || (self.streak > 0 && self.failure.is_none())
    }
}

/// A clock that can stand still.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    elapsed: Duration,
}

// === impl Clock ===

impl Clock {
    pub(super) fn run(&mut self, for_: Duration) {
        self.elapsed = self.elapsed.saturating_add(for_);
    }

    pub(super) fn left(self, of: Duration) -> Duration {
        of.saturating_sub(self.elapsed)
    }
}

/// The first of several failing checks, and how many more there are.
pub(super) fn describe<'a>(mut failing: impl Iterator<Item = &'a Tally>) -> String {
    let Some(first) = failing.next() else {
        return String::new();
    };
    let why = first
        .failure
        .as_deref()
        .unwrap_or("has not passed often enough yet");
    let more = match failing.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("check {}: {why}{more}", first.name)
}

/// What keeps the checks as a whole from passing.
pub(super) fn why_not_passing(tallies: &[Tally]) -> Cause {
    let standing = |wanted| tallies.iter().filter(move |tally| tally.standing == wanted);
    if standing(Standing::Failing).next().is_some() {
        return Cause::ChecksFail(describe(standing(Standing::Failing)));
    }
    let names: Vec<_> = standing(Standing::Unknown)
        .map(|tally| tally.name.as_str())
        .collect();
    Cause::ChecksPending(names.join(", "))
}
