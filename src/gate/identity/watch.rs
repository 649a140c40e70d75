//! Looks at the app's ports: does each accept, and by which sockets?

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{Identity, boot_id, sockets::Sockets};
use crate::gate::{
    check::{Pace, describe},
    switch::{AppLoss, LossKind},
};

/// What was seen of the app's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// One of them refuses, and why.
    Refuses(String),
    /// All of them accept, by these sockets if the kernel shows them.
    Accepts(Option<Identity>),
}

/// How often a shut gate looks: this much it opens late at most.
const SHUT_PERIOD: Duration = Duration::from_millis(100);

/// How often an open gate looks, when no data connection tells it anything.
const OPEN_PERIOD: Duration = Duration::from_secs(1);

/// However many connections break at once, the app is looked at no more often than this.
const SHORTEST_PERIOD: Duration = Duration::from_millis(20);

/// A port that does not answer for so long does not accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Looks at `ports` for as long as somebody listens to `sightings`: at the pace of the gate, and at
/// once when a data connection was lost.
pub async fn watch(
    ports: Vec<Vec<SocketAddr>>,
    mut losses: mpsc::Receiver<AppLoss>,
    mut pace: watch::Receiver<Pace>,
    sightings: mpsc::Sender<Sighting>,
) {
    let mut watcher = Watcher::new(ports);
    loop {
        let looked = Instant::now();
        let sighting = watcher.look().await;
        if sightings.send(sighting).await.is_err() {
            return;
        }
        let period = if pace.borrow_and_update().open {
            OPEN_PERIOD
        } else {
            SHUT_PERIOD
        };
        tokio::select! {
            biased; // all are cancel-safe; a loss is not to wait for the period
            Some(loss) = losses.recv() => {
                sleep_until(looked + SHORTEST_PERIOD).await;
                watcher.doubt(loss);
                while let Ok(loss) = losses.try_recv() {
                    watcher.doubt(loss);
                }
            }
            changed = pace.changed() => {
                if changed.is_err() {
                    return;
                }
                sleep_until(looked + SHORTEST_PERIOD).await;
            }
            () = sleep_until(looked + period) => {}
        }
    }
}

#[derive(Debug)]
struct Watcher {
    ports: Vec<Port>,
    sockets: Sockets,
    boot: String,
    /// The sockets that a connection was last made to. While the kernel shows the same ones, they
    /// listen, and the app need not be bothered with connections.
    confirmed: Option<Identity>,
}

#[derive(Debug)]
struct Port {
    addresses: Vec<SocketAddr>,
    /// One of the addresses is this machine's: the kernel's table can be about the app.
    local: bool,
}

// === impl Watcher ===

impl Watcher {
    fn new(ports: Vec<Vec<SocketAddr>>) -> Self {
        Self {
            ports: ports.into_iter().map(Port::new).collect(),
            sockets: Sockets::new(),
            boot: boot_id(),
            confirmed: None,
        }
    }

    async fn look(&mut self) -> Sighting {
        let identity = self.identity();
        if let (Some(identity), Some(confirmed)) = (&identity, &self.confirmed)
            && identity.is_same_app(confirmed)
        {
            self.confirmed.clone_from(&Some(identity.clone()));
            return Sighting::Accepts(Some(identity.clone()));
        }
        for port in &self.ports {
            if let Err(why) = port.connect(&mut self.sockets).await {
                self.confirmed = None;
                return Sighting::Refuses(why);
            }
        }
        self.confirmed.clone_from(&identity);
        Sighting::Accepts(identity)
    }

    /// A refused connection weighs more than the kernel's table.
    fn doubt(&mut self, loss: AppLoss) {
        if loss.kind == LossKind::Refused {
            self.confirmed = None;
        }
    }

    /// `None` unless every port has a socket to be seen.
    fn identity(&mut self) -> Option<Identity> {
        let inodes = |port: &Port| port.inodes(&mut self.sockets);
        let ports: Vec<_> = self.ports.iter().map(inodes).collect();
        let all = ports.iter().all(|inodes| !inodes.is_empty());
        all.then(|| Identity {
            boot: self.boot.clone(),
            ports,
        })
    }
}

// === impl Port ===

impl Port {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        // A datagram socket can be bound to no address but this machine's, and disturbs nobody.
        let local = addresses
            .iter()
            .any(|address| UdpSocket::bind((address.ip(), 0)).is_ok());
        Self { addresses, local }
    }

    fn number(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    fn inodes(&self, sockets: &mut Sockets) -> BTreeSet<u64> {
        if !self.local {
            return BTreeSet::new();
        }
        let ours = |address: &SocketAddr| {
            address.ip().is_unspecified() || self.addresses.contains(address)
        };
        sockets
            .listening(self.number())
            .into_iter()
            .filter(|socket| ours(&socket.address))
            .map(|socket| socket.inode)
            .collect()
    }

    async fn connect(&self, sockets: &mut Sockets) -> Result<(), String> {
        let connecting = TcpStream::connect(self.addresses.as_slice());
        let why = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => describe(&error),
            Err(_) => "no answer".to_owned(),
        };
        let address = self
            .addresses
            .first()
            .map_or_else(String::new, ToString::to_string);
        let loopback = sockets
            .listening(self.number())
            .into_iter()
            .find(|socket| socket.address.ip().is_loopback())
            .filter(|_| self.local);
        Err(match loopback {
            Some(socket) => format!(
                "{address}: {why}; it listens on {} only, and must listen on all addresses",
                socket.address.ip()
            ),
            None => format!("{address}: {why}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    async fn look(watcher: &mut Watcher) -> Sighting {
        watcher.look().await
    }

    fn watcher(addresses: &[SocketAddr]) -> Watcher {
        Watcher::new(vec![addresses.to_vec()])
    }

    #[tokio::test]
    async fn recognises_a_listener_and_its_successor() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let mut watcher = watcher(&[address]);
        let Sighting::Accepts(Some(before)) = look(&mut watcher).await else {
            panic!("a listener of this machine must be seen");
        };
        assert_eq!(
            look(&mut watcher).await,
            Sighting::Accepts(Some(before.clone()))
        );
        drop(first);
        assert!(matches!(look(&mut watcher).await, Sighting::Refuses(_)));
        let _second = TcpListener::bind(address).unwrap();
        let Sighting::Accepts(Some(after)) = look(&mut watcher).await else {
            panic!("the successor must be seen");
        };
        assert!(!after.is_same_app(&before));
    }

    #[tokio::test]
    async fn says_that_an_app_listens_on_loopback_only() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // Another address of this machine, as the pod's is.
        let mut watcher = watcher(&[SocketAddr::from(([127, 0, 0, 2], port))]);
        let Sighting::Refuses(why) = look(&mut watcher).await else {
            panic!("nothing listens on 127.0.0.2");
        };
        assert_eq!(
            why,
            format!(
                "127.0.0.2:{port}: connection refused; it listens on 127.0.0.1 only, and must \
                 listen on all addresses"
            )
        );
    }
}
