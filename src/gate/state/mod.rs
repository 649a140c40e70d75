//! The state machine of the gate: what happened in, what to do out. Pure: time is passed in.
//!
//! ```text
//!            app accepts      checks pass        warm           ramp over
//!   closed -------------> checking -----> warming -----> ramping -----> open
//!      ^------------------'  ^  ^---------'                 |            |
//!       app refuses          |   a check fails              |            |
//!                            | another app                  v            |
//!                            +------------------------- reclosed <-------'
//!                                                           |   check fails, app gone
//!   any ---- drain ----> draining                           +--> ramping: the same app is well
//! ```

use std::time::Duration;

use crate::contract::{
    ChecksFailed, Drain, NotWarm, OnFull, Policy, Ramp as RampSettings, Settings,
};

// What comes in and what goes out.
mod event;

mod effect;

mod cause;

// What it remembers.
mod ramp;

mod tally;

// What follows from what.
mod transition;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod walks;

pub use self::{
    cause::Cause,
    effect::{Effect, Passage, State},
    event::{App, Event, Life, Order, Outcome},
    tally::Standing,
};
use self::{
    ramp::Ramp,
    tally::{Clock, Tally},
};

/// The gate's state, and all it must know to find the next one. Times are since the gate's start.
#[derive(Debug)]
pub struct Machine {
    rules: Rules,
    phase: Phase,
    cause: Cause,
    /// When the phase began.
    since: Duration,
    /// When the machine last heard of anything.
    now: Duration,
    app: App,
    tallies: Vec<Tally>,
    /// Results of runs that began earlier are about an app that is gone.
    counting_since: Duration,
    /// The app that checks and warm-up are about.
    subject: Option<Life>,
    /// The app that the gate last opened for.
    fit: Option<Life>,
    /// Runs while the app's port accepts and checks do not pass.
    failing: Clock,
    /// Runs while all checks pass and the app is not warm.
    cold: Clock,
    /// Since when a stopping app container's hook waits.
    hook: Option<Duration>,
    /// SIGTERM has come: exit as soon as the drain is done.
    exit_when_drained: bool,
    /// Attempts at warming up: since the gate started, and since it last opened.
    attempts: u32,
    tries: u32,
    passage: Passage,
    effects: Vec<Effect>,
}

#[derive(Debug)]
struct Rules {
    /// The concurrency of the warm-up, if there is one.
    warmup: Option<u32>,
    ramp: RampSettings,
    drain: Drain,
    checks_failed: ChecksFailed,
    not_warm: NotWarm,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Checking,
    Warming(Attempt),
    Ramping { ramp: Ramp, on_full: OnFull },
    Open,
    Reclosed(Closing),
    Draining(Draining),
}

#[derive(Debug)]
enum Attempt {
    /// Under way.
    Running(u32),
    /// It has ended like this; the machine has yet to act on it.
    Ended(Outcome),
    /// The next one begins at this time.
    Next(Duration),
}

#[derive(Debug)]
struct Closing {
    /// The app's container is being stopped: the app that still answers is on its way out. If it
    /// answers still at this time it was not, and is looked at as if it were another.
    leaving_until: Option<Duration>,
}

#[derive(Debug)]
struct Draining {
    order: Order,
    /// When it is done, come what may.
    deadline: Duration,
    done: bool,
}

// === impl Machine ===

impl Machine {
    /// A closed gate. `resumed` when the app that now listens is the one that the gate was open
    /// for before it was restarted itself; [`Life`] 0 is then that app.
    pub fn new(settings: &Settings, resumed: bool) -> Self {
        Self {
            rules: Rules {
                warmup: settings.warmup().map(|warmup| warmup.concurrency),
                ramp: settings.ramp().clone(),
                drain: settings.drain().clone(),
                checks_failed: settings.checks_failed().clone(),
                not_warm: settings.not_warm().clone(),
            },
            phase: Phase::Closed,
            cause: Cause::Starting,
            since: Duration::ZERO,
            now: Duration::ZERO,
            app: App::Unknown,
            tallies: settings.checks().iter().map(Tally::new).collect(),
            counting_since: Duration::ZERO,
            subject: None,
            fit: resumed.then_some(Life(0)),
            failing: Clock::default(),
            cold: Clock::default(),
            hook: None,
            exit_when_drained: false,
            attempts: 0,
            tries: 0,
            passage: Passage::Hold,
            effects: Vec::new(),
        }
    }

    /// Takes note of `event` and says what is to be done, in this order.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.pass_time(now);
        self.note(event);
        // Each step can make the next one possible: checks that pass already need no second event.
        while self.step() {}
        self.release_hooks();
        self.set_passage();
        std::mem::take(&mut self.effects)
    }

    /// The state.
    pub fn state(&self) -> State {
        self.phase.state()
    }

    /// Why it is in this state.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// When the state began.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Whether the pod should get traffic: from the ramp on, since without traffic there is none to
    /// ramp, and while a deleted pod still accepts.
    pub fn is_ready(&self) -> bool {
        match &self.phase {
            Phase::Ramping { .. } | Phase::Open => true,
            Phase::Draining(drain) => {
                drain.order == Order::PodDeleted
                    && !drain.done
                    && matches!(self.passage, Passage::Draining(_))
            }
            Phase::Closed | Phase::Checking | Phase::Warming(_) | Phase::Reclosed(_) => false,
        }
    }

    /// What may happen to traffic.
    pub fn passage(&self) -> Passage {
        self.passage
    }

    /// Whether a drain is done.
    pub fn is_drained(&self) -> bool {
        matches!(&self.phase, Phase::Draining(drain) if drain.done)
    }

    /// What each check's results amount to, in the order of the settings.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.tallies.iter().map(Tally::standing)
    }

    /// The ramp's step of how many, and whether its latency guard holds it.
    pub fn ramp_step(&self) -> Option<(usize, usize, bool)> {
        let Phase::Ramping { ramp, .. } = &self.phase else {
            return None;
        };
        let (step, of) = ramp.step();
        Some((step, of, ramp.is_held()))
    }

    /// When the passing of time alone may next change something.
    pub fn wakes_at(&self) -> Option<Duration> {
        let phase = match &self.phase {
            Phase::Checking if self.checks_clock_matters() => {
                Some(self.now + self.failing.left(self.rules.checks_failed.after))
            }
            Phase::Warming(attempt) => {
                let policy = (self.rules.not_warm.then != Policy::Closed)
                    .then(|| self.now + self.cold.left(self.rules.not_warm.after));
                let next = match attempt {
                    Attempt::Next(at) => Some(*at),
                    Attempt::Running(_) | Attempt::Ended(_) => None,
                };
                policy.into_iter().chain(next).min()
            }
            Phase::Ramping { ramp, .. } => Some(ramp.due()),
            Phase::Reclosed(closing) => closing.leaving_until,
            Phase::Draining(drain) => (!drain.done).then_some(drain.deadline),
            Phase::Closed | Phase::Checking | Phase::Open => None,
        };
        let hook = self.hook.map(|since| since + self.rules.drain.hook_wait);
        phase.into_iter().chain(hook).min()
    }

    /// The two clocks run only in the state whose patience they measure.
    fn pass_time(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        match self.phase {
            Phase::Checking => self.failing.run(passed),
            Phase::Warming(_) => self.cold.run(passed),
            Phase::Closed
            | Phase::Ramping { .. }
            | Phase::Open
            | Phase::Reclosed(_)
            | Phase::Draining(_) => {}
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::App(app) => self.app = app,
            Event::Checked {
                check,
                began,
                result,
            } => {
                if began >= self.counting_since
                    && let Some(tally) = self.tallies.get_mut(check)
                {
                    tally.count(result);
                }
            }
            Event::WarmedUp { attempt, outcome } => {
                if let Phase::Warming(current) = &mut self.phase
                    && matches!(current, Attempt::Running(running) if *running == attempt)
                {
                    *current = Attempt::Ended(outcome);
                }
            }
            Event::RampLatency(p95) => {
                if let Phase::Ramping { ramp, .. } = &mut self.phase {
                    ramp.hear(p95);
                }
            }
            Event::HookWaits(true) => self.hook = self.hook.or(Some(self.now)),
            Event::HookWaits(false) => self.hook = None,
            Event::Drain(order) => self.order_drain(order),
            Event::Empty => {
                if let Phase::Draining(drain) = &mut self.phase {
                    drain.deadline = self.now;
                }
            }
        }
    }

    /// A hook that has waited for as long as one of a deleted pod may was that of a restart.
    fn hook_is_due(&self) -> bool {
        self.hook
            .is_some_and(|since| self.now >= since + self.rules.drain.hook_wait)
    }

    fn release_hooks(&mut self) {
        let drained = self.is_drained();
        let restart = !matches!(self.phase, Phase::Draining(_)) && self.hook_is_due();
        if self.hook.is_some() && (drained || restart) {
            self.hook = None;
            self.effects.push(Effect::ReleaseHooks);
        }
    }

    fn set_passage(&mut self) {
        let passage = match &self.phase {
            Phase::Closed | Phase::Checking | Phase::Warming(_) | Phase::Reclosed(_) => {
                Passage::Hold
            }
            Phase::Ramping { ramp, on_full } => Passage::Ramp {
                limit: ramp.limit().unwrap_or(u32::MAX),
                on_full: *on_full,
            },
            Phase::Open => Passage::Open,
            // Set when it began; the data path counts its clocks down by itself.
            Phase::Draining(_) => self.passage,
        };
        if passage != self.passage {
            self.passage = passage;
            self.effects.push(Effect::Pass(passage));
        }
    }

    fn begin_anew(&mut self) {
        self.fit = None;
        self.counting_since = self.now;
        for tally in &mut self.tallies {
            tally.reset();
        }
        self.effects.push(Effect::CheckNow);
    }

    fn enter(&mut self, phase: Phase, cause: Cause) {
        self.effects.push(Effect::Enter {
            from: self.phase.state(),
            to: phase.state(),
            cause: cause.clone(),
        });
        self.phase = phase;
        self.cause = cause;
        self.since = self.now;
    }

    fn checks_clock_matters(&self) -> bool {
        self.rules.checks_failed.then != Policy::Closed
    }
}

// === impl Phase ===

impl Phase {
    fn state(&self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Checking => State::Checking,
            Self::Warming(_) => State::Warming,
            Self::Ramping { .. } => State::Ramping,
            Self::Open => State::Open,
            Self::Reclosed(_) => State::Reclosed,
            Self::Draining(_) => State::Draining,
        }
    }
}
