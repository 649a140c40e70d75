//! `make demo-gate`: the same bad start twice, without the gate and with it.
//!
//! The app listens after a second, its database is there after some more, and its first requests
//! are slow. A client sends at a constant rate all the while. Loopback only; everything ends with
//! this program, also by Ctrl-C.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test-side program that speaks to its user; nobody imports it"
)]

#[path = "../e2e/app/server.rs"]
mod app;

#[path = "../e2e/app/load.rs"]
mod client;

#[path = "../e2e/app/report.rs"]
mod report;

#[path = "../e2e/table.rs"]
mod table;

#[path = "../support/databases.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod databases;

#[allow(dead_code, reason = "make demo shows more")]
mod view;

use std::{
    cell::Cell,
    env,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use databases::{Certificates, Database, Dormant, free_port};
use portcullis::{
    gate::control::{self, Request},
    server,
};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
    time::{Instant, interval, sleep},
};

use crate::{
    app::Character,
    client::{Connections, Orders, Seen},
    report::Summary,
    table::{ROWS, Row, show as shown},
    view::View,
};

/// When the app's port accepts.
const APP_AFTER: Duration = Duration::from_secs(1);

/// Pages that are slow at first.
const COLD: u32 = 24;

/// Requests a second.
const RATE: u32 = 80;

/// How long requests are sent, unless the first argument says otherwise.
const SECONDS: u64 = 12;

/// Only here is the client there before the app.
const FIRST: Row = ("first good answer after", |all| shown(all.first_good_ms));

/// When the database is started.
const DATABASE_AFTER: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stop = server::terminated()?;
    tokio::select! {
        biased; // an end that is asked for first
        _ = stop => println!("\nstopped"),
        played = play() => played?,
    }
    Ok(())
}

async fn play() -> anyhow::Result<()> {
    let seconds = match env::args().nth(1) {
        Some(seconds) => seconds.parse().context("seconds, a whole number")?,
        None => SECONDS,
    };
    let sending = Duration::from_secs(seconds);
    let program = gate_program()?;
    let view = View::new();
    println!(
        "{RATE} requests a second for {seconds} s, to an app that accepts after {} s, whose database is \
         started after {} s, and\nwhose first {COLD} pages take the database 200 ms each, four at a \
         time.",
        APP_AFTER.as_secs(),
        DATABASE_AFTER.as_secs(),
    );
    view.legend();
    let without = act(&view, ("Without a gate", sending), None).await?;
    let with = act(&view, ("With the gate", sending), Some(&program)).await?;
    let [requests, failed, slow, rest @ ..] = ROWS;
    let rows = [&[requests, failed, slow, FIRST], &rest[..]].concat();
    view.table("In the end", &rows, (&without, &with));
    println!(
        "\nThe gate held what came too early. In a cluster a pod that is not ready gets no \
         requests:\nthe other replicas answer them."
    );
    Ok(())
}

/// One of the two: everything new, so that they are alike.
async fn act(
    view: &View,
    (name, sending): (&str, Duration),
    gate: Option<&Path>,
) -> anyhow::Result<Summary> {
    let dormant = spawn_blocking(|| Dormant::new(&Certificates::new())).await?;
    let database = format!("postgres://app:hush@localhost:{}/shop", dormant.port);
    let app = free_port();
    let folder = tempfile::tempdir()?;
    let (listen, _gate) = match gate {
        None => (app, None),
        Some(program) => {
            let listen = free_port();
            let gate = start_gate(program, folder.path(), (listen, app), &database)?;
            // Before it listens there is no pod that anybody could send to.
            while ask(folder.path()).await.is_none() {
                sleep(Duration::from_millis(10)).await;
            }
            (listen, Some(gate))
        }
    };
    view.heading(name, "gate");
    let seen = Arc::new(Mutex::new(Seen::default()));
    let character = Character {
        listen_after: APP_AFTER,
        cold_requests: COLD,
        cold_for: Duration::ZERO,
        cold_cost: Duration::from_millis(200),
        database_url: Some(database),
        end_after: Duration::ZERO,
        release: "v1".to_owned(),
    };
    let app = app::serve((Ipv4Addr::LOCALHOST, app).into(), character);
    let orders = orders(listen, sending);
    let client = client::run(
        (Ipv4Addr::LOCALHOST, listen).into(),
        orders,
        Arc::clone(&seen),
        std::future::pending(),
    );
    let over = Cell::new(0);
    tokio::select! {
        biased; // what fails first; dropped are only sleeps and sockets
        ended = app => {
            ended.context("the app")?;
        }
        () = show(view, &seen, gate.map(|_| folder.path()), &over) => {}
        () = client => {}
        never = start_late(dormant) => {
            never?;
        }
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let last = seen.samples.iter().map(|sample| sample.ended).max();
    let second = last.unwrap_or_default().as_secs();
    let gate = gate_says(gate.map(|_| folder.path())).await;
    // Unless the last answer came just before its second was over, and was shown with it.
    if second >= over.get() {
        view.over(seen.moment(second), &gate);
    }
    Ok(seen.summary())
}

fn orders(listen: u16, sending: Duration) -> Orders {
    Orders {
        target: format!("127.0.0.1:{listen}"),
        path: "/page".to_owned(),
        rate: RATE,
        duration: sending,
        connections: Connections::New,
        patience: Duration::from_secs(15),
        settle: false,
        source_port: None,
    }
}

/// Starts the database when it is due, and keeps it.
async fn start_late(dormant: Dormant) -> anyhow::Result<()> {
    sleep(DATABASE_AFTER).await;
    let _database: Database = spawn_blocking(|| dormant.start()).await?;
    std::future::pending().await
}

/// Shows second by second, and tells how many were shown when they were over.
async fn show(view: &View, seen: &Mutex<Seen>, folder: Option<&Path>, over: &Cell<u64>) {
    let began = Instant::now();
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        let gate = gate_says(folder).await;
        let now = began.elapsed().as_secs();
        let at = |second| seen.lock().unwrap().moment(second);
        if now > over.get() {
            view.over(at(over.get()), &gate);
            over.set(now);
        }
        view.running(at(now), &gate);
    }
}

async fn gate_says(folder: Option<&Path>) -> String {
    match folder {
        None => String::new(),
        Some(folder) => ask(folder).await.unwrap_or_default(),
    }
}

/// State and reason, as `portcullis-gate probe` prints them.
async fn ask(folder: &Path) -> Option<String> {
    let folder = folder.to_owned();
    let asked = spawn_blocking(move || control::ask(&folder, Request::Probe)).await;
    let line = asked.ok()?.ok()?;
    let (_, why) = line.trim_end().split_once(": ")?;
    Some(why.to_owned())
}

fn start_gate(
    program: &Path,
    folder: &Path,
    (listen, app): (u16, u16),
    database: &str,
) -> anyhow::Result<Child> {
    let settings = serde_json::json!({
        "listen": format!("127.0.0.1:{listen}"),
        "app": format!("127.0.0.1:{app}"),
        "admin": format!("127.0.0.1:{}", free_port()),
        "checks": [{"name": "db", "postgres": {"urlFrom": {"env": "DATABASE_URL"}}, "period": "250ms"}],
        "warmup": {"requests": [{"path": "/page"}], "target": {"p95": "20ms"}, "rate": 400},
        "hold": {"maxRequests": 2000, "maxWait": "15s"},
    });
    Command::new(program)
        .args(["run", "--state-dir"])
        .arg(folder)
        .env("PORTCULLIS_GATE_CONFIG", settings.to_string())
        .env("DATABASE_URL", database)
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context("the gate")
}

/// Beside the folder of this program.
fn gate_program() -> anyhow::Result<PathBuf> {
    let own = env::current_exe()?;
    let folder = own.ancestors().nth(2).context("no folder above")?;
    let program = folder.join("portcullis-gate");
    let path = program.display();
    ensure!(program.exists(), "{path} is not built: use make demo-gate");
    Ok(program)
}
