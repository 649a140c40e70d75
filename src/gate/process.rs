//! Puts the parts of a gate together and runs them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    admin::Admin,
    check::{self, Pace},
    config::{self, ConfigError},
    control, identity,
    identity::Memory,
    keeper::{Desk, Ears, Hands, Keeper},
    service::DataPath,
    switch,
    traffic::Traffic,
};
use crate::{
    contract::Settings,
    server::{self, BindError, Limits, Meters},
};

/// The gate cannot start, or cannot go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// With these settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its admin port is taken.
    #[error(transparent)]
    Admin(#[from] BindError),
    /// Another gate has its folder.
    #[error("--state-dir {folder}: another gate runs with it")]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// A port that was bound cannot be listened on.
    #[error("the data path ended")]
    Path(#[source] io::Error),
}

// === impl RunError ===

impl RunError {
    /// Whether trying again will not help, until somebody mends what the gate was given. A name
    /// that cannot be resolved may be known a moment later.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Config(ConfigError::Resolve { .. }) | Self::Path(_) => false,
            Self::Config(_) | Self::Admin(_) | Self::Busy { .. } => true,
        }
    }
}

/// The admin port serves probes, scrapes and a person now and then.
const ADMIN_LIMITS: Limits = Limits {
    connections: 256,
    handshake_timeout: Duration::from_secs(1), // there is no TLS
    header_timeout: Duration::from_secs(2),
    idle_timeout: Some(Duration::from_secs(60)), // scrapers come every 15 to 60 s
    header_bytes: 8 * 1024,
    buffer_bytes: 16 * 1024,
    drain_delay: Duration::ZERO,
    shutdown_timeout: Duration::from_secs(1),
};

/// Messages of one kind that may wait for the gatekeeper.
const BACKLOG: usize = 64;

/// Runs a gate until it is to end, and says with which exit code. `stop` resolves when the process
/// is asked to end. `folder` holds the control socket and what a restarted gate must know.
pub async fn run(
    settings: Settings,
    folder: &Path,
    stop: impl Future<Output = &'static str>,
) -> Result<u8, RunError> {
    let app = config::app_ports(&settings).await?;
    let ports = config::bind_ports(&settings, &app)?;
    let admin = server::bind("admin", settings.admin().0).await?;
    let (memory, socket) = open_folder(folder)?;
    let settings = Arc::new(settings);
    let traffic = Arc::new(Traffic::default());
    let (switch, valve, losses) = switch::closed();
    let (pace, paces) = watch::channel(Pace::default());
    let (reports, heard_reports) = mpsc::channel(BACKLOG);
    let (sightings, heard_sightings) = mpsc::channel(BACKLOG);
    let (desk, asks) = Desk::new();
    let path = DataPath::new(
        ports,
        &config::limits(&settings),
        valve,
        Arc::clone(&traffic),
    );
    let addresses: Vec<_> = app.iter().map(|(_, addresses)| addresses.clone()).collect();
    let first = addresses.first().cloned().unwrap_or_default();
    // All of them end with this function: dropped, a JoinSet ends its tasks.
    let mut tasks = check::spawn(settings.checks(), &first, &paces, &reports);
    tasks.spawn(identity::watch(addresses, losses, paces, sightings));
    if let Some(socket) = socket {
        tasks.spawn(control::serve(socket, desk.clone()));
    }
    let (leave, left) = oneshot::channel::<()>();
    let admin = tokio::spawn(server::serve(
        admin,
        None,
        Admin::new(desk, Arc::clone(&traffic)),
        (ADMIN_LIMITS, Meters::unwatched()),
        async {
            let _ = left.await; // resolves also when this function is dropped
        },
    ));
    let keeper = Keeper::new(
        settings,
        Hands {
            ports: app,
            memory,
            switch,
            traffic,
            pace,
        },
    );
    let ears = Ears {
        reports: heard_reports,
        sightings: heard_sightings,
        asks,
        path: tokio::spawn(path.run()),
    };
    let ended = keeper.run(ears, stop).await.map_err(RunError::Path);
    drop(leave);
    // Its answers to those who waited for the end are on their way.
    let _ = admin.await;
    ended
}

/// The memory and the control socket in the folder. A gate without a folder that it may write to
/// still guards its ports: it only cannot be asked by command, and warms up again when restarted.
fn open_folder(
    folder: &Path,
) -> Result<(Option<Memory>, Option<tokio::net::UnixListener>), RunError> {
    let opened = std::fs::create_dir_all(folder).and_then(|()| control::bind(folder));
    match opened {
        Ok(socket) => Ok((Some(Memory::new(folder)), Some(socket))),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(RunError::Busy {
            folder: folder.to_owned(),
        }),
        Err(error) => {
            let folder = folder.display();
            tracing::warn!(
                %error,
                "--state-dir {folder} cannot be used: probe, status and drain will not find this \
                 gate, and if restarted it warms up again"
            );
            Ok((None, None))
        }
    }
}
