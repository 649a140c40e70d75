//! The cluster of a kubeconfig, found as kubectl finds it, and how it is asked.

use std::{path::PathBuf, time::Duration};

use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use kube::{
    Client, Config,
    client::Body,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    runtime::{self, Runtime},
    time::timeout,
};

use super::options::ClusterChoice;
use crate::{
    facts::{Live, Meters},
    telemetry::innermost,
};

/// An API server, asked for a person who waits.
pub(super) struct Api {
    client: Client,
}

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
    /// A context was named, and kubectl's own kubeconfig can't be used.
    #[error("--context: kubectl's kubeconfig; name another with --kubeconfig")]
    Default(#[source] Box<KubeconfigError>),
    /// A context that was named is not in the kubeconfig.
    #[error("--context {context}: there is no such context; those of the kubeconfig: {}", there.join(", "))]
    Context {
        /// Its name.
        context: String,
        /// Those that are there.
        there: Vec<String>,
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

/// Longer than an API server takes for anything but a watch; who waits for a sick one should hear of it.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Objects on a page of a list.
const PAGE: u32 = 250;

/// What a command runs on that asks a cluster: one thread, since it mostly waits.
pub(super) fn runtime() -> Result<Runtime, ClusterError> {
    let mut builder = runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

/// Facts of this cluster, for a command: nobody scrapes it.
pub(super) fn facts(config: Config) -> Result<Live, ClusterError> {
    let live = Live::connect(config, Meters::unwatched());
    live.map_err(|error| ClusterError::Client(Box::new(error)))
}

/// How to reach the cluster: of the kubeconfig and the context that are named, else of kubectl's, else of the pod that
/// this runs in.
pub(super) async fn config(choice: &ClusterChoice) -> Result<Config, ClusterError> {
    let ClusterChoice {
        kubeconfig,
        context,
    } = choice;
    if kubeconfig.is_none() && context.is_none() {
        let config = Config::infer().await;
        return config.map_err(|error| ClusterError::Infer(Box::new(error)));
    }
    let unusable = |source| match kubeconfig {
        Some(file) => ClusterError::Kubeconfig {
            source: Box::new(source),
            file: file.clone(),
        },
        None => ClusterError::Default(Box::new(source)),
    };
    let contents = match kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let contents = contents.map_err(unusable)?;
    if let Some(context) = context {
        let names = contents.contexts.iter().map(|named| &named.name);
        if !names.clone().any(|name| name == context) {
            return Err(ClusterError::Context {
                context: context.clone(),
                there: names.cloned().collect(),
            });
        }
    }
    let options = KubeConfigOptions {
        context: context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = Config::from_custom_kubeconfig(contents, &options).await;
    config.map_err(unusable)
}

/// The same for a person who waits, and can ask again.
pub(super) fn impatient(mut config: Config) -> Config {
    config.read_timeout = Some(TIMEOUT);
    config.default_retry = false;
    config
}

// === impl Api ===

impl Api {
    pub(super) fn connect(config: Config) -> Result<Self, ClusterError> {
        let client = Client::try_from(config);
        let client = client.map_err(|error| ClusterError::Client(Box::new(error)))?;
        Ok(Self { client })
    }

    /// An object, if it is there; `Err` with the reason if that can't be said.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, String> {
        let (status, body, _) = self.send(Request::get(path), None).await?;
        match status {
            StatusCode::OK => read(&body).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            refused => Err(said(refused, &body)),
        }
    }

    /// There is no such namespace. Who may not look at the namespace itself may still see what is in it.
    pub(super) async fn lacks_namespace(&self, name: &str) -> bool {
        let path = format!("/api/v1/namespaces/{name}");
        matches!(self.get::<Value>(&path).await, Ok(None))
    }

    /// Every object of a list, page by page.
    pub(super) async fn each(&self, path: &str, take: impl FnMut(&Value)) -> Result<(), String> {
        self.each_of(path, PAGE, take).await
    }

    /// The same, with `limit` objects on a page: fewer where they are large.
    pub(super) async fn each_of(
        &self,
        path: &str,
        limit: u32,
        mut take: impl FnMut(&Value),
    ) -> Result<(), String> {
        let with = if path.contains('?') { '&' } else { '?' };
        let mut next = format!("{path}{with}limit={limit}");
        loop {
            let page: Value = self.get(&next).await?.ok_or("there is no such list")?;
            let items = page.get("items").and_then(Value::as_array);
            items.into_iter().flatten().for_each(&mut take);
            let token = page.pointer("/metadata/continue").and_then(Value::as_str);
            match token.filter(|token| !token.is_empty()) {
                Some(token) => next = format!("{path}{with}limit={limit}&continue={token}"),
                None => return Ok(()),
            }
        }
    }

    /// Status, body and warnings of an answer.
    pub(super) async fn send(
        &self,
        request: http::request::Builder,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Vec<u8>, Vec<String>), String> {
        let is_typed = (request.headers_ref()).is_some_and(|all| all.contains_key(CONTENT_TYPE));
        let request = if is_typed {
            request
        } else {
            request.header(CONTENT_TYPE, "application/json")
        };
        let body = body.map_or_else(Body::empty, |body| {
            Body::from(body.to_string().into_bytes())
        });
        let request = (request.body(body)).map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.client.send(request).await;
            let response = response.map_err(|error| innermost(&error))?;
            let warnings = response.headers().get_all(http::header::WARNING);
            let warnings = warnings
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            let status = response.status();
            let body = response.into_body().collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, body.to_vec(), warnings))
        };
        timeout(TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {} s", TIMEOUT.as_secs())))
    }
}

pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("an answer that can't be read: {error}"))
}

pub(super) fn message(body: &[u8]) -> Option<String> {
    let status: Value = serde_json::from_slice(body).ok()?;
    Some(status.get("message")?.as_str()?.to_owned())
}

pub(super) fn said(status: StatusCode, body: &[u8]) -> String {
    match message(body) {
        Some(message) => format!("the API server answered {status}: {message}"),
        None => format!("the API server answered {status}"),
    }
}
