//! The app and the client of the end-to-end tests, one static program in an image of its own.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test-side program that speaks to its user; nobody imports it"
)]

mod load;

mod report;

mod server;

use std::{
    env, fs,
    future::pending,
    io::stderr,
    net::{Ipv6Addr, SocketAddr},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process,
    sync::{Arc, Mutex, atomic::AtomicU16},
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use load::{Orders, Seen};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use server::Character;
use tokio::{
    net::lookup_host,
    signal::unix::{SignalKind, signal},
    time::{Instant, interval_at, sleep},
};

#[derive(Parser)]
enum Command {
    /// The app.
    Serve {
        #[arg(long, env, default_value_t = 8080)]
        port: u16,
        #[command(flatten)]
        character: Character,
    },
    /// The client: a line of JSON a second, and one about them all when it is over or told to stop.
    Load(Orders),
    /// Tells the first process of this container to stop.
    Stop,
    /// Puts this program where other containers find it.
    Copy { to: PathBuf },
    /// Becomes another program, later.
    After {
        #[arg(value_parser = humantime::parse_duration)]
        delay: Duration,
        program: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

/// What is tried before anything counts.
const TRIAL: Duration = Duration::from_secs(2);

/// Then it counts, whatever came of the trials.
const TRIALS: u32 = 15;

/// Their first source port: of those that the kernel does not choose (`ip_local_port_range`, 32768 and up). Who asks a pod
/// that is gone leaves an entry in the connection tracking of his node, which for two minutes sends there, too, whatever
/// comes from the same port; and the kernel comes round to each of its own within some thousand connections.
const TRIAL_PORT: u16 = 10_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(stderr).init();
    match Command::parse() {
        Command::Serve { port, character } => serve(port, character).await,
        Command::Load(orders) => load(orders).await,
        Command::Stop => Ok(kill_process(Pid::INIT, Signal::TERM)?),
        Command::Copy { to } => {
            fs::copy(env::current_exe()?, to)?;
            Ok(())
        }
        Command::After {
            delay,
            program,
            arguments,
        } => {
            sleep(delay).await;
            // Only returns when it can't.
            Err(process::Command::new(program).args(arguments).exec().into())
        }
    }
}

/// Ends with status 0 so long after SIGTERM, whatever is under way.
async fn serve(port: u16, character: Character) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let end_after = character.end_after;
    let serving = async {
        let address = (Ipv6Addr::UNSPECIFIED, port).into();
        server::serve(address, character).await.context("the port")
    };
    let end = async {
        terminated.recv().await;
        tracing::info!(?end_after, "ending");
        sleep(end_after).await;
    };
    tokio::select! {
        biased; // the end, when it is due; dropped are connections, which is what an exit does
        () = end => Ok(()),
        never = serving => match never? {},
    }
}

/// Returns when a server answers as one does that nobody has just rolled out.
async fn settled(address: SocketAddr, orders: &Orders) {
    let port = Arc::new(AtomicU16::new(TRIAL_PORT));
    for _ in 0..TRIALS {
        let trial = Orders {
            duration: TRIAL,
            patience: TRIAL / 2,
            source_port: Some(Arc::clone(&port)),
            ..orders.clone()
        };
        let seen = Arc::default();
        load::run(address, trial, Arc::clone(&seen), pending()).await;
        if seen.lock().expect("nobody panics").summary().failed == 0 {
            return;
        }
    }
}

async fn load(orders: Orders) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let address = lookup_host(&orders.target)
        .await?
        .next()
        .context("the target has no address")?;
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stop = async {
        terminated.recv().await;
    };
    if orders.settle {
        settled(address, &orders).await;
    }
    let second = Duration::from_secs(1);
    let mut ticks = interval_at(Instant::now() + second, second);
    let mut over = 0;
    let sending = load::run(address, orders, Arc::clone(&seen), stop);
    tokio::pin!(sending);
    loop {
        tokio::select! {
            biased; // what is over first; a tick that is dropped comes again
            () = &mut sending => break,
            _ = ticks.tick() => {
                println!("{}", json!(seen.lock().expect("nobody panics").moment(over)));
                over += 1;
            }
        }
    }
    let summary = seen.lock().expect("nobody panics").summary();
    println!("{}", json!({"summary": summary}));
    Ok(())
}
