//! What the holder of the Lease does, again and again: an audit with all that is written of it, and a look at gates.

use std::{
    collections::HashSet,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::{
    Every, ReportArgs,
    events::{Herald, Notice, Told},
    gates,
    metrics::{Metrics, Object, Outcome},
    shelf::{Shelf, ShelfError},
    workloads,
    write::Refused,
};
use crate::{
    audit::{Report, Scope, Walk},
    cli::{
        audit::{mend, told},
        cluster::{self, Api, ClusterError},
        installed,
    },
    facts::Live,
    policy::settings::Settings,
    settings,
    telemetry::chain,
};

/// How often the same is told of a workload: a little more often than the API server forgets an Event (`--event-ttl`, an
/// hour), so that `kubectl describe` shows it for as long as it is true.
const WORKLOAD_PAUSE: Duration = Duration::from_secs(50 * 60);

/// How often the same is told of a pod's gate.
const GATE_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Events of one round; the rest has its turn in the next one. Each is two requests.
const MAX_EVENTS: usize = 100;

/// After an audit that was not whole or not written, doubled each time: an API server that was in trouble may be well
/// again, and a right that is missing is not given within a minute.
const RETRY: Duration = Duration::from_secs(60);

/// Audits a cluster, and writes what it finds.
pub(super) struct Rounds {
    api: Api,
    live: Live,
    scope: Scope,
    settings: Option<PathBuf>,
    installed_in: String,
    every: Every,
    pub(super) metrics: Metrics,
}

/// How far an audit came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// All was read, and written where it differed.
    Well,
    /// All was, but for reports: the cluster has no API for them, and need not have one.
    WithoutReports,
    /// Not all could be read or written.
    Lacking,
}

/// What is complained of, each thing once for as long as it lasts.
#[derive(Debug, Default)]
struct Complaints {
    before: HashSet<String>,
    now: HashSet<String>,
}

// === impl Rounds ===

impl Rounds {
    pub(super) fn new(args: &ReportArgs, config: kube::Config) -> Result<Self, ClusterError> {
        Ok(Self {
            api: Api::connect(config.clone())?,
            live: cluster::facts(config)?,
            scope: Scope {
                namespaces: args.namespace.clone(),
                left_out: installed::left_out(&args.installed_in),
                would_deny: false,
            },
            settings: args.settings.clone(),
            installed_in: args.installed_in.clone(),
            every: args.every,
            metrics: Metrics::new(),
        })
    }

    /// For ever. What was told before is read from the cluster, so whoever takes over repeats nothing.
    pub(super) async fn run(&self) {
        tokio::join!(self.audits(), self.looks());
    }

    /// One audit and one look, with all that is written; false where not all could be read or written.
    pub(super) async fn once(&self) -> bool {
        let mut complaints = Complaints::default();
        let ended = self.audit(&mut workload_herald(), &mut complaints).await;
        let is_seen = self.look(&mut gate_herald(), &mut complaints).await;
        ended == Ended::Well && is_seen
    }

    async fn audits(&self) {
        let (mut herald, mut complaints) = (workload_herald(), Complaints::default());
        let mut retry = RETRY;
        loop {
            let ended = self.audit(&mut herald, &mut complaints).await;
            complaints.turn();
            let pause = if ended == Ended::Lacking {
                retry.min(self.every.audits)
            } else {
                self.every.audits
            };
            retry = if ended == Ended::Lacking {
                pause * 2
            } else {
                RETRY
            };
            sleep(pause).await;
        }
    }

    async fn looks(&self) {
        let (mut herald, mut complaints) = (gate_herald(), Complaints::default());
        let mut ticks = interval(self.every.looks);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(&mut herald, &mut complaints).await;
            complaints.turn();
        }
    }

    async fn audit(&self, herald: &mut Herald, complaints: &mut Complaints) -> Ended {
        let begun = Instant::now();
        let settings = match self.settings().await {
            Ok(settings) => settings,
            Err(why) => {
                complaints.make(format!(
                    "the settings can't be used, so nothing is audited: {why}"
                ));
                return Ended::Lacking;
            }
        };
        let mut report = Report::default();
        let mut walk = Walk::new(&self.live, &settings, &self.scope);
        while let Some(batch) = walk.next().await {
            report.add(batch);
        }
        let report = report.sorted();
        let took = begun.elapsed();
        self.metrics.found(&report, took.as_secs_f64());
        for unread in report.unread() {
            complaints.make(format!("{}; {}", told(&unread), mend(&unread)));
        }
        let filed = self.file(&report, complaints).await;
        let notices = workloads::notices(&report);
        if report.is_whole() {
            let uids = workloads::uids(&notices);
            herald.keep(|uid| uids.contains(uid));
        }
        let are_told = self.tell(Object::WorkloadEvent, &notices, herald, complaints);
        let ended = if are_told.await {
            filed
        } else {
            Ended::Lacking
        };
        if ended != Ended::Lacking {
            self.metrics.succeeded(now());
        }
        let workloads = report.records().len();
        tracing::info!(workloads, violating = notices.len(), ?took, "audited");
        ended
    }

    /// The reports; none where a list was not read, since what nobody saw is not gone.
    async fn file(&self, report: &Report, complaints: &mut Complaints) -> Ended {
        if !report.is_whole() {
            let words = "not every list was read, so all reports are left as they are";
            complaints.make(words.to_owned());
            return Ended::Lacking;
        }
        let archive = Shelf {
            api: &self.api,
            metrics: &self.metrics,
            namespaces: &self.scope.namespaces,
        };
        let Err(error) = archive.keep(report).await else {
            return Ended::Well;
        };
        complaints.make(error.to_string());
        match error {
            ShelfError::NotServed => Ended::WithoutReports,
            ShelfError::Unread(_) | ShelfError::Unwritten { .. } => Ended::Lacking,
        }
    }

    /// False where the pods could not be listed, or an Event not be written.
    async fn look(&self, herald: &mut Herald, complaints: &mut Complaints) -> bool {
        match gates::shut(&self.api, &self.scope.namespaces).await {
            Ok(shut) => {
                let uids: HashSet<_> = shut.iter().map(|shut| shut.uid().to_owned()).collect();
                herald.keep(|uid| uids.contains(uid));
                let notices = gates::notices(shut, herald).await;
                self.tell(Object::GateEvent, &notices, herald, complaints)
                    .await
            }
            Err(why) => {
                complaints.make(format!("pods can't be looked at: {why}"));
                false
            }
        }
    }

    /// Tells what is due. False where one could not be told.
    async fn tell(
        &self,
        object: Object,
        notices: &[Notice],
        herald: &mut Herald,
        complaints: &mut Complaints,
    ) -> bool {
        let mut due: Vec<_> = notices
            .iter()
            .filter(|notice| herald.is_due(notice))
            .collect();
        // Or the same hundred would be repeated, and the rest never told.
        due.sort_by_key(|notice| !herald.is_new(&notice.subject.uid));
        // A namespace that refuses one refuses all, and must not take the others' turn.
        let mut refusing: HashSet<&str> = HashSet::new();
        let (mut room, mut is_well) = (MAX_EVENTS, true);
        for notice in due {
            let namespace = notice.subject.namespace.as_str();
            if room == 0 || refusing.contains(namespace) {
                continue;
            }
            room -= 1;
            let outcome = match herald.tell(&self.api, notice).await {
                Ok(Told::Now) => Outcome::Written,
                Ok(Told::Before) => Outcome::Unchanged,
                Err(refused) => {
                    refusing.insert(namespace);
                    if let Refused::Because(why) = refused {
                        let words = format!("no Events in namespace {namespace}: {why}");
                        complaints.make(words);
                        is_well = false;
                    }
                    Outcome::Failed
                }
            };
            self.metrics.count(object, outcome, 1);
        }
        is_well
    }

    /// Those of the file that was named, else those in the cluster, read anew for each audit.
    async fn settings(&self) -> Result<Settings, String> {
        match &self.settings {
            Some(file) => settings::read(file).map_err(|error| chain(&error)),
            None => installed::settings(&self.api, &self.installed_in).await,
        }
    }
}

fn workload_herald() -> Herald {
    Herald::new("PolicyViolation", "portcullis-violation", WORKLOAD_PAUSE)
}

fn gate_herald() -> Herald {
    Herald::new("GateClosed", "portcullis-gate", GATE_PAUSE)
}

/// In seconds since 1970.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

// === impl Complaints ===

impl Complaints {
    fn make(&mut self, words: String) {
        if !self.before.contains(&words) && !self.now.contains(&words) {
            tracing::warn!("{words}");
        }
        self.now.insert(words);
    }

    /// What is not complained of again is forgotten, so that it is said when it comes back.
    fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}
