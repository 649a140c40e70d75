//! `portcullis-gate`: the sidecar.

fn main() {}
