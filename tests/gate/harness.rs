//! A running gate, an app in front of which it stands, and what can be asked of both.

use std::{
    convert::Infallible,
    fmt::Debug,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use portcullis::gate::control;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

pub use crate::support::databases::free_port;

/// How long a test waits for what must happen: far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, running.
pub struct Gate {
    pub listen: u16,
    pub admin: u16,
    pub folder: Arc<TempDir>,
    settings: String,
    envs: Vec<(String, String)>,
    child: Child,
}

/// An app: answers 200 on every path, as slowly and as unwell as it is told.
pub struct App {
    pub port: u16,
    pub seen: Arc<Seen>,
    server: JoinSet<()>,
}

/// What an app has seen, and how it is.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub warmups: AtomicU64,
    pub unwell: AtomicBool,
    /// So many requests are slow.
    pub slow: AtomicU64,
    pub last: Mutex<HeaderMap>,
}

// === impl Gate ===

impl Gate {
    /// A gate in front of `app`; `more` are further fields of its settings.
    pub fn start(app: u16, more: &str) -> Self {
        Self::with_env(app, more, &[])
    }

    pub fn with_env(app: u16, more: &str, envs: &[(&str, String)]) -> Self {
        let (listen, admin) = (free_port(), free_port());
        let settings = format!(
            r#"{{"listen": "127.0.0.1:{listen}", "app": "127.0.0.1:{app}",
                "admin": "127.0.0.1:{admin}", {more}}}"#
        );
        Self::with_document((listen, admin), settings, envs)
    }

    /// A gate with these settings as a whole; `listen` and `admin` of them are its ports.
    pub fn with_document(ports: (u16, u16), settings: String, envs: &[(&str, String)]) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let envs = envs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self::spawn(ports, folder, settings, envs.collect())
    }

    fn spawn(
        (listen, admin): (u16, u16),
        folder: Arc<TempDir>,
        settings: String,
        envs: Vec<(String, String)>,
    ) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis-gate"))
            .args(["run", "--log-format", "json", "--state-dir"])
            .arg(folder.path())
            .env("PORTCULLIS_GATE_CONFIG", &settings)
            .envs(envs.clone())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            listen,
            admin,
            folder,
            settings,
            envs,
            child,
        }
    }

    /// Kills the gate as the kernel would for want of memory.
    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// Kills the gate and starts it again.
    pub async fn restarted(mut self) -> Self {
        self.kill().await;
        let (ports, folder) = ((self.listen, self.admin), Arc::clone(&self.folder));
        Self::spawn(ports, folder, self.settings.clone(), self.envs.clone())
    }

    pub async fn ask(&self, request: control::Request) -> Option<String> {
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || control::ask(folder.path(), request).ok())
            .await
            .unwrap()
    }

    pub async fn status(&self) -> serde_json::Value {
        let text = self.ask(control::Request::StatusJson).await;
        text.map_or(serde_json::Value::Null, |text| {
            serde_json::from_str(&text).unwrap()
        })
    }

    /// Waits until the gate is in `state`, and returns what it then says of itself.
    pub async fn reaches(&self, state: &str) -> serde_json::Value {
        self.shows(&format!("state {state}"), |status| status["state"] == state)
            .await
    }

    pub async fn shows(
        &self,
        what: &str,
        so: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let mut last = serde_json::Value::Null;
        let wait = async {
            loop {
                last = self.status().await;
                if so(&last) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "never: {what}; last: {last:#}");
        last
    }

    /// One request through the gate: the status, or `None` where the gate does not answer.
    pub async fn get(&self, path: &str) -> Option<u16> {
        let answer = exchange(self.listen, &format!("GET {path} HTTP/1.1")).await?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    /// One request to the admin port: the whole answer.
    pub async fn admin(&self, line: &str) -> String {
        exchange(self.admin, &format!("{line} HTTP/1.1"))
            .await
            .expect("the admin port answers")
    }

    pub async fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        let killed = Command::new("kill").arg(pid).status().await.unwrap();
        assert!(killed.success());
    }

    /// Leaves the gate only so many file descriptors.
    pub async fn limit_descriptors(&self, most: usize) {
        let pid = self.child.id().unwrap().to_string();
        let limit = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={most}:{most}")])
            .status();
        assert!(limit.await.unwrap().success());
    }

    /// How many file descriptors the gate has of this kind, `pipe:` say, or of all.
    pub fn descriptors(&self, kind: &str) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id().unwrap());
        let all = std::fs::read_dir(folder).unwrap();
        all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
            .filter(|target| target.to_string_lossy().starts_with(kind))
            .count()
    }

    /// Waits for the end: the exit code and the log.
    pub async fn ended(self) -> (Option<i32>, String) {
        let output = timeout(PATIENCE, self.child.wait_with_output()).await;
        let output = output.expect("the gate must end").unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

// === impl App ===

impl App {
    pub fn start() -> Self {
        Self::on(free_port(), Arc::default())
    }

    /// An app on this port that goes on as another one of the same health left off.
    pub fn on(port: u16, seen: Arc<Seen>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket
            .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .unwrap();
        Self::listening(socket.listen(1024).unwrap(), seen)
    }

    /// An app that accepts where this listener does.
    pub fn listening(listener: TcpListener, seen: Arc<Seen>) -> Self {
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(serve(listener, Arc::clone(&seen)));
        Self { port, seen, server }
    }

    /// Another process would bind the port anew: other socket, same port, at once.
    pub async fn restarted(mut self) -> Self {
        self.server.shutdown().await;
        Self::on(self.port, Arc::clone(&self.seen))
    }
}

async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let seen = Arc::clone(&seen);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&seen)));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if request.headers().contains_key("x-portcullis-warmup") {
        seen.warmups.fetch_add(1, Ordering::SeqCst);
    }
    *seen.last.lock().unwrap() = request.headers().clone();
    let slow = seen
        .slow
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        })
        .is_ok();
    if slow {
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let mut response = Response::new(Full::new(Bytes::from_static(b"well\n")));
    if seen.unwell.load(Ordering::SeqCst) {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}

/// One request on a connection of its own: the whole answer, or `None` where nobody answers.
pub async fn exchange(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let request = format!("{line}\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

/// Runs the program to its end.
pub async fn program(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis-gate"))
        .args(arguments)
        .env("PORTCULLIS_GATE_STATE_DIR", folder)
        .env_remove("PORTCULLIS_GATE_CONFIG")
        .output()
        .await
        .unwrap()
}

/// What a program said, both ways.
pub fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

/// No secret may show anywhere.
pub fn require_no_secret(text: &(impl Debug + ?Sized)) {
    let text = format!("{text:?}");
    assert!(!text.contains("hush"), "a secret is shown: {text}");
}
