//! Who judges what rightly, and what it takes: Portcullis beside ValidatingAdmissionPolicy, Kyverno, Gatekeeper and
//! kube-score. `make bench-peers` runs it and prints the README's tables.
//!
//! With the argument `cases` every case of `cases/` is given to all of them: to Portcullis and the policy through a real
//! API server, to the others as files, with the policies of `policies/`. With `speed` they read the same manifests. The
//! peers are built from their Go modules, once, and kept in the cache folder.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_debug_implementations,
    unreachable_pub,
    reason = "a program for comparing, not for serving"
)]

mod case;

mod cluster;

mod files;

mod program;

mod speed;

mod table;

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../support/mod.rs"]
mod support;

use std::env;

fn main() {
    match env::args().nth(1).as_deref() {
        Some("cases") => table::print(&case::all()),
        Some("speed") => speed::print(),
        _ => eprintln!("usage: cargo bench --bench peers -- cases|speed"),
    }
}
