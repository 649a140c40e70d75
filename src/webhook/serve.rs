//! `portcullis serve`: puts the parts together, and takes them down in order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config as KubeConfig};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::{CertificateSource, Config};
use super::metrics::{Certificate, Metrics};
use super::polled::Reloads;
use super::proof::{ApiServers, Endpoints, Prover, Reach};
use super::registration::{Registration, Replica};
use super::service::Admission;
use super::settings::{InForce, SettingsError};
use super::stack::stack;
use super::tls::{Certificates, FilesError, Keeper, Trust, serve_files, server_config};
use crate::facts::Live;
use crate::lease::identity;
use crate::server::{self, Admin, BindError, Meters, Readiness, Tls};

/// Why the server did not start, or ended before it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The process could not be set up.
    #[error("cannot start")]
    Start(#[from] io::Error),
    /// A port is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There is no API server to be found in the configuration.
    #[error("cannot tell where the API server is; outside a cluster, give --kubeconfig")]
    Cluster(#[source] kube::config::InClusterError),
    /// The kubeconfig can't be used.
    #[error("--kubeconfig: cannot use {path}")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<kube::config::KubeconfigError>,
    },
    /// The client for the API server could not be made.
    #[error("cannot make a client for the API server")]
    Client(#[source] Box<kube::Error>),
    /// The certificate files can't be served.
    #[error("--tls-cert, --tls-key")]
    CertificateFiles(#[from] FilesError),
    /// The settings file can't be used.
    #[error("--settings")]
    Settings(#[from] SettingsError),
    /// TLS could not be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
}

/// The listeners of one server, bound.
struct Bound {
    webhook: TcpListener,
    admin: TcpListener,
}

/// What runs beside the listeners, for as long as they do.
struct Parts {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    background: JoinSet<()>,
}

// === impl ServeError ===

impl ServeError {
    fn client(error: kube::Error) -> Self {
        Self::Client(Box::new(error))
    }

    /// True when other options or files would have helped; false for the machine's faults.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Cluster(_)
            | Self::Kubeconfig { .. }
            | Self::Client(_)
            | Self::CertificateFiles(_)
            | Self::Settings(_) => true,
            Self::Start(_) | Self::Bind(_) | Self::Tls(_) => false,
        }
    }
}

/// Serves until SIGTERM or SIGINT, on a runtime of its own.
pub fn run(config: Config) -> Result<(), ServeError> {
    let threads = config.worker_threads.get();
    let mut builder = if threads == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()?.block_on(async {
        let terminated = server::terminated()?;
        serve(config, async {
            let signal = terminated.await;
            tracing::info!(signal, "leaving");
        })
        .await
    })
}

/// Serves until `shutdown` resolves.
async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let cluster = cluster(&config).await?;
    let client = Client::try_from(cluster.clone()).map_err(ServeError::client)?;
    let mut parts = Parts {
        metrics: Arc::new(Metrics::new()),
        readiness: Readiness::default(),
        background: JoinSet::new(),
    };
    let metrics = Arc::clone(&parts.metrics);
    parts.background.spawn(Metrics::upkeep(metrics.handle()));
    let in_force = parts.settings(&config).await?;
    let (tls, trust) = parts.certificates(&config, &client).await?;
    let bound = Bound {
        webhook: server::bind("--listen", config.listen).await?,
        admin: server::bind("--admin-listen", config.admin_listen).await?,
    };
    let (webhook, admin) = (bound.webhook.local_addr()?, bound.admin.local_addr()?);
    tracing::info!(%webhook, %admin, "listening");
    // Only now: who is called must listen.
    let leaving = CancellationToken::new();
    let us = Replica {
        namespace: config.namespace.clone(),
        identity: identity(&config.replica)?,
    };
    let prover = Prover::new(reach(&config, &cluster, &client), Arc::clone(&metrics));
    let registered = tokio::spawn(Registration::run(
        (client, us),
        in_force.clone(),
        trust,
        (prover, Arc::clone(&metrics)),
        leaving.clone(),
    ));

    let live = Live::connect(cluster, metrics.facts.clone()).map_err(ServeError::client)?;
    let replica = config.replica.clone();
    let admission = Admission::new(live, in_force.settings, Arc::clone(&metrics), replica);
    let handler = stack(admission, Arc::clone(&metrics));

    let stop_admin = CancellationToken::new();
    let admin = server::serve(
        bound.admin,
        None,
        Admin::new(parts.readiness.clone(), metrics.handle()),
        (config.admin_limits(), Meters::unwatched()),
        stop_admin.clone().cancelled_owned(),
    );
    let shutdown = async {
        shutdown.await;
        leaving.cancel();
        let _ = registered.await; // before we stop listening: who is the last takes Fail back
    };
    let webhook = async {
        let limits = (config.limits, metrics.server.clone());
        server::serve(bound.webhook, Some(tls), handler, limits, shutdown).await;
        stop_admin.cancel(); // last, so that the end can be scraped and probed
    };
    tokio::join!(webhook, admin);
    parts.background.shutdown().await;
    Ok(())
}

// === impl Parts ===

impl Parts {
    /// Puts the settings in force that are to hold from the first review on.
    async fn settings(&mut self, config: &Config) -> Result<InForce, ServeError> {
        let in_force = InForce::new(config.gate_image.clone());
        if let Some(path) = &config.settings {
            let reloads = Reloads::of(&self.metrics.settings_reloads);
            let file = in_force.follow(path.clone(), reloads).await?;
            self.background.spawn(file.run());
        }
        Ok(in_force)
    }

    /// Starts what keeps the certificate; readiness waits for the first one.
    async fn certificates(
        &mut self,
        config: &Config,
        client: &Client,
    ) -> Result<(Tls, watch::Receiver<Trust>), ServeError> {
        let expiry = |which| self.metrics.certificate_expiry.handle((which,));
        let certificates = Arc::new(Certificates::new(expiry(Certificate::Serving)));
        let tls = Tls::new(server_config(Arc::clone(&certificates))?);
        let (trust, trusted) = watch::channel(Trust::Unknown);
        match &config.certificates {
            CertificateSource::Own(names) => {
                let latch = self
                    .readiness
                    .latch("a certificate that the webhook configurations trust");
                let publish = (trust, expiry(Certificate::Authority));
                let names = names.clone();
                let keeper = Keeper::new(client, &config.namespace, names, certificates, publish);
                self.background.spawn(keeper.run(latch));
            }
            CertificateSource::Files(files) => {
                let reloads = Reloads::of(&self.metrics.certificate_reloads);
                let files = serve_files(files.clone(), certificates, trust, reloads).await?;
                self.background.spawn(files.run());
            }
        }
        Ok((tls, trusted))
    }
}

/// Through whom the proof goes, and whom it is to reach.
fn reach(config: &Config, cluster: &KubeConfig, client: &Client) -> Reach {
    let api_servers = match &config.kubeconfig {
        None => ApiServers::Discovered,
        Some(_) => ApiServers::Given(config.api_servers.clone()),
    };
    let ours = Endpoints {
        namespace: config.namespace.clone(),
        service: config.service.clone(),
        replica: config.replica.clone(),
    };
    Reach::new(cluster.clone(), client.clone(), api_servers, ours)
}

async fn cluster(config: &Config) -> Result<KubeConfig, ServeError> {
    match &config.kubeconfig {
        None => KubeConfig::incluster().map_err(ServeError::Cluster),
        Some(path) => {
            let unusable = |source| ServeError::Kubeconfig {
                path: path.clone(),
                source: Box::new(source),
            };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            let options = KubeConfigOptions::default();
            KubeConfig::from_custom_kubeconfig(file, &options)
                .await
                .map_err(unusable)
        }
    }
}
