//! How traffic is held, let through, and let go; and what happens when the app does not get ready.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, problem::Problems};

/// What happens to requests that arrive while the gate is shut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hold {
    /// What a shut gate does with a request. Default: queue.
    pub mode: HoldMode,
    /// Requests (or connections of a `tcp` port) held at a time. Default: 1000.
    pub max_requests: u32,
    /// Bytes of request heads held at a time; bodies are never read while held. Default: 16 MiB.
    pub max_bytes: u64,
    /// How long one is held before it is refused. Default: 10s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub max_wait: Duration,
    /// How a gRPC call is refused. Default: refusedStream.
    pub grpc: GrpcRefusal,
}

/// What a shut gate does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HoldMode {
    /// Hold it within the bounds, then refuse it in a form that callers may retry.
    Queue,
    /// Refuse it at once.
    Refuse,
    /// Do not listen at all: clients see "connection refused".
    Unlisten,
}

/// How a gRPC call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GrpcRefusal {
    /// `RST_STREAM(REFUSED_STREAM)`: provably not processed, so clients retry it themselves.
    RefusedStream,
    /// Status 14, `UNAVAILABLE`, with the reason as its message.
    Unavailable,
}

/// How gently an app that was not warmed up gets its first traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ramp {
    /// After which openings. Default: notWarm.
    pub when: RampWhen,
    /// Requests in flight that are let through at a time, one step after the other; after the last
    /// step there is no limit. Default: [4, 16, 64].
    pub steps: Vec<u32>,
    /// How long all steps take together. Default: 10s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub duration: Duration,
    /// What happens to a request that has found the step full for 250 ms. Default: pass.
    pub on_full: OnFull,
}

/// After which openings the gate ramps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RampWhen {
    /// When there was no warm-up, or its verdict was not `warm`.
    NotWarm,
    /// After every opening.
    Always,
    /// After none.
    Never,
}

/// What happens to a request that finds a step of the ramp full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnFull {
    /// It passes, counted: a gate in the pod cannot move load to other pods.
    Pass,
    /// It is refused in a form that callers may retry.
    Refuse,
}

/// How the gate lets go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Drain {
    /// How long the gate serves on as before, so that load balancers can learn of it. Default: 5s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub delay: Duration,
    /// After so long from the beginning of the drain it is done, come what may. Default: 25s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub deadline: Duration,
    /// After so long from the beginning of the drain upgraded streams are closed. Default: 15s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub stream_deadline: Duration,
    /// How long `GET /drained` waits for a drain to begin before it takes the call for a restart
    /// of the app's container. Default: 10s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub hook_wait: Duration,
}

/// What happens when the checks do not pass in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ChecksFailed {
    /// Counted while the app's port accepts and checks fail. Default: 120s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub after: Duration,
    /// Default: closed.
    pub then: Policy,
}

/// What happens when the app does not get warm in time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NotWarm {
    /// Counted from when all checks first pass; stands still while they fail. Default: 120s.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub after: Duration,
    /// Default: open.
    pub then: Policy,
}

/// What a gate does that could not open on evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// Stay shut and say why.
    Closed,
    /// Open by a ramp, if the app's port accepts at all. Counted, to be alerted on.
    Open,
    /// Exit with code 1. Only for a gate that stands alone under a supervisor.
    Restart,
}

// === impl Hold ===

impl Hold {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        problems.number("hold.maxRequests", &self.max_requests, &(1..=1_000_000));
        problems.number("hold.maxBytes", &self.max_bytes, &(64 * 1024..=1 << 32));
        problems.duration("hold.maxWait", self.max_wait, &(MILLISECOND..=HOUR));
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            mode: HoldMode::Queue,
            max_requests: 1000,
            max_bytes: 16 * 1024 * 1024,
            max_wait: Duration::from_secs(10),
            grpc: GrpcRefusal::RefusedStream,
        }
    }
}

// === impl Ramp ===

impl Ramp {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        let rising = self.steps.iter().all(|step| *step > 0) && self.steps.is_sorted();
        problems.require(
            rising && (1..=10).contains(&self.steps.len()),
            "ramp.steps",
            "must hold 1 to 10 rising numbers above 0",
        );
        problems.duration("ramp.duration", self.duration, &(MILLISECOND..=HOUR));
    }
}

impl Default for Ramp {
    fn default() -> Self {
        Self {
            when: RampWhen::NotWarm,
            steps: vec![4, 16, 64],
            duration: Duration::from_secs(10),
            on_full: OnFull::Pass,
        }
    }
}

// === impl Drain ===

impl Drain {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        problems.duration("drain.deadline", self.deadline, &(Duration::ZERO..=DAY));
        problems.require(
            self.delay <= self.deadline,
            "drain.delay",
            "must not be longer than drain.deadline",
        );
        problems.require(
            self.stream_deadline <= self.deadline,
            "drain.streamDeadline",
            "must not be longer than drain.deadline",
        );
        problems.duration("drain.hookWait", self.hook_wait, &(MILLISECOND..=HOUR));
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            deadline: Duration::from_secs(25),
            stream_deadline: Duration::from_secs(15),
            hook_wait: Duration::from_secs(10),
        }
    }
}

// === impl ChecksFailed ===

impl ChecksFailed {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        problems.duration("checksFailed.after", self.after, &(Duration::ZERO..=DAY));
    }
}

impl Default for ChecksFailed {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(120),
            then: Policy::Closed,
        }
    }
}

// === impl NotWarm ===

impl NotWarm {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        problems.duration("notWarm.after", self.after, &(Duration::ZERO..=DAY));
    }
}

impl Default for NotWarm {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(120),
            then: Policy::Open,
        }
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
