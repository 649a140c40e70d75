//! Gates at four moments of a life, for the tests of what is shown.

use std::collections::VecDeque;

use super::*;

/// 2026-11-21T10:00:00Z: the gate's start in all of these.
const START: u64 = 1_795_255_200;

/// The database is not there yet; one check's words hold what would harm a page or a terminal.
pub(crate) fn closed() -> Status {
    let why = "check db: postgres shop-db:5432: connection refused";
    Status {
        checks: vec![
            check(
                "db",
                "postgres",
                "failing",
                Some("postgres shop-db:5432: connection refused after 1 ms"),
            ),
            check("ready", "http", "passing", None),
            check(
                "<b>odd</b>",
                "http",
                "failing",
                Some(
                    "GET /ready: 200, but its body does not match \u{1b}[31m\"<script>\" after 3 ms",
                ),
            ),
        ],
        warmup: Some(WarmupStatus {
            target_p95_us: Some(50_000),
            ..WarmupStatus::default()
        }),
        traffic: TrafficStatus {
            connections: 14,
            held: 12,
            held_bytes: 5_234,
            ..TrafficStatus::default()
        },
        ..status(
            "checks_fail",
            72,
            &[
                (2, State::Checking, "no result yet of db, ready"),
                (3, State::Checking, why),
            ],
        )
    }
}

/// The checks pass and the latency falls.
pub(crate) fn warming() -> Status {
    Status {
        checks: vec![check("db", "postgres", "passing", None)],
        warmup: Some(warmup("running", 9)),
        traffic: TrafficStatus {
            connections: 38,
            held: 37,
            held_bytes: 18_944,
            ..TrafficStatus::default()
        },
        ..status(
            "warming_up",
            50,
            &[
                (
                    2,
                    State::Checking,
                    "check db: postgres shop-db:5432: connection refused",
                ),
                (44, State::Warming, "the app is being warmed up"),
            ],
        )
    }
}

/// Warm, and open for days.
pub(crate) fn open() -> Status {
    Status {
        checks: vec![
            check("db", "postgres", "passing", None),
            check("ready", "http", "passing", None),
        ],
        warmup: Some(warmup("warm", 16)),
        traffic: TrafficStatus {
            connections: 64,
            in_flight: 9,
            streams: 2,
            ..TrafficStatus::default()
        },
        ..status(
            "warm",
            275_000,
            &[
                (
                    2,
                    State::Checking,
                    "check db: postgres shop-db:5432: connection refused",
                ),
                (44, State::Warming, "the app is being warmed up"),
                (53, State::Open, "the app is warm"),
            ],
        )
    }
}

/// The pod is being deleted, in the middle of a ramp.
pub(crate) fn draining() -> Status {
    Status {
        ready: true,
        checks: vec![check(
            "db",
            "postgres",
            "failing",
            Some("postgres shop-db:5432: no answer after 1000 ms"),
        )],
        traffic: TrafficStatus {
            connections: 21,
            in_flight: 20,
            streams: 1,
            ..TrafficStatus::default()
        },
        ..status(
            "pod_deleted",
            36,
            &[
                (1, State::Ramping, "all checks pass"),
                (33, State::Draining, "the pod is being deleted"),
            ],
        )
    }
}

fn status(cause: &'static str, now: u64, changes: &[(u64, State, &str)]) -> Status {
    let mut from = State::Closed;
    let mut transitions = VecDeque::new();
    for (second, to, reason) in changes {
        transitions.push_back(Transition {
            at: at(*second),
            from,
            to: *to,
            reason: (*reason).to_owned(),
        });
        from = *to;
    }
    let last = transitions.back().unwrap();
    Status {
        at: at(now),
        state: last.to,
        ready: matches!(last.to, State::Ramping | State::Open),
        cause,
        reason: last.reason.clone(),
        since: last.at,
        checks: Vec::new(),
        warmup: None,
        ramp: None,
        traffic: TrafficStatus::default(),
        counts: Counts {
            started: Some(at(0)),
            ..Counts::default()
        },
        transitions,
    }
}

fn check(
    name: &str,
    kind: &'static str,
    standing: &'static str,
    problem: Option<&str>,
) -> CheckStatus {
    CheckStatus {
        name: name.to_owned(),
        kind,
        scope: "startup",
        standing,
        last: Some(RunStatus {
            passed: problem.is_none(),
            problem: problem.map(str::to_owned),
            took_ms: 4,
            at: at(30),
            took: Duration::from_millis(4),
        }),
        runs: 9,
        failures: 4,
    }
}

fn warmup(verdict: &'static str, windows: u32) -> WarmupStatus {
    let falling = |window: u32| 18_000 + 640_000 / u64::from((window + 1).pow(2));
    let windows_us: VecDeque<_> = (0..windows).map(falling).collect();
    WarmupStatus {
        attempts: 1,
        verdict: Some(verdict),
        numbers: Numbers {
            cold_p95_us: Some(812_000),
            warm_p95_us: windows_us.back().copied(),
            requests: 4 + 20 * u64::from(windows),
            errors: 1,
            took_ms: 6_240,
            windows_us,
        },
        target_p95_us: Some(50_000),
    }
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(START + second)
}
