//! What the gate shows of itself: safe for anybody in the cluster to read.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{state::State, warmup::Numbers};

/// The gate at one moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The state's name.
    #[serde(serialize_with = "name")]
    pub state: State,
    /// Whether the pod should get traffic.
    pub ready: bool,
    /// The cause's word.
    pub cause: &'static str,
    /// Why, in a sentence that stays the same while the cause does.
    pub reason: String,
    /// When the state began.
    #[serde(serialize_with = "time")]
    pub since: SystemTime,
    /// Each check, in the order of the settings.
    pub checks: Vec<CheckStatus>,
    /// The warm-up, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<WarmupStatus>,
    /// The ramp, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ramp: Option<RampStatus>,
    /// What is under way.
    pub traffic: TrafficStatus,
    /// The last changes of state, the oldest first.
    pub transitions: VecDeque<Transition>,
    /// What only metrics show.
    #[serde(skip)]
    pub(super) counts: Counts,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckStatus {
    /// Its name in the settings.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// `startup` or `always`.
    pub scope: &'static str,
    /// `passing`, `failing` or `unknown`, by its thresholds.
    pub standing: &'static str,
    /// The last run, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<RunStatus>,
    #[serde(skip)]
    pub(super) runs: u64,
    #[serde(skip)]
    pub(super) failures: u64,
}

/// One run of a check.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// Whether it passed.
    pub passed: bool,
    /// What was wrong, and after how long it showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// When it began.
    #[serde(serialize_with = "time")]
    pub at: SystemTime,
    #[serde(skip)]
    pub(super) took: Duration,
}

/// The warm-up.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WarmupStatus {
    /// Attempts so far.
    pub attempts: u32,
    /// `running`, `warm`, `plateau`, `not warm`, `broken off`, or absent when there was none yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<&'static str>,
    /// The numbers of the last attempt.
    pub numbers: Numbers,
    /// What the p95 must reach, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_p95_us: Option<u64>,
}

/// The ramp.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RampStatus {
    /// The step, from 1.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// Requests that may be in flight.
    pub limit: u32,
    /// The latency guard holds this step.
    pub is_held: bool,
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficStatus {
    /// Client connections.
    pub connections: u64,
    /// Requests at the app.
    pub in_flight: u64,
    /// Upgraded streams and TCP connections.
    pub streams: u64,
    /// Requests that are held.
    pub held: u64,
    /// Bytes that they take.
    pub held_bytes: u64,
}

/// A change of state.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// When.
    #[serde(serialize_with = "time")]
    pub at: SystemTime,
    /// From this state.
    #[serde(serialize_with = "name")]
    pub from: State,
    /// To this state.
    #[serde(serialize_with = "name")]
    pub to: State,
    /// Why.
    pub reason: String,
}

/// Counters that only grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) transitions: BTreeMap<(usize, usize, &'static str), u64>,
    /// Time in each state, in the order of [`State::ALL`].
    pub(super) spent: [Duration; State::ALL.len()],
    pub(super) warmup_passed: u64,
    pub(super) warmup_failed: u64,
    pub(super) started: Option<SystemTime>,
    pub(super) opened: Option<SystemTime>,
    pub(super) time_to_open: Option<Duration>,
    pub(super) drain_took: Option<Duration>,
}

// === impl Status ===

impl Status {
    /// One line that says it all, and the same line for as long as nothing changes.
    pub fn line(&self) -> String {
        let ready = if self.ready { "ready" } else { "not ready" };
        format!("{ready}: {}: {}", self.state.name(), self.reason)
    }

    /// A page for a terminal.
    pub fn page(&self) -> String {
        let mut page = format!("{}\n", self.line());
        self.put_state(&mut page);
        self.put_traffic(&mut page);
        page
    }

    fn put_state(&self, page: &mut String) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "{} for {}", self.state.name(), age(self.since));
        if !self.checks.is_empty() {
            page.push_str("\nchecks\n");
        }
        for check in &self.checks {
            let last = match &check.last {
                None => "no result yet".to_owned(),
                Some(run) => {
                    let found = run.problem.as_deref().unwrap_or("passed");
                    format!("{found}, {} ago", age(run.at))
                }
            };
            let (name, kind, scope) = (&check.name, check.kind, check.scope);
            let standing = check.standing;
            let _ = writeln!(page, "  {standing:<8} {name} ({kind}, {scope}): {last}");
        }
        if let Some(warmup) = &self.warmup {
            let numbers = &warmup.numbers;
            let _ = writeln!(
                page,
                "\nwarm-up\n  {} (attempt {}): {} requests, {} failed, {} ms; p95 {} cold, {} now",
                warmup.verdict.unwrap_or("not begun"),
                warmup.attempts,
                numbers.requests,
                numbers.errors,
                numbers.took_ms,
                p95(numbers.cold_p95_us),
                p95(numbers.warm_p95_us),
            );
        }
    }

    fn put_traffic(&self, page: &mut String) {
        if let Some(ramp) = &self.ramp {
            let held = if ramp.is_held {
                ", held: p95 has doubled"
            } else {
                ""
            };
            let (step, steps, limit) = (ramp.step, ramp.steps, ramp.limit);
            let _ = writeln!(
                page,
                "\nramp\n  step {step} of {steps}: {limit} in flight{held}"
            );
        }
        let traffic = &self.traffic;
        let _ = writeln!(
            page,
            "\ntraffic\n  {} in flight, {} streams, {} held ({} bytes), {} connections",
            traffic.in_flight,
            traffic.streams,
            traffic.held,
            traffic.held_bytes,
            traffic.connections
        );
        if !self.transitions.is_empty() {
            page.push_str("\nhistory\n");
        }
        for change in &self.transitions {
            let at = humantime::format_rfc3339_millis(change.at);
            let (from, to) = (change.from.name(), change.to.name());
            let _ = writeln!(page, "  {at}  {from} -> {to}: {}", change.reason);
        }
    }
}

fn age(time: SystemTime) -> humantime::FormattedDuration {
    let age = time.elapsed().unwrap_or_default();
    humantime::format_duration(Duration::from_secs(age.as_secs()))
}

fn p95(micros: Option<u64>) -> String {
    micros.map_or_else(
        || "-".to_owned(),
        |micros| humantime::format_duration(rounded(micros)).to_string(),
    )
}

/// To three digits at most: nobody reads `12ms 345us`.
fn rounded(micros: u64) -> Duration {
    let unit = if micros >= 10_000 { 1000 } else { 10 };
    Duration::from_micros(micros / unit * unit)
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn name<S: Serializer>(state: &State, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(state.name())
}

fn time<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_rfc3339_millis(*time))
}
