//! What the client reports: a moment a second, and a summary at the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How requests went in one second: what ended in it, and what waits at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    pub second: u64,
    pub quick: u32,
    pub slow: u32,
    pub failed: u32,
    pub waiting: u32,
    /// Of the good answers; 0 where there is none.
    pub p99_ms: u32,
}

/// How all of them went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub sent: u32,
    pub failed: u32,
    /// How many failed for each reason.
    pub reasons: BTreeMap<String, u32>,
    /// Good answers that took longer than 250 ms.
    pub slow: u32,
    /// Of good answers; absent where there is none.
    pub first_good_ms: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub max_ms: Option<f64>,
}
