//! Opens the mouth of our two webhook configurations: they ship without rules, so that nobody calls us before
//! we answer; rules, failurePolicy and caBundle are ours, by server-side apply under a field manager of our own.

mod entries;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use super::metrics::{Configuration, Metrics, WriteOutcome};
use super::settings::InForce;
use super::tls::Trust;
use crate::facts::access::CONFIGURATION;
use crate::telemetry::chain;
use entries::entries;
pub(crate) use entries::shipped_entries;

/// Name of both configurations (`manifests/base`), and the field manager of what we set in them.
const NAME: &str = CONFIGURATION;

/// How often the configurations are looked at, in case somebody has changed our fields.
const PERIOD: Duration = Duration::from_secs(60);

/// Pause after the first failure; doubled each time, up to [`PERIOD`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// An API server that has not answered in this time is not going to.
const DEADLINE: Duration = Duration::from_secs(10);

/// Keeps our fields in both configurations as they must be.
pub(super) struct Registration {
    client: Client,
    in_force: InForce,
    trust: watch::Receiver<Trust>,
    metrics: Arc<Metrics>,
}

/// A configuration could not be brought to what it must be.
#[derive(Debug, Error)]
enum RegistrationError {
    #[error("it is not there, and is never made by the server: apply the manifests")]
    Absent,
    #[error("it has no entry {0}: apply the manifests")]
    NoEntry(&'static str),
    #[error("cannot read it")]
    Read(#[source] Box<kube::Error>),
    #[error("cannot write rules, failurePolicy and caBundle")]
    Write(#[source] Box<kube::Error>),
    #[error("the API server did not answer in {DEADLINE:?}")]
    Deadline(#[from] Elapsed),
}

// === impl Registration ===

impl Registration {
    /// Registers what the settings in force say is judged, once `trust` is known.
    pub(super) fn new(
        client: Client,
        in_force: InForce,
        trust: watch::Receiver<Trust>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            in_force,
            trust,
            metrics,
        }
    }

    /// Keeps at it for ever.
    pub(super) async fn run(mut self) {
        let mut said = [None, None];
        let mut pause = FIRST_PAUSE;
        loop {
            let trust = self
                .trust
                .wait_for(|trust| *trust != Trust::Unknown)
                .await
                .map(|t| t.clone());
            let Ok(trust) = trust else {
                return; // who knows of the certificate is gone: the process is leaving
            };
            let mut well = true;
            for (configuration, said) in [Configuration::Validating, Configuration::Mutating]
                .into_iter()
                .zip(&mut said)
            {
                let outcome = self.look(configuration, &trust, *said).await;
                well &= matches!(outcome, WriteOutcome::Unchanged | WriteOutcome::Written);
                *said = Some(outcome);
            }
            let wait = if well { PERIOD } else { pause };
            pause = if well {
                FIRST_PAUSE
            } else {
                (pause * 2).min(PERIOD)
            };
            tokio::select! {
                biased; // all are cancel-safe, and all lead to the same look
                _ = self.trust.changed() => {}
                () = self.in_force.changed.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// One look at one configuration: counted always, logged when it is news.
    async fn look(
        &self,
        configuration: Configuration,
        trust: &Trust,
        said: Option<WriteOutcome>,
    ) -> WriteOutcome {
        let done = match timeout(DEADLINE, self.assert(configuration, trust)).await {
            Ok(done) => done,
            Err(elapsed) => Err(elapsed.into()),
        };
        let outcome = match &done {
            Ok(outcome) => *outcome,
            Err(RegistrationError::Absent) => WriteOutcome::Absent,
            Err(_) => WriteOutcome::Failed,
        };
        self.metrics.registrations.count((configuration, outcome));
        let kind = api_resource(configuration).kind;
        match done {
            Err(error) if said != Some(outcome) => {
                tracing::warn!(kind, name = NAME, error = chain(&error), "not registered");
            }
            Ok(_) if outcome == WriteOutcome::Written || said.is_none_or(is_failure) => {
                tracing::info!(kind, name = NAME, "registered");
            }
            Ok(_) | Err(_) => {}
        }
        outcome
    }

    async fn assert(
        &self,
        configuration: Configuration,
        trust: &Trust,
    ) -> Result<WriteOutcome, RegistrationError> {
        let resource = api_resource(configuration);
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let read = |error| RegistrationError::Read(Box::new(error));
        let live = api
            .get_opt(NAME)
            .await
            .map_err(read)?
            .ok_or(RegistrationError::Absent)?;
        let listed = live.data.get("webhooks").and_then(Value::as_array);
        let entry = |name| {
            let mut listed = listed.into_iter().flatten();
            listed.find(|entry| entry.get("name").is_some_and(|is| is == name))
        };
        // Manifests of an older version lack some, and those that are there must work on.
        let names = shipped_entries(configuration);
        let missing = names.iter().find(|name| entry(**name).is_none());
        let shipped: Vec<_> = names.iter().filter_map(|name| entry(*name)).collect();
        if let (Some(name), true) = (missing, shipped.is_empty()) {
            return Err(RegistrationError::NoEntry(name));
        }
        let settings = self.in_force.settings.load();
        let kinds: Vec<_> = settings.kinds().collect();
        let ours = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            // With the uid, a configuration that is deleted at this moment is not made again by our patch.
            "metadata": {"name": NAME, "uid": live.metadata.uid},
            "webhooks": entries(configuration, &shipped, &kinds, trust),
        });
        let by_us = PatchParams::apply(NAME).force();
        let written = api.patch(NAME, &by_us, &Patch::Apply(&ours)).await;
        let written = written.map_err(|error| RegistrationError::Write(Box::new(error)))?;
        if let Some(name) = missing {
            return Err(RegistrationError::NoEntry(name));
        }
        if written.metadata.resource_version == live.metadata.resource_version {
            Ok(WriteOutcome::Unchanged)
        } else {
            Ok(WriteOutcome::Written)
        }
    }
}

fn is_failure(outcome: WriteOutcome) -> bool {
    matches!(outcome, WriteOutcome::Absent | WriteOutcome::Failed)
}

fn api_resource(configuration: Configuration) -> ApiResource {
    match configuration {
        Configuration::Validating => ApiResource::erase::<ValidatingWebhookConfiguration>(&()),
        Configuration::Mutating => ApiResource::erase::<MutatingWebhookConfiguration>(&()),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http::{Method, Request, Response, StatusCode};
    use http_body_util::BodyExt as _;
    use kube::client::Body;

    use super::*;

    /// An API server with one webhook configuration, or none; it keeps what is written to it.
    #[derive(Clone, Debug, Default)]
    struct ApiServer {
        live: Option<Value>,
        written: Arc<Mutex<Vec<(Method, String, Value)>>>,
        /// Whether a write changes anything.
        changes: bool,
    }

    impl ApiServer {
        fn with(entry: &str) -> Self {
            let live = json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingWebhookConfiguration",
                "metadata": {"name": NAME, "uid": "its-uid", "resourceVersion": "7"},
                "webhooks": [{"name": entry, "clientConfig": {"url": "https://127.0.0.1"}}],
            });
            Self {
                live: Some(live),
                ..Self::default()
            }
        }

        fn client(&self) -> Client {
            let server = self.clone();
            let answer = move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            };
            Client::new(tower::service_fn(answer), "default")
        }

        async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let (head, body) = request.into_parts();
            let Some(mut live) = self.live.clone() else {
                let status =
                    json!({"status": "Failure", "reason": "NotFound", "code": 404, "message": ""});
                let mut response = Response::new(status.to_string().into_bytes().into());
                *response.status_mut() = StatusCode::NOT_FOUND;
                return response;
            };
            if head.method != Method::GET {
                let body =
                    serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                let written = (head.method, head.uri.to_string(), body);
                self.written.lock().unwrap().push(written);
                if self.changes {
                    live["metadata"]["resourceVersion"] = "8".into();
                }
            }
            Response::new(live.to_string().into_bytes().into())
        }

        async fn look(&self) -> WriteOutcome {
            self.look_at(Configuration::Validating).await
        }

        async fn look_at(&self, configuration: Configuration) -> WriteOutcome {
            let (trust, metrics) = (watch::channel(Trust::Unknown).1, Arc::new(Metrics::new()));
            let registration = Registration::new(
                self.client(),
                InForce::default(),
                trust,
                Arc::clone(&metrics),
            );
            let trust = Trust::Bundle("PEM".to_owned());
            registration.look(configuration, &trust, None).await
        }
    }

    #[tokio::test]
    async fn applies_its_three_fields_to_the_very_object_it_has_read() {
        let server = ApiServer {
            changes: true,
            ..ApiServer::with("validate.portcullis.dev")
        };
        assert_eq!(server.look().await, WriteOutcome::Written);
        let written = server.written.lock().unwrap();
        let [(method, uri, body)] = written.as_slice() else {
            panic!("{written:?}")
        };
        assert_eq!(*method, Method::PATCH);
        assert!(
            uri.contains("fieldManager=portcullis") && uri.contains("force=true"),
            "{uri}"
        );
        assert_eq!(
            body["metadata"],
            json!({"name": "portcullis", "uid": "its-uid"})
        );
        let fields: Vec<_> = body["webhooks"][0].as_object().unwrap().keys().collect();
        assert_eq!(fields, ["name", "rules", "failurePolicy", "clientConfig"]);
        assert_eq!(
            body["webhooks"][0]["clientConfig"],
            json!({"caBundle": "UEVN"})
        );
    }

    #[tokio::test]
    async fn says_when_nothing_had_to_be_changed() {
        let server = ApiServer::with("validate.portcullis.dev");
        assert_eq!(server.look().await, WriteOutcome::Unchanged);
    }

    #[tokio::test]
    async fn opens_the_entries_that_are_there_and_says_which_is_not() {
        let server = ApiServer::with("patch.portcullis.dev");
        assert_eq!(
            server.look_at(Configuration::Mutating).await,
            WriteOutcome::Failed
        );
        let written = server.written.lock().unwrap();
        let entries = written[0].2["webhooks"].as_array().unwrap();
        let names: Vec<_> = entries.iter().map(|entry| &entry["name"]).collect();
        assert_eq!(names, ["patch.portcullis.dev"]);
    }

    #[tokio::test]
    async fn never_makes_a_configuration_or_an_entry() {
        assert_eq!(ApiServer::default().look().await, WriteOutcome::Absent);
        let other = ApiServer::with("somebody.else.dev");
        assert_eq!(other.look().await, WriteOutcome::Failed);
        assert!(other.written.lock().unwrap().is_empty());
    }
}
