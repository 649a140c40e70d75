//! `portcullis`: the admission server and the command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis::telemetry::{self, LogArgs};
use portcullis::webhook;

/// Exit status for bad options, settings and files: `EX_USAGE` of sysexits(3).
const BAD_CONFIGURATION: u8 = 64;

/// Kubernetes says Running; Portcullis makes it mean Ready.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    log: LogArgs,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the admission webhooks.
    Serve(Box<webhook::config::ServeArgs>),
}

fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => run(args),
        Err(error) => {
            // Help and version are errors to clap, though not to anyone else.
            let code = if error.use_stderr() {
                BAD_CONFIGURATION
            } else {
                0
            };
            let shown = error.print();
            if shown.is_ok() {
                code.into()
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(args: Args) -> ExitCode {
    let Args { log, command } = args;
    if let Err(error) = telemetry::init(&log) {
        return fail(&error, BAD_CONFIGURATION);
    }
    match command {
        Command::Serve(args) => match webhook::serve::run((*args).into()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(
                &error,
                if error.is_configuration() {
                    BAD_CONFIGURATION
                } else {
                    1
                },
            ),
        },
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a program that could not do its work"
)]
fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("portcullis: {}", telemetry::chain(error));
    code.into()
}
