//! Whatever happens in whatever order, the gate keeps its promises.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the onlooker judges openings and cares for nothing else"
)]

use proptest::prelude::*;

use super::*;

const CHECKS: usize = 3;

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Accept,
    Refuse,
    Restart,
    Check(usize, bool),
    AllPass,
    WarmUp(u8),
    Hook(bool),
    Latency(u64),
}

/// What an onlooker knows without looking into the machine.
struct Onlooker {
    machine: Machine,
    now: Duration,
    life: u64,
    refuses: bool,
    /// Checks that have passed for this life of the app.
    passed: [bool; CHECKS],
    /// The life that the gate opened for last.
    opened_for: Option<u64>,
    /// The attempt that is running.
    attempt: Option<u32>,
    last_outcome: Option<Outcome>,
    checking: Duration,
    warming: Duration,
}

#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four settings, each of two values"
)]
struct Rule {
    warms_up: bool,
    checks_failed_open: bool,
    not_warm_open: bool,
    resumed: bool,
}

const AFTER: Duration = Duration::from_secs(60);

impl Onlooker {
    fn new(rule: Rule) -> Self {
        let warmup = if rule.warms_up {
            r#""warmup": {"requests": [{"path": "/"}]},"#
        } else {
            ""
        };
        let policy = |open| if open { "open" } else { "closed" };
        let settings = Settings::decode(&format!(
            r#"{{"listen": 1, "app": 2, {warmup} "checks": [
                {{"name": "a", "http": {{}}}},
                {{"name": "b", "env": {{"name": "B"}}, "failureThreshold": 1}},
                {{"name": "c", "tcp": {{"port": 3}}, "successThreshold": 2}}],
              "checksFailed": {{"after": "60s", "then": "{}"}},
              "notWarm": {{"after": "60s", "then": "{}"}}}}"#,
            policy(rule.checks_failed_open),
            policy(rule.not_warm_open),
        ))
        .unwrap();
        Self {
            machine: Machine::new(&settings, rule.resumed),
            now: Duration::ZERO,
            life: 0,
            refuses: true,
            passed: [false; CHECKS],
            opened_for: rule.resumed.then_some(0),
            attempt: None,
            last_outcome: None,
            checking: Duration::ZERO,
            warming: Duration::ZERO,
        }
    }

    fn act(&mut self, act: &Act, rule: Rule) {
        match act {
            Act::Wait(millis) => {
                let time = Duration::from_millis(*millis);
                match self.machine.state() {
                    State::Checking => self.checking += time,
                    State::Warming => self.warming += time,
                    _ => {}
                }
                self.now += time;
                self.hear(Event::Tick, rule);
            }
            Act::Accept => {
                self.refuses = false;
                self.hear(Event::App(App::Accepts(Life(self.life))), rule);
            }
            Act::Refuse => {
                self.forget_passes();
                self.refuses = true;
                self.hear(Event::App(App::Refuses("refused".into())), rule);
            }
            Act::Restart => {
                self.life += 1;
                self.forget_passes();
                self.refuses = false;
                self.hear(Event::App(App::Accepts(Life(self.life))), rule);
            }
            Act::Check(check, pass) => self.check(*check, *pass, rule),
            Act::AllPass => {
                for check in (0..CHECKS).chain(0..CHECKS) {
                    self.check(check, true, rule);
                }
            }
            Act::WarmUp(how) => {
                let outcome = match how {
                    0 => Outcome::Warm,
                    1 => Outcome::Plateau,
                    _ => Outcome::NotWarm("slow".into()),
                };
                let attempt = self.attempt.take().unwrap_or(0);
                self.last_outcome = (attempt > 0).then(|| outcome.clone());
                self.hear(Event::WarmedUp { attempt, outcome }, rule);
            }
            Act::Hook(waits) => self.hear(Event::HookWaits(*waits), rule),
            Act::Latency(millis) => {
                let p95 = Some(Duration::from_millis(*millis));
                self.hear(Event::RampLatency(p95), rule);
            }
        }
    }

    /// What was found before an app that accepted went says nothing about the next one. What was
    /// found while nothing accepted yet does: it is about what the app depends on.
    fn forget_passes(&mut self) {
        if !self.refuses {
            self.passed = [false; CHECKS];
        }
    }

    fn check(&mut self, check: usize, pass: bool, rule: Rule) {
        self.passed[check] |= pass;
        let event = Event::Checked {
            check,
            began: self.now,
            result: if pass { Ok(()) } else { Err("bad".into()) },
        };
        self.hear(event, rule);
    }

    fn hear(&mut self, event: Event, rule: Rule) {
        for effect in self.machine.handle(event, self.now) {
            match effect {
                Effect::StartWarmup { attempt } => {
                    assert_eq!(self.attempt, None, "two attempts at a time");
                    self.attempt = Some(attempt);
                    self.last_outcome = None;
                }
                Effect::StopWarmup => self.attempt = None,
                Effect::Enter { from, to, cause } => self.enter(from, to, &cause, rule),
                _ => {}
            }
        }
        let passes = matches!(self.machine.passage, Passage::Ramp { .. } | Passage::Open);
        assert!(
            !(passes && self.refuses),
            "open while the app's port refuses"
        );
        assert_eq!(
            passes,
            matches!(self.machine.state(), State::Ramping | State::Open)
        );
    }

    /// Judges an opening by what the onlooker saw.
    fn enter(&mut self, from: State, to: State, cause: &Cause, rule: Rule) {
        let opens = matches!(to, State::Ramping | State::Open);
        if !opens || matches!(from, State::Ramping | State::Open) {
            return;
        }
        let all_passed = self.passed.iter().all(|passed| *passed);
        let good = match cause {
            Cause::Warm => all_passed && self.last_outcome == Some(Outcome::Warm),
            Cause::Plateau => all_passed && self.last_outcome == Some(Outcome::Plateau),
            Cause::ChecksPassed => all_passed && !rule.warms_up,
            Cause::OpenedUnchecked(_) => rule.checks_failed_open && self.checking >= AFTER,
            Cause::OpenedCold(_) => all_passed && rule.not_warm_open && self.warming >= AFTER,
            Cause::Recovered => self.opened_for == Some(self.life),
            Cause::Resumed => rule.resumed && self.life == 0,
            _ => false,
        };
        assert!(good, "{from:?} => {to:?} by {cause:?}");
        self.opened_for = Some(self.life);
        self.checking = Duration::ZERO;
        self.warming = Duration::ZERO;
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1u64..20_000).prop_map(Act::Wait),
        2 => Just(Act::Accept),
        1 => Just(Act::Refuse),
        1 => Just(Act::Restart),
        6 => (0..CHECKS, prop::bool::weighted(0.7)).prop_map(|(check, pass)| Act::Check(check, pass)),
        3 => Just(Act::AllPass),
        2 => (0u8..3).prop_map(Act::WarmUp),
        1 => any::<bool>().prop_map(Act::Hook),
        1 => (1u64..100).prop_map(Act::Latency),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    any::<[bool; 4]>().prop_map(
        |[warms_up, checks_failed_open, not_warm_open, resumed]| Rule {
            warms_up,
            checks_failed_open,
            not_warm_open,
            resumed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn never_opens_without_evidence_or_a_policy_and_never_onto_a_port_that_refuses(
        rule in rule(),
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut onlooker = Onlooker::new(rule);
        for act in &acts {
            onlooker.act(act, rule);
        }
    }

    #[test]
    fn a_drain_always_ends_whenever_it_begins(
        rule in rule(),
        before in prop::collection::vec(act(), 0..60),
        after in prop::collection::vec(act(), 0..60),
        order in prop_oneof![Just(Order::Stop), Just(Order::Command), Just(Order::PodDeleted)],
    ) {
        let mut onlooker = Onlooker::new(rule);
        for act in &before {
            onlooker.act(act, rule);
        }
        let machine = &mut onlooker.machine;
        machine.handle(Event::Drain(order), onlooker.now);
        prop_assert_eq!(machine.state(), State::Draining);
        let ready = machine.is_ready();
        prop_assert!(!ready || order == Order::PodDeleted);
        for act in &after {
            onlooker.now += if let Act::Wait(millis) = act {
                Duration::from_millis(*millis)
            } else {
                Duration::ZERO
            };
            let app = App::Accepts(Life(99));
            let event = if matches!(act, Act::Restart) { Event::App(app) } else { Event::Tick };
            machine.handle(event, onlooker.now);
            prop_assert_eq!(machine.state(), State::Draining);
        }
        machine.handle(Event::Tick, onlooker.now + Duration::from_secs(25));
        prop_assert_eq!(machine.cause(), &Cause::Drained);
        prop_assert!(!machine.is_ready());
        let exit = machine.handle(Event::Drain(Order::Stop), onlooker.now);
        prop_assert!(order == Order::Stop || exit.contains(&Effect::Exit(0)));
    }

    #[test]
    fn what_time_changes_happens_when_the_machine_says_it_wakes(
        rule in rule(),
        acts in prop::collection::vec(act(), 1..80),
    ) {
        let mut onlooker = Onlooker::new(rule);
        for act in &acts {
            onlooker.act(act, rule);
            let Some(wakes) = onlooker.machine.wakes_at() else { continue };
            let before = onlooker.machine.state();
            let quiet = wakes.saturating_sub(Duration::from_millis(1));
            if let Some(wait) = quiet.checked_sub(onlooker.now) {
                let wait = u64::try_from(wait.as_millis()).unwrap();
                onlooker.act(&Act::Wait(wait), rule);
                prop_assert_eq!(onlooker.machine.state(), before);
            }
        }
    }
}
