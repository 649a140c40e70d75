//! The cluster of a kubeconfig, found as kubectl finds it.

use std::path::PathBuf;

use kube::{
    Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

/// There is no cluster to ask.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A kubeconfig that was named can't be used.
    #[error("--kubeconfig {}", file.display())]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no kubeconfig, or it can't be used.
    #[error("no cluster is configured; name a kubeconfig with --kubeconfig")]
    Infer(#[source] Box<InferConfigError>),
    /// The configuration makes no client.
    #[error("the cluster's address or credentials can't be used")]
    Client(#[source] Box<kube::Error>),
    /// The system gives us no thread or timer.
    #[error("cannot start")]
    Runtime(#[from] std::io::Error),
}

/// How to reach the cluster: of the kubeconfig that is named, else of kubectl's, else of the pod that this runs in.
pub(super) async fn config(kubeconfig: Option<PathBuf>) -> Result<Config, ClusterError> {
    let Some(file) = kubeconfig else {
        return Config::infer()
            .await
            .map_err(|error| ClusterError::Infer(Box::new(error)));
    };
    let read = async || {
        let contents = Kubeconfig::read_from(&file)?;
        Config::from_custom_kubeconfig(contents, &KubeConfigOptions::default()).await
    };
    read().await.map_err(|source| ClusterError::Kubeconfig {
        source: Box::new(source),
        file: file.clone(),
    })
}
