//! `portcullis serve` as a process.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    control_plane::{ControlPlane, SUPERVISOR},
    wait::eventually,
};

/// The image that it injects, and that nobody pulls.
pub const GATE_IMAGE: &str = "registry.example/portcullis-gate:0.1.0";

/// How to start a server; it can be started again with the same.
#[derive(Clone, Debug)]
pub struct Launch {
    pub kubeconfig: PathBuf,
    pub settings: PathBuf,
    /// Where the API server calls it.
    pub port: u16,
    /// Where it answers /ready.
    pub admin_port: u16,
    /// Where it writes what it has to say.
    pub log: PathBuf,
    /// The API servers beside that of the kubeconfig.
    pub api_servers: Vec<String>,
    /// A chain and its key in PEM; without them it signs a certificate itself.
    pub certificate: Option<[PathBuf; 2]>,
    /// More of its environment.
    pub envs: Vec<(&'static str, String)>,
    /// How long it goes on after SIGTERM for those who have yet to hear of it.
    pub drain_delay: Duration,
}

/// A server that is ready. It ends when this value does, or when the process ends without dropping it.
#[derive(Debug)]
pub struct Server {
    process: Child,
    admin_port: u16,
}

// === impl Launch ===

impl Launch {
    /// On a control plane, with these settings and a certificate of its own.
    pub fn on(plane: &ControlPlane, kubeconfig: PathBuf, settings: &str) -> Self {
        let launch = Self {
            kubeconfig,
            settings: plane.folder().join("settings.yaml"),
            port: free_port(),
            admin_port: free_port(),
            log: plane.folder().join("portcullis.log"),
            api_servers: Vec::new(),
            certificate: None,
            envs: Vec::new(),
            drain_delay: Duration::ZERO,
        };
        fs::write(&launch.settings, settings).expect("the folder is ours");
        launch
    }

    /// The name that it answers self-checks with.
    pub fn replica(&self) -> String {
        format!("replica-{}", self.port)
    }

    /// The same at other ports; `name` tells their logs apart.
    pub fn another(&self, name: &str) -> Self {
        Self {
            port: free_port(),
            admin_port: free_port(),
            log: self.log.with_extension(format!("{name}.log")),
            ..self.clone()
        }
    }

    pub fn start(&self) -> Server {
        let log = File::create(&self.log).expect("the folder is ours");
        let mut command = Command::new(&*SUPERVISOR);
        command.args(["tie", "--", env!("CARGO_BIN_EXE_portcullis"), "serve"]);
        match &self.certificate {
            Some([chain, key]) => command
                .args(["--tls-cert".as_ref(), chain.as_os_str()])
                .args(["--tls-key".as_ref(), key.as_os_str()]),
            None => command.arg("--tls-san=127.0.0.1"),
        };
        for url in &self.api_servers {
            command.arg(format!("--api-server={url}"));
        }
        let process = command
            .arg(format!("--listen=127.0.0.1:{}", self.port))
            .arg(format!("--admin-listen=127.0.0.1:{}", self.admin_port))
            .arg(format!("--replica={}", self.replica()))
            .arg(format!("--drain-delay={}ms", self.drain_delay.as_millis()))
            .arg(format!("--gate-image={GATE_IMAGE}"))
            .args(["--settings".as_ref(), self.settings.as_os_str()])
            .args(["--kubeconfig".as_ref(), self.kubeconfig.as_os_str()])
            .envs(self.envs.iter().cloned())
            .stdin(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("portcullis starts");
        let mut server = Server {
            process,
            admin_port: self.admin_port,
        };
        eventually("portcullis to be ready", || {
            if let Some(status) = server
                .process
                .try_wait()
                .expect("the process was started by us")
            {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                panic!("portcullis ended with {status}: {log}");
            }
            match server.fetch("/ready") {
                Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
                Ok(answer) => Err(answer),
                Err(error) => Err(error.to_string()),
            }
        });
        server
    }
}

// === impl Server ===

impl Drop for Server {
    /// Also of a test that has failed: until the process has ended its ports are taken, and it answers as the next would.
    fn drop(&mut self) {
        self.terminate();
        let _ = self.process.wait();
    }
}

impl Server {
    /// Stops it gently, and waits for its end.
    pub fn stop(mut self) {
        self.terminate();
        self.ended();
    }

    /// Sends it SIGTERM; it goes on for its drain delay.
    pub fn terminate(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Waits for the end of one that leaves.
    pub fn ended(mut self) {
        let status = self.process.wait().expect("the process was started by us");
        assert!(status.success(), "portcullis ended with {status}");
    }

    /// Kills it: it can say and write nothing more.
    pub fn kill(mut self) {
        self.signal("KILL");
        let _ = self.process.wait().expect("the process was started by us");
    }

    /// Lets it hang: the kernel goes on taking connections and bytes for it, and it does nothing more.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on where it hung.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill").args(["-s", name, &self.id()]).status();
        let sent = kill.expect("kill is a program, too");
        assert!(sent.success(), "portcullis had ended by itself");
    }

    /// The most memory that it ever had in use at once (`VmHWM` of proc(5)).
    pub fn peak_mib(&self) -> u64 {
        self.memory_mib("VmHWM:")
    }

    /// What it has in use now (`VmRSS`).
    pub fn resident_mib(&self) -> u64 {
        self.memory_mib("VmRSS:")
    }

    fn memory_mib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let mut lines = status.lines();
        let amount = lines.find_map(|line| line.strip_prefix(field));
        let kib = amount.and_then(|amount| amount.trim().strip_suffix(" kB"));
        let kib: u64 = kib
            .and_then(|kib| kib.parse().ok())
            .expect("a number of KiB");
        kib.div_ceil(1024)
    }

    /// The sum of the series of its metrics that begin so.
    pub fn metric(&self, series: &str) -> u64 {
        let page = self.fetch("/metrics").expect("it answers");
        let values = page.lines().filter(|line| line.starts_with(series));
        let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum()
    }

    /// Its process id: what we have started is what ties it to us.
    fn id(&self) -> String {
        let tie = self.process.id();
        let children = fs::read_to_string(format!("/proc/{tie}/task/{tie}/children"));
        children.expect("it runs").trim().to_owned()
    }

    /// What it answers on its admin port, with the head.
    pub fn fetch(&self, path: &str) -> std::io::Result<String> {
        fetch(self.admin_port, path)
    }
}

/// What our server answers on this port of loopback, with the head.
pub fn fetch(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Gives our server the rights that the manifests give its ServiceAccount, and no more.
pub fn authorize(plane: &ControlPlane, launch: &Launch) {
    let token = plane
        .kubectl("admin")
        .call("create token portcullis --namespace portcullis-system --duration 24h")
        .ok();
    let kubeconfig = with_token(plane.kubeconfig("admin"), token.trim());
    fs::write(&launch.kubeconfig, kubeconfig).expect("the folder is ours");
}

/// The same kubeconfig for who holds this token.
pub fn with_token(kubeconfig: &Path, token: &str) -> String {
    let text = fs::read_to_string(kubeconfig).expect("the control plane wrote it");
    let mut config: Value = serde_json::from_str(&text).expect("it is written as JSON");
    config["users"][0]["user"] = json!({"token": token});
    config.to_string()
}

/// A port of loopback that nobody uses now, and nobody is given by the system before it is used: from below those
/// (ip(7): `ip_local_port_range`), another for each call, and elsewhere in each process of tests.
pub fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 20_000;
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let elsewhere = process::id().wrapping_mul(997) % u32::from(COUNT);
    let elsewhere = u16::try_from(elsewhere).expect("it is less");
    let mut ports = (0..COUNT).map(|_| {
        let call = CALLS.fetch_add(1, Ordering::Relaxed) % COUNT;
        FIRST + (elsewhere + call) % COUNT
    });
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("loopback has a free port")
}
