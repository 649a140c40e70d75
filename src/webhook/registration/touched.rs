//! Tells when somebody has changed one of our webhook configurations.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::Client;
use kube::api::WatchParams;
use kube::core::WatchEvent;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{NAME, api};
use crate::webhook::metrics::Configuration;

/// Between the end of one watch and the begin of the next: the look that comes every minute anyway is net enough.
const PAUSE: Duration = Duration::from_secs(10);

/// Watches one configuration for ever, by its name, as our right is. Only that it has changed is told: what it
/// says is read by whoever acts on it.
pub(super) async fn watch(client: Client, configuration: Configuration, touched: Arc<Notify>) {
    let api = api(client, configuration);
    let by_name = WatchParams::default().fields(&format!("metadata.name={NAME}"));
    loop {
        match api.watch_metadata(&by_name, "0").await {
            Ok(events) => {
                let mut events = pin!(events);
                // An error ends the stream, or is an event after which there is no other: begin anew.
                while let Some(Ok(event)) = events.next().await {
                    if let WatchEvent::Error(_) = event {
                        break;
                    }
                    touched.notify_one();
                }
            }
            Err(error) => tracing::debug!(?configuration, %error, "not watched"),
        }
        sleep(PAUSE).await;
    }
}
