//! Real PostgreSQL and Redis servers of Debian's packages, on loopback, with data that is thrown away.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A server that ends with its test.
pub struct Database {
    pub port: u16,
    child: Child,
    /// Ends it and its children at once.
    signal: &'static str,
    _folder: TempDir,
}

/// A PostgreSQL that could be started: user `app`, password `hush`, with TLS.
pub struct Dormant {
    pub port: u16,
    folder: TempDir,
    owner: Option<(u32, u32)>,
}

/// An authority and a certificate of `localhost` by it, as PEM files.
pub struct Certificates {
    folder: TempDir,
}

/// A port that nobody has.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

// === impl Database ===

impl Database {
    /// PostgreSQL with user `app`, password `hush` and database `shop`, with TLS. It listens when
    /// this returns.
    pub fn postgres(certificates: &Certificates) -> Self {
        Dormant::new(certificates).start()
    }

    /// Redis with password `hush`, with TLS on a port of its own.
    pub fn redis(certificates: &Certificates, port: u16, tls_port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--requirepass", "hush", "--save", "", "--dir"])
            .arg(folder.path())
            .args([
                "--tls-port",
                &tls_port.to_string(),
                "--tls-auth-clients",
                "no",
            ])
            .args([Path::new("--tls-cert-file"), &certificates.cert()])
            .args([Path::new("--tls-key-file"), &certificates.key()])
            .args([Path::new("--tls-ca-cert-file"), &certificates.authority()])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server must be installed: make packages");
        let database = Self {
            port,
            child,
            // Not SIGQUIT: Redis leaves that as it inherits it, and a shell in the background ignores it.
            signal: "-TERM",
            _folder: folder,
        };
        wait(|| {
            let ping = ["-p", &port.to_string(), "-a", "hush", "ping"];
            let asked = Command::new("redis-cli").args(ping).output().unwrap();
            asked.stdout.starts_with(b"PONG")
        });
        database
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args([self.signal, &pid]).status();
        let _ = self.child.wait();
    }
}

// === impl Dormant ===

impl Dormant {
    pub fn new(certificates: &Certificates) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let owner = (effective_user() == 0).then(|| identity("postgres"));
        let (data, password) = (folder.path().join("data"), folder.path().join("password"));
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        fs::write(&password, "hush").unwrap();
        fs::copy(certificates.cert(), &cert).unwrap();
        fs::copy(certificates.key(), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = owner {
            for path in [folder.path(), &password, &cert, &key] {
                chown(path, Some(user), Some(group)).unwrap();
            }
        }
        let initdb = as_owner(owner, &postgres_program("initdb"))
            .args([
                "--username=app",
                "--auth=scram-sha-256",
                "--no-sync",
                "--pwfile",
            ])
            .args([&password, Path::new("--pgdata"), &data])
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{initdb:?}");
        let port = free_port();
        Self {
            port,
            folder,
            owner,
        }
    }

    /// With database `shop`. It listens when this returns.
    pub fn start(self) -> Database {
        let Self {
            port,
            folder,
            owner,
        } = self;
        let path = |name| folder.path().join(name);
        let child = as_owner(owner, &postgres_program("postgres"))
            .args(["-D".as_ref(), path("data").as_os_str()])
            .args(["-p", &port.to_string(), "-c", "fsync=off", "-c", "ssl=on"])
            .args(["-c", "listen_addresses=localhost", "-c"])
            .arg(format!(
                "unix_socket_directories={}",
                folder.path().display()
            ))
            .arg("-c")
            .arg(format!("ssl_cert_file={}", path("cert").display()))
            .arg("-c")
            .arg(format!("ssl_key_file={}", path("key").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // a Ctrl-C is for whoever started this, and ends it by its drop
            .spawn()
            .unwrap();
        let database = Database {
            port,
            child,
            signal: "-QUIT",
            _folder: folder,
        };
        wait(|| psql(port, "CREATE DATABASE shop"));
        database
    }
}

// === impl Certificates ===

impl Certificates {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        let made = Self { folder };
        fs::write(made.authority(), authority_pem).unwrap();
        fs::write(made.cert(), cert.pem()).unwrap();
        fs::write(made.key(), key.serialize_pem()).unwrap();
        made
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    pub fn cert(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

fn wait(answers: impl Fn() -> bool) {
    let begun = std::time::SystemTime::now();
    while !answers() {
        let waited = begun.elapsed().unwrap();
        assert!(waited.as_secs() < 60, "the database does not answer");
        std::thread::yield_now();
    }
}

fn psql(port: u16, command: &str) -> bool {
    let url = format!("postgres://app:hush@localhost:{port}/postgres");
    let asked = Command::new("psql").args([&url, "-c", command]).output();
    asked
        .expect("psql must be installed: make packages")
        .status
        .success()
}

/// Debian keeps the server's programs by version, out of the path.
fn postgres_program(name: &str) -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").expect("postgresql must be installed: make packages");
    let found = versions.map(|version| version.unwrap().path().join("bin").join(name));
    found.max().expect("a version of postgresql")
}

/// PostgreSQL refuses to run as root.
fn as_owner(owner: Option<(u32, u32)>, program: &Path) -> Command {
    let Some((user, group)) = owner else {
        return Command::new(program);
    };
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={group}"))
        .arg("--clear-groups")
        .arg(program);
    command
}

fn effective_user() -> u32 {
    id(&["-u"])
}

fn identity(user: &str) -> (u32, u32) {
    (id(&["-u", user]), id(&["-g", user]))
}

fn id(arguments: &[&str]) -> u32 {
    let output = Command::new("id").args(arguments).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}
