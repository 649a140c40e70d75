//! What the gate shows of itself: safe for anybody in the cluster to read.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};

use super::{state::State, warmup::Numbers};

/// The gate at one moment.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The moment.
    #[serde(serialize_with = "time")]
    pub at: SystemTime,
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

/// A stay in one state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phase<'a> {
    pub(super) state: State,
    pub(super) reason: &'a str,
    pub(super) began: SystemTime,
    pub(super) lasted: Duration,
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

/// Changes of state that are kept for the timeline.
pub(super) const HISTORY: usize = 100;

/// Why the first phase began.
const STARTED: &str = "the gate started";

// === impl Status ===

impl Status {
    /// One line that says it all, and the same line for as long as nothing changes.
    pub fn line(&self) -> String {
        let ready = if self.ready { "ready" } else { "not ready" };
        format!("{ready}: {}: {}", self.state.name(), self.reason)
    }

    /// How many checks fail.
    pub(super) fn failing(&self) -> usize {
        let failing = |check: &&CheckStatus| check.standing == "failing";
        self.checks.iter().filter(failing).count()
    }

    /// The states from the beginning to the goal, the present one among them.
    pub(super) fn way(&self) -> Vec<State> {
        let begin = match self.state {
            State::Draining => return vec![State::Open, State::Draining],
            State::Reclosed => State::Reclosed,
            State::Closed | State::Checking | State::Warming | State::Ramping | State::Open => {
                State::Closed
            }
        };
        let mut way = vec![begin, State::Checking];
        way.extend(self.warmup.is_some().then_some(State::Warming));
        way.extend([State::Ramping, State::Open]);
        way
    }

    /// The phases that the history still tells of, the oldest first, the last one to this day.
    pub(super) fn phases(&self) -> Vec<Phase<'_>> {
        let mut phases = Vec::with_capacity(self.transitions.len() + 1);
        if let (Some(first), Some(started)) = (self.transitions.front(), self.counts.started)
            && self.transitions.len() < HISTORY
        {
            phases.push(Phase::new((first.from, STARTED), started, first.at));
        }
        let ends = self.transitions.iter().skip(1).map(|next| next.at);
        for (change, end) in self.transitions.iter().zip(ends.chain([self.at])) {
            phases.push(Phase::new((change.to, &change.reason), change.at, end));
        }
        if phases.is_empty() {
            phases.push(Phase::new((self.state, &self.reason), self.since, self.at));
        }
        phases
    }
}

// === impl Phase ===

impl<'a> Phase<'a> {
    fn new((state, reason): (State, &'a str), began: SystemTime, ended: SystemTime) -> Self {
        Self {
            state,
            reason,
            began,
            lasted: ended.duration_since(began).unwrap_or_default(),
        }
    }
}

/// A duration as people say it, to two units at most: `420 ms`, `12 s`, `3 min 5 s`, `4 h 10 min`, `9 d 2 h`.
pub(super) fn brief(duration: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "min")];
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{} ms", duration.as_millis());
    }
    let smaller = [(3600, "h"), (60, "min"), (1, "s")];
    for ((length, unit), (part, name)) in UNITS.into_iter().zip(smaller) {
        if seconds >= length {
            let rest = seconds % length / part;
            let rest = (rest > 0).then(|| format!(" {rest} {name}"));
            return format!("{} {unit}{}", seconds / length, rest.unwrap_or_default());
        }
    }
    format!("{seconds} s")
}

/// How long ago, to the second: what changes more often nobody can read.
pub(super) fn ago(now: SystemTime, then: SystemTime) -> String {
    let age = now.duration_since(then).unwrap_or_default().as_secs();
    if age == 0 {
        "just now".to_owned()
    } else {
        format!("{} ago", brief(Duration::from_secs(age)))
    }
}

/// A latency in microseconds, to about two digits: `0.42 ms`, `4.2 ms`, `42 ms`, `1.3 s`.
pub(super) fn latency(micros: u64) -> String {
    let millis = Duration::from_micros(micros).as_secs_f64() * 1000.0;
    match micros {
        0..1000 => format!("{millis:.2} ms"),
        1000..10_000 => format!("{millis:.1} ms"),
        10_000..1_000_000 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

/// A time in UTC: `10:33:26`, or `11-20 10:33` when it was not on the day of `now`.
pub(super) fn clock(now: SystemTime, time: SystemTime) -> String {
    let stamp = |time| humantime::format_rfc3339_seconds(time).to_string();
    let (today, stamp) = (stamp(now), stamp(time));
    let Some((day, of_day)) = stamp.split_once('T') else {
        return stamp;
    };
    if today.starts_with(day) {
        return of_day.trim_end_matches('Z').to_owned();
    }
    let day = day.split_once('-').map_or(day, |(_, day)| day);
    let minute = of_day.rsplit_once(':').map_or(of_day, |(minute, _)| minute);
    format!("{day} {minute}")
}

/// A size in bytes: `0 B`, `12 KiB`, `3 MiB`.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
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

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units_at_most() {
        for (duration, said) in [
            (Duration::from_millis(420), "420 ms"),
            (Duration::from_millis(12_999), "12 s"),
            (Duration::from_secs(60), "1 min"),
            (Duration::from_secs(185), "3 min 5 s"),
            (Duration::from_secs(15_059), "4 h 10 min"),
            (Duration::from_secs(784_999), "9 d 2 h"),
        ] {
            assert_eq!(brief(duration), said);
        }
    }

    #[test]
    fn latencies_are_said_in_two_digits() {
        for (micros, said) in [
            (420, "0.42 ms"),
            (4_200, "4.2 ms"),
            (42_420, "42 ms"),
            (1_300_000, "1.3 s"),
        ] {
            assert_eq!(latency(micros), said);
        }
    }

    #[test]
    fn the_phases_of_a_truncated_history_begin_with_what_it_still_tells() {
        let mut status = samples::open();
        assert_eq!(status.phases().len(), status.transitions.len() + 1);
        assert_eq!(status.phases()[0].reason, "the gate started");
        let last = status.transitions[1].clone();
        status.transitions.resize(HISTORY, last);
        assert_eq!(status.phases().len(), HISTORY);
    }
}
