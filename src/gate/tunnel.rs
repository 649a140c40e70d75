//! Two connections as one: bytes both ways until both sides have closed.

use tokio::net::TcpStream;

use super::{
    path::{Counted, Path},
    proxy::{Buffer, copy},
    socket,
};

/// One side of a tunnel: its connection, and what was already read from it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) stream: TcpStream,
    pub(super) buffer: Buffer,
}

/// Passes bytes both ways. Each side's end is passed on by itself, so that a side that has sent
/// everything still gets its answer. Returns when both have ended, one is broken, or time is up.
pub(super) async fn run(path: &Path, mut client: Side, mut app: Side) {
    let _stream = Counted::by(&path.traffic.streams);
    let both = async {
        let up = copy(
            &client.stream,
            &mut client.buffer,
            &app.stream,
            &path.blocks,
        );
        let down = copy(&app.stream, &mut app.buffer, &client.stream, &path.blocks);
        tokio::try_join!(up, down)
    };
    // Biased: when time is up, it is up. Neither side is used after a cut, so it loses nothing
    // that was not to be lost.
    let whole = tokio::select! {
        biased;
        () = path.streams_end.cancelled() => false,
        ended = both => ended.is_ok(),
    };
    if !whole {
        // The other side must not take a broken stream for a finished one.
        socket::reset(client.stream);
        socket::reset(app.stream);
    }
}
