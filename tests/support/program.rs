//! `portcullis` as a user runs it, on a cluster.

use std::{path::Path, process::Command};

/// What it said.
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// Lets it do `arguments` with this kubeconfig.
pub fn portcullis(kubeconfig: &Path, arguments: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(arguments)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .output()
        .expect("portcullis starts");
    let [out, err] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("UTF-8"));
    Said {
        status: output.status.code().expect("it ends by itself"),
        out,
        err,
    }
}
