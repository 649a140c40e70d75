//! The log: its format, its filter, and panics as lines of it.

use std::error::Error as StdError;
use std::io::{IsTerminal as _, stderr};
use std::iter::successors;
use std::panic;

use clap::{Args, ValueEnum};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// How to log, and what.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Format of the log's lines, on standard error.
    #[arg(
        long,
        env = "PORTCULLIS_LOG_FORMAT",
        default_value = "text",
        global = true
    )]
    pub log_format: Format,

    /// Which lines to log: a level (error, warn, info, debug, trace), or directives such as
    /// `info,portcullis=debug`.
    #[arg(
        long,
        env = "PORTCULLIS_LOG",
        default_value = "info",
        value_name = "FILTER",
        global = true
    )]
    pub log: String,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people: coloured on a terminal.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// The log could not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// A directive that is none.
    #[error("--log: {0:?} is neither a level nor a list of directives")]
    Filter(String),
    /// There is one already.
    #[error("the log was set up twice")]
    Twice(#[source] TryInitError),
}

/// Sets up the process's log, once, and makes a panic a line of it.
pub fn init(args: &LogArgs) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(&args.log).map_err(|_| LogError::Filter(args.log.clone()))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_target(false)
        .with_ansi(args.log_format == Format::Text && stderr().is_terminal());
    match args.log_format {
        Format::Text => log.finish().try_init(),
        Format::Json => log.json().finish().try_init(),
    }
    .map_err(LogError::Twice)?;
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("(no text)");
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panic: {text}");
    }));
    Ok(())
}

/// An error and all that caused it, on one line. Left out is a cause that its effect has already quoted.
pub fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    for cause in causes(error) {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
    }
    line
}

/// What went wrong at the bottom: "Connection refused", not "client error".
pub fn innermost(error: &dyn StdError) -> String {
    causes(error)
        .last()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

/// What caused an error, from the nearest to the bottom; without the error itself.
pub fn causes(error: &dyn StdError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    successors(error.source(), |&cause| cause.source())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, Error)]
    #[error("cannot read the file")]
    struct Outer(#[source] Quoting);

    #[derive(Debug, Error)]
    #[error("IoError: {0}")]
    struct Quoting(#[source] io::Error);

    #[test]
    fn a_chain_says_each_thing_once() {
        let error = Outer(Quoting(io::Error::other("no such disk")));
        assert_eq!(chain(&error), "cannot read the file: IoError: no such disk");
        assert_eq!(innermost(&error), "no such disk");
    }
}
