//! Warms the app up with declared requests until there is evidence that it is warm.
//!
//! Each declared request once, in order; then windows of equal size at one equal concurrency, so
//! that their latencies can be compared, until the last few of them are at the target or no longer
//! improve.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{
    net::TcpStream,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{
    check::{describe, describe_http},
    state::Outcome,
};
use crate::contract::{StatusRange, Warmup, WarmupBody};

/// What a warm-up request carries, so that the app and its logs can tell it from a client's.
pub const MARK: HeaderName = HeaderName::from_static("x-portcullis-warmup");

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

/// A request, ready to be sent again and again.
#[derive(Debug)]
struct Shot {
    app: Vec<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    status: Vec<StatusRange>,
    weight: u32,
    /// `GET /catalog`, for reasons.
    name: String,
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

/// Hands out which request is sent next, and when.
#[derive(Debug)]
struct Pacer {
    next: Instant,
    gap: Duration,
    /// Of each request: its credit, and how often it was sent.
    credits: Vec<(i64, u32)>,
    min: u32,
}

/// How many windows the status page shows.
const SHOWN_WINDOWS: usize = 200;

/// A body from a file is at most this long.
const MAX_BODY: u64 = 1024 * 1024;

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
/// them latency has improved by less than a tenth.
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
    let flat = last * 10 > first * 9;
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

async fn load(settings: &Warmup, ports: &[(String, Vec<SocketAddr>)]) -> Result<Vec<Shot>, String> {
    let mut shots = Vec::with_capacity(settings.requests.len());
    for request in &settings.requests {
        let app = match &request.port {
            Some(name) => ports.iter().find(|(port, _)| port == name),
            None => ports.first(),
        };
        let app = app
            .map(|(_, addresses)| addresses.clone())
            .unwrap_or_default();
        let body = match &request.body {
            None => Bytes::new(),
            Some(WarmupBody::Text(text)) => Bytes::from(text.clone()),
            Some(WarmupBody::File(path)) => read(path).await?,
        };
        let host = app.first().map_or_else(String::new, ToString::to_string);
        let agent = concat!("portcullis-gate/", env!("CARGO_PKG_VERSION"));
        let own = [(header::HOST, host.as_str()), (header::USER_AGENT, agent)];
        let given = request.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        });
        let own = own
            .into_iter()
            .filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
        let path = request.path.split('?').next().unwrap_or_default();
        shots.push(Shot {
            app,
            // Both were found good when the settings were read.
            method: request.method.parse().unwrap_or_default(),
            uri: request.path.parse().unwrap_or_default(),
            headers: own
                .chain(given)
                .chain([(MARK, HeaderValue::from_static("1"))])
                .collect(),
            body,
            status: request.status.clone(),
            weight: request.weight,
            name: format!("{} {path}", request.method),
        });
    }
    Ok(shots)
}

async fn read(path: &str) -> Result<Bytes, String> {
    let unreadable = |error: std::io::Error| format!("file {path}: {}", describe(&error));
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if length > MAX_BODY {
        return Err(format!("file {path}: is longer than 1 MiB"));
    }
    tokio::fs::read(path)
        .await
        .map(Bytes::from)
        .map_err(unreadable)
}

// === impl Shot ===

impl Shot {
    /// Sends it on the kept connection, or on a new one, and reads the answer to its end.
    async fn send(
        &self,
        kept: &mut Option<(Vec<SocketAddr>, SendRequest<Full<Bytes>>)>,
    ) -> Result<(), String> {
        let fail = |why: String| format!("{}: {why}", self.name);
        let broken = |error: hyper::Error| fail(describe_http(&error));
        let reusable = match kept.take() {
            Some((app, mut sender)) if app == self.app => {
                sender.ready().await.is_ok().then_some(sender)
            }
            _ => None,
        };
        let mut sender = match reusable {
            Some(sender) => sender,
            None => self.connect().await.map_err(fail)?,
        };
        let response = sender.send_request(self.request()).await.map_err(broken)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(broken)?;
        }
        *kept = Some((self.app.clone(), sender));
        if self.status.iter().any(|range| range.contains(status)) {
            Ok(())
        } else {
            Err(fail(status.to_string()))
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect(self.app.as_slice())
            .await
            .map_err(|error| describe(&error))?;
        stream.set_nodelay(true).map_err(|error| describe(&error))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| describe_http(&error))?;
        // Ends with its sender, which its worker holds; errors come out of the sender, too.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        request
    }
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

// === impl Pacer ===

impl Pacer {
    fn new(settings: &Warmup, shots: &[Shot]) -> Self {
        Self {
            next: Instant::now(),
            gap: Duration::from_secs(1) / settings.rate,
            credits: vec![(0, 1); shots.len()],
            min: settings.min_requests,
        }
    }

    /// When the next request may be sent. What was not sent in time is not made up for.
    fn slot(&mut self) -> Instant {
        let slot = self.next.max(Instant::now());
        self.next = slot + self.gap;
        slot
    }

    /// Whether each request has been sent as often as a verdict asks for.
    fn is_complete(&self) -> bool {
        self.credits.iter().all(|(_, sent)| *sent >= self.min)
    }

    /// The next `count` requests: by weight, spread evenly (smooth weighted round robin, as nginx
    /// chooses servers). Until each has been sent often enough, those that have are left out.
    fn draw(&mut self, shots: &[Shot], count: usize) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(count);
        for _ in 0..count {
            let complete = self.is_complete();
            let (min, mut total) = (self.min, 0);
            let mut best: Option<(usize, i64)> = None;
            for (index, (shot, credit)) in shots.iter().zip(&mut self.credits).enumerate() {
                if !complete && credit.1 >= min {
                    continue;
                }
                credit.0 += i64::from(shot.weight);
                total += i64::from(shot.weight);
                if best.is_none_or(|(_, most)| credit.0 > most) {
                    best = Some((index, credit.0));
                }
            }
            let Some((index, _)) = best else { break };
            if let Some(credit) = self.credits.get_mut(index) {
                credit.0 -= total;
                credit.1 = credit.1.saturating_add(1);
            }
            drawn.push(index);
        }
        drawn
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
