//! `portcullis doctor`: is the installation sound? Each check says what is wrong and how to mend it.
//!
//! ```text
//! kubeconfig -> patient (what the caller may see of the cluster) -> checks -> report
//! ```

use std::io::{self, BufWriter, Write};

use clap::Args;
use kube::Config;

use super::{
    cluster::{self, ClusterError},
    options::{ClusterOptions, Format},
    progress::Progress,
    terminal::Pipe,
};

/// What the caller may see of the cluster.
mod patient;

/// Lines, and how they are written.
mod report;

/// Releases of the API server and the nodes.
mod versions;

/// The server's replicas.
mod server;

/// The webhook configurations: are they there, and open?
mod registration;

/// The guard of our labels: is it there, and as it was shipped?
mod label_guard;

/// The authority in them: is it the one that signs what is served?
mod certificate;

/// Does a bad object that goes to the API server come to us?
mod reach;

/// May the server do what it must?
mod rights;

/// Which namespaces are left out.
mod namespaces;

/// Pods and the gates they asked for.
mod gates;

/// What goes past a gate, and what cuts it off.
mod traffic;

use patient::Patient;
use report::Report;
pub(super) use report::{Level, Line};

/// Options of `portcullis doctor`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit status:
  0   sound (there may be warnings)
  1   something is broken
  2   nothing is broken as far as could be seen, but not all could be; or no cluster answers
  64  the options or the kubeconfig can't be used

Looks only, with the rights of the kubeconfig; the objects that it sends are dry runs.")]
pub struct DoctorArgs {
    /// The namespace that Portcullis is installed in
    #[arg(
        short,
        long,
        env = "PORTCULLIS_NAMESPACE",
        default_value = "portcullis-system"
    )]
    namespace: String,

    /// The namespace that the dry runs of bad objects are sent to: one where the rules hold, and where you may create
    /// Deployments and Pods
    #[arg(long, default_value = "default", value_name = "NAMESPACE")]
    dry_run_in: String,

    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// What came of an examination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is broken.
    Sound,
    /// Something is.
    Broken,
    /// Nothing is as far as could be seen, but not all could be.
    Unknown,
}

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to look at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is one, and it does not answer.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// Standard output or standard error can't be written to.
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// What is looked at, in the order in which one thing rests on another.
#[derive(Clone, Copy, Debug)]
enum Check {
    Versions,
    Server,
    Registration,
    LabelGuard,
    Certificate,
    Reach,
    Rights,
    Namespaces,
    Gates,
    Services,
    NetworkPolicies,
}

/// Examines what `args` name; lines go to `out`, signs of life to `errors`.
pub fn run(args: &DoctorArgs, out: impl Write, errors: impl Write) -> Result<Outcome, Error> {
    let runtime = cluster::runtime()?;
    runtime.block_on(examine(args, out, &mut Pipe::new(errors)))
}

/// What is wrong with pods and the gates they asked for in these namespaces, or in all: a check's name and its line.
pub(super) async fn traffic(
    config: Config,
    installed_in: &str,
    namespaces: &[String],
) -> Result<Vec<(&'static str, Line)>, ClusterError> {
    let patient = Patient::new(config, installed_in, installed_in)?.only_in(namespaces);
    match patient.census().await {
        Ok(census) if census.is_empty() => return Ok(Vec::new()), // nobody has heard of gates yet
        Ok(_) => {}
        Err(why) => {
            let line = Line::unknown("pods and their gates", &why);
            return Ok(vec![(Check::Gates.name(), line)]);
        }
    }
    let mut lines = Vec::new();
    for check in [Check::Gates, Check::Services, Check::NetworkPolicies] {
        let found = check.look(&patient).await;
        lines.extend(found.into_iter().map(|line| (check.name(), line)));
    }
    lines.retain(|(_, line)| line.level != Level::Ok);
    Ok(lines)
}

async fn examine(
    args: &DoctorArgs,
    out: impl Write,
    errors: &mut dyn Write,
) -> Result<Outcome, Error> {
    let config = args.cluster.config().await?;
    let server = config.cluster_url.to_string();
    let patient = Patient::new(config, &args.namespace, &args.dry_run_in)?;
    patient.release().await.map_err(Error::Unreachable)?;
    let mut report = Report::default();
    let mut progress = Progress::new("examined", Check::ALL.len());
    for check in Check::ALL {
        progress.step(errors)?;
        for line in check.look(&patient).await {
            report.push(check.name(), line);
        }
    }
    progress.clear(errors)?;
    let mut out = BufWriter::new(Pipe::new(out));
    match args.output {
        Format::Text => report.write_text(&server, args.cluster.palette(), &mut out)?,
        Format::Json => report.write_json(&server, &mut out)?,
    }
    out.flush()?;
    Ok(report.outcome())
}

// === impl Check ===

impl Check {
    const ALL: [Self; 11] = [
        Self::Versions,
        Self::Server,
        Self::Registration,
        Self::LabelGuard,
        Self::Certificate,
        Self::Reach,
        Self::Rights,
        Self::Namespaces,
        Self::Gates,
        Self::Services,
        Self::NetworkPolicies,
    ];

    /// As output writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Versions => "versions",
            Self::Server => "server",
            Self::Registration => "registration",
            Self::LabelGuard => "label-guard",
            Self::Certificate => "certificate",
            Self::Reach => "reach",
            Self::Rights => "rights",
            Self::Namespaces => "namespaces",
            Self::Gates => "gates",
            Self::Services => "services",
            Self::NetworkPolicies => "network-policies",
        }
    }

    async fn look(self, patient: &Patient) -> Vec<Line> {
        match self {
            Self::Versions => versions::look(patient).await,
            Self::Server => server::look(patient).await,
            Self::Registration => registration::look(patient).await,
            Self::LabelGuard => label_guard::look(patient).await,
            Self::Certificate => certificate::look(patient).await,
            Self::Reach => reach::look(patient).await,
            Self::Rights => rights::look(patient).await,
            Self::Namespaces => namespaces::look(patient).await,
            Self::Gates => gates::look(patient).await,
            Self::Services => traffic::services(patient).await,
            Self::NetworkPolicies => traffic::network_policies(patient).await,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// The exit status that tells it: 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Broken => 1,
            Self::Unknown => 2,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 2 where the cluster or the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cluster(_) => 64,
            Self::Unreachable(_) | Self::Output(_) => 2,
        }
    }
}
