//! `portcullis audit`: the rules over what a cluster holds already.
//!
//! ```text
//! kubeconfig -> audit::Walk (pages, judged) -> audit::Report -> baseline (what is new) -> output
//! ```

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::SystemTime,
};

use clap::{Args, ValueEnum};
use kube::Config;
use serde_json::Value;

use super::{
    cluster::{self, Api, ClusterError},
    doctor::{self, Level, Line},
    installed,
    options::ClusterOptions,
    output::{Junit, Sarif},
    progress::Progress,
    terminal::Pipe,
};
use crate::{
    audit::{Report, Scope, Unread, Walk},
    policy::settings::Settings,
    settings,
};

/// What was known before.
mod baseline;

/// What was let in.
mod let_in;

/// The formats.
mod output;

/// For people.
mod text;

/// For people with a browser.
mod html;

/// For programs.
mod json;

#[cfg(test)]
mod tests;

pub use baseline::BaselineError;
use baseline::{Baseline, Change};
use html::Circumstances;
pub(super) use output::{mend, told};

/// Options of `portcullis audit`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit status:
  0   nothing would be refused (there may be warnings)
  1   something would be
  2   nothing would be as far as could be seen, but not all could be; or no cluster answers
  64  the options, the kubeconfig or the settings file can't be used

Looks only, with the rights of the kubeconfig: list on the kinds of workloads, and what the server may do itself: get on
Secrets (never list: names of keys are read, never values), ConfigMaps, ServiceAccounts and Namespaces, list on LimitRanges.

Examples:
  portcullis audit
  portcullis audit -n shop -n billing
  portcullis audit --would-deny
  portcullis audit -o html > audit.html
  portcullis audit -o json > known.json; portcullis audit --baseline known.json")]
pub struct AuditArgs {
    /// Only these namespaces; give it again for another
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Vec<String>,

    /// What would break if all of it were enforced today: judge as if every namespace were labelled
    /// portcullis.dev/enforce: deny, and tell it by namespace, the most broken first
    #[arg(long)]
    would_deny: bool,

    /// Tell only what is new since a former audit, which wrote this file with --output json; only that counts for the
    /// exit status
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Settings file, as the server reads it, in place of the settings in the cluster
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// The namespace that Portcullis is, or will be, installed in
    #[arg(
        long,
        env = "PORTCULLIS_NAMESPACE",
        default_value = installed::NAMESPACE,
        value_name = "NAMESPACE"
    )]
    installed_in: String,

    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// A format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a block a workload, with the YAML to paste
    Text,
    /// One file for a browser: to sort, filter and print
    Html,
    /// For programs: all findings and a summary
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML: a suite a namespace, a test case a workload
    Junit,
}

/// What came of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing would be refused.
    Passed,
    /// Something would be.
    Denied,
    /// Nothing would be as far as could be seen, but not all could be.
    Unknown,
}

/// Why nothing could be audited.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to look at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is one, and it does not answer.
    #[error("the API server does not answer: {0}")]
    Unreachable(String),
    /// A namespace that was named is not there.
    #[error("there is no namespace \"{0}\"")]
    NoNamespace(String),
    /// The former audit can't be used.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The settings can't be used.
    #[error("--settings")]
    Settings(#[from] settings::Error),
    /// Standard output or standard error can't be written to.
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// All that an audit tells.
#[derive(Debug)]
struct Told {
    report: Report,
    /// What the report lacks, and why: a former one had it.
    change: Option<Change>,
    /// Since when the API server knows of our webhook.
    registered: Option<String>,
    /// What is wrong with pods and their gates.
    gates: Vec<(&'static str, Line)>,
}

/// Audits what `args` name; verdicts go to `out`, signs of life to `errors`.
pub fn run(args: &AuditArgs, out: impl Write, errors: impl Write) -> Result<Outcome, Error> {
    let runtime = cluster::runtime()?;
    let baseline = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let config = runtime.block_on(args.cluster.config())?;
    let server = config.cluster_url.to_string();
    let mut told = runtime.block_on(audit(args, config, &mut Pipe::new(errors)))?;
    told.change = baseline.map(|baseline| baseline.subtract_from(&mut told.report));
    let mut out = BufWriter::new(Pipe::new(out));
    match args.output {
        Format::Text => text::write(&told, args.would_deny, args.cluster.palette(), &mut out)?,
        Format::Html => {
            let circumstances = Circumstances {
                server: &server,
                at: SystemTime::now(),
                would_deny: args.would_deny,
            };
            html::write(&told, circumstances, &mut out)?;
        }
        Format::Json => json::write(&told, &mut out)?,
        Format::Sarif => output::write(&told, &mut Sarif::default(), &mut out)?,
        Format::Junit => output::write(&told, &mut Junit::default(), &mut out)?,
    }
    out.flush()?;
    Ok(Outcome::of(&told))
}

async fn audit(args: &AuditArgs, config: Config, errors: &mut dyn Write) -> Result<Told, Error> {
    let api = Api::connect(config.clone())?;
    let version = api.get::<Value>("/version").await;
    version.map_err(Error::Unreachable)?;
    for name in &args.namespace {
        if api.lacks_namespace(name).await {
            return Err(Error::NoNamespace(name.clone()));
        }
    }
    let mut report = Report::default();
    let settings = in_force(args, &api, &mut report).await?;
    let live = cluster::facts(config.clone())?;
    let scope = Scope {
        namespaces: args.namespace.clone(),
        left_out: installed::left_out(&args.installed_in),
        would_deny: args.would_deny,
    };
    let mut walk = Walk::new(&live, &settings, &scope);
    let mut progress = Progress::new("judged", 0);
    while let Some(batch) = walk.next().await {
        progress.advance(batch.objects, batch.remaining, errors)?;
        report.add(batch);
    }
    progress.clear(errors)?;
    let registered = if args.would_deny {
        None // what would be refused then was let in rightly
    } else {
        let registered = let_in::registered(&api).await;
        registered.unwrap_or_else(|unread| {
            report.miss(unread);
            None
        })
    };
    let gates = doctor::traffic(config, &args.installed_in, &args.namespace).await?;
    Ok(Told {
        report: report.sorted(),
        change: None,
        registered,
        gates,
    })
}

/// The settings of the file that was named, else those in the cluster, else those of no file.
async fn in_force(args: &AuditArgs, api: &Api, report: &mut Report) -> Result<Settings, Error> {
    if let Some(file) = &args.settings {
        return Ok(settings::read(file)?);
    }
    let installed = installed::settings(api, &args.installed_in).await;
    Ok(installed.unwrap_or_else(|why| {
        report.miss(Unread {
            verb: "get",
            resource: "the settings, so that the built-in ones counted (--settings names a file)"
                .into(),
            why: why.into(),
            count: 1,
        });
        Settings::default()
    }))
}

// === impl Outcome ===

impl Outcome {
    fn of(told: &Told) -> Self {
        let mut gates = told.gates.iter();
        let unknown = told.report.unread().next().is_some()
            || gates.any(|(_, line)| line.level == Level::Unknown);
        match (output::summary(&told.report).denied, unknown) {
            (1.., _) => Self::Denied,
            (0, true) => Self::Unknown,
            (0, false) => Self::Passed,
        }
    }

    /// The exit status that tells it: 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Denied => 1,
            Self::Unknown => 2,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 2 where the cluster or the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cluster(_) | Self::NoNamespace(_) | Self::Baseline(_) | Self::Settings(_) => 64,
            Self::Unreachable(_) | Self::Output(_) => 2,
        }
    }
}
