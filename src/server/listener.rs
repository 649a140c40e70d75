//! Binds a port, and accepts from it without spinning when the process is out of file descriptors.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use metrics::Counter;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// First pause after a failed accept, doubled each time: what Go's net/http does, and it has served well.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// Longest pause: descriptors come back when connections end, and a second is soon enough to notice.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A port could not be bound.
#[derive(Debug, Error)]
#[error("{flag}: cannot listen on {address}")]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Binds `address`; `flag` is the option that gave it, for the error's text.
///
/// `[::]` takes IPv4 too. Where the kernel has no IPv6, `0.0.0.0` is bound in its stead, so that one default
/// serves every cluster.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    };
    bound.map_err(|source| BindError {
        flag,
        address,
        source,
    })
}

/// Waits for the next connection. Never fails: an error of one connection is skipped, an error of the process
/// (no descriptors, no memory) is waited out with a growing pause, counted, and logged.
pub(crate) async fn accept(listener: &TcpListener, errors: &Counter) -> (TcpStream, SocketAddr) {
    let mut pause = FIRST_PAUSE;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                errors.increment(1);
                tracing::warn!(%error, ?pause, "cannot accept connections");
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// Takes all connections that wait to be accepted, and then listens no more. Whether there are any is asked of the kernel:
/// the runtime learns of them only when it has polled for them.
#[cfg(feature = "gate")]
pub(crate) fn backlog(listener: TcpListener) -> io::Result<Vec<TcpStream>> {
    let listener = listener.into_std()?;
    let mut waiting = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                waiting.push(TcpStream::from_std(stream)?);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(waiting),
            // No descriptors, no memory: those who got one are served.
            Err(error) => {
                tracing::warn!(%error, "cannot accept all connections that are waiting");
                return Ok(waiting);
            }
        }
    }
}

/// The client was gone before its connection was accepted: accept(2), "Error handling".
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// "Address family not supported by protocol", the same number on every Linux architecture; std gives it no kind.
const EAFNOSUPPORT: i32 = 97;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_the_flag_and_the_address_of_a_port_that_is_taken() {
        let first = bind("--listen", "127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let taken = first.local_addr().unwrap();
        let error = bind("--listen", taken).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("--listen: cannot listen on {taken}")
        );
    }

    #[tokio::test]
    async fn a_wildcard_takes_ipv4_whether_or_not_the_kernel_has_ipv6() {
        let listener = bind("--listen", "[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let errors = Counter::noop();
        let (client, accepted) = tokio::join!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
            accept(&listener, &errors),
        );
        assert_eq!(
            client.unwrap().local_addr().unwrap().port(),
            accepted.1.port()
        );
    }

    #[cfg(feature = "gate")]
    #[tokio::test]
    async fn the_backlog_is_all_who_connected_and_then_nobody_listens() {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = bind("--listen", address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let clients = [(); 3].map(|()| std::net::TcpStream::connect(address).unwrap());
        let waiting = backlog(listener).unwrap();
        let peers = waiting.iter().map(|stream| stream.peer_addr().unwrap());
        assert!(peers.eq(clients.iter().map(|client| client.local_addr().unwrap())));
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn running_out_of_descriptors_is_not_an_error_of_one_connection() {
        const EMFILE: i32 = 24;
        const ECONNABORTED: i32 = 103;
        assert!(!is_of_one_connection(&io::Error::from_raw_os_error(EMFILE)));
        assert!(is_of_one_connection(&io::Error::from_raw_os_error(
            ECONNABORTED
        )));
    }
}
