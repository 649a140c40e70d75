//! What a self-check carries, and how it is refused: written and read in one place.

use std::collections::BTreeMap;

use rustls::crypto::ring;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::facts::access::SELF_CHECK_NAMESPACE;
use crate::policy::template::Text;
use crate::webhook::metrics::{Entry, Operation};
use crate::webhook::review::Review;

/// Names the entry that must refuse the object, and carries the nonce: `ENTRY/NONCE`.
pub(super) const ANNOTATION: &str = "portcullis.dev/self-check";

/// 128 bits: no answer fits by chance, nor is one from before taken for new.
const NONCE_BYTES: usize = 16;

/// One self-check: which entry must refuse it, and the words that only an answer to it can hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::webhook) struct Ticket {
    entry: Entry,
    /// In hex.
    nonce: String,
}

/// As much of the object as is looked at.
#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Object<'a> {
    metadata: Metadata<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
struct Metadata<'a> {
    annotations: BTreeMap<Text<'a>, Text<'a>>,
}

/// Random bytes in hex, which nobody else will come upon.
fn nonce() -> Result<String, rustls::Error> {
    let mut nonce = [0; NONCE_BYTES];
    ring::default_provider().secure_random.fill(&mut nonce)?;
    Ok(nonce.map(|byte| format!("{byte:02x}")).concat())
}

// === impl Ticket ===

impl Ticket {
    /// A new one, for this entry to refuse.
    pub(in crate::webhook) fn new(entry: Entry) -> Result<Self, rustls::Error> {
        let nonce = nonce()?;
        Ok(Self { entry, nonce })
    }

    /// The value of [`ANNOTATION`].
    pub(in crate::webhook) fn annotation(&self) -> String {
        format!("{}/{}", self.entry.name(), self.nonce)
    }

    /// The ticket of a review, if it is a self-check: a Pod in the namespace that is there for nothing else.
    pub(in crate::webhook) fn of(review: &Review<'_>) -> Option<Self> {
        let is_pod = review.kind.group.is_empty() && &*review.kind.kind == "Pod";
        let is_created = review.operation == Operation::Create && review.subresource.is_empty();
        if &*review.namespace != SELF_CHECK_NAMESPACE || !is_pod || !is_created {
            return None;
        }
        let object = review.object.map_or("null", RawValue::get);
        let object: Object<'_> = serde_json::from_str(object).ok()?;
        let annotations = object.metadata.annotations;
        let (_, value) = annotations
            .iter()
            .find(|(key, _)| key.as_str() == ANNOTATION)?;
        let (name, nonce) = value.split_once('/')?;
        let entry = Entry::ALL.into_iter().find(|entry| entry.name() == name)?;
        let is_nonce =
            nonce.len() == 2 * NONCE_BYTES && nonce.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_nonce.then(|| Self {
            entry,
            nonce: nonce.to_owned(),
        })
    }

    /// Whether a body is a self-check's, whatever else it is.
    pub(in crate::webhook) fn is_in(body: &[u8]) -> bool {
        Review::parse(body).is_ok_and(|review| Self::of(&review).is_some())
    }

    /// The entry that must refuse it; the others let it pass.
    pub(in crate::webhook) fn entry(&self) -> Entry {
        self.entry
    }

    /// What the entry says to it.
    pub(in crate::webhook) fn refusal(&self, replica: &str) -> String {
        format!("portcullis self-check {} answered by {replica}", self.nonce)
    }

    /// The replica that refused it, from what the API server says: nothing but these very words, said of this entry
    /// (apiserver `admission/plugin/webhook/errors`, `ToStatusErr`).
    pub(super) fn answered_by<'m>(&self, message: &'m str) -> Option<&'m str> {
        let entry = self.entry.name();
        let prefix = format!("admission webhook \"{entry}\" denied the request: ");
        let refusal = message.strip_prefix(&prefix)?;
        let replica = refusal.strip_prefix(&self.refusal(""))?;
        (!replica.is_empty()).then_some(replica)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review(ticket: &str) -> Value {
        json!({
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "an-uid",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "namespace": SELF_CHECK_NAMESPACE,
                "operation": "CREATE",
                "object": {"metadata": {"annotations": {"a": "b", ANNOTATION: ticket}}},
            },
        })
    }

    fn read(review: &Value) -> Option<Ticket> {
        let body = review.to_string();
        let ticket = Ticket::of(&Review::parse(body.as_bytes()).unwrap());
        assert_eq!(ticket.is_some(), Ticket::is_in(body.as_bytes()));
        ticket
    }

    #[test]
    fn is_read_as_it_was_written_and_never_twice_the_same() {
        for entry in Entry::ALL {
            let ticket = Ticket::new(entry).unwrap();
            assert_eq!(read(&review(&ticket.annotation())), Some(ticket.clone()));
            assert_ne!(ticket, Ticket::new(entry).unwrap());
        }
    }

    #[test]
    fn holds_only_for_pods_that_are_made_in_its_namespace() {
        let ticket = Ticket::new(Entry::Inject).unwrap().annotation();
        for (field, value) in [
            ("namespace", json!("shop")),
            ("operation", json!("UPDATE")),
            ("operation", json!("DELETE")),
            ("subResource", json!("ephemeralcontainers")),
            (
                "kind",
                json!({"group": "apps", "version": "v1", "kind": "Deployment"}),
            ),
            ("object", json!({})),
            ("object", json!({"metadata": {"annotations": null}})),
            ("object", json!([])),
        ] {
            let mut review = review(&ticket);
            review["request"][field] = value;
            assert_eq!(read(&review), None, "{review}");
        }
        for ticket in [
            "",
            "inject.portcullis.dev",
            "patch.portcullis.dev/00112233445566778899aabbccddeeff",
            "inject.portcullis.dev/",
            "inject.portcullis.dev/00112233445566778899aabbccddeef",
            "inject.portcullis.dev/00112233445566778899aabbccddeefg",
        ] {
            assert_eq!(read(&review(ticket)), None, "{ticket}");
        }
        assert!(!Ticket::is_in(b"no review"));
    }

    #[test]
    fn only_its_own_entry_s_own_words_answer_it() {
        let ticket = Ticket::new(Entry::Validate).unwrap();
        let refusal = ticket.refusal("portcullis-6f9c-x2x");
        let said_by = |entry: &str, words: &str| {
            format!("admission webhook \"{entry}\" denied the request: {words}")
        };
        let ours = said_by("validate.portcullis.dev", &refusal);
        assert_eq!(ticket.answered_by(&ours), Some("portcullis-6f9c-x2x"));
        let other = Ticket::new(Entry::Validate).unwrap().refusal("a");
        for message in [
            refusal.clone(),
            said_by("inject.portcullis.dev", &refusal),
            said_by("validate.somebody.else", &refusal),
            said_by("validate.portcullis.dev", &other),
            said_by("validate.portcullis.dev", &ticket.refusal("")),
            said_by("validate.portcullis.dev", "portcullis: Pod x refused"),
        ] {
            assert_eq!(ticket.answered_by(&message), None, "{message}");
        }
    }
}
