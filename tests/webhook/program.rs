//! `portcullis serve` as a process: how it starts, how it refuses to, and how it bears want.

use std::fs::write;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use serde_json::Value;
use tokio::net::TcpStream;

use super::raw::Client;

const PROGRAM: &str = env!("CARGO_BIN_EXE_portcullis");

/// A folder with all that the server needs to start, and with no API server to talk to.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let made = rcgen::generate_simple_self_signed(["portcullis.test".to_owned()]).unwrap();
        files.write("tls.crt", &made.cert.pem());
        files.write("tls.key", &made.signing_key.serialize_pem());
        files.write(
            "kubeconfig",
            "apiVersion: v1\nkind: Config\ncurrent-context: nowhere\n\
             contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]\n\
             clusters: [{name: nowhere, cluster: {server: 'https://127.0.0.1:1'}}]\n\
             users: [{name: nobody, user: {}}]\n",
        );
        files.write("settings.yaml", "enforce: warn\n");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        write(self.path(name), text).unwrap();
    }

    /// The server's command line; ports are the kernel's.
    fn arguments(&self) -> Vec<String> {
        let file = |option: &str, name: &str| format!("{option}={}", self.path(name).display());
        [
            "serve",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
            "--log-format=json",
            "--drain-delay=0s",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([
            file("--kubeconfig", "kubeconfig"),
            file("--settings", "settings.yaml"),
            file("--tls-cert", "tls.crt"),
            file("--tls-key", "tls.key"),
        ])
        .collect()
    }

    /// Runs a server that is not to start.
    fn fail(&self) -> (Option<i32>, String) {
        let Output { status, stderr, .. } = Command::new(PROGRAM)
            .args(self.arguments())
            .output()
            .unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        (
            status.code(),
            stderr.lines().last().unwrap_or_default().to_owned(),
        )
    }
}

/// A server that runs, and its log.
struct Running {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, log }
    }

    /// The next line of the log with this message.
    fn said(&mut self, message: &str) -> Value {
        loop {
            let line = self.log.next().expect("the log goes on").unwrap();
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["fields"]["message"] == message {
                return line["fields"].clone();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn refuses_settings_that_cannot_be_used() {
    let files = Files::new();
    files.write("settings.yaml", "# which level?\nenforce: loudly\n");
    let (code, said) = files.fail();
    assert_eq!(code, Some(64));
    let place = format!(
        "portcullis: --settings: {}:2:",
        files.path("settings.yaml").display()
    );
    assert!(
        said.starts_with(&place) && said.contains("enforce"),
        "{said}"
    );
}

#[test]
fn refuses_files_that_cannot_be_used() {
    for (file, text, expected) in [
        ("tls.key", "no key", "there is no private key in PEM"),
        ("tls.crt", "no certificate", "there is no CERTIFICATE block"),
        ("kubeconfig", "no: kubeconfig", "--kubeconfig: cannot use"),
    ] {
        let files = Files::new();
        files.write(file, text);
        let (code, said) = files.fail();
        assert_eq!(code, Some(64), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(
            said.contains(Path::new(file).file_name().unwrap().to_str().unwrap()),
            "{said}"
        );
    }
}

#[test]
fn bad_options_end_with_64_and_a_word_about_them() {
    let output = Command::new(PROGRAM)
        .args(["serve", "--listen=here"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("--listen")
    );
    assert!(
        Command::new(PROGRAM)
            .arg("--version")
            .output()
            .unwrap()
            .status
            .success()
    );
}

#[tokio::test]
async fn waits_for_descriptors_with_growing_pauses_and_serves_again() {
    const DESCRIPTORS: u32 = 40;
    let files = Files::new();
    let mut server = Running::start(
        Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -n {DESCRIPTORS} && exec \"$0\" \"$@\""),
                PROGRAM,
            ])
            .args(files.arguments()),
    );
    let listening = server.said("listening");
    let address =
        |which: &str| -> SocketAddr { listening[which].as_str().unwrap().parse().unwrap() };
    let mut silent = Vec::new();
    for _ in 0..DESCRIPTORS * 2 {
        silent.push(TcpStream::connect(address("webhook")).await.unwrap());
    }
    let pauses: Vec<_> = (0..4)
        .map(|_| server.said("cannot accept connections")["pause"].clone())
        .collect();
    assert_eq!(pauses, ["5ms", "10ms", "20ms", "40ms"]);
    drop(silent);
    let mut probe = Client(TcpStream::connect(address("admin")).await.unwrap());
    assert!(probe.get("/live").await.starts_with("http/1.1 200"));
}
