//! The transitions, one heading each.

use std::time::Duration;

use crate::contract::{OnFull, Policy, RampWhen};

use super::{
    App, Attempt, Cause, Closing, Draining, Effect, Life, Machine, Order, Outcome, Passage, Phase,
    Standing,
    ramp::Ramp,
    tally::{Clock, Tally, describe, why_not_passing},
};

/// How long the gate waits for a stopping app to go: the default grace period of a pod.
const LEAVING: Duration = Duration::from_secs(30);

/// The ramp at re-opening: the app is known to be well, but what was held must not hit it at once.
const SHORT_RAMP: Duration = Duration::from_secs(2);

/// Pauses between attempts at warming up: doubled each time up to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

// === impl Machine ===

impl Machine {
    /// ## any => Draining
    ///
    /// Always wins, however late it comes. What passed goes on passing, and so does what is held
    /// where the gate closed again only because it took the hook of this very deletion for that of
    /// a restart. A gate that never opened has nothing that the app may see.
    pub(super) fn order_drain(&mut self, order: Order) {
        self.exit_when_drained |= order == Order::Stop;
        if let Phase::Draining(drain) = &self.phase {
            if drain.done && order == Order::Stop {
                self.effects.push(Effect::Exit(0));
            }
            return;
        }
        let serves = match &self.phase {
            Phase::Ramping { .. } | Phase::Open => true,
            Phase::Reclosed(closing) => closing.leaving_until.is_some(),
            Phase::Closed | Phase::Checking | Phase::Warming(_) | Phase::Draining(_) => false,
        } && matches!(self.app, App::Accepts(_));
        self.passage = if serves {
            Passage::Draining(self.now)
        } else {
            Passage::Refuse
        };
        self.effects.push(Effect::Pass(self.passage));
        self.stop_attempt();
        let cause = match order {
            Order::Stop => Cause::Stopping,
            Order::Command => Cause::DrainOrdered,
            Order::PodDeleted => Cause::PodDeleted,
        };
        let deadline = self.now + self.rules.drain.deadline;
        self.enter(
            Phase::Draining(Draining {
                order,
                deadline,
                done: false,
            }),
            cause,
        );
    }

    /// Takes the one transition that is due, if any.
    pub(super) fn step(&mut self) -> bool {
        match &self.phase {
            Phase::Closed => self.step_closed(),
            Phase::Checking => self.step_checking(),
            Phase::Warming(_) => self.step_warming(),
            Phase::Ramping { .. } => self.step_ramping(),
            Phase::Open => self.reclose(),
            Phase::Reclosed(_) => self.step_reclosed(),
            Phase::Draining(_) => self.step_draining(),
        }
    }

    fn step_closed(&mut self) -> bool {
        match &self.app {
            // ## Closed => Checking
            //
            // The port accepts. Results that checks have by now count: a database that is there is
            // there, and a check of the app's own port can only have failed before.
            App::Accepts(life) => {
                self.subject = Some(*life);
                let cause = why_not_passing(&self.tallies);
                self.enter(Phase::Checking, cause);
                true
            }
            // ## Closed => Closed
            App::Refuses(why) => {
                self.cause = Cause::AppRefuses(why.clone());
                false
            }
            App::Unknown => false,
        }
    }

    fn step_checking(&mut self) -> bool {
        let App::Accepts(life) = self.app else {
            return self.lose_app();
        };
        if self.subject != Some(life) {
            return self.change_app(life);
        }
        // ## Checking => Open
        //
        // The gate was restarted, the app was not. What it depends on could not have closed a gate
        // that had stayed up, so it does not keep this one shut.
        if self.fit == Some(life) && self.tallies.iter().all(Tally::lets_resume) {
            self.open_for(life);
            self.enter(Phase::Open, Cause::Resumed);
            return true;
        }
        if self
            .tallies
            .iter()
            .all(|tally| tally.standing() == Standing::Passing)
        {
            // ## Checking => Warming
            if self.rules.warmup.is_some() {
                let attempt = self.start_attempt();
                self.enter(Phase::Warming(attempt), Cause::WarmingUp);
            } else {
                // ## Checking => (Ramping | Open)
                self.open(life, Cause::ChecksPassed);
            }
            return true;
        }
        // ## Checking => (Ramping | Open | Checking)
        //
        // Patience has ended. Opening is the policy's choice; a gate that stays closed says why.
        if self.checks_clock_matters()
            && self.failing.left(self.rules.checks_failed.after).is_zero()
        {
            let why = why_not_passing(&self.tallies).to_string();
            return self.apply(
                self.rules.checks_failed.then,
                life,
                Cause::OpenedUnchecked(why),
            );
        }
        self.cause = why_not_passing(&self.tallies);
        false
    }

    fn step_warming(&mut self) -> bool {
        let App::Accepts(life) = self.app else {
            return self.lose_app();
        };
        if self.subject != Some(life) {
            return self.change_app(life);
        }
        // ## Warming => Checking
        //
        // The clock of `notWarm` stands still from here: a database that comes back late must not
        // find it run out, and a cold app opened.
        if self
            .tallies
            .iter()
            .any(|tally| tally.standing() == Standing::Failing)
        {
            self.stop_attempt();
            let cause = why_not_passing(&self.tallies);
            self.enter(Phase::Checking, cause);
            return true;
        }
        let Phase::Warming(attempt) = &mut self.phase else {
            return false;
        };
        match attempt {
            // ## Warming => (Ramping | Open)
            Attempt::Ended(Outcome::Warm) => {
                self.open(life, Cause::Warm);
                return true;
            }
            Attempt::Ended(Outcome::Plateau) => {
                self.open(life, Cause::Plateau);
                return true;
            }
            // ## Warming => Warming
            //
            // Another attempt, after a pause that grows: an app that is too busy to get warm is not
            // helped by a gate that never lets go.
            Attempt::Ended(Outcome::NotWarm(why)) => {
                self.cause = Cause::NotWarmYet(std::mem::take(why));
                let doublings = self.tries.saturating_sub(1).min(16);
                let pause = BACKOFF.0.saturating_mul(1 << doublings).min(BACKOFF.1);
                *attempt = Attempt::Next(self.now + pause);
            }
            Attempt::Next(at) if self.now >= *at => {
                let attempt = self.start_attempt();
                self.phase = Phase::Warming(attempt);
            }
            Attempt::Next(_) | Attempt::Running(_) => {}
        }
        // ## Warming => (Ramping | Open | Warming)
        if self.cold.left(self.rules.not_warm.after).is_zero() {
            let why = if let Cause::NotWarmYet(why) = &self.cause {
                why.clone()
            } else {
                "its warm-up took too long".to_owned()
            };
            return self.apply(self.rules.not_warm.then, life, Cause::OpenedCold(why));
        }
        false
    }

    fn step_ramping(&mut self) -> bool {
        if self.reclose() {
            return true;
        }
        let Phase::Ramping { ramp, .. } = &mut self.phase else {
            return false;
        };
        ramp.advance(self.now);
        if ramp.limit().is_some() {
            return false;
        }
        // ## Ramping => Open
        let cause = self.cause.clone();
        self.enter(Phase::Open, cause);
        true
    }

    /// ## (Ramping | Open) => Reclosed
    ///
    /// The app is gone or another one, its container is being stopped, or a check that is always
    /// watched has failed as often in a row as its threshold says. A failing dependency does not
    /// close the gate: every replica would close at once.
    fn reclose(&mut self) -> bool {
        let mut leaving_until = None;
        let cause = match &self.app {
            App::Refuses(why) => Cause::AppRefuses(why.clone()),
            App::Accepts(life) if self.fit != Some(*life) => Cause::AppRestarted,
            _ if self.hook_is_due() => {
                leaving_until = Some(self.now + LEAVING);
                Cause::AppStopping
            }
            _ if self.tallies.iter().any(Tally::recloses) => {
                let failing = self.tallies.iter().filter(|tally| tally.recloses());
                Cause::CheckFails(describe(failing))
            }
            App::Accepts(_) | App::Unknown => return false,
        };
        self.enter(Phase::Reclosed(Closing { leaving_until }), cause);
        self.effects.push(Effect::CheckNow);
        true
    }

    fn step_reclosed(&mut self) -> bool {
        let Phase::Reclosed(closing) = &self.phase else {
            return false;
        };
        let life = match &self.app {
            App::Accepts(life) => *life,
            // ## Reclosed => Reclosed
            App::Refuses(why) => {
                self.cause = Cause::AppRefuses(why.clone());
                return false;
            }
            App::Unknown => return false,
        };
        let stayed = closing.leaving_until.is_some_and(|until| self.now >= until);
        // ## Reclosed => Checking
        //
        // Another app, or one that we were told would go and did not: nothing known of it counts.
        if self.fit != Some(life) || stayed {
            return self.change_app(life);
        }
        if closing.leaving_until.is_some() {
            return false;
        }
        // ## Reclosed => Ramping
        //
        // The same app, well again. It is as warm as it was; what was held leaves by a short ramp
        // that refuses nobody.
        if self.tallies.iter().all(Tally::lets_reopen) {
            self.open_for(life);
            let ramp = Ramp::new(
                &self.rules.ramp.steps,
                SHORT_RAMP.min(self.rules.ramp.duration),
                self.rules.warmup.unwrap_or(0),
                self.now,
            );
            let on_full = OnFull::Pass;
            self.enter(Phase::Ramping { ramp, on_full }, Cause::Recovered);
            return true;
        }
        let failing = self.tallies.iter().filter(|tally| !tally.lets_reopen());
        self.cause = Cause::CheckFails(describe(failing));
        false
    }

    /// ## Draining => Draining
    fn step_draining(&mut self) -> bool {
        let Phase::Draining(drain) = &mut self.phase else {
            return false;
        };
        if drain.done || self.now < drain.deadline {
            return false;
        }
        drain.done = true;
        self.cause = Cause::Drained;
        self.effects.push(Effect::Drained);
        if self.exit_when_drained {
            self.effects.push(Effect::Exit(0));
        }
        false
    }

    /// ## (Checking | Warming) => Closed
    fn lose_app(&mut self) -> bool {
        let App::Refuses(why) = &self.app else {
            return false;
        };
        let cause = Cause::AppRefuses(why.clone());
        self.stop_attempt();
        self.begin_anew();
        self.enter(Phase::Closed, cause);
        true
    }

    /// ## (Checking | Warming | Reclosed) => Checking
    fn change_app(&mut self, life: Life) -> bool {
        self.stop_attempt();
        self.begin_anew();
        self.subject = Some(life);
        let cause = why_not_passing(&self.tallies);
        self.enter(Phase::Checking, cause);
        true
    }

    /// Does what a policy says; `true` when that is a transition.
    fn apply(&mut self, policy: Policy, life: Life, cause: Cause) -> bool {
        match policy {
            Policy::Closed => false,
            Policy::Open => {
                self.open(life, cause);
                true
            }
            Policy::Restart => {
                self.effects.push(Effect::Exit(1));
                false
            }
        }
    }

    fn open(&mut self, life: Life, cause: Cause) {
        self.stop_attempt();
        // Where no attempt has run, none of the app's concurrency is known.
        let floor = self.rules.warmup.filter(|_| self.tries > 0).unwrap_or(0);
        self.open_for(life);
        let settings = &self.rules.ramp;
        let ramps = match settings.when {
            RampWhen::Always => true,
            RampWhen::NotWarm => cause != Cause::Warm,
            RampWhen::Never => false,
        };
        if !ramps {
            return self.enter(Phase::Open, cause);
        }
        let ramp = Ramp::new(&settings.steps, settings.duration, floor, self.now);
        let on_full = settings.on_full;
        self.enter(Phase::Ramping { ramp, on_full }, cause);
    }

    fn open_for(&mut self, life: Life) {
        self.fit = Some(life);
        self.failing = Clock::default();
        self.cold = Clock::default();
        self.tries = 0;
        for tally in &mut self.tallies {
            tally.on_opening();
        }
    }

    fn start_attempt(&mut self) -> Attempt {
        self.attempts += 1;
        self.tries += 1;
        let attempt = self.attempts;
        self.effects.push(Effect::StartWarmup { attempt });
        Attempt::Running(attempt)
    }

    fn stop_attempt(&mut self) {
        if matches!(self.phase, Phase::Warming(Attempt::Running(_))) {
            self.effects.push(Effect::StopWarmup);
        }
    }
}
