//! States, addresses and limits that are met seldom.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use portcullis::gate::control::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Command,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::harness::{App, Gate, PATIENCE, exchange, free_port};
use crate::support::clock::Clock;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";

/// The longest pause between two attempts to accept.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn sigterm_while_warming_ramping_and_reclosed_drains_and_ends_with_zero() {
    let (app, unwell) = (App::start(), App::start());
    let delay = r#""drain": {"delay": "50ms"}"#;
    let warming = Gate::start(
        app.port,
        &format!(
            r#""warmup": {{"requests": [{{"path": "/"}}], "target": {{"p95": "1ms"}},
                           "rate": 1, "minRequests": 1000}}, {delay}"#
        ),
    );
    warming.reaches("warming").await;
    let ramping = Gate::start(
        app.port,
        &format!(r#""ramp": {{"when": "always", "duration": "1h"}}, {delay}"#),
    );
    ramping.reaches("ramping").await;
    let reclosed = Gate::start(
        unwell.port,
        &format!(
            r#""checks": [{{"name": "ready", "http": {{}}, "period": "50ms"}}],
               "ramp": {{"when": "never"}}, {delay}"#
        ),
    );
    reclosed.reaches("open").await;
    unwell.seen.unwell.store(true, Ordering::SeqCst);
    reclosed.reaches("reclosed").await;
    for (gate, state) in [
        (warming, "warming"),
        (ramping, "ramping"),
        (reclosed, "reclosed"),
    ] {
        gate.terminate().await;
        let (code, log) = gate.ended().await;
        assert_eq!(code, Some(0), "{log}");
        let left = format!("\"from\":\"{state}\",\"to\":\"draining\"");
        assert!(log.contains(&left), "{log}");
    }
}

#[tokio::test]
async fn only_so_many_hooks_wait_at_a_time() {
    let app = App::start();
    let gate = Gate::start(app.port, r#""drain": {"delay": "0s", "hookWait": "1h"}"#);
    gate.shows("ready", |status| status["ready"] == true).await;
    let mut hooks = JoinSet::new();
    for _ in 0..65 {
        hooks.spawn(exchange(gate.admin, "GET /drained HTTP/1.1"));
    }
    let first = timeout(PATIENCE, hooks.join_next()).await;
    let first = first.expect("one too many must be told").unwrap().unwrap();
    let first = first.expect("an answer");
    assert!(first.starts_with("HTTP/1.1 503"), "{first}");
    assert!(first.ends_with("too many wait already\n"), "{first}");
    let drained = gate.ask(Request::DrainDeleted).await;
    assert_eq!(drained.as_deref(), Some("drained\n"));
    let mut released = 0;
    while let Some(hook) = timeout(PATIENCE, hooks.join_next()).await.unwrap() {
        assert!(hook.unwrap().unwrap().starts_with("HTTP/1.1 200"));
        released += 1;
    }
    assert_eq!(released, 64);
}

#[tokio::test]
async fn several_ports_open_together_once_the_last_of_them_accepts() {
    let web = App::start();
    // Taken, so that nobody else listens there before its turn comes.
    let app = TcpSocket::new_v4().unwrap();
    app.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let late = app.local_addr().unwrap().port();
    let [listen, bytes, admin] = [(); 3].map(|()| free_port());
    let document = format!(
        r#"{{"admin": "127.0.0.1:{admin}", "ramp": {{"when": "never"}}, "ports": [
             {{"name": "web", "listen": "127.0.0.1:{listen}", "app": "127.0.0.1:{}"}},
             {{"name": "bytes", "listen": "127.0.0.1:{bytes}", "app": "127.0.0.1:{late}",
               "protocol": "tcp"}}]}}"#,
        web.port
    );
    let gate = Gate::with_document((listen, admin), document, &[]);
    let reason = format!("app 127.0.0.1:{late}: connection refused");
    gate.shows("the refusal", |status| status["reason"] == reason.as_str())
        .await;
    assert!(
        TcpStream::connect(("127.0.0.1", bytes)).await.is_err(),
        "a tcp port does not listen before the first opening"
    );
    let held = gate.get("/");
    let opened = async {
        gate.shows("a held request", |status| status["traffic"]["held"] == 1)
            .await;
        let app = app.listen(16).unwrap();
        gate.reaches("open").await;
        app
    };
    let (held, app) = tokio::join!(held, opened);
    assert_eq!(held, Some(200), "one port's app is not there for the other");
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            // The gate looks at the port now and then, and leaves without a word.
            let (mut stream, _) = app.accept().await.unwrap();
            let _ = stream.write_all(b"220 shop ESMTP\r\n").await;
        }
    });
    let mut client = TcpStream::connect(("127.0.0.1", bytes)).await.unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).await.unwrap();
    assert_eq!(greeting, "220 shop ESMTP\r\n");
}

#[tokio::test]
async fn an_app_is_found_on_whichever_address_of_its_pod_it_has() {
    let [listen, admin] = [(); 2].map(|()| free_port());
    let document = |port| {
        format!(
            r#"{{"listen": "127.0.0.1:{listen}", "admin": "127.0.0.1:{admin}",
                 "app": {{"hostFrom": {{"env": "POD_IPS"}}, "port": {port}}},
                 "checks": [{{"name": "ready", "http": {{}}}}],
                 "warmup": {{"requests": [{{"path": "/"}}], "target": {{"p95": "10s"}}, "rate": 1000}}}}"#
        )
    };
    for (app, pod) in [
        ("127.0.0.1:0", "::1,127.0.0.1"),
        ("[::1]:0", "127.0.0.1,::1"),
        ("[::1]:0", "::1"),
    ] {
        let listener = TcpListener::bind(app).await;
        let app = App::listening(listener.expect("loopback in both families"), Arc::default());
        let pod = [("POD_IPS", pod.to_owned())];
        let mut gate = Gate::with_document((listen, admin), document(app.port), &pod);
        gate.reaches("open").await;
        assert_eq!(gate.get("/").await, Some(200));
        let identity = std::fs::read_to_string(gate.folder.path().join("open-for.json"));
        assert!(
            identity.is_ok_and(|text| text.contains("openFor")),
            "the app is recognised"
        );
        gate.kill().await;
    }
    let (folder, document) = (tempfile::tempdir().unwrap(), document(1));
    for (given, problem) in [
        (None, "is not set"),
        (Some("here"), "holds something that is no IP address"),
    ] {
        let refused = Command::new(env!("CARGO_BIN_EXE_portcullis-gate"))
            .args(["run", "--state-dir"])
            .arg(folder.path())
            .env("PORTCULLIS_GATE_CONFIG", &document)
            .env_remove("POD_IPS")
            .envs(given.map(|given| ("POD_IPS", given)))
            .output();
        let refused = refused.await.unwrap();
        assert_eq!(refused.status.code(), Some(64));
        let expected = format!("ports[0].app.hostFrom: env POD_IPS {problem}\n");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.ends_with(&expected), "{said}");
    }
}

#[tokio::test]
async fn a_gate_out_of_file_descriptors_waits_and_recovers() {
    const DESCRIPTORS: usize = 64;
    let app = App::start();
    let gate = Gate::start(app.port, r#""ramp": {"when": "never"}"#);
    gate.reaches("open").await;
    let limited = Instant::now();
    gate.limit_descriptors(DESCRIPTORS).await;
    let mut clients = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        let client = TcpStream::connect(("127.0.0.1", gate.listen)).await;
        clients.push(client.unwrap());
    }
    // The last one of them is accepted only when others have left.
    let mut last = clients.pop().unwrap();
    last.write_all(GET).await.unwrap();
    let mut answer = String::new();
    let early = timeout(Duration::from_millis(200), last.read_to_string(&mut answer));
    assert!(early.await.is_err(), "there must be no descriptor for it");
    drop(clients);
    let late = timeout(PATIENCE, last.read_to_string(&mut answer)).await;
    late.expect("accepts again").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    gate.terminate().await;
    let (code, log) = gate.ended().await;
    let lasted = limited.elapsed();
    assert_eq!(code, Some(0));
    let pauses = pauses(&log);
    assert!(!pauses.is_empty(), "it never ran out: {log}");
    // Each pause was slept before the next was said: a loop that does not sleep says more of them
    // than there was time for.
    let (_, slept) = pauses.split_last().unwrap();
    let slept: Duration = slept.iter().sum();
    assert!(slept <= lasted, "{slept:?} within {lasted:?}: {log}");
    // Each is twice the one before, but begins anew with each client that is accepted.
    let begun = pauses
        .windows(2)
        .filter(|pair| pair[1] <= pair[0] && pair[1] < LONGEST_PAUSE);
    assert!(begun.count() <= 2 * DESCRIPTORS, "{log}");
}

/// The pauses that the log says, in order.
fn pauses(log: &str) -> Vec<Duration> {
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &serde_json::Value| line["fields"]["message"] == "cannot accept connections")
        .map(|line| {
            let pause = line["fields"]["pause"].as_str().unwrap();
            let (number, unit) = match pause.strip_suffix("ms") {
                Some(number) => (number, 0.001),
                None => (pause.strip_suffix('s').unwrap(), 1.0),
            };
            Duration::from_secs_f64(number.parse::<f64>().unwrap() * unit)
        })
        .collect()
}

#[tokio::test]
async fn ten_thousand_held_clients_are_all_answered() {
    const CLIENTS: usize = 10_000;
    allow_descriptors(CLIENTS + 1000).await;
    let port = free_port();
    let gate = Gate::start(
        port,
        r#""ramp": {"when": "never"}, "hold": {"maxRequests": 10000, "maxWait": "60s"}"#,
    );
    gate.reaches("closed").await;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(("127.0.0.1", gate.listen))
            .await
            .unwrap();
        client.write_all(GET).await.unwrap();
        clients.push(client);
    }
    let all_held = |status: &serde_json::Value| status["traffic"]["held"] == CLIENTS;
    gate.shows("10,000 held requests", all_held).await;
    let app = App::on(port, Arc::default());
    for mut client in clients {
        let mut answer = String::new();
        let read = timeout(PATIENCE, client.read_to_string(&mut answer)).await;
        read.expect("an answer").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let served = app.seen.requests.load(Ordering::SeqCst);
    assert_eq!(served, u64::try_from(CLIENTS).unwrap(), "each once");
}

/// Lets this process, and the gates that it starts, open so many files.
async fn allow_descriptors(most: usize) {
    let pid = std::process::id().to_string();
    let most = format!("--nofile={most}:");
    let raised = Command::new("prlimit")
        .args(["--pid", &pid, &most])
        .status();
    assert!(
        raised.await.unwrap().success(),
        "the hard limit (ulimit -Hn) is too low"
    );
}

#[tokio::test]
async fn a_jump_of_the_clock_changes_nothing() {
    let (app, clock) = (App::start(), Clock::new());
    let gate = Gate::with_env(
        app.port,
        r#""checks": [{"name": "ready", "http": {}, "period": "50ms"}],
           "ramp": {"when": "never"}, "drain": {"delay": "50ms"}"#,
        &clock.envs(),
    );
    let opened = gate.reaches("open").await;
    let year = |status: &serde_json::Value| status["at"].as_str().unwrap()[..4].to_owned();
    for jump in ["+400d", "-400d"] {
        clock.set(jump);
        let checked = app.seen.requests.load(Ordering::SeqCst);
        let status = gate
            .shows("checks that go on", |_| {
                app.seen.requests.load(Ordering::SeqCst) > checked + 3
            })
            .await;
        assert_ne!(year(&status), year(&opened), "the clock has jumped");
        assert_eq!(status["state"], "open");
        assert_eq!(status["since"], opened["since"]);
        assert_eq!(gate.get("/").await, Some(200));
        assert!(gate.admin("GET /").await.starts_with("HTTP/1.1 200"));
    }
    gate.terminate().await;
    let (code, log) = gate.ended().await;
    assert_eq!(code, Some(0), "{log}");
}
