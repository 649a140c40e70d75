//! The page on the admin port: what the gate does and why, for a person with a browser.
//!
//! One document without scripts or anything from elsewhere, written anew for each request.

use std::fmt::Write as _;

use super::{
    state::State,
    status::{self, CheckStatus, Status, WarmupStatus},
};
use crate::html::{LOOK, Text, grating};

// The warm-up's latency, window by window.
mod curve;

// One phase after the other, to today.
mod timeline;

/// What the page may load and run: only the style within it.
pub(super) const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = include_str!("style.css");

/// What a state looks like. Never the only sign: the state's name stands beside it.
#[derive(Clone, Copy)]
struct Look {
    /// The class that colours it.
    tone: &'static str,
    /// How far the grating is up, of 10.
    lift: u8,
}

/// The page for a gate at one moment.
pub fn render(status: &Status) -> String {
    let mut page = String::with_capacity(16 * 1024);
    let name = status.state.name();
    let tone = Look::of(status).tone;
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"refresh\" content=\"2\">\n\
         <title>{name} · portcullis-gate</title>\n<style>\n{LOOK}{STYLE}</style>\n</head>\n\
         <body class=\"{tone}\">\n<header><b>portcullis-gate</b> <span>{} UTC, renewed every \
         2 s</span></header>\n<main>\n",
        status::clock(status.at, status.at)
    );
    put_state(&mut page, status);
    put_traffic(&mut page, status);
    put_checks(&mut page, status);
    if let Some(warmup) = &status.warmup {
        put_warmup(&mut page, warmup);
    }
    timeline::put(&mut page, status);
    page.push_str(
        "</main>\n<footer>for programs: <a href=\"/status\">/status</a> \
         <a href=\"/metrics\">/metrics</a> <a href=\"/ready\">/ready</a> \
         <a href=\"/live\">/live</a></footer>\n</body>\n</html>\n",
    );
    page
}

fn put_state(page: &mut String, status: &Status) {
    let lasted = status
        .at
        .duration_since(status.since)
        .unwrap_or_default()
        .as_secs();
    let _ = write!(
        page,
        "<section class=\"state\">\n{}\n<div>\n<h1>{}</h1>\n<p class=\"reason\">{}</p>\n\
         <p class=\"since\"><span class=\"chip\">{}</span> for {}, since {} UTC</p>\n",
        grating(Look::of(status).lift),
        status.state.name(),
        Text(&status.reason),
        if status.ready { "ready" } else { "not ready" },
        status::brief(std::time::Duration::from_secs(lasted)),
        status::clock(status.at, status.since),
    );
    let failing = status.failing();
    if failing > 0 && matches!(status.state, State::Ramping | State::Open) {
        let checks = if failing == 1 {
            "check fails"
        } else {
            "checks fail"
        };
        let _ = writeln!(
            page,
            "<p class=\"note\">{failing} {checks}; traffic passes all the same</p>"
        );
    }
    page.push_str("<ol class=\"way\">");
    for state in status.way() {
        let now = if state == status.state {
            " aria-current=\"step\""
        } else {
            ""
        };
        let _ = write!(page, "<li{now}>{}</li>", state.name());
    }
    page.push_str("</ol>\n</div>\n</section>\n");
}

fn put_traffic(page: &mut String, status: &Status) {
    let traffic = &status.traffic;
    page.push_str("<section class=\"tiles\">\n");
    let mut tile = |value: String, what: &str, more: String| {
        let _ = writeln!(page, "<p><b>{value}</b>{what}<span>{more}</span></p>");
    };
    tile(
        traffic.held.to_string(),
        "held",
        format!("{} of memory", status::size(traffic.held_bytes)),
    );
    tile(
        traffic.in_flight.to_string(),
        "in flight",
        "requests at the app".to_owned(),
    );
    tile(
        traffic.streams.to_string(),
        "streams",
        "WebSockets, TCP".to_owned(),
    );
    tile(
        traffic.connections.to_string(),
        "connections",
        "of clients".to_owned(),
    );
    if let Some(ramp) = &status.ramp {
        let held = if ramp.is_held {
            ", p95 has doubled"
        } else {
            ""
        };
        tile(
            ramp.limit.to_string(),
            "at a time",
            format!("step {} of {}{held}", ramp.step, ramp.steps),
        );
    }
    page.push_str("</section>\n");
}

fn put_checks(page: &mut String, status: &Status) {
    page.push_str("<section>\n<h2>Checks</h2>\n");
    if status.checks.is_empty() {
        page.push_str("<p class=\"none\">None but that the app's port accepts.</p>\n</section>\n");
        return;
    }
    page.push_str("<table class=\"checks\">\n");
    for check in &status.checks {
        put_check(page, status, check);
    }
    page.push_str("</table>\n</section>\n");
}

fn put_check(page: &mut String, status: &Status, check: &CheckStatus) {
    let (tone, sign) = match check.standing {
        "passing" => ("good", "✓"),
        "failing" => ("bad", "✗"),
        _ => ("idle", "·"),
    };
    let (found, age) = match &check.last {
        None => ("no result yet", String::new()),
        Some(run) => (
            run.problem.as_deref().unwrap_or("passed"),
            status::ago(status.at, run.at),
        ),
    };
    let took = match &check.last {
        Some(run) if run.passed => format!(" in {} ms", run.took_ms),
        _ => String::new(),
    };
    let _ = writeln!(
        page,
        "<tr class=\"{tone}\"><td class=\"sign\">{sign} {}</td><th scope=\"row\">{}</th>\
         <td class=\"kind\">{}, {}</td><td class=\"found\">{}{took}</td><td class=\"age\">{age}</td></tr>",
        check.standing,
        Text(&check.name),
        check.kind,
        check.scope,
        Text(found),
    );
}

fn put_warmup(page: &mut String, warmup: &WarmupStatus) {
    let verdict = warmup.verdict.unwrap_or("not begun");
    let _ = writeln!(
        page,
        "<section>\n<h2>Warm-up <span class=\"chip\">{verdict}</span></h2>"
    );
    let numbers = &warmup.numbers;
    let p95 = |micros: Option<u64>| micros.map_or_else(|| "–".to_owned(), status::latency);
    if warmup.attempts == 0 {
        page.push_str("<p class=\"none\">It begins when all checks pass.</p>\n");
    } else {
        let _ = writeln!(
            page,
            "<p class=\"sum\">p95 <b>{}</b> cold, <b>{}</b> now; {} requests, {} failed, {} \
             (attempt {})</p>",
            p95(numbers.cold_p95_us),
            p95(numbers.warm_p95_us),
            numbers.requests,
            numbers.errors,
            status::brief(std::time::Duration::from_millis(numbers.took_ms)),
            warmup.attempts,
        );
        curve::put(page, warmup);
    }
    page.push_str("</section>\n");
}

// === impl Look ===

impl Look {
    fn of(status: &Status) -> Self {
        let is_forced = matches!(status.cause, "opened_cold" | "opened_unchecked");
        if is_forced && matches!(status.state, State::Ramping | State::Open) {
            return Self {
                tone: "wait",
                lift: 8,
            };
        }
        Self::of_state(status.state)
    }

    fn of_state(state: State) -> Self {
        let (tone, lift) = match state {
            State::Closed | State::Reclosed => ("bad", 0),
            State::Checking => ("wait", 0),
            State::Warming => ("busy", 1),
            State::Ramping => ("busy", 5),
            State::Open => ("good", 8),
            State::Draining => ("leave", 4),
        };
        Self { tone, lift }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::status::samples, *};

    #[test]
    fn shows_why_it_is_closed() {
        insta::assert_snapshot!(body(&samples::closed()));
    }

    #[test]
    fn shows_a_warm_up_under_way() {
        insta::assert_snapshot!(body(&samples::warming()));
    }

    #[test]
    fn shows_an_open_gate_and_how_it_came_to_open() {
        insta::assert_snapshot!(body(&samples::open()));
    }

    #[test]
    fn shows_a_drain() {
        insta::assert_snapshot!(body(&samples::draining()));
    }

    #[test]
    fn a_gate_opened_by_policy_is_no_green_one() {
        let cold = Status {
            cause: "opened_cold",
            ..samples::open()
        };
        assert!(render(&cold).contains("<body class=\"wait\">"));
        assert!(render(&samples::open()).contains("<body class=\"good\">"));
    }

    #[test]
    fn nothing_in_it_is_from_elsewhere_or_runs() {
        for status in [
            samples::closed(),
            samples::warming(),
            samples::open(),
            samples::draining(),
        ] {
            let page = render(&status);
            for foreign in ["<script", "://", "@import", "onload", "<b>odd", "\u{1b}"] {
                assert!(!page.contains(foreign), "{foreign} in {page}");
            }
        }
    }

    /// The page without its style, which is no golden's business.
    fn body(status: &Status) -> String {
        render(status).replace(LOOK, "").replace(STYLE, "")
    }
}
