//! What was let in although it would be refused now.

use serde_json::Value;

use crate::{
    audit::{Record, Report, Unread},
    cli::cluster::Api,
    facts::access::CONFIGURATION,
    policy::finding::Level,
};

/// Since when the API server knows of our webhook, as an object's metadata say it; `None` where it does not.
pub(super) async fn registered(api: &Api) -> Result<Option<String>, Unread> {
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATION}"
    );
    let configuration: Option<Value> = api.get(&path).await.map_err(|why| Unread {
        verb: "get",
        resource: "validatingwebhookconfigurations.admissionregistration.k8s.io".into(),
        why: why.into(),
        count: 1,
    })?;
    let created = configuration.as_ref().and_then(|configuration| {
        let created = configuration.pointer("/metadata/creationTimestamp");
        created.and_then(Value::as_str)
    });
    Ok(created.map(str::to_owned))
}

/// Workloads made at `since` or later, in namespaces that deny, that break a rule which looks at nothing but the workload:
/// what a reference leads to may have gone later.
pub(super) fn after<'r>(report: &'r Report, since: &str) -> impl Iterator<Item = &'r Record> {
    report.records().iter().filter(move |record| {
        let mut violations = record.violations.iter();
        // Such times are ordered as their texts are.
        record
            .created
            .as_deref()
            .is_some_and(|created| created >= since)
            && record.enforce == Level::Deny
            && violations.any(|one| one.level == Level::Deny && !one.rule.is_reference())
    })
}

/// How that can be, a line each.
pub(super) fn causes(since: &str) -> [String; 3] {
    [
        format!(
            "Made since Portcullis was registered ({since}). Either nobody was asked (the policy was Ignore and no server"
        ),
        String::from(
            "answered, or glass was broken), or labels or settings were milder then. The API server's audit log tells which:",
        ),
        String::from("annotation validate.portcullis.dev/decision."),
    ]
}
