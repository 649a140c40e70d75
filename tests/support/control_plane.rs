//! One Kubernetes control plane for the whole test run, built and started by `tests/cluster`.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::LazyLock,
};

use serde::Deserialize;

use super::kubectl::Kubectl;

/// An ordinary user: what she may do, RoleBindings say.
pub const DEVELOPER: &str = "developer";

/// A control plane that runs. It ends when this process does, in whatever way: its supervisor holds
/// the other end of a pipe that closes then.
#[derive(Debug)]
pub struct ControlPlane {
    supervisor: Child,
    /// What the supervisor prints.
    printed: BufReader<ChildStdout>,
    description: Description,
}

/// What `cluster up` prints when the control plane is ready.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Description {
    folder: PathBuf,
    programs: PathBuf,
    kubeconfigs: HashMap<String, PathBuf>,
    audit_log: PathBuf,
    api_servers: Option<Vec<String>>,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts one, and waits until it is ready.
    pub fn start() -> Self {
        Self::with_api_servers(1)
    }

    /// With so many API servers on one etcd.
    pub fn with_api_servers(count: usize) -> Self {
        let mut supervisor = Command::new(&*SUPERVISOR)
            .args(["up", "-user", DEVELOPER, "-api-servers", &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the supervisor of the control plane starts");
        let mut printed = BufReader::new(supervisor.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        printed
            .read_line(&mut line)
            .expect("the supervisor writes UTF-8");
        let description = serde_json::from_str(&line)
            .expect("the control plane starts; its supervisor says above why it did not");
        Self {
            supervisor,
            printed,
            description,
        }
    }

    /// A power cut: all of it is killed and comes up again, with what was stored. Ready when this returns.
    pub fn restart(&mut self) {
        let stdin = self.supervisor.stdin.as_mut().expect("stdin is piped");
        stdin.write_all(b"restart\n").expect("the supervisor runs");
        let mut line = String::new();
        let read = self.printed.read_line(&mut line);
        read.expect("the supervisor writes UTF-8");
        assert_eq!(
            line, "restarted\n",
            "the supervisor says above why it did not"
        );
    }

    /// kubectl as this user.
    pub fn kubectl(&self, user: &str) -> Kubectl {
        Kubectl::new(
            self.description.programs.join("kubectl"),
            self.kubeconfig(user).to_owned(),
        )
    }

    /// The kubeconfig file of this user.
    pub fn kubeconfig(&self, user: &str) -> &Path {
        self.description
            .kubeconfigs
            .get(user)
            .expect("a user that the control plane was started with")
    }

    /// A folder that is removed when the control plane ends.
    pub fn folder(&self) -> &Path {
        &self.description.folder
    }

    /// One JSON audit event a line, for every write.
    pub fn audit_log(&self) -> &Path {
        &self.description.audit_log
    }

    /// The URLs of the API servers that no kubeconfig names; the audit log of the second one ends in `.2`.
    pub fn other_api_servers(&self) -> &[String] {
        self.description.api_servers.as_deref().unwrap_or_default()
    }

    /// Stops it, and waits until nothing of it is left.
    pub fn stop(mut self) {
        drop(self.supervisor.stdin.take());
        let status = self
            .supervisor
            .wait()
            .expect("the supervisor was started by us");
        assert!(status.success(), "the control plane ended with {status}");
    }
}

/// The program of `tests/cluster`. Go builds it in a second, or knows that it is up to date.
pub static SUPERVISOR: LazyLock<PathBuf> = LazyLock::new(|| {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster");
    let status = Command::new("go")
        .args([
            "build",
            "-C",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cluster"),
        ])
        .args(["-buildvcs=false", "-o"])
        .args([program.as_os_str(), ".".as_ref()])
        .status()
        .expect("go is installed: the tests build Kubernetes from its Go modules");
    assert!(status.success(), "go build of tests/cluster: {status}");
    program
});
