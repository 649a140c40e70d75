//! Through whom self-checks go, and whom they must reach: the API servers, and the replicas behind our Service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use http::Uri;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::api::ListParams;
use kube::{Api, Client, Config};
use thiserror::Error;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use super::check::check;
use super::evidence::{Check, Round};
use crate::facts::access::API_SERVERS;
use crate::telemetry::chain;
use crate::webhook::metrics::Entry;

/// Where the API servers' own EndpointSlice is.
const API_SERVERS_NAMESPACE: &str = "default";

/// The name that every API server's certificate is for, by whatever address it is dialled.
const API_SERVER_NAME: &str = "kubernetes.default.svc";

/// An API server that has not answered in this time is not going to.
const DEADLINE: Duration = Duration::from_secs(4);

/// Looks for other replicas before one that leaves takes itself for the last, or not: where two are stopped at once,
/// each still sees the other for a moment.
const LAST_LOOKS: u32 = 3;

/// From one such look to the next.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// The API servers that self-checks go through.
#[derive(Clone, Debug)]
pub(in crate::webhook) enum ApiServers {
    /// All that the cluster knows of: we run in it.
    Discovered,
    /// The one of the kubeconfig, and these.
    Given(Vec<Uri>),
}

/// What a replica needs to know of itself, to tell itself from others.
#[derive(Clone, Debug)]
pub(in crate::webhook) struct Endpoints {
    /// Our own namespace.
    pub(in crate::webhook) namespace: String,
    /// The Service's name.
    pub(in crate::webhook) service: String,
    /// The name of the replica: of its pod, inside a cluster.
    pub(in crate::webhook) replica: String,
}

/// Finds both, and makes rounds.
#[derive(Clone)]
pub(in crate::webhook) struct Reach {
    config: Config,
    client: Client,
    api_servers: ApiServers,
    ours: Endpoints,
    /// One client for each API server, kept from round to round.
    clients: BTreeMap<String, Client>,
}

/// It can't be said who is there.
#[derive(Debug, Error)]
enum ReachError {
    #[error("cannot read EndpointSlice {API_SERVERS_NAMESPACE}/{API_SERVERS}")]
    ApiServers(#[source] Box<kube::Error>),
    #[error("cannot list the EndpointSlices of our Service")]
    Replicas(#[source] Box<kube::Error>),
    #[error("cannot make a client for an API server")]
    Client(#[source] Box<kube::Error>),
    #[error("the API server did not answer in {DEADLINE:?}")]
    Deadline(#[from] Elapsed),
}

// === impl Reach ===

impl Reach {
    /// By the configuration of `client`.
    pub(in crate::webhook) fn new(
        mut config: Config,
        client: Client,
        api_servers: ApiServers,
        ours: Endpoints,
    ) -> Self {
        config.default_retry = false; // a refusal is an answer, and the next round is soon
        Self {
            config,
            client,
            api_servers,
            ours,
            clients: BTreeMap::new(),
        }
    }

    /// One check of each entry through each API server, all at once.
    pub(super) async fn round(&mut self) -> Round {
        let ready = self.replicas().await;
        let ready = ready.map(|replicas| replicas.into_iter().collect());
        let servers = self.servers().await.unwrap_or_else(|error| {
            tracing::debug!(error = chain(&error), "the API servers are not known");
            Vec::new()
        });
        let checks = servers.into_iter().flat_map(|(server, client)| {
            Entry::ALL.map(|entry| {
                let (server, client) = (server.clone(), client.clone());
                async move {
                    let outcome = check(client, entry).await;
                    Check {
                        server,
                        entry,
                        outcome,
                    }
                }
            })
        });
        Round {
            checks: join_all(checks).await,
            ready: ready.map_err(|error| chain(&error)),
        }
    }

    /// True unless another replica is ready and stays; false where that can't be told.
    pub(super) async fn is_last_replica(&self) -> bool {
        for look in 0..LAST_LOOKS {
            if look > 0 {
                sleep(LAST_PAUSE).await;
            }
            let Ok(ready) = self.replicas().await else {
                return false;
            };
            if !ready.iter().any(|replica| *replica != self.ours.replica) {
                return true;
            }
        }
        false
    }

    /// The replicas that our Service sends requests to. None outside a cluster.
    async fn replicas(&self) -> Result<BTreeSet<String>, ReachError> {
        let Endpoints {
            namespace, service, ..
        } = &self.ours;
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), namespace);
        let of_ours = format!("kubernetes.io/service-name={service}");
        let of_ours = ListParams::default().labels(&of_ours);
        let listed = timeout(DEADLINE, slices.list(&of_ours)).await?;
        let listed = listed.map_err(|error| ReachError::Replicas(Box::new(error)))?;
        let endpoints = listed.items.into_iter().flat_map(|slice| slice.endpoints);
        let ready = endpoints.filter(is_ready).filter_map(|endpoint| {
            let pod = endpoint.target_ref.and_then(|target| target.name);
            pod.or_else(|| endpoint.addresses.into_iter().next())
        });
        Ok(ready.collect())
    }

    async fn servers(&mut self) -> Result<Vec<(String, Client)>, ReachError> {
        let own = self.config.cluster_url.clone();
        let (uris, name) = match &self.api_servers {
            ApiServers::Given(more) => {
                let uris = std::iter::once(own).chain(more.iter().cloned());
                (uris.collect(), None)
            }
            ApiServers::Discovered => match self.discover().await? {
                uris if uris.is_empty() => (vec![own], None),
                uris => (uris, Some(API_SERVER_NAME)),
            },
        };
        self.clients
            .retain(|server, _| uris.iter().any(|uri| uri.to_string() == *server));
        uris.into_iter()
            .map(|uri| self.client_of(uri, name))
            .collect()
    }

    fn client_of(&mut self, uri: Uri, name: Option<&str>) -> Result<(String, Client), ReachError> {
        let server = uri.to_string();
        if let Some(client) = self.clients.get(&server) {
            return Ok((server, client.clone()));
        }
        let mut config = self.config.clone();
        config.cluster_url = uri;
        if let Some(name) = name {
            config.tls_server_name = Some(name.to_owned());
        }
        let client = Client::try_from(config);
        let client = client.map_err(|error| ReachError::Client(Box::new(error)))?;
        self.clients.insert(server.clone(), client.clone());
        Ok((server, client))
    }

    /// The addresses that the API servers give of themselves; none where they give none.
    async fn discover(&self) -> Result<Vec<Uri>, ReachError> {
        let slices: Api<EndpointSlice> =
            Api::namespaced(self.client.clone(), API_SERVERS_NAMESPACE);
        let slice = timeout(DEADLINE, slices.get_opt(API_SERVERS)).await?;
        let slice = slice.map_err(|error| ReachError::ApiServers(Box::new(error)))?;
        Ok(slice.map(|slice| addresses(&slice)).unwrap_or_default())
    }
}

/// Requests are sent to it.
fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    // Absent is ready, and not terminating (k8s.io/api `discovery/v1`, `EndpointConditions`).
    let ready = conditions.and_then(|conditions| conditions.ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating);
    ready.unwrap_or(true) && !terminating.unwrap_or(false)
}

fn addresses(slice: &EndpointSlice) -> Vec<Uri> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let ports = || ports.iter().filter_map(|port| port.port);
    let endpoints = slice.endpoints.iter().filter(|endpoint| is_ready(endpoint));
    let addresses = endpoints.filter_map(|endpoint| endpoint.addresses.first());
    let urls = addresses.flat_map(|address| {
        let host = if address.contains(':') {
            format!("[{address}]")
        } else {
            address.clone()
        };
        ports().map(move |port| format!("https://{host}:{port}/"))
    });
    urls.filter_map(|url| url.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn api_servers_are_dialled_where_their_slice_says() {
        let slice = |addresses: [&str; 3]| {
            let endpoints = addresses.map(|address| json!({"addresses": [address]}));
            let mut slice = json!({
                "addressType": "IPv4", "metadata": {"name": API_SERVERS},
                "endpoints": endpoints, "ports": [{"name": "https", "port": 6443}],
            });
            slice["endpoints"][2]["conditions"] = json!({"ready": false});
            let slice = serde_json::from_value(slice).unwrap();
            addresses_of(&slice)
        };
        assert_eq!(
            slice(["10.0.0.1", "10.0.0.2", "10.0.0.3"]),
            ["https://10.0.0.1:6443/", "https://10.0.0.2:6443/"]
        );
        assert_eq!(
            slice(["fd00::1", "fd00::2", "fd00::3"]),
            ["https://[fd00::1]:6443/", "https://[fd00::2]:6443/"]
        );
    }

    fn addresses_of(slice: &EndpointSlice) -> Vec<String> {
        addresses(slice).iter().map(Uri::to_string).collect()
    }

    #[test]
    fn an_endpoint_that_leaves_gets_no_requests() {
        for (conditions, expected) in [
            (json!({}), true),
            (json!({"ready": true, "terminating": false}), true),
            (json!({"ready": false}), false),
            (json!({"ready": true, "terminating": true}), false),
        ] {
            let endpoint = json!({"addresses": ["10.0.0.1"], "conditions": conditions});
            let endpoint = serde_json::from_value(endpoint).unwrap();
            assert_eq!(is_ready(&endpoint), expected, "{conditions}");
        }
    }
}
