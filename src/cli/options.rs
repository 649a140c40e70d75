//! What the commands that look at a cluster have in common: where it is, and how they tell of it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use kube::Config;

use super::{
    cluster::{self, ClusterError},
    terminal::{Color, Palette},
};

/// Options of a command that looks at a cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterOptions {
    /// A kubeconfig other than kubectl's
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

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
        let config = cluster::config(self.kubeconfig.clone()).await?;
        Ok(cluster::impatient(config))
    }

    pub(super) fn palette(&self) -> Palette {
        Palette::new(self.color)
    }
}
