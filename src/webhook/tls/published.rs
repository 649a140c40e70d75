//! What the webhook configurations tell the API server to trust, read back from it.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::{Api, Client};

use super::bundle::Bundle;
use crate::facts::access::CONFIGURATION;
use crate::webhook::metrics::Configuration;
use crate::webhook::registration::{is_or_copies, shipped_entries};

/// Both configurations.
#[derive(Clone, Debug)]
pub(super) struct Configurations {
    validating: Api<ValidatingWebhookConfiguration>,
    mutating: Api<MutatingWebhookConfiguration>,
}

/// The `caBundle` of each entry of ours. None where a configuration is not there: nobody calls us by it.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Published(Vec<Bundle>);

// === impl Configurations ===

impl Configurations {
    pub(super) fn new(client: Client) -> Self {
        Self {
            validating: Api::all(client.clone()),
            mutating: Api::all(client),
        }
    }

    pub(super) async fn read(&self) -> Result<Published, kube::Error> {
        let mut published = Published::default();
        let validating = self.validating.get_opt(CONFIGURATION).await?;
        for entry in validating
            .into_iter()
            .filter_map(|it| it.webhooks)
            .flatten()
        {
            let bundle = entry.client_config.ca_bundle;
            published.add(Configuration::Validating, &entry.name, bundle);
        }
        let mutating = self.mutating.get_opt(CONFIGURATION).await?;
        for entry in mutating.into_iter().filter_map(|it| it.webhooks).flatten() {
            let bundle = entry.client_config.ca_bundle;
            published.add(Configuration::Mutating, &entry.name, bundle);
        }
        Ok(published)
    }
}

// === impl Published ===

impl Published {
    /// Whether every entry has all of these.
    pub(super) fn trusts(&self, bundle: &Bundle) -> bool {
        self.0.iter().all(|entry| entry.is_superset(bundle))
    }

    /// What any entry has.
    pub(super) fn anywhere(self) -> Bundle {
        let mut all = Bundle::default();
        for entry in self.0 {
            all.extend(entry);
        }
        all
    }

    fn add(&mut self, configuration: Configuration, name: &str, bundle: Option<ByteString>) {
        if is_ours(configuration, name) {
            let text = bundle.unwrap_or_default().0;
            self.0.push(Bundle::from_pem(&text));
        }
    }
}

fn is_ours(configuration: Configuration, name: &str) -> bool {
    let mut shipped = shipped_entries(configuration).iter();
    shipped.any(|shipped| is_or_copies(name, shipped))
}
