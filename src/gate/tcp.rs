//! One client connection of a protocol that the gate does not read.

use std::sync::Arc;

use tokio::net::TcpStream;

use super::{
    dial::App,
    inflight::Busy,
    path::Path,
    proxy::Buffer,
    queue::Verdict,
    reason::Reason,
    socket,
    tunnel::{self, Side},
};

/// What a held connection takes: a task and two registrations. Its bytes stay in the kernel.
const HELD_BYTES: usize = 1024;

/// Serves a client from the first byte of either side: many protocols let the server begin. A drain
/// waits for it to the end.
pub(super) async fn serve(path: Arc<Path>, app: Arc<App>, client: TcpStream, _busy: Busy) {
    let verdict = match path.admission.pass_at_once() {
        Some(pass) => Verdict::Pass(pass),
        None => {
            path.admission
                .wait(HELD_BYTES, socket::closed_by_peer(&client))
                .await
        }
    };
    let gone = || socket::closed_by_peer(&client);
    let dialled = match verdict {
        Verdict::Pass(pass) => app.dial_patiently(&path, HELD_BYTES, pass, gone).await,
        refused @ (Verdict::Refuse(_) | Verdict::ClientGone) => Err(refused),
    };
    match dialled {
        // The place in the ramp's step was for the dial: how long a connection lasts says nothing
        // about how warm the app is.
        Ok((stream, _pass)) => {
            let client = Side {
                stream: client,
                buffer: Buffer::default(),
            };
            let app = Side {
                stream,
                buffer: Buffer::default(),
            };
            tunnel::run(&path, client, app).await;
        }
        Err(Verdict::Refuse(reason)) => refuse(&path, client, reason),
        Err(Verdict::Pass(_) | Verdict::ClientGone) => {}
    }
}

/// There is no answer that every protocol knows but a reset.
fn refuse(path: &Path, client: TcpStream, reason: Reason) {
    path.traffic.refused(reason);
    socket::reset(client);
}
