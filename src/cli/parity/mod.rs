//! `portcullis parity`: two environments side by side, workload by workload and name by name; never a value.
//!
//! ```text
//! namespace or path -> side (cluster, files) --+
//!                                              +-> policy::parity -> matrix -> report
//! namespace or path -> side (cluster, files) --+
//! ```

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
    time::SystemTime,
};

use clap::{Args, ValueEnum};

use super::{
    cluster::{self, ClusterError},
    manifests::input::Problem,
    options::ClusterOptions,
    terminal::{Pipe, Shown},
};
use crate::{policy::settings::Settings, settings};

/// What is compared, and where it comes from.
mod side;

/// All that was compared.
mod matrix;

/// For people and for programs.
mod report;

/// For people with a browser.
mod html;

use matrix::Matrix;
use side::{Cluster, Side};

/// Options of `portcullis parity`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit status:
  0   the same workloads, with the same env names from the same places
  1   something differs
  2   an input, a namespace or the keys of an object could not be read
  64  the options, the kubeconfig or the settings file can't be used

Examples:
  portcullis parity staging production
  portcullis parity overlays/staging/ overlays/production/
  kubectl kustomize overlays/production | portcullis parity production -
  portcullis parity staging production -o html > parity.html
  portcullis parity staging production -o json | jq '.workloads[].env[] | select(.standing != \"same\")'")]
pub struct ParityArgs {
    /// A namespace of the cluster, or files: what holds a / or a . is a path (./staging), and - is standard input
    #[arg(value_name = "A", value_parser = Side::parse)]
    first: Side,

    /// What it is compared with, likewise
    #[arg(value_name = "B", value_parser = Side::parse)]
    second: Side,

    /// Show every name, not only those that differ (text; the others hold all)
    #[arg(long)]
    all: bool,

    /// Settings file, whose workloads are compared too
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// A format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a table
    Text,
    /// One file for a browser: to sort, filter and print; holds every name
    Html,
    /// For programs: all names
    Json,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No difference.
    Same,
    /// A workload or a name is missing, or a source is another.
    Different,
    /// Not all could be read.
    Unclear,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Both sides are standard input.
    #[error("only one of the two can be standard input")]
    Twice,
    /// The settings can't be used.
    #[error("--settings")]
    Settings(#[from] settings::Error),
    /// There is no cluster to look at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The namespace is not there.
    #[error(
        "there is no namespace \"{namespace}\"; for a file or folder of that name, write ./{namespace}"
    )]
    Missing {
        /// Its name.
        namespace: String,
    },
    /// It may be there, and can't be seen.
    #[error("can't look at namespace \"{namespace}\": {why}")]
    Unseen {
        /// Its name.
        namespace: String,
        /// What the API server said.
        why: String,
    },
    /// Standard output or standard error can't be written to.
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// Compares what `args` name; the matrix goes to `out`, what can't be read to `errors`.
pub fn run(args: &ParityArgs, out: impl Write, errors: impl Write) -> Result<Outcome, Error> {
    let runtime = cluster::runtime()?;
    runtime.block_on(compare(args, out, errors))
}

async fn compare(args: &ParityArgs, out: impl Write, errors: impl Write) -> Result<Outcome, Error> {
    let sides = [&args.first, &args.second];
    if sides.iter().all(|side| side.is_stdin()) {
        return Err(Error::Twice);
    }
    let settings = args.settings.as_deref().map(settings::read).transpose()?;
    let settings: Settings = settings.unwrap_or_default();
    let mut errors = Pipe::new(errors);
    let mut problems = 0;
    let mut told = |problem: &Problem| {
        problems += 1;
        writeln!(errors, "{}", Shown(&problem.to_string()))
    };
    let mut cluster = Cluster::new(&args.cluster);
    let first = args.first.load(&settings, &mut cluster, &mut told).await?;
    let second = args.second.load(&settings, &mut cluster, &mut told).await?;
    let matrix = Matrix::of(sides, [first, second]).await;
    let mut out = BufWriter::new(Pipe::new(out));
    match args.output {
        Format::Text => report::write_text(&matrix, args.all, args.cluster.palette(), &mut out)?,
        Format::Html => html::write(&matrix, SystemTime::now(), &mut out)?,
        Format::Json => report::write_json(&matrix, &mut out)?,
    }
    out.flush()?;
    Ok(matrix.outcome(problems))
}

// === impl Outcome ===

impl Outcome {
    /// The exit status that tells it: 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Same => 0,
            Self::Different => 1,
            Self::Unclear => 2,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 2 where the cluster or the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Twice | Self::Settings(_) | Self::Cluster(_) => 64,
            Self::Missing { .. } | Self::Unseen { .. } | Self::Output(_) => 2,
        }
    }
}
