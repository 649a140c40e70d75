//! From settings to what the gate runs with: the document is found and read, hosts become
//! addresses, ports are bound.

use std::{
    env, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Socket, Type};
use thiserror::Error;

use super::service::{self, ClientWaits, HoldLimits, Limits};
use crate::contract::{
    self, AppHost, GATE_CONFIG_ENV, HoldMode, Protocol, Settings, SettingsError,
};

/// The gate cannot start with what it was given.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No document.
    #[error("no settings: give --config FILE, or the document itself in {GATE_CONFIG_ENV}")]
    Missing,
    /// The file cannot be read.
    #[error("--config {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The document is refused.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The variable that holds the app's addresses is absent or holds something else.
    #[error("ports[{port}].app.hostFrom: env {name} {problem}")]
    HostEnv {
        /// The port's place.
        port: usize,
        /// The variable.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The app's host is unknown.
    #[error("ports[{port}].app: {host:?} cannot be resolved")]
    Resolve {
        /// The port's place.
        port: usize,
        /// The host.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// A port cannot be bound.
    #[error("ports[{port}].listen: cannot listen on {address}")]
    Bind {
        /// The port's place.
        port: usize,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Names and addresses of the app's ports, in the order of the settings.
pub type AppPorts = Arc<Vec<(String, Vec<SocketAddr>)>>;

/// How long a request waits for a place in a full step of the ramp.
const RAMP_WAIT: Duration = Duration::from_millis(250);

/// Client connections at a time. Each takes up to two file descriptors, and containers are given
/// 1,048,576 of them; at 16 KiB each, this many take half of the container's memory limit.
const MAX_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(16 * 1024).expect("is not zero");

const CLIENT_WAITS: ClientWaits = ClientWaits {
    // hyper's and Apache httpd's order of size
    head: Duration::from_secs(30),
    // Longer than the 10 minutes for which Google's load balancers keep theirs, the longest of the
    // common ones: who closes first decides whose requests are lost.
    idle: Duration::from_secs(15 * 60),
    half_closed: Duration::from_secs(60),
};

/// Reads the document in `file`, else the one in the environment.
pub fn load(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?,
        None => env::var(GATE_CONFIG_ENV).map_err(|_| ConfigError::Missing)?,
    };
    Ok(Settings::decode(&text)?)
}

/// Looks up the app's addresses: all families that its host has.
pub async fn app_ports(settings: &Settings) -> Result<AppPorts, ConfigError> {
    let mut ports = Vec::new();
    for (index, port) in settings.ports().iter().enumerate() {
        let number = port.app.port;
        let addresses = match &port.app.host {
            AppHost::Loopback => vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, number)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, number)),
            ],
            AppHost::Env(name) => from_env(index, name, number)?,
            AppHost::Named(host) => {
                let found = tokio::net::lookup_host((host.as_str(), number)).await;
                let unknown = |source| ConfigError::Resolve {
                    port: index,
                    host: host.clone(),
                    source,
                };
                found.map_err(unknown)?.collect()
            }
        };
        ports.push((port.name.clone(), addresses));
    }
    Ok(Arc::new(ports))
}

fn from_env(port: usize, name: &str, number: u16) -> Result<Vec<SocketAddr>, ConfigError> {
    let wrong = |problem| ConfigError::HostEnv {
        port,
        name: name.to_owned(),
        problem,
    };
    let list = env::var(name).map_err(|_| wrong("is not set"))?;
    let addresses: Result<Vec<_>, _> = list
        .split(',')
        .map(|address| address.trim().parse::<IpAddr>())
        .map(|address| address.map(|ip| SocketAddr::new(ip, number)))
        .collect();
    addresses.map_err(|_| wrong("holds something that is no IP address"))
}

/// Binds the gate's own ports, without listening on them yet. None for a port that is only watched.
pub fn bind_ports(settings: &Settings, app: &AppPorts) -> Result<Vec<service::Port>, ConfigError> {
    let ports = settings.ports().iter().zip(app.iter()).enumerate();
    ports
        .filter_map(|(index, (port, (_, addresses)))| {
            Some((index, port.listen?.0, port.protocol, addresses))
        })
        .map(|(index, address, protocol, addresses)| {
            let socket = bind(address).map_err(|source| ConfigError::Bind {
                port: index,
                address,
                source,
            })?;
            Ok(service::Port {
                socket,
                app: addresses.clone(),
                protocol: match protocol {
                    Protocol::Http => service::Protocol::Http,
                    Protocol::Tcp => service::Protocol::Tcp,
                },
            })
        })
        .collect()
}

/// `[::]` takes IPv4 too; where the kernel has no IPv6, `0.0.0.0` is bound in its stead.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let open = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    match open(address) {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() => {
            let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            open(v4)
        }
        opened => opened,
    }
}

/// The bounds of the data path.
pub fn limits(settings: &Settings) -> Limits {
    let hold = settings.hold();
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        hold: HoldLimits {
            max_requests: match hold.mode {
                HoldMode::Refuse => 0,
                HoldMode::Queue | HoldMode::Unlisten => count(hold.max_requests),
            },
            max_bytes: usize::try_from(hold.max_bytes).unwrap_or(usize::MAX),
            max_wait: hold.max_wait,
            refuse_to_accept: hold.mode == HoldMode::Unlisten,
        },
        ramp_wait: RAMP_WAIT,
        grpc_refusal: match hold.grpc {
            contract::GrpcRefusal::RefusedStream => service::GrpcRefusal::RefusedStream,
            contract::GrpcRefusal::Unavailable => service::GrpcRefusal::Unavailable,
        },
        max_connections: MAX_CONNECTIONS,
        client: CLIENT_WAITS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(json: &str) -> Settings {
        Settings::decode(json).unwrap()
    }

    #[tokio::test]
    async fn loopback_is_tried_in_both_families() {
        let ports = app_ports(&settings(r#"{"listen": 1, "app": 8081}"#))
            .await
            .unwrap();
        let addresses: Vec<_> = ports[0].1.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1:8081", "[::1]:8081"]);
    }

    #[tokio::test]
    async fn names_the_variable_that_should_hold_addresses() {
        for (name, said) in [
            ("PORTCULLIS_NO_SUCH_VARIABLE", "is not set"),
            ("PATH", "holds something that is no IP address"),
        ] {
            let json = format!(
                r#"{{"listen": 1, "app": {{"hostFrom": {{"env": "{name}"}}, "port": 8081}}}}"#
            );
            let error = app_ports(&settings(&json)).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("ports[0].app.hostFrom: env {name} {said}")
            );
        }
    }

    #[tokio::test]
    async fn names_a_port_that_is_in_use() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let settings = settings(&format!(r#"{{"listen": "{address}", "app": 8081}}"#));
        let app = app_ports(&settings).await.unwrap();
        let error = bind_ports(&settings, &app).unwrap_err();
        let said = format!("ports[0].listen: cannot listen on {address}");
        assert_eq!(error.to_string(), said);
    }

    #[test]
    fn names_a_file_that_is_not_there() {
        let error = load(Some(Path::new("/no/such/file"))).unwrap_err();
        assert_eq!(error.to_string(), "--config /no/such/file");
    }
}
