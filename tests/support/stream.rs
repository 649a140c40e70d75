//! Pods without end, created through an API server (dry run) by clients that try nothing twice: one that breaks the
//! rules, which must be refused by us, and one that demands a gate, which must come back with it. Anything else was
//! not judged, or has failed.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Request, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config, Error,
    client::{ClientBuilder, ConfigExt as _},
    config::{KubeConfigOptions, Kubeconfig},
};
use portcullis::contract::GATE_LABEL;
use serde_json::{Value, json};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::wait::eventually;

/// As many at a time: some share connections of the API server's to us, and some have it open more.
const SENDERS: usize = 4;

/// Between two pairs of one of them. What goes wrong at a change lasts longer than that, and without it the streams of some
/// tests would take all that there is of the machine from all tests.
const PACE: Duration = Duration::from_millis(100);

/// How long a connection to the API server may have been idle when it is used again. The API server closes it after 90 s
/// (apiserver `pkg/server/secure_serving.go`), for which the usual client keeps it, too: it then would send on one that is
/// being closed, now and then.
const KEPT: Duration = Duration::from_secs(30);

/// A stream that flows until [`Stream::end`].
pub struct Stream {
    runtime: Runtime,
    senders: JoinSet<Vec<String>>,
    answered: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// What became of it.
#[derive(Debug)]
pub struct Summary {
    pub sent: usize,
    /// What was not as it must be, in words.
    pub lost: Vec<String>,
}

// === impl Stream ===

impl Stream {
    /// Pods in `namespace`, from who holds this kubeconfig, as soon as both sorts are as they must be.
    pub fn begin(kubeconfig: &Path, namespace: &str) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (answered, stop) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let mut senders = JoinSet::new();
        for _ in 0..SENDERS {
            let client = runtime.block_on(client(kubeconfig));
            eventually("pods to be judged and injected", || {
                runtime
                    .block_on(pair(&client, &path))
                    .map_err(|lost| lost.concat())
            });
            let sending = send(client, path.clone(), Arc::clone(&answered), stop.clone());
            senders.spawn_on(sending, runtime.handle());
        }
        Self {
            runtime,
            senders,
            answered,
            stop,
        }
    }

    /// Waits until so many more have been answered.
    pub fn flows_for(&self, reviews: usize) {
        let until = self.answered.load(Ordering::Relaxed) + reviews;
        eventually("the stream", || {
            let answered = self.answered.load(Ordering::Relaxed);
            (answered >= until)
                .then_some(())
                .ok_or_else(|| format!("{answered} of {until}"))
        });
    }

    /// Ends it when all that was sent is answered.
    pub fn end(mut self) -> Summary {
        self.stop.cancel();
        let mut lost = Vec::new();
        while let Some(of_one) = self.runtime.block_on(self.senders.join_next()) {
            lost.extend(of_one.expect("senders do not panic"));
        }
        Summary {
            sent: self.answered.load(Ordering::Relaxed),
            lost,
        }
    }
}

async fn send(
    client: Client,
    path: String,
    answered: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Vec<String> {
    let mut lost = Vec::new();
    let mut pace = time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        pace.tick().await;
        lost.extend(pair(&client, &path).await.err().into_iter().flatten());
        answered.fetch_add(2, Ordering::Relaxed);
    }
    lost
}

/// One pod of each sort; what was not as it must be.
async fn pair(client: &Client, path: &str) -> Result<(), Vec<String>> {
    let refused = match client.request_text(post(path, &bare_pod())).await {
        Err(Error::Api(status)) if is_ours(&status.message) => None,
        Err(error) => Some(format!("a pod that breaks the rules: {error}")),
        Ok(_) => Some("a pod that breaks the rules passed".to_owned()),
    };
    let gated = match client.request_text(post(path, &gated_pod())).await {
        Ok(pod) if pod.contains("portcullis-gate") => None,
        Ok(_) => Some("a pod that demands a gate has none".to_owned()),
        Err(error) => Some(format!("a pod that demands a gate: {error}")),
    };
    let lost: Vec<_> = refused.into_iter().chain(gated).collect();
    if lost.is_empty() { Ok(()) } else { Err(lost) }
}

/// A client of an API server that sends everything once.
pub async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("it is a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let config = config.expect("it names one cluster");
    let connector = config.rustls_https_connector();
    let pool = legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEPT)
        .build(connector.expect("its certificates are sound"));
    ClientBuilder::new(pool, config.default_namespace.clone())
        .with_layer(&config.base_uri_layer())
        .build()
}

/// A request that creates `object`.
pub fn post(path: &str, object: &Value) -> Request<Vec<u8>> {
    Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(object.to_string().into_bytes())
        .expect("constant parts")
}

/// It is a refusal of ours, by the rules.
pub fn is_ours(message: &str) -> bool {
    message
        .contains(r#"admission webhook "validate.portcullis.dev" denied the request: portcullis: "#)
}

fn bare_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"},
        "spec": {"containers": [{"name": "app", "image": "registry.example/app:1.0"}]},
    })
}

fn gated_pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "gated", "labels": {GATE_LABEL: "enabled"}},
        "spec": {"containers": [{
            "name": "app",
            "image": "registry.example/app:1.0",
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}},
            "resources": {
                "requests": {"cpu": "10m", "memory": "16Mi"},
                "limits": {"cpu": "100m", "memory": "32Mi"},
            },
        }]},
    })
}
