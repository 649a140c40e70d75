//! The gatekeeper's books: what status and metrics show.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use crate::{
    contract::{Scope, Settings},
    gate::{
        check::Report,
        state::{Cause, Machine, Outcome, Passage, Standing, State},
        status::{
            CheckStatus, Counts, HISTORY, RampStatus, RunStatus, Status, TrafficStatus, Transition,
            WarmupStatus,
        },
        traffic::Traffic,
        warmup::{Numbers, Verdict},
    },
};

/// The books.
#[derive(Debug)]
pub(super) struct Board {
    checks: Vec<CheckStatus>,
    warmup: Option<WarmupStatus>,
    transitions: VecDeque<Transition>,
    counts: Counts,
    since: SystemTime,
    /// When the state was last entered, since the gate's start.
    entered: Duration,
    /// Requests of the running attempt that are counted already.
    counted: (u64, u64),
}

// === impl Board ===

impl Board {
    pub(super) fn new(settings: &Settings) -> Self {
        let checks = settings.checks().iter().map(|check| CheckStatus {
            name: check.name.clone(),
            kind: check.kind.name(),
            scope: match check.scope {
                Scope::Startup => "startup",
                Scope::Always => "always",
            },
            standing: "unknown",
            last: None,
            runs: 0,
            failures: 0,
        });
        let target = |warmup: &crate::contract::Warmup| {
            let target = warmup.target.as_ref()?;
            u64::try_from(target.p95.as_micros()).ok()
        };
        let started = SystemTime::now();
        Self {
            checks: checks.collect(),
            warmup: settings.warmup().map(|warmup| WarmupStatus {
                target_p95_us: target(warmup),
                ..WarmupStatus::default()
            }),
            transitions: VecDeque::new(),
            counts: Counts {
                started: Some(started),
                ..Counts::default()
            },
            since: started,
            entered: Duration::ZERO,
            counted: (0, 0),
        }
    }

    pub(super) fn ran(&mut self, report: &Report) {
        let Some(check) = self.checks.get_mut(report.check) else {
            return;
        };
        check.runs += 1;
        check.failures += u64::from(report.result.is_err());
        let millis = report.took.as_millis();
        check.last = Some(RunStatus {
            passed: report.result.is_ok(),
            problem: report
                .result
                .as_ref()
                .err()
                .map(|why| format!("{why} after {millis} ms")),
            took_ms: u64::try_from(millis).unwrap_or(u64::MAX),
            at: SystemTime::now()
                .checked_sub(report.began.elapsed())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            took: report.took,
        });
    }

    pub(super) fn attempt_began(&mut self, attempt: u32) {
        self.counted = (0, 0);
        if let Some(warmup) = &mut self.warmup {
            warmup.attempts = attempt;
            warmup.verdict = Some("running");
            warmup.numbers = Numbers::default();
        }
    }

    pub(super) fn attempt_goes_on(&mut self, numbers: Numbers) {
        let passed = numbers.requests.saturating_sub(numbers.errors);
        let (before_passed, before_failed) = self.counted;
        self.counts.warmup_passed += passed.saturating_sub(before_passed);
        self.counts.warmup_failed += numbers.errors.saturating_sub(before_failed);
        self.counted = (passed, numbers.errors);
        if let Some(warmup) = &mut self.warmup {
            warmup.numbers = numbers;
        }
    }

    pub(super) fn attempt_ended(&mut self, verdict: &Verdict) {
        self.attempt_goes_on(verdict.numbers.clone());
        if let Some(warmup) = &mut self.warmup {
            warmup.verdict = Some(match verdict.outcome {
                Outcome::Warm => "warm",
                Outcome::Plateau => "plateau",
                Outcome::NotWarm(_) => "not warm",
            });
        }
    }

    pub(super) fn attempt_broken_off(&mut self) {
        if let Some(warmup) = &mut self.warmup
            && warmup.verdict == Some("running")
        {
            warmup.verdict = Some("broken off");
        }
    }

    pub(super) fn entered(&mut self, (from, to): (State, State), cause: &Cause, now: Duration) {
        let at = SystemTime::now();
        if let Some(spent) = self.counts.spent.get_mut(place(from)) {
            *spent += now.saturating_sub(self.entered);
        }
        self.entered = now;
        self.since = at;
        let key = (place(from), place(to), cause.label());
        *self.counts.transitions.entry(key).or_default() += 1;
        let opens = matches!(to, State::Ramping | State::Open);
        if opens && !matches!(from, State::Ramping | State::Open) {
            self.counts.opened = Some(at);
            self.counts.time_to_open = self.counts.time_to_open.or(Some(now));
        }
        if self.transitions.len() == HISTORY {
            self.transitions.pop_front();
        }
        self.transitions.push_back(Transition {
            at,
            from,
            to,
            reason: cause.to_string(),
        });
    }

    pub(super) fn drained(&mut self, now: Duration) {
        self.counts.drain_took = Some(now.saturating_sub(self.entered));
    }

    pub(super) fn status(&self, machine: &Machine, traffic: &Traffic, now: Duration) -> Status {
        let mut checks = self.checks.clone();
        for (check, standing) in checks.iter_mut().zip(machine.standings()) {
            check.standing = match standing {
                Standing::Unknown => "unknown",
                Standing::Passing => "passing",
                Standing::Failing => "failing",
            };
        }
        let mut counts = self.counts.clone();
        if let Some(spent) = counts.spent.get_mut(place(machine.state())) {
            *spent += now.saturating_sub(self.entered);
        }
        Status {
            at: SystemTime::now(),
            state: machine.state(),
            ready: machine.is_ready(),
            cause: machine.cause().label(),
            reason: machine.cause().to_string(),
            since: self.since,
            checks,
            warmup: self.warmup.clone(),
            ramp: ramp(machine),
            traffic: TrafficStatus {
                connections: traffic.connections.value(),
                in_flight: traffic.in_flight.value(),
                streams: traffic.streams.value(),
                held: traffic.held.value(),
                held_bytes: traffic.held_bytes.value(),
            },
            transitions: self.transitions.clone(),
            counts,
        }
    }
}

fn ramp(machine: &Machine) -> Option<RampStatus> {
    let (step, steps, is_held) = machine.ramp_step()?;
    let Passage::Ramp { limit, .. } = machine.passage() else {
        return None;
    };
    Some(RampStatus {
        step,
        steps,
        limit,
        is_held,
    })
}

fn place(state: State) -> usize {
    State::ALL
        .iter()
        .position(|one| *one == state)
        .unwrap_or_default()
}
