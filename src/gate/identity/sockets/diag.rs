//! Listening sockets as the kernel tells them by netlink (sock_diag(7)): those of one port only, while
//! a read of `/proc/net/tcp` makes it walk through the tables of all connections.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use netlink_packet_core::{
    DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Listening;

/// The kernel makes its answer in pieces no larger than what its reader has room for, nor than this
/// (`netlink_dump` in net/netlink/af_netlink.c begins with a page).
const PIECE: usize = 8 * 1024;

/// A socket on which the kernel answers.
#[derive(Debug)]
pub(super) struct Diag(OwnedFd);

// === impl Diag ===

impl Diag {
    pub(super) fn open() -> io::Result<Self> {
        // The kernel answers before `send` and `recv` return, so that neither ever has to wait.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, protocol) = (AddressFamily::NETLINK, Some(netlink::SOCK_DIAG));
        Ok(Self(socket_with(family, SocketType::RAW, flags, protocol)?))
    }

    /// The sockets that listen on `port`, in both families. After an error the socket is of no use:
    /// a part of an answer may be left in it.
    pub(super) fn listening(&self, port: u16) -> io::Result<Vec<Listening>> {
        let mut found = Vec::new();
        for (family, socket_id) in [
            (AF_INET, SocketId::new_v4()),
            (AF_INET6, SocketId::new_v6()),
        ] {
            send(
                &self.0,
                &question(family, socket_id, port),
                SendFlags::empty(),
            )?;
            while self.read(port, &mut found)? {}
        }
        Ok(found)
    }

    /// Reads a piece of an answer, and says whether there are more.
    fn read(&self, port: u16, found: &mut Vec<Listening>) -> io::Result<bool> {
        let mut piece = [0; PIECE];
        let (length, _) = recv(&self.0, &mut piece, RecvFlags::empty())?;
        let mut rest = piece.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkMessage::deserialize(rest).map_err(garbage)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let socket = listening(&response);
                    if socket.address.port() == port {
                        found.push(socket);
                    }
                }
                NetlinkPayload::Done(done) if done.code >= 0 => return Ok(false),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_)
                | NetlinkPayload::Noop
                | NetlinkPayload::Overrun(_)
                | NetlinkPayload::InnerMessage(_)
                | _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            // Messages begin at multiples of four bytes (netlink(7)).
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(true)
    }

    /// One on which nobody answers.
    #[cfg(test)]
    pub(super) fn deaf() -> Self {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        Self(socket.into())
    }
}

fn question(family: u8, mut socket_id: SocketId, port: u16) -> Vec<u8> {
    socket_id.source_port = port;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::LISTEN,
        socket_id,
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn listening(response: &InetResponse) -> Listening {
    let socket = &response.header;
    let (ip, port) = (
        socket.socket_id.source_address,
        socket.socket_id.source_port,
    );
    Listening {
        address: SocketAddr::new(ip.to_canonical(), port),
        inode: socket.inode.into(),
    }
}

fn garbage(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
