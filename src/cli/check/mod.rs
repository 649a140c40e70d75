//! `portcullis check`: the rules on files, before they reach a cluster.
//!
//! ```text
//! paths -> input (files) -> object (documents, lists, namespaces) --facts--> facts --+
//!                                |                                             |     |
//!                                +---------------- subjects ---------------> judge --+-> output
//! ```

use std::{
    io::{self, BufWriter, IsTerminal as _, Write},
    path::PathBuf,
};

use clap::{Args, ValueEnum};

use super::{
    cluster::ClusterError,
    manifests::object::{Namespaces, Reader},
    options::ClusterChoice,
    output::{Github, Json, Junit, Output, Sarif, Summary, Text},
    terminal::{Color, Palette, Pipe},
};
use crate::{facts::Files, settings};

/// Who answers the judge.
mod facts;

/// The objects with the settings' patches.
mod patch;

/// Verdicts as they are reached, and their sums.
mod report;

use facts::{Cluster, Source};
use report::Report;

/// Options of `portcullis check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit status:
  0   nothing denied (there may be warnings)
  1   something denied
  2   an input could not be read or parsed; the others were judged all the same
  64  the options or the settings file can't be used

Examples:
  portcullis check manifests/
  helm template shop ./chart -n shop | portcullis check -n shop -
  kubectl kustomize overlays/production | portcullis check --strict-references -
  portcullis check --facts cluster -n shop deployment.yaml
  portcullis check -o sarif manifests/ > portcullis.sarif")]
pub struct CheckArgs {
    /// Files, folders (searched for .yaml, .yml and .json), or - for standard input, which is also read when it is a
    /// pipe and no path is given
    #[arg(value_name = "PATH|-")]
    paths: Vec<PathBuf>,

    /// Where Secrets, ConfigMaps, ServiceAccounts, namespaces and LimitRanges are looked up
    #[arg(long, value_enum, default_value_t = FactSource::Files, value_name = "WHERE")]
    facts: FactSource,

    /// What is not among the files does not exist: deny references to it, instead of warning
    #[arg(long)]
    strict_references: bool,

    /// Namespace of objects that name none; an object that names another is an error, as for kubectl
    #[arg(short, long)]
    namespace: Option<String>,

    /// Settings file, as the server reads it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,

    /// Print the objects with the settings' patches applied, as a JSON List, in place of findings; namespaces must be
    /// labelled portcullis.dev/patch: enabled
    #[arg(long, conflicts_with = "output")]
    patch: bool,

    /// When to colour text
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,

    #[command(flatten, next_help_heading = "For --facts cluster")]
    cluster: ClusterChoice,
}

/// A format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: a block an object, with the YAML to paste
    Text,
    /// For programs: all findings and a summary
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML: a test case an object
    Junit,
    /// Workflow commands that annotate a pull request on GitHub
    Github,
}

/// Where questions about other objects are answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FactSource {
    /// The given files; what is not among them may be in the cluster, so it only warns
    Files,
    /// The cluster of the kubeconfig, as at admission
    Cluster,
    /// Nowhere: references are not looked up
    None,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was denied.
    Passed,
    /// Something was denied.
    Denied,
    /// An input could not be read.
    Unreadable,
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no path, and a person at standard input.
    #[error(
        "nothing to check: name files or folders, or - for standard input (see portcullis check --help)"
    )]
    NoPath,
    /// Options that exclude each other.
    #[error("--strict-references speaks of files, so it needs --facts files")]
    StrictWithoutFiles,
    /// The settings can't be used.
    #[error("--settings")]
    Settings(#[from] settings::Error),
    /// There is no cluster to ask.
    #[error("--facts cluster")]
    Cluster(#[from] ClusterError),
    /// Standard output or standard error can't be written to.
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// Checks what `args` name; verdicts go to `out`, what can't be read to `errors`.
pub fn run(args: &CheckArgs, out: impl Write, errors: impl Write) -> Result<Outcome, Error> {
    let CheckArgs {
        paths,
        facts,
        strict_references,
        namespace,
        output,
        color,
        ..
    } = args;
    if *strict_references && *facts != FactSource::Files {
        return Err(Error::StrictWithoutFiles);
    }
    if paths.is_empty() && io::stdin().is_terminal() {
        return Err(Error::NoPath);
    }
    let settings = args
        .settings
        .as_deref()
        .map(settings::read)
        .transpose()?
        .unwrap_or_default();
    let mut source = match facts {
        FactSource::Files => Source::Files(Files::new(*strict_references)),
        FactSource::Cluster => Source::Cluster(Cluster::connect(&args.cluster)?),
        FactSource::None => Source::Nobody,
    };
    let namespaces = Namespaces {
        default: namespace
            .clone()
            .unwrap_or_else(|| source.namespace().to_owned()),
        required: namespace.is_some(),
    };
    let mut report = Report {
        output: output.writer(Palette::new(*color)),
        out: &mut BufWriter::new(Pipe::new(out)),
        errors: &mut Pipe::new(errors),
        summary: Summary::default(),
    };
    let reader = Reader {
        settings: &settings,
        namespaces: &namespaces,
        keep: args.patch,
    };
    let (subjects, objects) = report.gather(paths, &reader, &mut source)?;
    if args.patch {
        patch::write(objects, &source, &settings, report.out)?;
        report.out.flush()?;
    } else {
        report.judge_all(&subjects, &source, &settings)?;
        report.output.finish(&report.summary, report.out)?;
        report.out.flush()?;
    }
    Ok(Outcome::of(&report.summary))
}

// === impl Format ===

impl Format {
    /// Something that writes it.
    fn writer(self, palette: Palette) -> Box<dyn Output> {
        match self {
            Self::Text => Box::new(Text::new(palette)),
            Self::Json => Box::new(Json::default()),
            Self::Sarif => Box::new(Sarif::default()),
            Self::Junit => Box::new(Junit::default()),
            Self::Github => Box::new(Github),
        }
    }
}

// === impl Source ===

impl Source {
    /// The namespace of objects that name none.
    fn namespace(&self) -> &str {
        match self {
            Self::Cluster(cluster) => cluster.namespace(),
            Self::Files(_) | Self::Nobody => "default",
        }
    }
}

// === impl Outcome ===

impl Outcome {
    fn of(summary: &Summary) -> Self {
        match summary {
            Summary { problems: 1.., .. } => Self::Unreadable,
            Summary { denied: 1.., .. } => Self::Denied,
            Summary { .. } => Self::Passed,
        }
    }

    /// The exit status that tells it: 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Denied => 1,
            Self::Unreadable => 2,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 2 where the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoPath | Self::StrictWithoutFiles | Self::Settings(_) | Self::Cluster(_) => 64,
            Self::Output(_) => 2,
        }
    }
}
