//! The requests that warm the app up, and what counts as warm.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duration,
    kinds::{is_path, require_headers},
    problem::Problems,
    status::{StatusRange, kubelet_statuses, require_statuses},
};

/// How the app is warmed up before it gets traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Warmup {
    /// Sent once in this order, then again and again in windows, by weight.
    pub requests: Vec<WarmupRequest>,
    /// What latency counts as warm. Without it only a plateau does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<WarmupTarget>,
    /// A p95 above this never counts as warm, even when it has stopped improving.
    #[serde(
        default,
        rename = "maxP95",
        skip_serializing_if = "Option::is_none",
        with = "duration::option"
    )]
    #[schemars(schema_with = "duration::schema")]
    pub max_p95: Option<Duration>,
    /// Windows in a row that must be at the target, or must show a change of less than 10 % from
    /// the first to the last of them. Default: 3.
    #[serde(default = "three")]
    pub windows: u32,
    /// Requests a window. Default: 20.
    #[serde(default = "twenty")]
    pub window_requests: u32,
    /// How often each declared request is sent before a verdict. Default: 10.
    #[serde(default = "ten")]
    pub min_requests: u32,
    /// Requests in flight at a time. The same in each window, so that windows can be compared.
    /// Default: 4.
    #[serde(default = "four")]
    pub concurrency: u32,
    /// At most so many requests a second, so that warming one pod does not load what it stands on.
    /// Default: 50.
    #[serde(default = "fifty")]
    pub rate: u32,
    /// An attempt with a higher share of failed requests in one window is broken off. Default: 10.
    #[serde(default = "ten_percent")]
    pub max_error_percent: u8,
    /// How long one request may take; a cold one may be slow. Default: 10s.
    #[serde(default = "ten_seconds", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
    /// How long one attempt may take. Default: 60s.
    #[serde(default = "one_minute", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub max_duration: Duration,
}

/// What counts as warm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WarmupTarget {
    /// 95 of 100 requests of a window take no longer.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub p95: Duration,
}

/// One kind of request to warm the app up with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WarmupRequest {
    /// Default: GET. Others than GET, HEAD and OPTIONS need `safe`.
    #[serde(default = "get")]
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Which of the gate's ports it is for, by name; the first unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Sent as HTTP/2 by prior knowledge, for an app that speaks nothing else. A gRPC call is such a
    /// request too: `POST /package.Service/Method`, `content-type: application/grpc`,
    /// `te: trailers`, and a body whose file holds the message as it is framed. It passes only with
    /// `grpc-status` 0. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http2: bool,
    /// Header fields to send; `Host` may be among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What to send with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<WarmupBody>,
    /// How often it is sent compared with the others. Default: 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// The status codes that pass. Default: 200 to 399.
    #[serde(default = "kubelet_statuses")]
    pub status: Vec<StatusRange>,
    /// Says that sending it any number of times changes nothing that matters.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub safe: bool,
}

/// The body of a warm-up request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WarmupBody {
    /// As it stands, at most 64 KiB.
    Text(String),
    /// The content of a file, at most 1 MiB.
    File(String),
}

/// An inline body beyond this belongs in a file: settings live in an annotation.
const MAX_INLINE_BODY: usize = 64 * 1024;

/// What RFC 9110 (9.2.1) defines as safe and is of use here.
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

// === impl Warmup ===

impl Warmup {
    pub(crate) fn validate(&self, ports: &[String], problems: &mut Problems) {
        let at = "warmup";
        problems.require(
            (1..=100).contains(&self.requests.len()),
            format_args!("{at}.requests"),
            "must hold 1 to 100 requests",
        );
        for (index, request) in self.requests.iter().enumerate() {
            request.validate(&format!("{at}.requests[{index}]"), ports, problems);
        }
        let counts = [
            ("windows", self.windows, 2..=20),
            ("windowRequests", self.window_requests, 5..=1000),
            ("minRequests", self.min_requests, 1..=10_000),
            ("concurrency", self.concurrency, 1..=64),
            ("rate", self.rate, 1..=10_000),
        ];
        for (field, value, bounds) in &counts {
            problems.number(format_args!("{at}.{field}"), value, bounds);
        }
        problems.number(
            format_args!("{at}.maxErrorPercent"),
            &self.max_error_percent,
            &(0..=99),
        );
        let (milli, second) = (Duration::from_millis(1), Duration::from_secs(1));
        problems.duration(
            format_args!("{at}.timeout"),
            self.timeout,
            &(milli..=second * 60),
        );
        problems.duration(
            format_args!("{at}.maxDuration"),
            self.max_duration,
            &(second..=second * 3600),
        );
        if let (Some(target), Some(max)) = (&self.target, self.max_p95) {
            problems.require(
                target.p95 <= max,
                format_args!("{at}.maxP95"),
                "must not be below target.p95",
            );
        }
    }
}

// === impl WarmupRequest ===

impl WarmupRequest {
    fn validate(&self, at: &str, ports: &[String], problems: &mut Problems) {
        let method = http::Method::from_bytes(self.method.as_bytes());
        problems.require(
            method.is_ok_and(|method| method != http::Method::CONNECT),
            format_args!("{at}.method"),
            "is no method that a warm-up can send",
        );
        problems.require(
            self.safe || SAFE_METHODS.contains(&self.method.as_str()),
            format_args!("{at}.safe"),
            "must be true for methods other than GET, HEAD and OPTIONS: \
             only you know whether sending it again and again does harm",
        );
        problems.require(
            is_path(&self.path),
            format_args!("{at}.path"),
            "must begin with / and hold no spaces",
        );
        if let Some(port) = &self.port {
            problems.require(
                ports.contains(port),
                format_args!("{at}.port"),
                "is not the name of one of the ports",
            );
        }
        require_headers(&self.headers, at, problems);
        require_statuses(&self.status, at, problems);
        problems.number(format_args!("{at}.weight"), &self.weight, &(1..=1000));
        match &self.body {
            Some(WarmupBody::Text(text)) => problems.require(
                text.len() <= MAX_INLINE_BODY,
                format_args!("{at}.body.text"),
                "is longer than 64 KiB: put it into a file",
            ),
            Some(WarmupBody::File(path)) => problems.require(
                path.starts_with('/'),
                format_args!("{at}.body.file"),
                "must be an absolute path",
            ),
            None => {}
        }
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn four() -> u32 {
    4
}

fn ten() -> u32 {
    10
}

fn twenty() -> u32 {
    20
}

fn fifty() -> u32 {
    50
}

fn ten_percent() -> u8 {
    10
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}
