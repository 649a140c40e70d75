//! The whole path: TLS, HTTP, review, judge, answer; by the real program. Prints the README's tables.
//!
//! `make bench` runs it, once with the argument `load`: the server alone on one core, the load from another; once with
//! `api-server`: the same server called by a real API server, beside a ValidatingAdmissionPolicy; and once with `scale`:
//! a Deployment that grows to 200 pods, with our webhook and without. `make bench-outage` runs it with `outage`: what our
//! own start, a new authority and a large cluster cost. `make bench-audit` runs it with `audit`: the command of that name
//! over 20,000 workloads and 50,000 Secrets.
//! `PORTCULLIS_BENCH_SECONDS` says how long each load lasts (30), `PORTCULLIS_BENCH_CORE` on which core the server of
//! `load` runs (0).
#![allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a program for measuring, not for serving"
)]

mod api_server;

mod audit;

mod load;

mod outage;

mod scale;

mod server;

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../../support/mod.rs"]
mod support;

use std::{env, sync::Arc, time::Duration};

use bytes::Bytes;
use load::{Latencies, Target};
use serde_json::{Value, json};
use server::{Server, Usage};
use support::checkout;

/// What an open loop sends.
const PER_SECOND: u32 = 1000;

/// New connections of a burst.
const BURST: usize = 200;

/// Different Secrets that are named in turn.
const SECRETS: usize = 10_000;

#[tokio::main]
async fn main() {
    let seconds = env::var("PORTCULLIS_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(30));
    match env::args().nth(1).as_deref() {
        Some("load") => load(length).await,
        Some("api-server") => api_server::compare(length).await,
        Some("scale") => scale::compare(),
        Some("outage") => outage::measure(length).await,
        Some("audit") => audit::measure().await,
        _ => eprintln!("usage: cargo bench --bench path -- load|api-server|scale|outage|audit"),
    }
}

async fn load(length: Duration) {
    let core = env::var("PORTCULLIS_BENCH_CORE").unwrap_or_else(|_| "0".to_owned());
    let server = Server::start(&core).await;
    let same = review(None);
    let target = |tls, review| Target {
        address: server.address,
        tls,
        review,
    };
    let steady = target(server.client(), Arc::new(move |_| same.clone()));
    steady.closed_loop(Duration::from_secs(1)).await; // facts cached, memory warm

    println!("| load | reviews | p50 | p99 | p99.9 | CPU s per 1,000 | RSS |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let row = Row::begin(&server);
    let latencies = steady.open_loop(PER_SECOND, length).await;
    row.print(
        &format!(
            "open loop, {PER_SECOND} a second, {} connections",
            load::CONNECTIONS
        ),
        &latencies,
    );

    let row = Row::begin(&server);
    let (latencies, rate) = steady.closed_loop(length).await;
    row.print(&format!("closed loop, {rate:.0} a second"), &latencies);

    let resuming = target(server.resuming_client(), Arc::clone(&steady.review));
    resuming.burst(1).await; // its ticket
    for target in [&steady, &resuming] {
        let row = Row::begin(&server);
        let (latencies, resumed) = target.burst(BURST).await;
        let full = latencies.count() - resumed;
        row.print(
            &format!("burst of new connections, {full} full handshakes and {resumed} resumed"),
            &latencies,
        );
    }

    let many = target(
        server.client(),
        Arc::new(|number| review(Some(number % SECRETS))),
    );
    let row = Row::begin(&server);
    let (latencies, rate) = many.closed_loop(length).await;
    row.print(
        &format!("closed loop over {SECRETS} Secrets, {rate:.0} a second"),
        &latencies,
    );
    println!(
        "\nPeak memory: {:.1} MiB.",
        server.usage().peak_kib as f64 / 1024.0
    );
}

/// A row of the table: what the server used from its beginning to its end.
struct Row<'a> {
    server: &'a Server,
    before: Usage,
}

impl<'a> Row<'a> {
    fn begin(server: &'a Server) -> Self {
        Self {
            server,
            before: server.usage(),
        }
    }

    fn print(self, name: &str, latencies: &Latencies) {
        let after = self.server.usage();
        let cpu = (after.cpu_seconds - self.before.cpu_seconds) / latencies.count() as f64 * 1e3;
        let [p50, p99, p999] =
            [0.5, 0.99, 0.999].map(|part| format!("{:.2} ms", latencies.quantile(part)));
        let resident = format!("{:.1} MiB", after.resident_kib as f64 / 1024.0);
        println!(
            "| {name} | {} | {p50} | {p99} | {p999} | {cpu:.3} | {resident} |",
            latencies.count()
        );
    }
}

/// The review of the Deployment that judging is measured on; with a number, its Secrets are those of that number.
fn review(number: Option<usize>) -> Bytes {
    let object = checkout::object();
    let object = match number {
        Some(number) => object
            .get()
            .replace("\"secret-", &format!("\"secret-{number}-")),
        None => object.get().to_owned(),
    };
    let object = serde_json::from_str(&object).expect("it was JSON before");
    review_of(&object).to_string().into()
}

/// The review of a Deployment's creation by a user.
fn review_of(object: &Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "7f0b2891-916f-4ed6-b7cd-27bff1815a8c",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            "operation": "CREATE",
            "userInfo": {"username": "jane@example.com", "groups": ["developers", "system:authenticated"]},
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}
