//! `portcullis why`: why is a pod not ready? Its gate says it, and where it can't be asked, the pod's own record.
//!
//! ```text
//! name -> target (which pods) -> look (gate through the API server, conditions, events) -> report
//! ```

use std::io::{self, BufWriter, Write};

use clap::Args;

use super::{
    cluster::{self, Api, ClusterError},
    options::{ClusterOptions, Format},
    terminal::Pipe,
};

/// Which pods are meant.
mod target;

/// What is known of each.
mod look;

/// How it is told.
mod report;

#[cfg(test)]
mod tests;

use report::Report;
use target::Target;

/// Options of `portcullis why`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Exit status:
  0   every pod is ready
  1   one is not, or there is none
  2   it could not be found out
  64  the options or the kubeconfig can't be used

Looks only, with the rights of the kubeconfig: get and list on pods and on the workload's kind, list on events, and get on
pods/proxy to ask the gate.")]
pub struct WhyArgs {
    /// A pod, or KIND/NAME of a Deployment, StatefulSet or DaemonSet for all its pods that are not being deleted:
    /// checkout-5d9c, deploy/checkout
    #[arg(value_name = "POD|KIND/NAME", value_parser = Target::parse)]
    target: Target,

    /// The namespace, if not that of the kubeconfig
    #[arg(short, long)]
    namespace: Option<String>,

    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    output: Format,

    #[command(flatten)]
    cluster: ClusterOptions,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every pod is ready.
    Ready,
    /// One is not, or there is none.
    NotReady,
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cluster to look at.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The object is not there.
    #[error("there is no {target} in namespace \"{namespace}\"")]
    Missing {
        /// What was asked for.
        target: String,
        /// Where.
        namespace: String,
    },
    /// It may be there, and can't be seen.
    #[error("can't look at {target} in namespace \"{namespace}\": {why}")]
    Unseen {
        /// What was asked for.
        target: String,
        /// Where.
        namespace: String,
        /// What the API server said.
        why: String,
    },
    /// Standard output can't be written to.
    #[error("can't write the output")]
    Output(#[from] io::Error),
}

/// Tells of the pods that `args` name, on `out`.
pub fn run(args: &WhyArgs, out: impl Write) -> Result<Outcome, Error> {
    let runtime = cluster::runtime()?;
    runtime.block_on(tell(args, out))
}

async fn tell(args: &WhyArgs, out: impl Write) -> Result<Outcome, Error> {
    let config = args.cluster.config().await?;
    let namespace = args.namespace.as_ref().unwrap_or(&config.default_namespace);
    let namespace = namespace.clone();
    let api = Api::connect(config)?;
    let pods = args.target.pods(&api, &namespace).await?;
    let report = Report::new(look::at(&api, &namespace, &pods).await);
    let mut out = BufWriter::new(Pipe::new(out));
    match args.output {
        Format::Text => report.write_text(args.cluster.palette(), &mut out)?,
        Format::Json => report.write_json(&mut out)?,
    }
    out.flush()?;
    Ok(report.outcome())
}

// === impl Outcome ===

impl Outcome {
    /// The exit status that tells it: 0 or 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Ready => 0,
            Self::NotReady => 1,
        }
    }
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 2 where the cluster or the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Cluster(_) => 64,
            Self::Missing { .. } | Self::Unseen { .. } | Self::Output(_) => 2,
        }
    }
}
