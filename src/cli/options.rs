//! What the commands that look at a cluster have in common: where it is, and how they tell of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kube::Config;

use super::{
    cluster::{self, ClusterError},
    terminal::{Color, Palette},
};

/// Which cluster is meant, as kubectl's options of the same names say it.
#[derive(Args, Clone, Debug, Default)]
pub struct ClusterChoice {
    /// A kubeconfig other than kubectl's
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,

    /// A context of the kubeconfig other than its current one
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
}

/// Options of a command that looks at a cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterOptions {
    #[command(flatten)]
    choice: ClusterChoice,

    /// When to colour text
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

/// A format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs: all that was found
    Json,
}

// === impl ClusterOptions ===

impl ClusterOptions {
    /// How to reach the cluster, for a person who waits and can ask again.
    pub(super) async fn config(&self) -> Result<Config, ClusterError> {
        let config = cluster::config(&self.choice).await?;
        Ok(cluster::impatient(config))
    }

    pub(super) fn palette(&self) -> Palette {
        Palette::new(self.color)
    }
}
