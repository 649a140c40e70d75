//! Listening sockets of this network namespace.

// Asked of the kernel by netlink.
mod diag;

// Read from `/proc`, where netlink is refused.
mod table;

use std::net::SocketAddr;

use tracing::debug;

use self::diag::Diag;

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) inode: u64,
}

/// Where listening sockets are looked up.
#[derive(Debug)]
pub(super) struct Sockets {
    /// Absent where it was refused once: some sandboxes (gVisor) know nothing of it, some policies
    /// forbid it, and a kernel without the module would look for it each time.
    diag: Option<Diag>,
}

// === impl Sockets ===

impl Sockets {
    pub(super) fn new() -> Self {
        let diag = Diag::open().inspect_err(|error| debug!(%error, "no netlink: reading /proc"));
        Self { diag: diag.ok() }
    }

    /// Those that listen on `port`, in both families.
    pub(super) fn listening(&mut self, port: u16) -> Vec<Listening> {
        if let Some(diag) = &self.diag {
            match diag.listening(port) {
                Ok(found) => return found,
                Err(error) => {
                    debug!(%error, "no answer by netlink: reading /proc");
                    self.diag = None;
                }
            }
        }
        table::listening(port)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// What each of the two sources says of the socket at this address.
    fn inodes(address: SocketAddr) -> [Option<u64>; 2] {
        [Sockets::new(), Sockets { diag: None }].map(|mut sockets| {
            let found = sockets.listening(address.port());
            let at = |socket: &&Listening| socket.address == address;
            found.iter().find(at).map(|socket| socket.inode)
        })
    }

    #[test]
    fn both_sources_find_the_same_socket_while_it_listens() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                assert!(address.starts_with('['), "{address} must be there");
                continue; // a machine without IPv6
            };
            let address = listener.local_addr().unwrap();
            let [asked, read] = inodes(address);
            assert!(asked.is_some(), "{address}");
            assert_eq!(asked, read, "{address}");
            drop(listener);
            assert_eq!(inodes(address), [None, None], "{address}");
        }
    }

    #[test]
    fn finds_all_sockets_of_a_port_and_none_of_others() {
        let (port, all) = many_sockets();
        let mut sockets = Sockets::new();
        let mut found = sockets.listening(port);
        assert!(sockets.diag.is_some(), "netlink must answer here");
        assert_eq!(found.len(), all.len());
        assert!(found.iter().all(|socket| socket.address.port() == port));
        found.sort_by_key(|socket| socket.inode);
        found.dedup_by_key(|socket| socket.inode);
        assert_eq!(found.len(), all.len());
    }

    /// More than one piece of an answer can tell of, all on one port (`SO_REUSEPORT`).
    fn many_sockets() -> (u16, Vec<Socket>) {
        let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut listen = || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            socket.listen(1).unwrap();
            address = socket.local_addr().unwrap().as_socket().unwrap();
            socket
        };
        let all = (0..200).map(|_| listen()).collect();
        (address.port(), all)
    }

    #[test]
    fn reads_the_table_for_good_where_netlink_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = Sockets {
            diag: Some(Diag::deaf()),
        };
        let found = sockets.listening(address.port());
        assert!(found.iter().any(|socket| socket.address == address));
        assert!(sockets.diag.is_none());
    }
}
