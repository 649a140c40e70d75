//! `portcullis check`, `explain`, `parity` and `settings` as a user runs them: the real program, its output and its exit status.

mod check;

mod formats;

mod inputs;

mod parity;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// What a run of the program said.
pub struct Said {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// A deployment that passes all rules, but for what is put in place of its parts.
pub const GOOD: &str = include_str!("../fixtures/cli/shop/catalog.yaml");

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    program
        .current_dir(fixtures())
        .env_remove("NO_COLOR")
        .env("KUBECONFIG", "/nonexistent");
    program
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cli")
}

/// Runs it with nothing on standard input.
pub fn portcullis(args: &[&str]) -> Said {
    fed(args, b"")
}

/// Runs it with `input` on standard input.
pub fn fed(args: &[&str], input: &[u8]) -> Said {
    let mut program = program();
    program
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = program.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may not read all of it, or none.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().unwrap();
        Said {
            status: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    })
}

/// A folder with these files, removed when dropped.
pub fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder
}

/// Checks the files of a folder, which are named relative to it in what is said.
pub fn check_in(folder: &TempDir, args: &[&str]) -> Said {
    run_in(folder, &[&["check"], args].concat())
}

/// Runs it in a folder.
pub fn run_in(folder: &TempDir, args: &[&str]) -> Said {
    let output = program()
        .current_dir(folder.path())
        .args(args)
        .output()
        .unwrap();
    Said {
        status: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
