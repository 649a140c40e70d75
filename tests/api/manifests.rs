//! `manifests/base` on the real API server, before and after our server has written its fields.

use serde_json::Value;

use super::{
    installation::{Session, await_policy},
    objects::list,
};

#[test]
fn applying_the_manifests_again_changes_nothing_and_shows_no_difference() {
    let session = Session::shared();
    let admin = session.admin();
    let manifests = list(session.manifests().to_vec());
    // As the API server keeps it, without the record of who wrote what, which an apply may add to.
    let kept = || {
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let list: Value = serde_json::from_str(&admin.call(&format!("get {kinds} -o json")).ok())
            .expect("kubectl prints JSON");
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .into_iter()
            .map(|mut item| {
                (
                    item["metadata"]["generation"].take(),
                    item["webhooks"].take(),
                )
            })
            .collect::<Vec<_>>()
    };
    // What is proved meanwhile would be a change.
    await_policy(&admin, "Fail");
    let before = kept();
    for (_, webhooks) in &before {
        assert!(
            webhooks[0]["rules"].is_array(),
            "our server has written its rules: {webhooks}"
        );
        assert!(
            webhooks[0]["clientConfig"]["caBundle"].is_string(),
            "and its authority: {webhooks}"
        );
    }
    assert_eq!(before.len(), 2);

    for flags in ["", "--server-side --field-manager=gitops"] {
        assert_eq!(
            admin.feed(&format!("diff {flags} -f -"), &manifests).ok(),
            "",
            "diff {flags}"
        );
        admin.feed(&format!("apply {flags} -f -"), &manifests).ok();
        assert_eq!(
            admin.feed(&format!("diff {flags} -f -"), &manifests).ok(),
            "",
            "diff {flags}, afterwards"
        );
        assert_eq!(kept(), before, "apply {flags}");
    }
}

#[test]
fn the_two_replicas_are_admitted_by_pod_security_and_by_quota_of_their_priority() {
    let session = Session::shared();
    let admin = session.admin().in_namespace("portcullis-system");
    crate::support::wait::eventually("two pods of ours", || {
        let list = admin
            .call("get pods -l app.kubernetes.io/name=portcullis -o json")
            .ok();
        let list: Value = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        match list["items"].as_array().map(Vec::len) {
            Some(2) => Ok(()),
            other => Err(format!("{other:?} pods")),
        }
    });
}
