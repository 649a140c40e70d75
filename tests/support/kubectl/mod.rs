//! kubectl as one user, with its answers as values.

mod server;

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use super::wait::eventually;

/// kubectl with the kubeconfig of one user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    /// What runs it where one call after the other is waited for; else each is a process.
    server: Option<PathBuf>,
    kubeconfig: PathBuf,
    namespace: Option<String>,
}

/// What a call of kubectl answered.
#[derive(Debug, PartialEq)]
pub struct Answer {
    passed: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Where it begins to collect garbage after all.
const MEMORY: &str = "512MiB";

// === impl Kubectl ===

impl Kubectl {
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self {
            server: server::beside(&program),
            program,
            kubeconfig,
            namespace: None,
        }
    }

    /// The kubeconfig of this user.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same user, with this namespace for what names none.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            namespace: Some(namespace.to_owned()),
            ..self.clone()
        }
    }

    /// The same user, for objects that say where they belong.
    pub fn everywhere(&self) -> Self {
        Self {
            namespace: None,
            ..self.clone()
        }
    }

    /// Calls kubectl. Words are split at spaces, as in a shell, but nothing else is special.
    pub fn call(&self, words: &str) -> Answer {
        self.call_with(&words.split_whitespace().collect::<Vec<_>>(), None)
    }

    /// Calls kubectl with these objects (YAML or JSON) on standard input.
    pub fn feed(&self, words: &str, objects: &str) -> Answer {
        self.call_with(&words.split_whitespace().collect::<Vec<_>>(), Some(objects))
    }

    /// `kubectl apply -f -`
    pub fn apply(&self, objects: &str) -> Answer {
        // To find the difference it would read the API server's schema of the whole group, twice for each object, which
        // takes longer than all the rest. It knows the kinds that we apply.
        self.feed("apply --openapi-patch=false -f -", objects)
    }

    /// `kubectl replace -f -`. It reads and then writes: where a controller has written in between, it is called again.
    pub fn replace(&self, objects: &str) -> Answer {
        eventually("nobody else to write", || {
            let answer = self.feed("replace -f -", objects);
            let collided = answer.stderr.contains("(Conflict)");
            if collided {
                Err(answer.stderr)
            } else {
                Ok(answer)
            }
        })
    }

    /// Lets a shell run this, with kubectl in its PATH.
    pub fn shell(&self, script: &str) -> Answer {
        let folder = self.program.parent().expect("a program stands somewhere");
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("sh")
            .args(["-c", script])
            .env("PATH", format!("{}:{path}", folder.display()))
            .envs(self.envs())
            .output()
            .expect("sh starts");
        Answer::of(output)
    }

    /// kubectl, for who wants to start it himself.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.envs());
        // It lives for a moment: collecting garbage would be a fifth of its work.
        command.env("GOGC", "off").env("GOMEMLIMIT", MEMORY);
        if let Some(namespace) = &self.namespace {
            command.args(["--namespace", namespace]);
        }
        command
    }

    fn envs(&self) -> HashMap<&'static str, String> {
        // Not in the home of whoever runs the tests.
        let cache = self.kubeconfig.with_extension("cache");
        let paths = [("KUBECONFIG", &self.kubeconfig), ("KUBECACHEDIR", &cache)];
        paths
            .map(|(name, path)| (name, path.display().to_string()))
            .into()
    }

    /// Says of a pod what a kubelet would, as a merge patch of it.
    pub fn patch_status(&self, pod: &str, patch: &serde_json::Value) -> Answer {
        let patch = patch.to_string();
        let arguments = [
            "patch",
            "pod",
            pod,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ];
        self.call_with(&arguments, None)
    }

    /// Calls kubectl with arguments as they are, which may hold spaces.
    pub fn call_with(&self, arguments: &[&str], input: Option<&str>) -> Answer {
        if let Some(server) = &self.server {
            let namespace = self.namespace.as_deref();
            let namespace = namespace.map(|name| ["--namespace", name]);
            let arguments = [namespace.as_slice().as_flattened(), arguments].concat();
            let input = input.unwrap_or_default();
            return server::call(server, &arguments, &self.envs(), input);
        }
        self.call_anew(arguments, input)
    }

    /// The same, by a process for this call alone.
    pub fn call_anew(&self, arguments: &[&str], input: Option<&str>) -> Answer {
        let mut command = self.command();
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
        Answer::of(child.wait_with_output().expect("kubectl ends"))
    }
}

// === impl Answer ===

impl Answer {
    fn of(output: Output) -> Self {
        Self {
            passed: output.status.success(),
            stdout: String::from_utf8(output.stdout).expect("kubectl writes UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("kubectl writes UTF-8"),
        }
    }

    /// What kubectl printed; panics if it failed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(
            self.passed,
            "kubectl failed: {}{}",
            self.stdout, self.stderr
        );
        self.stdout
    }

    /// For [`eventually`](super::wait::eventually).
    pub fn success(self) -> Result<(), String> {
        if self.passed {
            Ok(())
        } else {
            Err(self.stdout + &self.stderr)
        }
    }

    /// The same, with what kubectl printed.
    pub fn success_output(self) -> Result<String, String> {
        if self.passed {
            Ok(self.stdout)
        } else {
            Err(self.stdout + &self.stderr)
        }
    }

    /// For [`eventually`](super::wait::eventually), where a refusal is awaited.
    pub fn failure(self) -> Result<(), String> {
        if self.passed {
            Err(self.stdout)
        } else {
            Ok(())
        }
    }

    /// What kubectl complained of; panics if it did not fail.
    #[track_caller]
    pub fn refusal(self) -> String {
        assert!(
            !self.passed,
            "kubectl passed where a refusal was due: {}",
            self.stdout
        );
        self.stderr
    }
}
