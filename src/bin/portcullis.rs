//! `portcullis`: the admission server and the command line.

fn main() {}
