//! The values that labels can have: enums and tables, so that no request can make a new series.

use crate::policy::{
    finding::Level,
    gate::{Demand, Takeover},
    leniency::Leniency,
    rules::RuleId,
    verdict::Decision,
    workload::{KINDS, WorkloadKind},
};
use crate::webhook::registration::is_or_copies;

/// One label's values.
pub trait Label: Copy {
    /// All of them.
    fn values() -> impl Iterator<Item = &'static str>;

    /// This one's place in [`Self::values`]; beyond the last for what is not counted.
    fn index(self) -> usize;
}

/// Declares an enum, and its values as labels.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Label for $name {
            fn values() -> impl Iterator<Item = &'static str> {
                [$($value),*].into_iter()
            }

            #[expect(clippy::as_conversions, reason = "the discriminant of a fieldless enum")]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// Which of the webhooks was called.
    Webhook {
        /// `POST /validate`
        Validate = "validate",
        /// `POST /mutate`
        Mutate = "mutate",
        /// `POST /inject`
        Inject = "inject",
    }
}

label! {
    /// `operation` of the admission request.
    Operation {
        /// `CREATE`
        Create = "create",
        /// `UPDATE`
        Update = "update",
        /// Anything else, which our rules never ask for.
        Other = "other",
    }
}

label! {
    /// What the patching webhook did.
    Patched {
        /// It answered with a patch.
        Patched = "patched",
        /// There was nothing to add.
        Unchanged = "unchanged",
    }
}

label! {
    /// What became of a pod that asks for a gate and has none yet.
    Gating {
        /// It got one.
        Injected = "injected",
        /// It can't have one, and was let in without.
        Left = "left",
        /// It must have one and can't, and was refused.
        Refused = "refused",
    }
}

label! {
    /// Why an object was let in without being judged.
    Unjudged {
        /// Its kind is not in the table of kinds, nor in `settings.workloads`.
        Kind = "kind",
        /// A subresource, such as `ephemeralcontainers`.
        Subresource = "subresource",
        /// DELETE or CONNECT, or UPDATE of a kind that is judged on CREATE only.
        Operation = "operation",
        /// It carries no pod template, such as a ControllerRevision of something else.
        Template = "template",
    }
}

label! {
    /// Why a request got no verdict.
    Rejection {
        /// None of `/validate`, `/mutate` and `/inject`.
        Path = "path",
        /// Not POST.
        Method = "method",
        /// Not `application/json`.
        ContentType = "content_type",
        /// Larger than a review can be.
        TooLarge = "too_large",
        /// The body broke off.
        Body = "body",
        /// Not JSON, or nested too deeply.
        Json = "json",
        /// JSON, but no `AdmissionReview` with a request.
        NotReview = "not_review",
        /// An AdmissionReview of another version than v1.
        Version = "version",
        /// The review has no object, or one that can't be read as its kind.
        Object = "object",
        /// No answer in time.
        Timeout = "timeout",
    }
}

label! {
    /// What became of a changed file.
    Outcome {
        /// In force now.
        Applied = "applied",
        /// Not usable; the last good one stays.
        Rejected = "rejected",
    }
}

label! {
    /// A certificate that comes to an end.
    Certificate {
        /// The one that handshakes are answered with.
        Serving = "serving",
        /// The authority that signed it, where it is ours.
        Authority = "authority",
    }
}

label! {
    /// One of our two webhook configurations.
    Configuration {
        /// The ValidatingWebhookConfiguration.
        Validating = "validating",
        /// The MutatingWebhookConfiguration.
        Mutating = "mutating",
    }
}

label! {
    /// What came of a look at a webhook configuration.
    WriteOutcome {
        /// It is as we want it.
        Unchanged = "unchanged",
        /// Our fields were written.
        Written = "written",
        /// It is for another replica to write.
        Left = "left",
        /// It is not there; we never make one.
        Absent = "absent",
        /// The API server did not answer, or refused.
        Failed = "failed",
    }
}

label! {
    /// An entry of our webhook configurations that may come to `failurePolicy: Fail`.
    Entry {
        /// Judges.
        Validate = "validate.portcullis.dev",
        /// Gives a gate to a pod that demands one.
        Inject = "inject.portcullis.dev",
        /// Gives a gate to a pod whose namespace demands one.
        InjectByNamespace = "inject-by-namespace.portcullis.dev",
    }
}

label! {
    /// What a dry run of ours, which one of our entries must refuse, told.
    Checked {
        /// That entry refused it.
        Proved = "proved",
        /// The API server could not call it.
        Unreachable = "unreachable",
        /// The API server did not ask it.
        LetThrough = "let_through",
        /// Neither: the dry run did not come that far.
        Unknown = "unknown",
    }
}

label! {
    /// Of which moment a `failurePolicy` speaks.
    Aim {
        /// As the settings want it.
        Wanted = "wanted",
        /// As it is.
        Now = "now",
    }
}

impl Configuration {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Validating, Self::Mutating];
}

impl Entry {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Validate, Self::Inject, Self::InjectByNamespace];

    /// As it is called in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate.portcullis.dev",
            Self::Inject => "inject.portcullis.dev",
            Self::InjectByNamespace => "inject-by-namespace.portcullis.dev",
        }
    }

    /// The entry whose proof counts for the entry of this name: itself, or the one that it is a copy of (the server
    /// makes those for kinds of the settings). `None` for entries that are never Fail.
    pub fn of(name: &str) -> Option<Self> {
        let mut entries = Self::ALL.into_iter();
        entries.find(|entry| is_or_copies(name, entry.name()))
    }

    /// What it calls.
    pub const fn webhook(self) -> Webhook {
        match self {
            Self::Validate => Webhook::Validate,
            Self::Inject | Self::InjectByNamespace => Webhook::Inject,
        }
    }
}

/// What ends the paths of the entries that may be Fail (`manifests/base`). It changes nothing for us: it is all of ours
/// that an API server prints when it could not call us, to whoever is held up.
pub const NO_ANSWER: &str = "/no-answer-break-glass-see-readme";

impl Webhook {
    /// The webhook that is served at `path`.
    pub fn of(path: &str) -> Option<Self> {
        match path.strip_suffix(NO_ANSWER).unwrap_or(path) {
            "/validate" => Some(Self::Validate),
            "/mutate" => Some(Self::Mutate),
            "/inject" => Some(Self::Inject),
            _ => None,
        }
    }
}

/// The kind of a judged object: one of [`KINDS`], or `other` for one that settings add.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KindOf(usize);

// === impl KindOf ===

impl From<&WorkloadKind> for KindOf {
    fn from(kind: &WorkloadKind) -> Self {
        let at = KINDS
            .iter()
            .position(|row| row.kind == kind.kind && row.group == kind.group);
        Self(at.unwrap_or(KINDS.len()))
    }
}

impl Label for KindOf {
    fn values() -> impl Iterator<Item = &'static str> {
        let names = KINDS.iter().map(|kind| match &kind.kind {
            std::borrow::Cow::Borrowed(name) => *name,
            std::borrow::Cow::Owned(_) => "other",
        });
        names.chain(["other"])
    }

    fn index(self) -> usize {
        self.0
    }
}

// === labels of the judge ===

impl Label for Decision {
    fn values() -> impl Iterator<Item = &'static str> {
        ["allow", "warn", "deny"].into_iter()
    }

    fn index(self) -> usize {
        match self {
            Self::Allow => 0,
            Self::Warn => 1,
            Self::Deny => 2,
        }
    }
}

impl Label for Demand {
    fn values() -> impl Iterator<Item = &'static str> {
        [Self::Preferred, Self::Enabled]
            .into_iter()
            .map(Self::as_str)
    }

    fn index(self) -> usize {
        match self {
            Self::Preferred => 0,
            Self::Enabled => 1,
        }
    }
}

impl Label for Takeover {
    fn values() -> impl Iterator<Item = &'static str> {
        [Self::NamedPort, Self::Env, Self::None, Self::Mixed]
            .into_iter()
            .map(Self::as_str)
    }

    fn index(self) -> usize {
        match self {
            Self::NamedPort => 0,
            Self::Env => 1,
            Self::None => 2,
            Self::Mixed => 3,
        }
    }
}

impl Label for Leniency {
    fn values() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::as_str)
    }

    #[expect(
        clippy::as_conversions,
        reason = "the discriminant of a fieldless enum"
    )]
    fn index(self) -> usize {
        self as usize
    }
}

impl Label for RuleId {
    fn values() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::as_str)
    }

    fn index(self) -> usize {
        Self::index(self)
    }
}

impl Label for Level {
    fn values() -> impl Iterator<Item = &'static str> {
        [Self::Warn, Self::Deny].into_iter().map(Self::as_str)
    }

    fn index(self) -> usize {
        match self {
            Self::Warn => 0,
            Self::Deny => 1,
            Self::None => usize::MAX, // no finding is made at this level
        }
    }
}
