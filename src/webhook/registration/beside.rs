//! What runs beside the looks: the claim to the Lease, and the watches that tell when to look.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::{Replica, touched};
use crate::facts::access::LEASE;
use crate::lease::{Lease, Office, Tenure};
use crate::webhook::metrics::Configuration;

/// Who writes the registration, and proves.
const OFFICE: Office = Office {
    name: LEASE,
    held: "this replica writes and proves from now on",
    alone: "no right to the Lease, so nothing is proved and failurePolicy stays Ignore: apply the manifests",
};

/// Serves [`Registration::run`](super::Registration::run).
pub(super) struct Beside {
    pub(super) tasks: JoinSet<()>,
    pub(super) lease: JoinHandle<()>,
    /// Cancelled when the Lease is to be given back.
    pub(super) left: CancellationToken,
    pub(super) touched: Arc<Notify>,
}

// === impl Beside ===

impl Beside {
    pub(super) fn start(client: &Client, replica: Replica, tenure: watch::Sender<Tenure>) -> Self {
        let (left, touched) = (CancellationToken::new(), Arc::new(Notify::new()));
        let Replica {
            namespace,
            identity,
        } = replica;
        let lease = Lease::new(client.clone(), &namespace, OFFICE, identity);
        let lease = tokio::spawn(lease.keep(tenure, left.clone()));
        let mut tasks = JoinSet::new();
        for configuration in Configuration::ALL {
            tasks.spawn(touched::watch(
                client.clone(),
                configuration,
                Arc::clone(&touched),
            ));
        }
        Self {
            tasks,
            lease,
            left,
            touched,
        }
    }
}
