//! Warms the app up with declared requests until there is evidence that it is warm.
//!
//! Each declared request once, in order; then windows of equal size at one equal concurrency, so
//! that their latencies can be compared, until the last few of them are at the target or no longer
//! improve.

mod connection;

mod pacer;

mod shot;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

pub use self::shot::MARK;
use self::{
    pacer::Pacer,
    shot::{Shot, load},
};
use super::state::Outcome;
use crate::contract::Warmup;

/// How an attempt at warming up has gone.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Warm, or not, and why.
    pub outcome: Outcome,
    /// Its numbers.
    pub numbers: Numbers,
}

/// The numbers of an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Numbers {
    /// 95 of 100 requests of the first pass took no longer, in microseconds.
    pub cold_p95_us: Option<u64>,
    /// The same of the last window.
    pub warm_p95_us: Option<u64>,
    /// Requests sent.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// How long the attempt has taken, in milliseconds.
    pub took_ms: u64,
    /// p95 of each window, in microseconds, the last 200 of them.
    pub windows_us: VecDeque<u64>,
}

/// What one batch of requests has shown.
#[derive(Debug, Default)]
struct Batch {
    /// Latencies of those that passed.
    passed: Vec<Duration>,
    errors: usize,
    /// The first failure, in words.
    failure: Option<String>,
}

/// How many windows the status page shows.
const SHOWN_WINDOWS: usize = 200;

/// One attempt, its numbers shown to `progress` after each window. `ports` are names and addresses
/// of the app's ports.
pub async fn attempt(
    settings: &Warmup,
    ports: &[(String, Vec<SocketAddr>)],
    progress: impl Fn(Numbers),
) -> Verdict {
    let began = Instant::now();
    let mut numbers = Numbers::default();
    let deadline = began + settings.max_duration;
    let run = run((settings, ports), progress, &mut numbers, began);
    let outcome = match tokio::time::timeout_at(deadline, run).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => Outcome::NotWarm(why),
        Err(_) => Outcome::NotWarm(too_slow(settings)),
    };
    numbers.took_ms = millis(began.elapsed());
    Verdict { outcome, numbers }
}

async fn run(
    (settings, ports): (&Warmup, &[(String, Vec<SocketAddr>)]),
    progress: impl Fn(Numbers),
    numbers: &mut Numbers,
    began: Instant,
) -> Result<Outcome, String> {
    let shots = Arc::new(load(settings, ports).await?);
    let pacer = Arc::new(Mutex::new(Pacer::new(settings, &shots)));
    // In order and one at a time: a later request may need what an earlier one has built up.
    let order: Vec<_> = (0..shots.len()).collect();
    let mut first = fire(&shots, &pacer, order, 1, settings.timeout).await;
    numbers.cold_p95_us = first.p95().map(micros);
    numbers.add(&first, began);
    first.require(settings)?;
    let mut recent = VecDeque::new();
    loop {
        let size = usize::try_from(settings.window_requests).unwrap_or(usize::MAX);
        let (order, complete) = {
            let mut pacer = lock(&pacer);
            let complete = pacer.is_complete();
            (pacer.draw(&shots, size), complete)
        };
        let mut window = fire(
            &shots,
            &pacer,
            order,
            settings.concurrency,
            settings.timeout,
        )
        .await;
        numbers.add(&window, began);
        window.require(settings)?;
        let Some(p95) = window.p95() else {
            continue;
        };
        numbers.warm_p95_us = Some(micros(p95));
        if numbers.windows_us.len() == SHOWN_WINDOWS {
            numbers.windows_us.pop_front();
        }
        numbers.windows_us.push_back(micros(p95));
        progress(numbers.clone());
        if complete {
            recent.push_back(p95);
            if let Some(outcome) = judge(settings, &mut recent) {
                return Ok(outcome);
            }
        }
    }
}

/// Warm when the last windows are all at the target; a plateau when from the first to the last of
/// them latency has changed by less than a tenth.
fn judge(settings: &Warmup, recent: &mut VecDeque<Duration>) -> Option<Outcome> {
    let windows = usize::try_from(settings.windows).unwrap_or(usize::MAX);
    while recent.len() > windows {
        recent.pop_front();
    }
    let (first, last) = (*recent.front()?, *recent.back()?);
    if recent.len() < windows {
        return None;
    }
    if let Some(target) = &settings.target
        && recent.iter().all(|p95| *p95 <= target.p95)
    {
        return Some(Outcome::Warm);
    }
    let flat = first.abs_diff(last) * 10 < first;
    let low = settings.max_p95.is_none_or(|max| last <= max);
    (flat && low).then_some(Outcome::Plateau)
}

fn too_slow(settings: &Warmup) -> String {
    let within = humantime::format_duration(settings.max_duration);
    match (&settings.target, settings.max_p95) {
        (Some(target), _) => {
            let target = humantime::format_duration(target.p95);
            format!("p95 was not at {target} and still changing after {within}")
        }
        (None, Some(max)) => {
            let max = humantime::format_duration(max);
            format!("p95 was above {max} or still falling after {within}")
        }
        (None, None) => format!("p95 was still falling after {within}"),
    }
}

/// Sends the requests of `order`, so many at a time, each worker on a connection of its own.
async fn fire(
    shots: &Arc<Vec<Shot>>,
    pacer: &Arc<Mutex<Pacer>>,
    order: Vec<usize>,
    concurrency: u32,
    limit: Duration,
) -> Batch {
    let order = Arc::new(Mutex::new(VecDeque::from(order)));
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        let (shots, pacer, order) = (Arc::clone(shots), Arc::clone(pacer), Arc::clone(&order));
        workers.spawn(async move {
            let mut batch = Batch::default();
            let mut kept = None;
            while let Some(shot) = next(&shots, &order) {
                let start = lock(&pacer).slot();
                sleep_until(start).await;
                let began = Instant::now();
                let sent = timeout(limit, shot.send(&mut kept)).await;
                match sent.unwrap_or_else(|_| {
                    let limit = humantime::format_duration(limit);
                    Err(format!("{}: no answer within {limit}", shot.name))
                }) {
                    Ok(()) => batch.passed.push(began.elapsed()),
                    Err(why) => {
                        kept = None;
                        batch.errors += 1;
                        batch.failure.get_or_insert(why);
                    }
                }
            }
            batch
        });
    }
    let mut all = Batch::default();
    while let Some(batch) = workers.join_next().await {
        // A worker that panicked is a defect of the gate; what the others found still holds.
        let batch = batch.unwrap_or_default();
        all.passed.extend(batch.passed);
        all.errors += batch.errors;
        all.failure = all.failure.or(batch.failure);
    }
    all
}

fn next<'a>(shots: &'a [Shot], order: &Mutex<VecDeque<usize>>) -> Option<&'a Shot> {
    let index = lock(order).pop_front()?;
    shots.get(index)
}

// === impl Batch ===

impl Batch {
    /// By nearest rank.
    fn p95(&mut self) -> Option<Duration> {
        self.passed.sort_unstable();
        let rank = (self.passed.len() * 95).div_ceil(100);
        self.passed.get(rank.checked_sub(1)?).copied()
    }

    /// `Err` when more requests failed than may.
    fn require(&self, settings: &Warmup) -> Result<(), String> {
        let sent = self.passed.len() + self.errors;
        if self.errors * 100 <= sent * usize::from(settings.max_error_percent) {
            return Ok(());
        }
        Err(self
            .failure
            .clone()
            .unwrap_or_else(|| "requests failed".to_owned()))
    }
}

// === impl Numbers ===

impl Numbers {
    fn add(&mut self, batch: &Batch, began: Instant) {
        let count = |count| u64::try_from(count).unwrap_or(u64::MAX);
        self.requests += count(batch.passed.len() + batch.errors);
        self.errors += count(batch.errors);
        self.took_ms = millis(began.elapsed());
    }
}

/// What these locks guard is whole at any time, also after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Warmup {
        serde_json::from_str(&format!(r#"{{"requests": [], "windows": 3{more}}}"#)).unwrap()
    }

    fn outcome(settings: &Warmup, millis: &[u64]) -> Option<Outcome> {
        let mut recent = VecDeque::new();
        millis.iter().find_map(|p95| {
            recent.push_back(Duration::from_millis(*p95));
            judge(settings, &mut recent)
        })
    }

    #[test]
    fn warm_is_so_many_windows_in_a_row_at_the_target() {
        let settings = settings(r#", "target": {"p95": "50ms"}"#);
        assert_eq!(outcome(&settings, &[900, 400, 50, 50]), None);
        assert_eq!(
            outcome(&settings, &[900, 400, 50, 50, 50]),
            Some(Outcome::Warm)
        );
        assert_eq!(outcome(&settings, &[900, 50, 50, 300, 20]), None);
    }

    #[test]
    fn a_plateau_is_no_change_by_a_tenth() {
        let settings = settings("");
        assert_eq!(outcome(&settings, &[900, 400, 200, 100, 80, 70]), None);
        assert_eq!(
            outcome(&settings, &[900, 100, 98, 91]),
            Some(Outcome::Plateau)
        );
        assert_eq!(
            outcome(&settings, &[100, 98, 90]),
            None,
            "a tenth is an improvement"
        );
    }

    #[test]
    fn a_plateau_above_the_ceiling_is_not_warm() {
        let settings = settings(r#", "maxP95": "90ms""#);
        assert_eq!(outcome(&settings, &[100, 100, 100, 100]), None);
        assert_eq!(outcome(&settings, &[90, 90, 90]), Some(Outcome::Plateau));
    }

    #[test]
    fn p95_is_by_nearest_rank() {
        let millis = |counts: std::ops::RangeInclusive<u64>| Batch {
            passed: counts.rev().map(Duration::from_millis).collect(),
            ..Batch::default()
        };
        assert_eq!(millis(1..=100).p95(), Some(Duration::from_millis(95)));
        assert_eq!(millis(1..=10).p95(), Some(Duration::from_millis(10)));
        assert_eq!(Batch::default().p95(), None);
    }

    #[test]
    fn a_batch_may_hold_so_many_errors_and_no_more() {
        let batch = |errors| Batch {
            passed: vec![Duration::ZERO; 20 - errors],
            errors,
            failure: Some("GET /: 500".into()),
        };
        assert_eq!(batch(2).require(&settings("")), Ok(()));
        assert_eq!(batch(3).require(&settings("")), Err("GET /: 500".into()));
    }
}
