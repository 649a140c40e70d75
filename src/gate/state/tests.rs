//! The machine's life, told as stories.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The check of the app's own port, and of the database behind it.
const READY: usize = 0;
const DB: usize = 1;

/// A machine, its clock and what it has asked for.
struct Story {
    machine: Machine,
    now: Duration,
    effects: Vec<Effect>,
}

impl Story {
    fn new(more: &str) -> Self {
        Self::told(more, false)
    }

    fn resumed() -> Self {
        Self::told(WARMUP, true)
    }

    fn told(more: &str, resumed: bool) -> Self {
        let settings = Settings::decode(&format!(
            r#"{{"listen": 8080, "app": 8081, "checks": [
                {{"name": "ready", "http": {{}}}},
                {{"name": "db", "postgres": {{"urlFrom": {{"env": "URL"}}}}}}]{more}}}"#
        ))
        .unwrap();
        Self {
            machine: Machine::new(&settings, resumed),
            now: Duration::ZERO,
            effects: Vec::new(),
        }
    }

    fn hear(&mut self, event: Event) -> &mut Self {
        self.effects = self.machine.handle(event, self.now);
        self
    }

    fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.hear(Event::Tick)
    }

    fn accepts(&mut self, life: u64) -> &mut Self {
        self.hear(Event::App(App::Accepts(Life(life))))
    }

    fn refuses(&mut self) -> &mut Self {
        self.hear(Event::App(App::Refuses("localhost:8081: refused".into())))
    }

    fn check(&mut self, check: usize, result: Result<(), &str>) -> &mut Self {
        let began = self.now;
        let result = result.map_err(str::to_owned);
        self.hear(Event::Checked {
            check,
            began,
            result,
        })
    }

    fn checks_pass(&mut self) -> &mut Self {
        self.check(READY, Ok(())).check(DB, Ok(()))
    }

    fn warms_up(&mut self, outcome: Outcome) -> &mut Self {
        let attempt = self.machine.attempts;
        self.hear(Event::WarmedUp { attempt, outcome })
    }

    /// Warm and open, the first effects forgotten.
    fn opened(&mut self) -> &mut Self {
        self.accepts(0).checks_pass().warms_up(Outcome::Warm);
        self.is(State::Open)
    }

    fn is(&mut self, state: State) -> &mut Self {
        assert_eq!(self.machine.state(), state, "{}", self.machine.cause());
        self
    }

    fn because(&mut self, why: &str) -> &mut Self {
        assert_eq!(self.machine.cause().to_string(), why);
        self
    }

    fn passes(&mut self, passage: Passage) -> &mut Self {
        assert_eq!(self.machine.passage, passage);
        self
    }

    fn asked_for(&mut self, effect: &Effect) -> &mut Self {
        assert!(self.effects.contains(effect), "{:?}", self.effects);
        self
    }

    fn did_not_ask_for(&mut self, effect: &Effect) -> &mut Self {
        assert!(!self.effects.contains(effect), "{:?}", self.effects);
        self
    }

    fn ready(&mut self, ready: bool) -> &mut Self {
        assert_eq!(self.machine.is_ready(), ready);
        self
    }
}

const WARMUP: &str = r#", "warmup": {"requests": [{"path": "/"}]}"#;

fn not_warm() -> Outcome {
    Outcome::NotWarm("p95 is above its target".into())
}

#[test]
fn opens_on_evidence_step_by_step() {
    Story::new(WARMUP)
        .is(State::Closed)
        .refuses()
        .because("app localhost:8081: refused")
        .accepts(0)
        .is(State::Checking)
        .because("no result yet of ready, db")
        .check(DB, Ok(()))
        .check(READY, Err("GET /: 503"))
        .because("check ready: GET /: 503")
        .ready(false)
        .check(READY, Ok(()))
        .is(State::Warming)
        .asked_for(&Effect::StartWarmup { attempt: 1 })
        .passes(Passage::Hold)
        .warms_up(Outcome::Warm)
        .is(State::Open)
        .because("the app is warm")
        .asked_for(&Effect::Pass(Passage::Open))
        .ready(true);
}

#[test]
fn a_check_that_passed_before_the_port_accepted_counts() {
    Story::new(WARMUP)
        .check(DB, Ok(()))
        .accepts(0)
        .check(READY, Ok(()))
        .is(State::Warming);
}

#[test]
fn names_the_first_failing_check_and_counts_the_others() {
    Story::new("")
        .accepts(0)
        .check(READY, Err("GET /: 503"))
        .check(DB, Err("postgres db:5432: connection refused"))
        .because("check ready: GET /: 503 (and 1 more)");
}

#[test]
fn ramps_by_steps_after_a_plateau() {
    let step = |limit| Passage::Ramp {
        limit,
        on_full: OnFull::Pass,
    };
    Story::new(r#", "warmup": {"requests": [{"path": "/"}], "concurrency": 8}"#)
        .accepts(0)
        .checks_pass()
        .warms_up(Outcome::Plateau)
        .is(State::Ramping)
        .ready(true)
        .passes(step(8))
        .wait(4 * SECOND)
        .passes(step(16))
        .wait(3 * SECOND)
        .passes(step(64))
        .wait(3 * SECOND)
        .wait(SECOND)
        .is(State::Open)
        .because("the app's latency has stopped improving")
        .passes(Passage::Open);
}

#[test]
fn ramps_where_there_is_no_warm_up_and_not_when_told_never() {
    Story::new("").accepts(0).checks_pass().is(State::Ramping);
    Story::new(r#", "ramp": {"when": "never"}"#)
        .accepts(0)
        .checks_pass()
        .is(State::Open);
    Story::new(&format!(r#"{WARMUP}, "ramp": {{"when": "always"}}"#))
        .accepts(0)
        .checks_pass()
        .warms_up(Outcome::Warm)
        .is(State::Ramping);
}

#[test]
fn a_database_that_comes_after_three_minutes_still_gets_a_warm_up() {
    let mut story = Story::new(WARMUP);
    story
        .accepts(0)
        .check(READY, Ok(()))
        .check(DB, Err("refused"));
    for _ in 0..180 {
        story
            .wait(SECOND)
            .check(DB, Err("refused"))
            .is(State::Checking);
    }
    story
        .check(DB, Ok(()))
        .is(State::Warming)
        .wait(119 * SECOND)
        .is(State::Warming)
        .wait(SECOND)
        .is(State::Ramping)
        .because("opened by notWarm although the app is not warm: its warm-up took too long");
}

#[test]
fn the_clock_of_not_warm_stands_still_while_checks_fail() {
    let mut story = Story::new(WARMUP);
    story
        .accepts(0)
        .checks_pass()
        .wait(100 * SECOND)
        .is(State::Warming);
    for _ in 0..3 {
        story.check(DB, Err("refused"));
    }
    story
        .is(State::Checking)
        .asked_for(&Effect::StopWarmup)
        .wait(1000 * SECOND)
        .is(State::Checking)
        .check(DB, Ok(()))
        .is(State::Warming)
        .asked_for(&Effect::StartWarmup { attempt: 2 })
        .wait(19 * SECOND)
        .is(State::Warming)
        .wait(SECOND)
        .is(State::Ramping);
}

#[test]
fn a_failed_attempt_is_repeated_after_a_growing_pause() {
    Story::new(WARMUP)
        .accepts(0)
        .checks_pass()
        .warms_up(not_warm())
        .because("not warm yet: p95 is above its target")
        .did_not_ask_for(&Effect::StartWarmup { attempt: 2 })
        .wait(SECOND)
        .asked_for(&Effect::StartWarmup { attempt: 2 })
        .warms_up(not_warm())
        .wait(SECOND)
        .did_not_ask_for(&Effect::StartWarmup { attempt: 3 })
        .wait(SECOND)
        .asked_for(&Effect::StartWarmup { attempt: 3 })
        .warms_up(Outcome::Warm)
        .is(State::Open);
}

#[test]
fn the_outcome_of_a_broken_off_attempt_counts_for_nothing() {
    let mut story = Story::new(WARMUP);
    story.accepts(0).checks_pass().refuses().is(State::Closed);
    story.accepts(1).checks_pass().is(State::Warming);
    let outcome = Outcome::Warm;
    story
        .hear(Event::WarmedUp {
            attempt: 1,
            outcome,
        })
        .is(State::Warming);
}

#[test]
fn failing_checks_keep_it_closed_unless_the_policy_says_otherwise() {
    Story::new("")
        .accepts(0)
        .check(READY, Ok(()))
        .check(DB, Err("refused"))
        .wait(3600 * SECOND)
        .is(State::Checking);
    Story::new(r#", "checksFailed": {"then": "open"}"#)
        .wait(3600 * SECOND)
        .accepts(0)
        .check(DB, Err("refused"))
        .wait(119 * SECOND)
        .is(State::Checking)
        .wait(SECOND)
        .is(State::Ramping)
        .because("opened by checksFailed although a check fails: check db: refused");
    Story::new(r#", "checksFailed": {"after": "1s", "then": "restart"}"#)
        .accepts(0)
        .wait(SECOND)
        .asked_for(&Effect::Exit(1));
}

#[test]
fn a_check_that_failed_when_a_policy_opened_the_gate_does_not_close_it() {
    let mut story = Story::new(r#", "checksFailed": {"after": "1s", "then": "open"}"#);
    story
        .accepts(0)
        .check(READY, Err("503"))
        .wait(SECOND)
        .is(State::Ramping);
    for _ in 0..5 {
        story.check(READY, Err("503")).is(State::Ramping);
    }
    story.check(READY, Ok(()));
    for _ in 0..3 {
        story.check(READY, Err("503"));
    }
    story.is(State::Reclosed);
}

#[test]
fn a_failing_dependency_is_reported_and_never_recloses() {
    let mut story = Story::new(WARMUP);
    story.opened();
    for _ in 0..10 {
        story.check(DB, Err("refused")).is(State::Open);
    }
    let standings: Vec<_> = story.machine.standings().collect();
    assert_eq!(standings, [Standing::Passing, Standing::Failing]);
}

#[test]
fn recloses_and_reopens_with_hysteresis_and_without_warming_again() {
    Story::new(WARMUP)
        .opened()
        .check(READY, Err("GET /: 503"))
        .check(READY, Err("GET /: 503"))
        .is(State::Open)
        .check(READY, Err("GET /: 503"))
        .is(State::Reclosed)
        .because("check ready: GET /: 503")
        .passes(Passage::Hold)
        .ready(false)
        .check(READY, Ok(()))
        .is(State::Reclosed)
        .check(READY, Ok(()))
        .is(State::Ramping)
        .because("the app is well again")
        .wait(3 * SECOND)
        .is(State::Open);
}

#[test]
fn a_reopening_ramp_never_refuses() {
    let mut story = Story::new(&format!(r#"{WARMUP}, "ramp": {{"onFull": "refuse"}}"#));
    story.opened();
    for result in [Err("503"), Err("503"), Err("503"), Ok(()), Ok(())] {
        story.check(READY, result);
    }
    let on_full = OnFull::Pass;
    story.passes(Passage::Ramp { limit: 4, on_full });
}

#[test]
fn a_restarted_app_is_checked_and_warmed_again_even_if_it_was_never_seen_down() {
    Story::new(WARMUP)
        .opened()
        .accepts(1)
        .is(State::Checking)
        .asked_for(&Effect::CheckNow)
        .checks_pass()
        .is(State::Warming)
        .warms_up(Outcome::Warm)
        .is(State::Open);
}

#[test]
fn what_a_check_found_of_the_app_before_is_not_believed() {
    let mut story = Story::new("");
    let began = story.now;
    story
        .accepts(0)
        .checks_pass()
        .wait(SECOND)
        .accepts(1)
        .is(State::Checking);
    for check in [READY, DB] {
        let result = Ok(());
        story.hear(Event::Checked {
            check,
            began,
            result,
        });
    }
    story.is(State::Checking).checks_pass().is(State::Ramping);
}

#[test]
fn an_app_that_restarts_in_mid_warm_up_begins_anew() {
    Story::new(WARMUP)
        .accepts(0)
        .checks_pass()
        .accepts(1)
        .is(State::Checking)
        .asked_for(&Effect::StopWarmup)
        .checks_pass()
        .asked_for(&Effect::StartWarmup { attempt: 2 });
}

#[test]
fn never_passes_traffic_to_a_port_that_refuses() {
    Story::new(WARMUP)
        .opened()
        .refuses()
        .is(State::Reclosed)
        .because("app localhost:8081: refused")
        .passes(Passage::Hold)
        .accepts(0)
        .check(READY, Ok(()))
        .is(State::Ramping);
}

#[test]
fn a_restarted_gate_opens_after_one_passing_check_without_warming() {
    Story::resumed()
        .accepts(0)
        .is(State::Checking)
        .check(DB, Err("refused"))
        .check(READY, Ok(()))
        .is(State::Open)
        .because("the gate was restarted, the app was not");
    Story::resumed().accepts(1).checks_pass().is(State::Warming);
    Story::resumed()
        .refuses()
        .accepts(0)
        .checks_pass()
        .is(State::Open);
}

#[test]
fn sigterm_drains_and_then_exits() {
    Story::new(WARMUP)
        .opened()
        .wait(SECOND)
        .hear(Event::Drain(Order::Stop))
        .is(State::Draining)
        .asked_for(&Effect::Pass(Passage::Draining(SECOND)))
        .ready(false)
        .wait(SECOND)
        .hear(Event::Empty)
        .because("the drain is done")
        .asked_for(&Effect::Drained)
        .asked_for(&Effect::Exit(0));
}

#[test]
fn a_drain_that_never_gets_empty_ends_at_its_deadline() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::Drain(Order::Command))
        .wait(24 * SECOND)
        .did_not_ask_for(&Effect::Drained)
        .wait(SECOND)
        .asked_for(&Effect::Drained)
        .did_not_ask_for(&Effect::Exit(0))
        .hear(Event::Drain(Order::Stop))
        .asked_for(&Effect::Exit(0));
}

#[test]
fn stays_ready_in_a_deletion_for_as_long_as_it_accepts() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::Drain(Order::PodDeleted))
        .because("the pod is being deleted")
        .ready(true)
        .hear(Event::Empty)
        .ready(false);
}

#[test]
fn a_gate_that_never_opened_leaves_without_showing_the_app_anything() {
    for order in [Order::Stop, Order::Command, Order::PodDeleted] {
        Story::new(WARMUP)
            .accepts(0)
            .checks_pass()
            .hear(Event::Drain(order))
            .asked_for(&Effect::StopWarmup)
            .passes(Passage::Refuse)
            .ready(false);
    }
}

#[test]
fn a_hook_without_a_drain_is_taken_for_a_restart_of_the_apps_container() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::HookWaits(true))
        .wait(9 * SECOND)
        .is(State::Open)
        .wait(SECOND)
        .is(State::Reclosed)
        .because("the app's container is being stopped")
        .asked_for(&Effect::ReleaseHooks)
        .check(READY, Ok(()))
        .check(READY, Ok(()))
        .is(State::Reclosed)
        .refuses()
        .accepts(1)
        .is(State::Checking);
}

#[test]
fn an_app_that_was_to_stop_and_did_not_is_looked_at_anew() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::HookWaits(true))
        .wait(10 * SECOND)
        .is(State::Reclosed)
        .wait(30 * SECOND)
        .is(State::Checking)
        .checks_pass()
        .is(State::Warming);
}

#[test]
fn a_drain_twelve_seconds_late_still_wins() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::HookWaits(true))
        .wait(12 * SECOND)
        .is(State::Reclosed)
        .hear(Event::Drain(Order::PodDeleted))
        .is(State::Draining)
        .passes(Passage::Draining(12 * SECOND))
        .ready(true);
}

#[test]
fn a_hook_that_leaves_changes_nothing() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::HookWaits(true))
        .wait(9 * SECOND)
        .hear(Event::HookWaits(false))
        .wait(100 * SECOND)
        .is(State::Open);
}

#[test]
fn a_hook_is_released_when_the_drain_is_done() {
    Story::new(WARMUP)
        .opened()
        .hear(Event::HookWaits(true))
        .hear(Event::Drain(Order::PodDeleted))
        .wait(12 * SECOND)
        .did_not_ask_for(&Effect::ReleaseHooks)
        .hear(Event::Empty)
        .asked_for(&Effect::ReleaseHooks)
        .hear(Event::HookWaits(true))
        .asked_for(&Effect::ReleaseHooks);
}

#[test]
fn every_cause_has_a_label_of_its_own() {
    let mut labels = Cause::LABELS.to_vec();
    labels.sort_unstable();
    labels.dedup();
    assert_eq!(labels.len(), Cause::LABELS.len());
    assert!(Cause::LABELS.contains(&Cause::OpenedCold(String::new()).label()));
}
