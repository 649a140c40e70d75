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
use entries::{entries, shipped_entry};

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
        let name = shipped_entry(configuration);
        let listed = live
            .data
            .get("webhooks")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let shipped = listed
            .into_iter()
            .find(|entry| entry.get("name").is_some_and(|is| is == name));
        let shipped = shipped.ok_or(RegistrationError::NoEntry(name))?;
        let settings = self.in_force.settings.load();
        let kinds: Vec<_> = settings.kinds().collect();
        let ours = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            // With the uid, a configuration that is deleted at this moment is not made again by our patch.
            "metadata": {"name": NAME, "uid": live.metadata.uid},
            "webhooks": entries(configuration, shipped, &kinds, trust),
        });
        let by_us = PatchParams::apply(NAME).force();
        let written = api.patch(NAME, &by_us, &Patch::Apply(&ours)).await;
        let written = written.map_err(|error| RegistrationError::Write(Box::new(error)))?;
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
