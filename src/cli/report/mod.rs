//! `portcullis report`: a periodic audit in the cluster, which keeps one report a namespace, gauges and a few Events.
//!
//! ```text
//! Lease -> rounds: audit -> shelf (reports, where they differ)
//!                        -> workloads -> events
//!                  gates -> events (what closed gates say)
//! ```
//!
//! Nothing is written for a request, and nothing twice.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use kube::{Client, Config};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{
    cluster::{self, ClusterError},
    installed,
    options::ClusterChoice,
};
use crate::{
    facts::access::REPORT_LEASE,
    lease::{Lease, Office, Tenure, identity},
    server::{self, Admin, BindError, Limits, Meters, Readiness},
    settings,
};

/// One Event an object.
mod events;

/// What closed gates say.
mod gates;

/// One table, and the handles that count.
pub mod metrics;

/// Again and again.
mod rounds;

/// The reports in the cluster.
mod shelf;

/// Which workloads are told of.
mod workloads;

/// One write.
mod write;

use rounds::Rounds;

/// Options of `portcullis report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit status:
  0   asked to end; with --once: all was read and written, whatever was found
  2   with --once: not all could be read or written
  64  the options, the kubeconfig or the settings file can't be used
  1   anything else

Writes one report a namespace (openreports.io, else wgpolicyk8s.io) where it differs from the one that is there, and Events
on workloads that break a rule and on pods whose gate is closed for over 30 s. manifests/report installs it with its rights.

Examples:
  portcullis report
  portcullis report --every 30m -n shop
  portcullis report --once")]
pub struct ReportArgs {
    #[command(flatten)]
    every: Every,

    /// Only these namespaces; give it again for another
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<String>,

    /// Audit once and end, without a Lease: for a CronJob
    #[arg(long)]
    once: bool,

    /// Settings file, as the server reads it, in place of the settings in the cluster
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// The namespace that Portcullis is installed in, where the Lease is, too
    #[arg(
        long,
        env = "PORTCULLIS_NAMESPACE",
        default_value = installed::NAMESPACE,
        value_name = "NAMESPACE"
    )]
    installed_in: String,

    /// Name of this replica: its pod's, inside a cluster
    #[arg(long, env = "PORTCULLIS_REPLICA", default_value = "portcullis-report")]
    replica: String,

    /// Where /live, /ready and /metrics are served, without TLS
    #[arg(long, default_value = "[::]:8080", value_name = "ADDRESS")]
    admin_listen: SocketAddr,

    #[command(flatten)]
    cluster: ClusterChoice,
}

/// How often it looks.
#[derive(Args, Clone, Copy, Debug)]
struct Every {
    /// From the end of one audit to the next; at least a minute
    #[arg(long = "every", default_value = "10m", value_name = "DURATION", value_parser = a_minute)]
    audits: Duration,

    /// From one look for closed gates to the next; at least ten seconds
    #[arg(long = "gates-every", default_value = "30s", value_name = "DURATION", value_parser = ten_seconds)]
    looks: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was read and written, or it was asked to end.
    Done,
    /// Not all could be read or written.
    Lacking,
}

/// Why it did not start, or ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to look at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The settings can't be used.
    #[error("--settings")]
    Settings(#[from] settings::Error),
    /// A port is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The process could not be set up.
    #[error("cannot start")]
    Start(#[from] std::io::Error),
    /// There is no randomness to tell this process from another.
    #[error("cannot draw a name for this process")]
    Identity(#[from] rustls::Error),
}

/// Who audits, of several replicas.
const OFFICE: Office = Office {
    name: REPORT_LEASE,
    held: "this replica audits from now on",
    alone: "no right to the Lease, so nothing is audited: apply manifests/report",
};

/// Of the admin endpoints: probes and scrapes, each a connection of its own at worst.
const LIMITS: Limits = Limits {
    connections: 64,
    handshake_timeout: Duration::from_secs(5),
    header_timeout: Duration::from_secs(5),
    idle_timeout: Some(Duration::from_secs(120)),
    header_bytes: 16 * 1024,
    buffer_bytes: 16 * 1024,
    drain_delay: Duration::ZERO,
    shutdown_timeout: Duration::from_secs(1),
};

/// Audits until SIGTERM or SIGINT, or once.
pub fn run(args: &ReportArgs) -> Result<Outcome, Error> {
    if let Some(file) = &args.settings {
        settings::read(file)?; // a mistake from the start is one of use
    }
    cluster::runtime()?.block_on(async {
        let config = cluster::config(&args.cluster).await?;
        let config = cluster::impatient(config);
        let rounds = Rounds::new(args, config.clone())?;
        if args.once {
            let is_well = rounds.once().await;
            return Ok(if is_well {
                Outcome::Done
            } else {
                Outcome::Lacking
            });
        }
        let terminated = server::terminated()?;
        let listener = server::bind("--admin-listen", args.admin_listen).await?;
        let lease = lease(args, config)?;
        let shutdown = async {
            let signal = terminated.await;
            tracing::info!(signal, "leaving");
        };
        serve(&rounds, lease, listener, shutdown).await;
        Ok(Outcome::Done)
    })
}

fn lease(args: &ReportArgs, config: Config) -> Result<Lease, Error> {
    let client = Client::try_from(config);
    let client = client.map_err(|error| ClusterError::Client(Box::new(error)))?;
    let identity = identity(&args.replica)?;
    Ok(Lease::new(client, &args.installed_in, OFFICE, identity))
}

/// Until `shutdown` resolves; the Lease is given back before this returns.
async fn serve(
    rounds: &Rounds,
    lease: Lease,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let (tell, tenure) = watch::channel(Tenure::default());
    let (left, stop) = (CancellationToken::new(), CancellationToken::new());
    let lease = tokio::spawn(lease.keep(tell, left.clone()));
    let admin = server::serve(
        listener,
        None,
        Admin::new(Readiness::default(), rounds.metrics.handle()),
        (LIMITS, Meters::unwatched()),
        stop.clone().cancelled_owned(),
    );
    let work = async {
        tokio::select! {
            biased; // a request that is cut off was taken or was not: the next round reads what came of it
            () = shutdown => {}
            () = hold(rounds, tenure) => {}
        }
        left.cancel();
        let _ = lease.await; // bounded: see there
        stop.cancel();
    };
    tokio::join!(work, admin);
}

/// Works for as long as the Lease is held, and again when it is held again.
async fn hold(rounds: &Rounds, mut tenure: watch::Receiver<Tenure>) {
    loop {
        let held = tenure.wait_for(|tenure| *tenure == Tenure::Held).await;
        if held.is_err() {
            return; // nobody claims it any more: the process is leaving
        }
        drop(held);
        tokio::select! {
            biased; // as above
            _ = tenure.wait_for(|tenure| *tenure != Tenure::Held) => {}
            () = rounds.run() => {}
        }
        rounds.metrics.hand_over();
    }
}

fn a_minute(text: &str) -> Result<Duration, String> {
    at_least(Duration::from_secs(60), text)
}

fn ten_seconds(text: &str) -> Result<Duration, String> {
    at_least(Duration::from_secs(10), text)
}

fn at_least(least: Duration, text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < least {
        let least = humantime::format_duration(least);
        return Err(format!(
            "the API server has other work, too: at least {least}"
        ));
    }
    Ok(duration)
}

// === impl Outcome ===

impl Outcome {
    /// The exit status that tells it: 0 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Lacking => 2,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 1 where the machine is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cluster(_) | Self::Settings(_) => 64,
            Self::Bind(_) | Self::Start(_) | Self::Identity(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_makes_it_look_all_the_time() {
        assert_eq!(a_minute("1m"), Ok(Duration::from_secs(60)));
        let refusal = a_minute("59s").unwrap_err();
        assert!(refusal.ends_with("at least 1m"), "{refusal}");
        assert_eq!(ten_seconds("10s"), Ok(Duration::from_secs(10)));
        assert!(ten_seconds("9s").is_err() && ten_seconds("often").is_err());
    }
}
