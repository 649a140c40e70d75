//! `portcullis-gate`: the sidecar that holds traffic until the app is warm.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program speaks to its user"
)]

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};
use portcullis::{
    contract::Settings,
    gate::{
        config,
        control::{self, Request},
        process::{self, RunError},
        screen::Screen,
    },
    server,
    telemetry::{self, LogArgs},
};

/// Holds traffic until the deep warm-up check passes, opens slowly, closes again when the app falls
/// back to sleep, and drains cleanly.
#[derive(Debug, Parser)]
#[command(name = "portcullis-gate", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Guard the ports that the settings name, until SIGTERM and the drain that follows it.
    Run(Run),
    /// Exit with 0 when the pod should get traffic, else with 1; print why, for `kubectl describe`.
    Probe(Folder),
    /// Show what the gate does and why, for a person.
    Status {
        #[command(flatten)]
        folder: Folder,
        /// How to show it. JSON is the same as `/status` on the admin port.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Have the running gate let go of its traffic, and return when it has.
    Drain {
        #[command(flatten)]
        folder: Folder,
        /// The pod is being deleted: stay ready for as long as traffic is accepted.
        #[arg(long)]
        deleted: bool,
    },
    /// Check settings, or print what may stand in them.
    Settings {
        #[command(flatten)]
        source: Source,
        /// Print the JSON Schema of the settings instead.
        #[arg(long)]
        schema: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    folder: Folder,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args, Debug)]
struct Source {
    /// File with the settings, one JSON document. Without it they are read from the environment
    /// variable PORTCULLIS_GATE_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Folder {
    /// Folder for the control socket and for what a restarted gate must know: one for each gate,
    /// out of the app's reach.
    #[arg(
        long,
        value_name = "DIR",
        env = "PORTCULLIS_GATE_STATE_DIR",
        default_value = "/run/portcullis"
    )]
    state_dir: PathBuf,
}

/// `EX_USAGE` of sysexits.h: what was given is wrong, and trying again will not help.
const BAD_CONFIGURATION: u8 = 64;

fn main() -> ExitCode {
    match execute(Cli::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("portcullis-gate: {error:#}");
            let is_final = error.downcast_ref().is_some_and(RunError::is_final);
            ExitCode::from(if is_final { BAD_CONFIGURATION } else { 1 })
        }
    }
}

fn execute(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(run) => guard(&run),
        Command::Probe(folder) => {
            let line = ask(&folder, Request::Probe)?;
            print!("{line}");
            Ok(u8::from(!line.starts_with("ready")))
        }
        Command::Status { folder, output } => {
            let request = match output {
                Output::Text => Request::Status(Screen::of_stdout()),
                Output::Json => Request::StatusJson,
            };
            print!("{}", ask(&folder, request)?);
            Ok(0)
        }
        Command::Drain { folder, deleted } => {
            let request = if deleted {
                Request::DrainDeleted
            } else {
                Request::Drain
            };
            print!("{}", ask(&folder, request)?);
            Ok(0)
        }
        Command::Settings { schema: true, .. } => {
            println!("{}", serde_json::to_string_pretty(&Settings::schema())?);
            Ok(0)
        }
        Command::Settings { source, .. } => {
            let settings = config::load(source.config.as_deref()).map_err(RunError::Config)?;
            println!("{}", settings.encode());
            Ok(0)
        }
    }
}

fn guard(run: &Run) -> anyhow::Result<u8> {
    telemetry::init(&run.log)?;
    let settings = config::load(run.source.config.as_deref()).map_err(RunError::Config)?;
    // One thread: a sidecar shares its cores with the app, and one serves what a pod gets.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4) // look-ups of names and files, a few at a time
        .build()?;
    let code = runtime.block_on(async {
        let stop = server::terminated()?;
        anyhow::Ok(process::run(settings, &run.folder.state_dir, stop).await?)
    });
    // A look-up that hangs in the resolver is not waited for.
    runtime.shutdown_background();
    code
}

fn ask(folder: &Folder, request: Request) -> anyhow::Result<String> {
    let folder = &folder.state_dir;
    control::ask(folder, request)
        .with_context(|| format!("no gate answers in --state-dir {}", folder.display()))
}
