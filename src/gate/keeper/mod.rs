//! The gatekeeper: hears what happens, asks the state machine, does what it says.
//!
//! One task owns the machine and all that belongs to it, so nothing here is locked; whoever wants
//! to know something asks at a [`Desk`].

mod desk;

mod board;

mod passage;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::{Instant, sleep_until},
};

pub use self::desk::{Asks, Desk};
use self::{board::Board, desk::Ask};
use super::{
    check::{Pace, Report},
    identity::{Lives, Memory, Sighting},
    state::{Effect, Event, Machine, Order, Passage, State},
    switch::Switch,
    traffic::{Snapshot, Traffic},
    warmup::{self, Numbers, Verdict},
};
use crate::contract::Settings;

/// The gatekeeper.
#[derive(Debug)]
pub struct Keeper {
    settings: Arc<Settings>,
    ports: Arc<Vec<(String, Vec<SocketAddr>)>>,
    machine: Machine,
    started: Instant,
    lives: Lives,
    memory: Option<Memory>,
    switch: Switch,
    traffic: Arc<Traffic>,
    pace: watch::Sender<Pace>,
    board: Board,
    /// The attempt at warming up that runs, and its number.
    warming: Option<(u32, AbortHandle)>,
    warmups: mpsc::Sender<Warming>,
    heard_warmups: mpsc::Receiver<Warming>,
    /// The ramp's step, and the latencies when it began.
    step: Option<(usize, Snapshot)>,
    hooks: Vec<oneshot::Sender<()>>,
    drains: Vec<oneshot::Sender<()>>,
    exit: Option<u8>,
}

/// What the gatekeeper works on.
#[derive(Debug)]
pub struct Hands {
    /// Name and addresses of each of the app's ports.
    pub ports: Arc<Vec<(String, Vec<SocketAddr>)>>,
    /// Where it notes for which app it opened; without it a restarted gate warms up again.
    pub memory: Option<Memory>,
    /// Lets traffic pass.
    pub switch: Switch,
    /// What passes.
    pub traffic: Arc<Traffic>,
    /// Says how often to look.
    pub pace: watch::Sender<Pace>,
}

/// What the gatekeeper hears.
#[derive(Debug)]
pub struct Ears {
    /// Runs of checks.
    pub reports: mpsc::Receiver<Report>,
    /// Looks at the app's ports.
    pub sightings: mpsc::Receiver<Sighting>,
    /// Questions and orders.
    pub asks: Asks,
    /// How the data path ends.
    pub path: JoinHandle<io::Result<()>>,
}

/// What an attempt at warming up reports, with its number.
#[derive(Debug)]
enum Warming {
    Progress(u32, Numbers),
    Ended(u32, Verdict),
}

/// Hooks, and drains, that may wait at a time: a pod has a handful of containers.
const MAX_WAITERS: usize = 64;

/// Messages of one kind that may wait for the gatekeeper, which never waits itself.
const BACKLOG: usize = 64;

/// Requests that a ramp's step must have seen before its p95 says anything.
const MIN_SAMPLES: u64 = 20;

/// How often the gatekeeper looks up by itself: while ramping, while refusing what is held, else.
const GLANCES: (Duration, Duration, Duration) = (
    Duration::from_millis(100),
    Duration::from_millis(20),
    Duration::from_secs(1),
);

// === impl Keeper ===

impl Keeper {
    /// A closed gate.
    pub fn new(settings: Arc<Settings>, hands: Hands) -> Self {
        let Hands {
            ports,
            memory,
            switch,
            traffic,
            pace,
        } = hands;
        let remembered = memory.as_ref().and_then(Memory::recall);
        let (warmups, heard_warmups) = mpsc::channel(BACKLOG);
        Self {
            machine: Machine::new(&settings, remembered.is_some()),
            board: Board::new(&settings),
            lives: Lives::new(remembered),
            started: Instant::now(),
            settings,
            ports,
            memory,
            switch,
            traffic,
            pace,
            warming: None,
            warmups,
            heard_warmups,
            step: None,
            hooks: Vec::new(),
            drains: Vec::new(),
            exit: None,
        }
    }

    /// Keeps the gate until it is to end, and says with which exit code. `stop` resolves when the
    /// process is asked to.
    ///
    /// Fails when the data path does.
    pub async fn run(
        mut self,
        mut ears: Ears,
        stop: impl Future<Output = &'static str>,
    ) -> io::Result<u8> {
        let mut stop = std::pin::pin!(stop);
        let (mut stopped, mut path_ended) = (false, false);
        while self.exit.is_none() {
            let glance = self.next_glance();
            // Biased: an order to stop goes first, and questions before news, so that a probe is
            // answered in the midst of a flood. All arms are cancel-safe.
            tokio::select! {
                biased;
                signal = &mut stop, if !stopped => {
                    tracing::info!(signal, "asked to stop");
                    stopped = true;
                    self.hear(Event::Drain(Order::Stop));
                }
                Some(ask) = ears.asks.0.recv() => self.answer(ask),
                ended = &mut ears.path, if !path_ended => {
                    path_ended = true;
                    ended.map_err(io::Error::other)??;
                    self.hear(Event::Empty);
                }
                Some(sighting) = ears.sightings.recv() => self.sight(&sighting),
                Some(warming) = self.heard_warmups.recv() => self.note_warming(warming),
                Some(report) = ears.reports.recv() => self.note_report(report),
                () = sleep_until(glance) => self.glance(),
            }
        }
        Ok(self.exit.unwrap_or_default())
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn hear(&mut self, event: Event) {
        let now = self.now();
        for effect in self.machine.handle(event, now) {
            self.apply(effect, now);
        }
    }

    fn apply(&mut self, effect: Effect, now: Duration) {
        match effect {
            Effect::Pass(passage) => {
                let drain = self.settings.drain();
                self.switch
                    .set(passage::translate(passage, drain, self.started));
            }
            Effect::StartWarmup { attempt } => self.start_warmup(attempt),
            Effect::StopWarmup => {
                if let Some((_, warming)) = self.warming.take() {
                    warming.abort();
                    self.board.attempt_broken_off();
                }
            }
            Effect::CheckNow => self.pace.send_modify(|pace| pace.round += 1),
            Effect::Enter { from, to, cause } => {
                tracing::info!(
                    from = from.name(),
                    to = to.name(),
                    cause = cause.label(),
                    "{cause}"
                );
                self.board.entered((from, to), &cause, now);
                let open = matches!(to, State::Ramping | State::Open | State::Draining);
                self.pace.send_if_modified(|pace| {
                    let changed = pace.open != open;
                    pace.open = open;
                    changed
                });
                self.note_for_successor();
            }
            Effect::ReleaseHooks => {
                for hook in self.hooks.drain(..) {
                    let _ = hook.send(()); // who has hung up meanwhile needs no answer
                }
            }
            Effect::Drained => {
                self.board.drained(now);
                tracing::info!("drained");
                for drain in self.drains.drain(..) {
                    let _ = drain.send(());
                }
            }
            Effect::Exit(code) => self.exit = Some(code),
        }
    }

    fn start_warmup(&mut self, attempt: u32) {
        self.board.attempt_began(attempt);
        let Some(settings) = self.settings.warmup().cloned() else {
            return;
        };
        let (ports, warmups) = (Arc::clone(&self.ports), self.warmups.clone());
        let task = tokio::spawn(async move {
            let progress = |numbers| {
                // The status page may be a window behind; it is not waited for.
                let _ = warmups.try_send(Warming::Progress(attempt, numbers));
            };
            let verdict = warmup::attempt(&settings, &ports, progress).await;
            // Fails only when the gatekeeper is gone.
            let _ = warmups.send(Warming::Ended(attempt, verdict)).await;
        });
        self.warming = Some((attempt, task.abort_handle()));
    }

    fn note_warming(&mut self, warming: Warming) {
        let running = self.warming.as_ref().map(|(attempt, _)| *attempt);
        match warming {
            Warming::Progress(attempt, numbers) => {
                if running == Some(attempt) {
                    self.board.attempt_goes_on(numbers);
                }
            }
            Warming::Ended(attempt, verdict) => {
                // What was broken off may still have ended in between.
                if running != Some(attempt) {
                    return;
                }
                self.warming = None;
                log_verdict(&verdict);
                self.board.attempt_ended(&verdict);
                let outcome = verdict.outcome;
                self.hear(Event::WarmedUp { attempt, outcome });
            }
        }
    }

    fn note_report(&mut self, report: Report) {
        self.board.ran(&report);
        let began = report.began.saturating_duration_since(self.started);
        self.hear(Event::Checked {
            check: report.check,
            began,
            result: report.result,
        });
    }

    fn sight(&mut self, sighting: &Sighting) {
        let before = self.lives.identity().cloned();
        let app = self.lives.see(sighting);
        self.hear(Event::App(app));
        if self.lives.identity() != before.as_ref() {
            self.note_for_successor();
        }
    }

    /// Notes the app that the gate is open for, so that a gate restarted in front of the same app
    /// opens at once.
    fn note_for_successor(&self) {
        let Some(memory) = &self.memory else {
            return;
        };
        let open = matches!(self.machine.state(), State::Ramping | State::Open);
        let noted = match self.lives.identity() {
            Some(identity) if open => memory.remember(identity),
            _ => memory.forget(),
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "cannot note the state of the gate: if restarted, it warms up again");
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(answer) => {
                let now = self.now();
                let status = self.board.status(&self.machine, &self.traffic, now);
                let _ = answer.send(Box::new(status)); // who has hung up meanwhile needs no answer
            }
            Ask::Hook(hook) => {
                self.hooks.retain(|hook| !hook.is_closed());
                if self.hooks.len() < MAX_WAITERS {
                    self.hooks.push(hook);
                    self.hear(Event::HookWaits(true));
                }
            }
            Ask::Drain(order, done) => {
                self.drains.retain(|drain| !drain.is_closed());
                if self.machine.is_drained() {
                    let _ = done.send(());
                } else if self.drains.len() < MAX_WAITERS {
                    self.drains.push(done);
                }
                self.hear(Event::Drain(order));
            }
        }
    }

    /// When to look up by itself, if nothing happens before.
    fn next_glance(&self) -> Instant {
        let (ramping, refusing, otherwise) = GLANCES;
        let pause = match self.machine.passage() {
            Passage::Ramp { .. } => ramping,
            Passage::Refuse => refusing,
            Passage::Hold | Passage::Open | Passage::Draining(_) => otherwise,
        };
        let glance = Instant::now() + pause;
        self.machine
            .wakes_at()
            .map_or(glance, |wakes| glance.min(self.started + wakes))
    }

    fn glance(&mut self) {
        if !self.hooks.is_empty() {
            self.hooks.retain(|hook| !hook.is_closed());
            if self.hooks.is_empty() {
                self.hear(Event::HookWaits(false));
            }
        }
        // The data path tells when a drain is done; a gate that refuses has only to be empty.
        if self.machine.passage() == Passage::Refuse && self.is_empty() {
            self.hear(Event::Empty);
        }
        if let Some((step, ..)) = self.machine.ramp_step() {
            let latencies = self.traffic.latency.snapshot();
            match &self.step {
                Some((same, before)) if *same == step => {
                    let seen = latencies.since(before);
                    let enough = seen.count() >= MIN_SAMPLES;
                    let p95 = enough.then(|| seen.quantile(0.95)).flatten();
                    self.hear(Event::RampLatency(p95));
                }
                _ => self.step = Some((step, latencies)),
            }
        } else {
            self.step = None;
        }
        self.hear(Event::Tick);
    }

    fn is_empty(&self) -> bool {
        let traffic = &self.traffic;
        traffic.held.value() + traffic.in_flight.value() + traffic.streams.value() == 0
    }
}

fn log_verdict(verdict: &Verdict) {
    let numbers = &verdict.numbers;
    tracing::info!(
        outcome = ?verdict.outcome,
        cold_p95_us = numbers.cold_p95_us,
        warm_p95_us = numbers.warm_p95_us,
        requests = numbers.requests,
        errors = numbers.errors,
        took_ms = numbers.took_ms,
        "warm-up ended"
    );
}
