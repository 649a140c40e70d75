//! `portcullis settings`: the settings' schema, and a settings file tried out.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use super::terminal::Pipe;
use crate::{policy::settings::Settings, settings};

/// Options of `portcullis settings`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
#[command(after_help = "Examples:
  portcullis settings --schema > settings.schema.json
  portcullis settings --file settings.yaml

Exit status: 0 the settings can be used; 64 they can't (with file, line and field).")]
pub struct SettingsArgs {
    /// Print the JSON schema of the settings file, for editors and CI
    #[arg(long)]
    schema: bool,

    /// Try out a settings file, as the server would at its start
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What was asked for can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings can't be used.
    #[error("settings")]
    Settings(#[from] settings::Error),
    /// Standard output can't be written to.
    #[error("standard output")]
    Output(#[from] io::Error),
}

/// Writes what is asked for to `out`.
pub fn run(args: &SettingsArgs, out: impl Write) -> Result<(), Error> {
    let SettingsArgs { schema, file } = args;
    let mut out = Pipe::new(out);
    if *schema {
        writeln!(out, "{:#}", Settings::schema())?;
    }
    if let Some(file) = file {
        settings::read(file)?;
        writeln!(out, "{}: can be used", file.display())?;
    }
    Ok(())
}

// === impl Error ===

impl Error {
    /// The exit status that tells it: 64, `EX_USAGE` of sysexits(3), or 1 where the output is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 64,
            Self::Output(_) => 1,
        }
    }
}
