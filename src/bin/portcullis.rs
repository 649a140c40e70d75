//! `portcullis`: the admission server and the command line.

use std::error::Error;
use std::io::{stderr, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use portcullis::cli::{audit, check, doctor, explain, parity, report, settings, why};
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
    /// Judge manifests by the rules: files, folders, standard input.
    Check(Box<check::CheckArgs>),
    /// Judge what a cluster holds already: what is wrong, and what would break if it were enforced.
    Audit(Box<audit::AuditArgs>),
    /// Look whether the installation is sound, and say how to mend what is not.
    Doctor(doctor::DoctorArgs),
    /// List the rules, or say what one demands, why, and how to meet it.
    Explain(explain::ExplainArgs),
    /// Compare the env names of two namespaces' workloads, or of two folders'.
    Parity(Box<parity::ParityArgs>),
    /// Audit a cluster every few minutes: a report a namespace, gauges, and a few Events.
    Report(Box<report::ReportArgs>),
    /// Print the settings' JSON schema, or try out a settings file.
    Settings(settings::SettingsArgs),
    /// Say why pods are not ready, by what their gates say.
    Why(why::WhyArgs),
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
        Command::Serve(args) => end(webhook::serve::run((*args).into()).map(|()| 0), |error| {
            if error.is_configuration() {
                BAD_CONFIGURATION
            } else {
                1
            }
        }),
        Command::Check(args) => {
            let outcome = check::run(&args, stdout(), stderr());
            end(
                outcome.map(check::Outcome::exit_code),
                check::Error::exit_code,
            )
        }
        Command::Audit(args) => {
            let outcome = audit::run(&args, stdout(), stderr());
            end(
                outcome.map(audit::Outcome::exit_code),
                audit::Error::exit_code,
            )
        }
        Command::Doctor(args) => {
            let outcome = doctor::run(&args, stdout(), stderr());
            end(
                outcome.map(doctor::Outcome::exit_code),
                doctor::Error::exit_code,
            )
        }
        Command::Explain(args) => end(
            explain::run(&args, stdout()).map(|()| 0),
            explain::Error::exit_code,
        ),
        Command::Parity(args) => {
            let outcome = parity::run(&args, stdout(), stderr());
            end(
                outcome.map(parity::Outcome::exit_code),
                parity::Error::exit_code,
            )
        }
        Command::Report(args) => end(
            report::run(&args).map(report::Outcome::exit_code),
            report::Error::exit_code,
        ),
        Command::Settings(args) => end(
            settings::run(&args, stdout()).map(|()| 0),
            settings::Error::exit_code,
        ),
        Command::Why(args) => end(
            why::run(&args, stdout()).map(why::Outcome::exit_code),
            why::Error::exit_code,
        ),
    }
}

/// The exit status of what was done, or the last words of what could not be.
fn end<E: Error>(outcome: Result<u8, E>, code: impl FnOnce(&E) -> u8) -> ExitCode {
    outcome.map_or_else(|error| fail(&error, code(&error)), ExitCode::from)
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a program that could not do its work"
)]
fn fail(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("portcullis: {}", telemetry::chain(error));
    code.into()
}
