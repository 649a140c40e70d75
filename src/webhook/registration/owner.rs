//! Our namespace owns both configurations: whoever deletes it first, with `Fail` set, must not be left with entries that
//! nobody answers for. The API server's garbage collection takes them along.

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use serde_json::{Value, json};

/// `ownerReferences` to it; none where it is not there.
pub(super) async fn reference(client: Client, namespace: &str) -> Result<Value, kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client);
    let ours = namespaces.get_metadata_opt(namespace).await?;
    let uid = ours.and_then(|ours| ours.metadata.uid);
    let owner = uid
        .map(|uid| json!({"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": uid}));
    Ok(owner.into_iter().collect())
}
