//! The Secret that all replicas share. Races for it are settled by its resourceVersion.

use std::time::SystemTime;

use http::header::DATE;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::client::Body;
use kube::core::Status;
use kube::{Api, Client};
use thiserror::Error;

use super::succession::Succession;
use crate::facts::access::CA_SECRET;

/// Where the authorities are kept.
#[derive(Clone, Debug)]
pub(super) struct Store(Api<Secret>);

/// What was read, and when by the API server's clock.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) secret: Option<Secret>,
    /// `None` where something between us and the API server takes the `Date` out of its answers.
    pub(super) date: Option<SystemTime>,
}

/// The API server did not do as asked.
#[derive(Debug, Error)]
#[error("Secret {CA_SECRET} cannot be {verb}")]
pub struct StoreError {
    /// read, created or replaced.
    verb: &'static str,
    source: Box<kube::Error>,
}

// === impl Store ===

impl Store {
    /// The Secret `portcullis-ca` of this namespace.
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    pub(super) async fn read(&self) -> Result<Found, StoreError> {
        self.get().await.map_err(|error| failed("read", error))
    }

    /// Writes what the Secret is to hold in place of what was found; `None` when another replica was first.
    pub(super) async fn write(
        &self,
        found: Option<Secret>,
        succession: &Succession,
    ) -> Result<Option<()>, StoreError> {
        let by = PostParams::default();
        let (verb, gone, written) = if let Some(secret) = found {
            // With the resourceVersion that was read; 404: deleted since.
            let secret = succession.to_secret(secret);
            let written = self.0.replace(CA_SECRET, &by, &secret).await;
            ("replaced", Some(404), written)
        } else {
            let secret = succession.to_secret(empty());
            ("created", None, self.0.create(&by, &secret).await)
        };
        match written {
            Ok(_) => Ok(Some(())),
            Err(kube::Error::Api(status)) if status.code == 409 || gone == Some(status.code) => {
                Ok(None)
            }
            Err(error) => Err(failed(verb, error)),
        }
    }

    /// Not by [`Api::get`], which keeps the head of the answer to itself.
    async fn get(&self) -> Result<Found, kube::Error> {
        let path = format!("{}/{CA_SECRET}", self.0.resource_url());
        let request = http::Request::get(path).body(Body::empty());
        let request = request.map_err(kube::Error::HttpError)?;
        let (head, body) = self
            .0
            .clone()
            .into_client()
            .send(request)
            .await?
            .into_parts();
        let date = head.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let body = body.collect().await?.to_bytes();
        if head.status.is_success() {
            let secret = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            return Ok(Found { secret, date });
        }
        let status: Status = serde_json::from_slice(&body).unwrap_or_else(|_| {
            // From something between us and the API server.
            Status::failure(&String::from_utf8_lossy(&body), "Unknown")
                .with_code(head.status.as_u16())
        });
        if status.is_not_found() {
            return Ok(Found { secret: None, date });
        }
        Err(kube::Error::Api(status.boxed()))
    }
}

fn empty() -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(CA_SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    }
}

fn failed(verb: &'static str, error: kube::Error) -> StoreError {
    StoreError {
        verb,
        source: Box::new(error),
    }
}
