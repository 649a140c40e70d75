//! One self-check: a dry run of a Pod that one entry of ours must refuse, and what its answer tells.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, Pod, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};
use kube::api::{ObjectMeta, PostParams};
use kube::core::Status;
use kube::{Api, Client};
use tokio::time::timeout;

use super::ticket::{ANNOTATION, Ticket};
use crate::contract::GATE_LABEL;
use crate::facts::access::SELF_CHECK_NAMESPACE;
use crate::telemetry::chain;
use crate::webhook::metrics::{Checked, Entry};
use crate::webhook::respond::Rejected;

/// Longer than the API server takes to give up on the two entries of ours that see the pod (`timeoutSeconds: 3` each).
const DEADLINE: Duration = Duration::from_secs(8);

/// What a self-check told, in words where it did not prove anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// The entry refused it, by this replica.
    Proved(String),
    /// The API server says that it cannot call the entry, or can't make sense of its answer.
    Unreachable(String),
    /// The API server did not ask the entry, or asked in vain under `Ignore`. A quota's refusal tells the same: it is
    /// asked after all webhooks.
    LetThrough(String),
    /// The object did not come as far as the entry, or what became of it is not known: the API server did not answer, or
    /// would not take it (RBAC, overload), or somebody else refused it. And where a replica had too much to do: it
    /// was reached.
    Unknown(String),
}

/// Sends one through the API server of `client`.
pub(super) async fn check(client: Client, entry: Entry) -> Outcome {
    let Ok(ticket) = Ticket::new(entry) else {
        return Outcome::Unknown("the operating system gives no random numbers".to_owned());
    };
    let pods: Api<Pod> = Api::namespaced(client, SELF_CHECK_NAMESPACE);
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = pod(&ticket);
    match timeout(DEADLINE, pods.create(&dry_run, &pod)).await {
        Ok(Ok(_)) => Outcome::LetThrough("the API server took what the entry refuses".to_owned()),
        Ok(Err(kube::Error::Api(status))) => judge(&ticket, &status),
        Ok(Err(error)) => Outcome::Unknown(chain(&error)),
        Err(_) => Outcome::Unknown(format!("the API server did not answer in {DEADLINE:?}")),
    }
}

/// What an API server's refusal tells.
fn judge(ticket: &Ticket, status: &Status) -> Outcome {
    let (name, message) = (ticket.entry().name(), &*status.message);
    if let Some(replica) = ticket.answered_by(message) {
        return Outcome::Proved(replica.to_owned());
    }
    let failed = format!("Internal error occurred: failed calling webhook \"{name}\": ");
    let said = message.to_owned();
    match message.strip_prefix(&failed) {
        // A replica that says so itself was reached.
        Some(why) if is_busy(why) => Outcome::Unknown(said),
        Some(_) => Outcome::Unreachable(said),
        None if status.code == 403 && is_quota(message) => Outcome::LetThrough(said),
        None => Outcome::Unknown(said),
    }
}

/// The words of a replica that sheds, or was too slow: [`Rejected`] is what the API server repeats.
fn is_busy(why: &str) -> bool {
    [Rejected::Shed, Rejected::Timeout]
        .iter()
        .any(|rejected| why.ends_with(&rejected.to_string()))
}

/// A ResourceQuota refused it (apiserver `admission/plugin/resourcequota/controller.go`).
fn is_quota(message: &str) -> bool {
    message.contains("exceeded quota: ") || message.contains("status unknown for quota: ")
}

/// A pod that would be let in by all but us: the `restricted` Pod Security Standard takes it, and it wants no token.
fn pod(ticket: &Ticket) -> Pod {
    // Which entry is called for a pod is for its label and that of its namespace, which demands a gate, to say. The
    // pod for the validating one goes by none that may be Fail.
    let label = match ticket.entry() {
        Entry::Validate => Some("preferred"),
        Entry::Inject => Some("enabled"),
        Entry::InjectByNamespace => None,
    };
    let label = label.map(|demand| (GATE_LABEL.to_owned(), demand.to_owned()));
    Pod {
        metadata: ObjectMeta {
            name: Some("self-check".to_owned()),
            annotations: Some(BTreeMap::from([(
                ANNOTATION.to_owned(),
                ticket.annotation(),
            )])),
            labels: Some(label.into_iter().collect()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![Container {
                name: "none".to_owned(),
                image: Some("none".to_owned()),
                security_context: Some(SecurityContext {
                    allow_privilege_escalation: Some(false),
                    capabilities: Some(Capabilities {
                        drop: Some(vec!["ALL".to_owned()]),
                        ..Capabilities::default()
                    }),
                    ..SecurityContext::default()
                }),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

// === impl Outcome ===

impl Outcome {
    /// As it is counted.
    pub(super) fn label(&self) -> Checked {
        match self {
            Self::Proved(_) => Checked::Proved,
            Self::Unreachable(_) => Checked::Unreachable,
            Self::LetThrough(_) => Checked::LetThrough,
            Self::Unknown(_) => Checked::Unknown,
        }
    }

    /// Who answered.
    pub(super) fn replica(&self) -> Option<&str> {
        match self {
            Self::Proved(replica) => Some(replica),
            Self::Unreachable(_) | Self::LetThrough(_) | Self::Unknown(_) => None,
        }
    }

    /// Why it proves nothing.
    pub(super) fn doubt(&self) -> Option<&str> {
        match self {
            Self::Proved(_) => None,
            Self::Unreachable(why) | Self::LetThrough(why) | Self::Unknown(why) => Some(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, message: &str) -> Outcome {
        let ticket = Ticket::new(Entry::Validate).unwrap();
        let message = message.replace("REFUSAL", &ticket.refusal("portcullis-a"));
        let status = Status::failure(&message, "").with_code(code);
        judge(&ticket, &status)
    }

    /// The messages are those of Kubernetes 1.34.
    #[test]
    fn only_a_refusal_by_the_entry_itself_proves_it() {
        let proof = r#"admission webhook "validate.portcullis.dev" denied the request: REFUSAL"#;
        assert_eq!(told(403, proof), Outcome::Proved("portcullis-a".to_owned()));
        let unreachable = [
            r#"Internal error occurred: failed calling webhook "validate.portcullis.dev": failed to call webhook: Post "https://portcullis.portcullis-system.svc:443/validate?timeout=3s": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
            r#"Internal error occurred: failed calling webhook "validate.portcullis.dev": failed to call webhook: Post "https://portcullis.portcullis-system.svc:443/validate?timeout=3s": no endpoints available for service "portcullis""#,
            r#"Internal error occurred: failed calling webhook "validate.portcullis.dev": failed to call webhook: Post "https://portcullis.portcullis-system.svc:443/validate?timeout=3s": context deadline exceeded"#,
        ];
        for message in unreachable {
            assert_eq!(
                told(500, message).label(),
                Checked::Unreachable,
                "{message}"
            );
        }
        let let_through = [
            r#"pods "self-check" is forbidden: exceeded quota: portcullis-self-check, requested: pods=1, used: pods=0, limited: pods=0"#,
            r#"pods "self-check" is forbidden: status unknown for quota: portcullis-self-check, resources: pods"#,
        ];
        for message in let_through {
            assert_eq!(told(403, message).label(), Checked::LetThrough, "{message}");
        }
        let unknown = [
            (
                403,
                r#"pods is forbidden: User "system:serviceaccount:portcullis-system:portcullis" cannot create resource "pods" in API group "" in the namespace "portcullis-self-check""#,
            ),
            (404, r#"namespaces "portcullis-self-check" not found"#),
            (
                403,
                r#"admission webhook "validate.somebody.else" denied the request: REFUSAL"#,
            ),
            (
                403,
                r#"pods "self-check" is forbidden: error looking up service account portcullis-self-check/default: serviceaccount "default" not found"#,
            ),
            (
                500,
                r#"Internal error occurred: failed calling webhook "validate.somebody.else": failed to call webhook: Post "https://other.svc:443/": context deadline exceeded"#,
            ),
            (
                500,
                r#"Internal error occurred: failed calling webhook "validate.portcullis.dev": failed to call webhook: too many reviews at once; try again"#,
            ),
            (
                500,
                r#"Internal error occurred: failed calling webhook "validate.portcullis.dev": failed to call webhook: no verdict in time"#,
            ),
            (429, "too many requests, please try again later."),
            (500, "etcdserver: leader changed"),
        ];
        for (code, message) in unknown {
            assert_eq!(told(code, message).label(), Checked::Unknown, "{message}");
        }
    }
}
