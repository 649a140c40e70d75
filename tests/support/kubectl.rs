//! kubectl as one user, with its answers as values.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

/// kubectl with the kubeconfig of one user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

/// What a call of kubectl answered.
#[derive(Debug)]
pub struct Answer {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

// === impl Kubectl ===

impl Kubectl {
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self {
            program,
            kubeconfig,
        }
    }

    /// Calls kubectl. Words are split at spaces, as in a shell, but nothing else is special.
    pub fn call(&self, words: &str) -> Answer {
        self.call_with(&words.split_whitespace().collect::<Vec<_>>(), None)
    }

    /// Calls kubectl with arguments as they are, which may hold spaces.
    pub fn call_with(&self, arguments: &[&str], input: Option<&str>) -> Answer {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // Objects are a few KiB (a pipe takes 64), or kubectl reads all before it writes.
        stdin
            .write_all(input.unwrap_or_default().as_bytes())
            .expect("kubectl reads its input");
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        Answer {
            success: output.status.success(),
            stdout: String::from_utf8(output.stdout).expect("kubectl writes UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("kubectl writes UTF-8"),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// What kubectl printed; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.success,
            "kubectl failed: {}{}",
            self.stdout, self.stderr
        );
        self.stdout
    }

    /// What kubectl complained of; panics if it did not fail.
    #[track_caller]
    pub fn refusal(self) -> String {
        assert!(
            !self.success,
            "kubectl passed where a refusal was due: {}",
            self.stdout
        );
        self.stderr
    }
}
