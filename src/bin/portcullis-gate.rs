//! `portcullis-gate`: the sidecar.

use clap::Parser;

/// Holds traffic until the app behind it is warm. Not built yet.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {}

fn main() {
    let Args {} = Args::parse();
}
