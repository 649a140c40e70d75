//! Deep checks: one file a kind, and the loop that runs each at its pace.
//!
//! Each check has one task, so at most one run of it is in flight, and whoever asks (readiness,
//! status, metrics) is shown the last report.

mod connection;

mod failure;

mod secret;

// The kinds.
mod dns;

mod env;

mod file;

mod grpc;

mod http;

mod postgres;

mod redis;

mod tcp;

use std::{
    hash::{BuildHasher as _, RandomState},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use self::{connection::Target, failure::Failure, grpc::Grpc, http::Http};
pub(super) use self::{failure::describe, http::describe_http};
use crate::contract::{Check, CheckKind, DatabaseCheck, DnsCheck, EnvCheck, FileCheck, Scope};

/// One run of one check.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its place in the settings.
    pub check: usize,
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// What it found: `Err` says what is wrong, in words that stay the same while it is.
    pub result: Result<(), String>,
}

/// How often checks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// The gate is open: what is only reported need not be asked often.
    pub open: bool,
    /// Raised to have every check run now.
    pub round: u64,
}

/// A check, ready to run.
#[derive(Debug)]
struct Probe {
    kind: Kind,
    timeout: Duration,
}

#[derive(Debug)]
enum Kind {
    Http(Http),
    Tcp(Target),
    Dns(DnsCheck),
    Grpc(Grpc),
    File(FileCheck),
    Env(EnvCheck),
    Postgres(DatabaseCheck),
    Redis(DatabaseCheck),
}

/// From the start of one run to the start of the next.
#[derive(Clone, Copy, Debug)]
struct Periods {
    shut: Duration,
    open: Duration,
}

/// What is only reported once the gate is open is asked no more often: a hundred replicas that ask
/// a shared database every second are a load of their own.
const OPEN_PERIOD: Duration = Duration::from_secs(30);

/// Runs `checks` for as long as the set lives, and sends what they find to `reports`. `app` holds
/// the addresses of the app's first port.
pub fn spawn(
    checks: &[Check],
    app: &[SocketAddr],
    pace: &watch::Receiver<Pace>,
    reports: &mpsc::Sender<Report>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (index, check) in checks.iter().enumerate() {
        let probe = Probe::new(check, app);
        let calm = match check.scope {
            Scope::Always => check.period,
            Scope::Startup => check.period.max(OPEN_PERIOD),
        };
        let periods = Periods {
            shut: check.period,
            open: calm,
        };
        tasks.spawn(keep_running(
            (index, probe),
            periods,
            pace.clone(),
            reports.clone(),
        ));
    }
    tasks
}

async fn keep_running(
    (check, probe): (usize, Probe),
    periods: Periods,
    mut pace: watch::Receiver<Pace>,
    reports: mpsc::Sender<Report>,
) {
    loop {
        let began = Instant::now();
        let result = probe.run().await.map_err(Failure::into_text);
        let report = Report {
            check,
            began,
            took: began.elapsed(),
            result,
        };
        if reports.send(report).await.is_err() {
            return;
        }
        loop {
            let current = *pace.borrow_and_update();
            let next = began + periods.at(current);
            tokio::select! {
                biased; // both are cancel-safe; a new round is not to wait for the period
                changed = pace.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if pace.borrow().round != current.round {
                        break;
                    }
                }
                () = sleep_until(next) => break,
            }
        }
    }
}

// === impl Periods ===

impl Periods {
    /// An open gate adds up to a tenth, by chance, so that replicas that started together do not
    /// ask together for ever.
    fn at(self, pace: Pace) -> Duration {
        if !pace.open || self.open == self.shut {
            return self.shut;
        }
        let chance = RandomState::new().hash_one(()) % 100;
        let tenth = u32::try_from(chance).unwrap_or_default();
        self.open + self.open * tenth / 1000
    }
}

// === impl Probe ===

impl Probe {
    fn new(check: &Check, app: &[SocketAddr]) -> Self {
        let target = |host: &Option<String>, port: Option<u16>, default: Option<u16>| {
            let port = port
                .or(default)
                .or_else(|| app.first().map(SocketAddr::port));
            let port = port.unwrap_or_default();
            match host {
                Some(host) => Target::Host(host.clone(), port),
                None => Target::App(
                    app.iter()
                        .map(|address| SocketAddr::new(address.ip(), port))
                        .collect(),
                ),
            }
        };
        let kind = match &check.kind {
            CheckKind::Http(http) => {
                let default = http.host.is_some().then_some(80);
                Kind::Http(Http::new(
                    http,
                    false,
                    target(&http.host, http.port, default),
                ))
            }
            CheckKind::Https(http) => {
                let default = http.host.is_some().then_some(443);
                Kind::Http(Http::new(
                    http,
                    true,
                    target(&http.host, http.port, default),
                ))
            }
            CheckKind::Tcp(tcp) => Kind::Tcp(target(&tcp.host, Some(tcp.port), None)),
            CheckKind::Dns(dns) => Kind::Dns(dns.clone()),
            CheckKind::Grpc(grpc) => Kind::Grpc(Grpc {
                target: target(&grpc.host, grpc.port, None),
                service: grpc.service.clone(),
            }),
            CheckKind::File(file) => Kind::File(file.clone()),
            CheckKind::Env(env) => Kind::Env(env.clone()),
            CheckKind::Postgres(database) => Kind::Postgres(database.clone()),
            CheckKind::Redis(database) => Kind::Redis(database.clone()),
        };
        Self {
            kind,
            timeout: check.timeout,
        }
    }

    async fn run(&self) -> Result<(), Failure> {
        let run = async {
            match &self.kind {
                Kind::Http(http) => http.run().await,
                Kind::Tcp(target) => tcp::run(target).await,
                Kind::Dns(dns) => dns::run(dns).await,
                Kind::Grpc(grpc) => grpc.run().await,
                Kind::File(file) => file::run(file).await,
                Kind::Env(env) => env::run(env),
                Kind::Postgres(database) => postgres::run(database).await,
                Kind::Redis(database) => redis::run(database).await,
            }
        };
        // Boxed: the database drivers' futures are large, and one task a check holds them.
        match timeout(self.timeout, Box::pin(run)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::late(self.subject().await, self.timeout)),
        }
    }

    async fn subject(&self) -> String {
        match &self.kind {
            Kind::Http(http) => http.subject(),
            Kind::Tcp(target) => tcp::subject(target),
            Kind::Dns(dns) => format!("dns {}", dns.name),
            Kind::Grpc(grpc) => grpc.subject(),
            Kind::File(file) => file::subject(file),
            Kind::Env(env) => format!("env {}", env.name),
            Kind::Postgres(database) => postgres::subject(database).await,
            Kind::Redis(database) => redis::subject(database).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_gate_asks_less_often_and_never_in_step_with_others() {
        let second = Duration::from_secs(1);
        let periods = Periods {
            shut: second,
            open: OPEN_PERIOD,
        };
        let at = |open| periods.at(Pace { open, round: 0 });
        assert_eq!(at(false), second);
        let many: Vec<_> = (0..50).map(|_| at(true)).collect();
        assert!(
            many.iter()
                .all(|period| (OPEN_PERIOD..=OPEN_PERIOD * 11 / 10).contains(period))
        );
        assert!(many.iter().any(|period| *period != at(true)));
    }
}
