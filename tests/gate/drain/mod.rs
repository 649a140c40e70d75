//! Whether anything is lost when a gate under every kind of load goes away.

mod app;

mod clients;

mod clocks;

use std::sync::atomic::Ordering;

use portcullis::gate::control::Request;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::{
    app::App,
    clients::{Clients, Kind, Orders},
};
use super::harness::{Gate, PATIENCE, free_port};

/// How a gate goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// SIGTERM, as when it stands alone.
    Sigterm,
    /// `drain --deleted` and then SIGTERM, as in a pod.
    Command,
    /// Without a word.
    Kill,
}

/// A gate, its app and its clients, from open to gone.
struct Farewell {
    gate: Gate,
    clients: Clients,
    list: watch::Sender<bool>,
    finish: watch::Sender<bool>,
    _app: App,
}

/// What became of the clients.
struct Report {
    requests: u64,
    answered: [u64; Kind::ALL.len()],
    lost: Vec<String>,
    seconds: f64,
}

// === impl Farewell ===

impl Farewell {
    async fn prepare() -> Self {
        let ((list, listed), (finish, finished)) = (watch::channel(true), watch::channel(false));
        let app = App::start(finished.clone()).await;
        let [web, grpc, admin] = [(); 3].map(|()| free_port());
        // A delay that is over long before the load is: the last stream's end ends the drain.
        let gate = Gate::with_document(
            (web, admin),
            format!(
                r#"{{"admin": "127.0.0.1:{admin}", "ramp": {{"when": "never"}},
                    "drain": {{"delay": "50ms", "deadline": "100s", "streamDeadline": "100s"}},
                    "ports": [
                      {{"name": "web", "listen": "127.0.0.1:{web}", "app": "127.0.0.1:{}"}},
                      {{"name": "grpc", "listen": "127.0.0.1:{grpc}", "app": "127.0.0.1:{}"}}]}}"#,
                app.web, app.grpc
            ),
            &[],
        );
        gate.reaches("open").await;
        let clients = Clients::start(&Orders {
            web,
            grpc,
            listed,
            finish: finished,
        });
        Self {
            gate,
            clients,
            list,
            finish,
            _app: app,
        }
    }

    /// Waits until so much is answered to clients, or something is lost.
    async fn until_answered(&self, enough: u64) {
        let wait = async {
            let is_over = || self.clients.answered() >= enough && self.clients.are_all_served();
            while !is_over() && self.clients.lost().is_empty() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{} of {enough}", self.clients.answered());
    }

    /// Ends the gate in the midst of `requests` answers. Load balancers learn of it late; long
    /// streams end last.
    async fn end(mut self, ending: Ending, requests: u64) -> Report {
        self.until_answered(requests / 2).await;
        let began = Instant::now();
        if ending == Ending::Kill {
            self.gate.kill().await;
            self.clear_away().await;
            return self.report(began);
        }
        if ending == Ending::Sigterm {
            self.gate.terminate().await;
        }
        let order = async {
            if ending == Ending::Command {
                let answer = self.gate.ask(Request::DrainDeleted).await;
                assert_eq!(answer.as_deref(), Some("drained\n"));
            }
        };
        let (list, finish) = (&self.list, &self.finish);
        let leave = async {
            self.gate.reaches("draining").await;
            self.until_answered(requests).await;
            list.send_replace(false);
            finish.send_replace(true);
        };
        tokio::join!(order, leave);
        self.clear_away().await;
        if ending == Ending::Command {
            self.gate.terminate().await;
        }
        let report = self.report(began);
        let (code, log) = self.gate.ended().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("\"message\":\"drained\""), "{log}");
        Report {
            seconds: began.elapsed().as_secs_f64(),
            ..report
        }
    }

    async fn clear_away(&mut self) {
        self.list.send_replace(false);
        self.finish.send_replace(true);
        let stopped = timeout(PATIENCE, self.clients.stopped()).await;
        stopped.expect("the clients must come to an end");
    }

    fn report(&self, began: Instant) -> Report {
        let tallies = self.clients.tallies.each_ref();
        Report {
            requests: self.clients.answered(),
            answered: tallies.map(|tally| tally.answered.load(Ordering::SeqCst)),
            lost: self.clients.lost(),
            seconds: began.elapsed().as_secs_f64(),
        }
    }
}

#[tokio::test]
async fn nothing_in_flight_is_lost_in_a_drain_by_sigterm_or_by_command() {
    for ending in [Ending::Sigterm, Ending::Command] {
        let report = Farewell::prepare().await.end(ending, 2000).await;
        assert_eq!(report.lost, [""; 0], "{ending:?}");
    }
}

#[tokio::test]
async fn the_same_clients_lose_what_is_in_flight_when_a_gate_dies_without_a_drain() {
    let report = Farewell::prepare().await.end(Ending::Kill, 2000).await;
    for kind in [Kind::Download, Kind::Stream, Kind::WebSocket] {
        let lost = report.lost.iter();
        let lost = lost.filter(|lost| lost.starts_with(&format!("{}: ", kind.name())));
        assert_eq!(lost.count(), 3, "{kind:?}: {:?}", report.lost);
    }
}

/// What `make bench-drain` runs.
#[tokio::test]
#[ignore = "a minute of load: make bench-drain"]
async fn twenty_drains_lose_nothing_of_fifty_thousand_requests() {
    const DRAINS: u64 = 20;
    const REQUESTS: u64 = 50_000;
    let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    println!("| drain | by | {} | lost | seconds |", names.join(" | "));
    println!("|{}", " ---: |".repeat(names.len() + 4));
    let (mut requests, mut total, mut lost) = (0, [0; Kind::ALL.len()], Vec::new());
    for drain in 1..=DRAINS {
        let ending = if drain % 2 == 0 {
            Ending::Command
        } else {
            Ending::Sigterm
        };
        let farewell = Farewell::prepare().await;
        let report = farewell.end(ending, REQUESTS / DRAINS).await;
        let cells = report.answered.map(|answered| answered.to_string());
        println!(
            "| {drain} | {ending:?} | {} | {} | {:.1} |",
            cells.join(" | "),
            report.lost.len(),
            report.seconds
        );
        for (sum, answered) in total.iter_mut().zip(report.answered) {
            *sum += answered;
        }
        requests += report.requests;
        lost.extend(report.lost);
    }
    let cells = total.map(|answered| answered.to_string());
    println!("| all | | {} | {} | |", cells.join(" | "), lost.len());
    assert_eq!(lost, [""; 0]);
    println!("{requests} requests; a WebSocket's messages are not among them");
    assert!(requests >= REQUESTS);
}
