//! An AdmissionReview as the API server sends it: what the gate reads of it, borrowed from the bytes.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::metrics::Operation;
use crate::policy::template::{List, Text};

/// The version that is spoken, in and out.
pub(super) const API_VERSION: &str = "admission.k8s.io/v1";

/// The only kind of body that is understood.
pub(super) const KIND: &str = "AdmissionReview";

/// `request` of a review, checked: it names its uid and carries an object where its operation has one.
#[derive(Debug)]
pub struct Review<'a> {
    /// `uid`, which the answer must repeat.
    pub uid: Text<'a>,
    /// `kind` of the object.
    pub kind: GroupVersionKind<'a>,
    /// `subResource`; empty for the object itself.
    pub subresource: Text<'a>,
    /// `operation`.
    pub operation: Operation,
    /// `namespace`; empty for objects that are in none.
    pub namespace: Text<'a>,
    /// `userInfo`.
    pub user: UserInfo<'a>,
    /// `dryRun`: nothing will be stored.
    pub dry_run: bool,
    /// `object`, as it will be stored; absent on DELETE and CONNECT.
    pub object: Option<&'a RawValue>,
    /// `oldObject`, as it is stored; only on UPDATE.
    pub old: Option<&'a RawValue>,
}

/// `kind` of a request.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct GroupVersionKind<'a> {
    /// `group`, empty for the core group.
    pub group: Text<'a>,
    /// `version`.
    pub version: Text<'a>,
    /// `kind`.
    pub kind: Text<'a>,
}

/// Who asks: `userInfo` of a request. It can't be written by who asks.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, bound(deserialize = "'de: 'a"))]
pub struct UserInfo<'a> {
    /// `username`.
    pub username: Option<Text<'a>>,
    /// `groups`.
    pub groups: List<Text<'a>>,
}

/// Why a body is not a review that can be answered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotAReview {
    /// Some bytes are no text.
    #[error("the body is not UTF-8 from byte {0} on")]
    Utf8(usize),
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    Json(String),
    /// JSON of another kind.
    #[error("expected kind {KIND}, got {}", quoted(.0.as_deref()))]
    Kind(Option<String>),
    /// A version that is not spoken here.
    #[error("expected apiVersion {API_VERSION}, got {}: set admissionReviewVersions to [v1]", quoted(.0.as_deref()))]
    Version(Option<String>),
    /// A review that lacks something.
    #[error("the review has no {0}")]
    Lacks(&'static str),
}

/// The body, before it is checked.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct Body<'a> {
    api_version: Option<Text<'a>>,
    kind: Option<Text<'a>>,
    request: Option<RawRequest<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", bound(deserialize = "'de: 'a"))]
struct RawRequest<'a> {
    uid: Text<'a>,
    kind: GroupVersionKind<'a>,
    sub_resource: Text<'a>,
    operation: Text<'a>,
    namespace: Text<'a>,
    user_info: UserInfo<'a>,
    dry_run: Option<bool>,
    object: Option<&'a RawValue>,
    old_object: Option<&'a RawValue>,
}

/// What a body says of itself, whatever else is in it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TypeMeta {
    api_version: Option<String>,
    kind: Option<String>,
}

// === impl Review ===

impl<'a> Review<'a> {
    /// Reads a body in one pass. Nothing is copied but strings that hold an escape, and no depth of nesting in the
    /// object can hurt: what isn't read is skipped without recursion.
    pub fn parse(body: &'a [u8]) -> Result<Self, NotAReview> {
        let text = str::from_utf8(body).map_err(|error| NotAReview::Utf8(error.valid_up_to()))?;
        let body: Body<'a> =
            serde_json::from_str(text).map_err(|error| NotAReview::why(text, &error))?;
        let Body {
            api_version,
            kind,
            request,
        } = body;
        let own = |text: Option<Text<'_>>| text.map(|text| text.as_str().to_owned());
        if kind.as_deref() != Some(KIND) {
            return Err(NotAReview::Kind(own(kind)));
        }
        if api_version.as_deref() != Some(API_VERSION) {
            return Err(NotAReview::Version(own(api_version)));
        }
        request.ok_or(NotAReview::Lacks("request"))?.check()
    }
}

// === impl RawRequest ===

impl<'a> RawRequest<'a> {
    fn check(self) -> Result<Review<'a>, NotAReview> {
        let Self {
            uid,
            kind,
            sub_resource,
            operation,
            namespace,
            user_info,
            dry_run,
            object,
            old_object,
        } = self;
        if uid.is_empty() {
            return Err(NotAReview::Lacks("request.uid"));
        }
        if kind.kind.is_empty() {
            return Err(NotAReview::Lacks("request.kind"));
        }
        let operation = match &*operation {
            "" => return Err(NotAReview::Lacks("request.operation")),
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Other,
        };
        if object.is_none() && operation != Operation::Other {
            return Err(NotAReview::Lacks("request.object"));
        }
        Ok(Review {
            uid,
            kind,
            subresource: sub_resource,
            operation,
            namespace,
            user: user_info,
            dry_run: dry_run.unwrap_or_default(),
            object,
            old: old_object.filter(|_| operation == Operation::Update),
        })
    }
}

// === impl NotAReview ===

impl NotAReview {
    /// The plainest reason why `text` could not be read: of another kind or version, or else not JSON, or a review with
    /// a field of the wrong type.
    fn why(text: &str, error: &serde_json::Error) -> Self {
        if serde_json::from_str::<IgnoredAny>(text).is_err() {
            return Self::Json(error.to_string());
        }
        match serde_json::from_str::<TypeMeta>(text).unwrap_or_default() {
            TypeMeta { kind, .. } if kind.as_deref() != Some(KIND) => Self::Kind(kind),
            TypeMeta { api_version, .. } if api_version.as_deref() != Some(API_VERSION) => {
                Self::Version(api_version)
            }
            TypeMeta { .. } => Self::Json(error.to_string()),
        }
    }
}

/// As much of a stranger's word as an error message should carry.
fn quoted(word: Option<&str>) -> String {
    const LONGEST: usize = 80;
    match word {
        Some(word) => format!("\"{}\"", word.chars().take(LONGEST).collect::<String>()),
        None => String::from("none"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn review() -> Value {
        json!({
            "kind": "AdmissionReview",
            "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "7f0b2891-916f-4ed6-b7cd-27bff1815a8c",
                "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
                "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
                "name": "checkout",
                "namespace": "shop",
                "operation": "CREATE",
                "userInfo": {"username": "jane", "groups": ["devs"], "extra": {"a": ["b"]}},
                "object": {"metadata": {"name": "checkout"}},
                "oldObject": null,
                "dryRun": true,
                "options": {"kind": "CreateOptions"},
            },
        })
    }

    fn without(pointer: &str) -> String {
        let mut review = review();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        review
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(field)
            .unwrap();
        review.to_string()
    }

    fn with(pointer: &str, value: Value) -> String {
        let mut review = review();
        *review.pointer_mut(pointer).unwrap() = value;
        review.to_string()
    }

    fn refusal(body: impl AsRef<[u8]>) -> String {
        Review::parse(body.as_ref()).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_the_gate_needs() {
        let body = review().to_string();
        let review = Review::parse(body.as_bytes()).unwrap();
        assert_eq!(&*review.uid, "7f0b2891-916f-4ed6-b7cd-27bff1815a8c");
        assert_eq!(
            (&*review.kind.group, &*review.kind.kind),
            ("apps", "Deployment")
        );
        assert_eq!(&*review.namespace, "shop");
        assert_eq!(review.operation, Operation::Create);
        assert_eq!(review.user.username.as_deref(), Some("jane"));
        assert_eq!(
            review
                .user
                .groups
                .items()
                .map(|group| &**group)
                .collect::<Vec<_>>(),
            ["devs"]
        );
        assert!(review.dry_run);
        assert_eq!(
            review.object.unwrap().get(),
            r#"{"metadata":{"name":"checkout"}}"#
        );
    }

    #[test]
    fn names_what_is_wrong_with_a_body() {
        for (body, words) in [
            (String::new(), "not JSON"),
            ("hello".into(), "not JSON"),
            ("{\"kind\":".into(), "not JSON"),
            ("[1]".into(), "got none"),
            ("null".into(), "got none"),
            ("{}".into(), "got none"),
            ("{\"kind\": 7}".into(), "got none"),
            (
                with("/kind", json!("ConversionReview")),
                "got \"ConversionReview\"",
            ),
            (
                with("/apiVersion", json!("admission.k8s.io/v1beta1")),
                "got \"admission.k8s.io/v1beta1\"",
            ),
            (
                with("/apiVersion", json!("admission.k8s.io/v2")),
                "admissionReviewVersions to [v1]",
            ),
            (without("/apiVersion"), "got none"),
            (without("/request"), "no request"),
            (with("/request", json!(null)), "no request"),
            (with("/request", json!("text")), "not JSON: invalid type"),
            (without("/request/uid"), "no request.uid"),
            (without("/request/kind"), "no request.kind"),
            (without("/request/operation"), "no request.operation"),
            (without("/request/object"), "no request.object"),
            (with("/request/object", json!(null)), "no request.object"),
        ] {
            let refusal = refusal(&body);
            assert!(refusal.contains(words), "{body}: {refusal}");
        }
    }

    #[test]
    fn names_the_byte_that_is_not_utf_8() {
        let body = with(
            "/request/object",
            json!({"metadata": {"annotations": {"a": "XX"}}}),
        );
        let at = body.find("XX").unwrap();
        let mut body = body.into_bytes();
        body[at] = 0xff;
        assert_eq!(
            refusal(body),
            format!("the body is not UTF-8 from byte {at} on")
        );
    }

    #[test]
    fn nesting_of_any_depth_is_read_without_recursion() {
        const DEEP: usize = 1_000_000;
        let nested = "[".repeat(DEEP) + &"]".repeat(DEEP);
        let body = with("/request/object", json!("HERE")).replace("\"HERE\"", &nested);
        assert_eq!(
            Review::parse(body.as_bytes())
                .unwrap()
                .object
                .unwrap()
                .get(),
            nested
        );
        assert!(refusal(&nested).contains("got none"));
        assert!(refusal("[".repeat(DEEP)).contains("not JSON"));
    }

    #[test]
    fn an_update_carries_the_old_object_too() {
        let old = r#"{"metadata":{"name":"before"}}"#;
        for (operation, expected) in [("UPDATE", Some(old)), ("CREATE", None), ("DELETE", None)] {
            let body = with("/request/operation", json!(operation))
                .replace(r#""oldObject":null"#, &format!(r#""oldObject":{old}"#));
            let review = Review::parse(body.as_bytes()).unwrap();
            assert_eq!(review.old.map(RawValue::get), expected, "{operation}");
        }
    }

    #[test]
    fn a_delete_carries_no_object() {
        let body =
            with("/request/operation", json!("DELETE")).replace(r#""object":{"#, r#""former":{"#);
        let review = Review::parse(body.as_bytes()).unwrap();
        assert_eq!(review.operation, Operation::Other);
        assert!(review.object.is_none());
    }
}
