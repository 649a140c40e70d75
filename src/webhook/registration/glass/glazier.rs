//! Sees to broken glass: writes down when it ends, takes it away then, and tells of it in the log, by a metric and by
//! an Event.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::timeout;

use super::super::{DEADLINE, NAME, api};
use super::{Glass, Reading};
use crate::lease::Tenure;
use crate::telemetry::chain;
use crate::webhook::metrics::{Configuration, Metrics};

/// The reason of the Event that tells of broken glass.
const BROKEN: &str = "GlassBroken";

/// Looks at the annotations of both configurations.
pub(in crate::webhook::registration) struct Glazier {
    client: Client,
    namespace: String,
    metrics: Arc<Metrics>,
    /// What each said when it was last read.
    readings: [Reading; 2],
    told: Option<Glass>,
}

// === impl Glazier ===

impl Glazier {
    /// Events go to `namespace`, ours.
    pub(in crate::webhook::registration) fn new(
        client: Client,
        namespace: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            client,
            namespace,
            metrics,
            readings: [Reading::Whole, Reading::Whole],
            told: None,
        }
    }

    /// The glass that is broken now, if any is. Who may write sees that its end is written down, and kept.
    pub(in crate::webhook::registration) async fn look(
        &mut self,
        tenure: Tenure,
    ) -> Option<&Glass> {
        for (place, configuration) in Configuration::ALL.into_iter().enumerate() {
            let looking = look_at(&self.client, configuration, tenure);
            match timeout(DEADLINE, looking).await {
                Ok(Ok(reading)) => {
                    if let Some(slot) = self.readings.get_mut(place) {
                        *slot = reading;
                    }
                }
                // What it said before counts on; the registration says why it can't be read.
                Ok(Err(error)) => {
                    tracing::debug!(?configuration, error = chain(&error), "glass not looked at");
                }
                Err(_) => tracing::debug!(?configuration, "glass not looked at in time"),
            }
        }
        let now = Reading::both(self.readings.clone());
        let until = now.as_ref();
        let until = until.map_or(0.0, |glass| glass.until.as_duration().as_secs_f64());
        self.metrics.break_glass_until.set(until);
        if is_news(self.told.as_ref(), now.as_ref()) {
            self.tell(now.as_ref(), tenure).await;
        }
        self.told = now;
        self.told.as_ref()
    }

    /// What was found at the last look.
    pub(in crate::webhook::registration) fn is_broken(&self) -> bool {
        self.told.is_some()
    }

    async fn tell(&self, now: Option<&Glass>, tenure: Tenure) {
        let (reason, message) = if let Some(Glass {
            reason,
            until,
            correction,
        }) = now
        {
            tracing::warn!(reason, %until, correction, "glass is broken: failurePolicy is Ignore everywhere");
            let message = format!("failurePolicy is Ignore everywhere until {until}: {reason}");
            (BROKEN, message)
        } else {
            let message = "glass is whole again: what failurePolicy may be is proved anew";
            tracing::warn!("{message}");
            ("GlassWhole", message.to_owned())
        };
        if tenure != Tenure::Waiting
            && let Err(error) = self.post(reason, message).await
        {
            tracing::debug!(error = chain(&error), reason, "no Event");
        }
    }

    /// An Event of our Deployment, for `kubectl get events`.
    async fn post(&self, reason: &str, message: String) -> Result<(), kube::Error> {
        let now = Time(Timestamp::now());
        let event = Event {
            metadata: ObjectMeta {
                generate_name: Some(format!("{NAME}.")),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some("Deployment".to_owned()),
                name: Some(NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                ..ObjectReference::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message),
            type_: Some(
                if reason == BROKEN {
                    "Warning"
                } else {
                    "Normal"
                }
                .to_owned(),
            ),
            source: Some(EventSource {
                component: Some(NAME.to_owned()),
                host: None,
            }),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let posted = timeout(DEADLINE, events.create(&PostParams::default(), &event)).await;
        posted.map_or(Ok(()), |posted| posted.map(drop))
    }
}

/// An end that moves by our own count, before anybody has written it down, is told of once.
fn is_news(before: Option<&Glass>, now: Option<&Glass>) -> bool {
    match (before, now) {
        (None, None) => false,
        (Some(before), Some(now)) => {
            let is_another_end = match now.correction {
                Some(_) => before.correction != now.correction,
                None => before.until != now.until,
            };
            is_another_end || before.reason != now.reason
        }
        (None, Some(_)) | (Some(_), None) => true,
    }
}

async fn look_at(
    client: &Client,
    configuration: Configuration,
    tenure: Tenure,
) -> Result<Reading, kube::Error> {
    let api = api(client.clone(), configuration);
    let Some(live) = api.get_metadata_opt(NAME).await? else {
        return Ok(Reading::Whole);
    };
    let annotations = live.metadata.annotations.unwrap_or_default();
    let reading = Reading::of(&annotations, Timestamp::now());
    if let (Some(annotations), false) = (reading.amendment(), tenure == Tenure::Waiting) {
        let amended = json!({"metadata": {
            "uid": live.metadata.uid,
            "resourceVersion": live.metadata.resource_version,
            "annotations": annotations,
        }});
        // Who wrote in between has the last word, and is read at the next look.
        api.patch(NAME, &PatchParams::default(), &Patch::Merge(amended))
            .await?;
    }
    Ok(reading)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_once_of_each_end_and_of_each_correction() {
        let glass = |until: i64, correction| Glass {
            reason: "INC-1".to_owned(),
            until: Timestamp::from_second(until).unwrap(),
            correction,
        };
        let (stated, corrected) = (glass(1, None), glass(2, Some("an hour")));
        for (before, now, expected) in [
            (None, Some(&stated), true),
            (Some(&stated), Some(&stated), false),
            (Some(&stated), Some(&glass(2, None)), true),
            (Some(&stated), Some(&corrected), true),
            // Not written down yet, and looked at again.
            (Some(&corrected), Some(&glass(3, Some("an hour"))), false),
            (Some(&corrected), Some(&glass(2, None)), false),
            (Some(&stated), None, true),
            (None, None, false),
        ] {
            assert_eq!(is_news(before, now), expected, "{before:?} {now:?}");
        }
    }
}
