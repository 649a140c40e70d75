//! A clock that can be set, for a process that is not told of it (`faketime`).

use std::{fs, path::PathBuf};

use tempfile::TempDir;

/// The wall clock of the processes that are started with its [`envs`](Self::envs); timers are left alone.
#[derive(Debug)]
pub struct Clock(TempDir);

// === impl Clock ===

impl Clock {
    /// One that is right.
    pub fn new() -> Self {
        let clock = Self(tempfile::tempdir().expect("there are temporary folders"));
        clock.set("+0");
        clock
    }

    /// How far it is off from now on, such as `+400d`.
    pub fn set(&self, jump: &str) {
        fs::write(self.file(), jump).expect("the folder is ours");
    }

    pub fn envs(&self) -> Vec<(&'static str, String)> {
        vec![
            ("LD_PRELOAD", library()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("clock")
    }
}

/// Debian's, for whatever this machine is.
fn library() -> String {
    let folders = fs::read_dir("/usr/lib").expect("a Debian");
    let library = |folder: fs::DirEntry| folder.path().join("faketime/libfaketimeMT.so.1");
    let mut found = folders
        .map(|folder| library(folder.expect("it can be read")))
        .filter(|file| file.exists());
    let found: Option<PathBuf> = found.next();
    found.expect("the package faketime").display().to_string()
}
