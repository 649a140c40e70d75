//! The app's HTTP/2 connection behind one client connection, dialled anew when it ends.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{MAX_HEADERS, OPEN_WINDOW, SEND_BUFFER};
use crate::gate::{
    dial::App,
    path::Path,
    queue::{Pass, Verdict},
    reason::Reason,
};

/// How long the app may take for its settings.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// The app's side of a client connection.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) app: Arc<App>,
    current: Mutex<Option<Connected>>,
}

/// A connection to the app and the task that drives it.
#[derive(Debug)]
struct Connected {
    sender: SendRequest<Bytes>,
    driver: AbortOnDropHandle<()>,
}

// === impl Upstream ===

impl Upstream {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self {
            app,
            current: Mutex::default(),
        }
    }

    /// A sender on the connection, which is opened if there is none. Streams that come meanwhile
    /// wait for the one that dials.
    pub(super) async fn sender(
        &self,
        path: &Arc<Path>,
        bytes: usize,
        pass: Pass,
    ) -> Result<(SendRequest<Bytes>, Pass), Verdict> {
        let deadline = Instant::now() + path.hold.max_wait;
        let unreachable = || Verdict::Refuse(Reason::AppUnreachable);
        let locked = timeout_at(deadline, self.current.lock()).await;
        let mut current = locked.map_err(|_elapsed| unreachable())?;
        if let Some(connected) = &*current
            && !connected.driver.is_finished()
        {
            return Ok((connected.sender.clone(), pass));
        }
        let (stream, pass) = self.app.dial_patiently(path, bytes, pass, pending).await?;
        let handshake = client::Builder::new()
            .enable_push(false)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .initial_connection_window_size(OPEN_WINDOW)
            .handshake(stream);
        let Ok(Ok((sender, connection))) = timeout(HANDSHAKE_TIMEOUT, handshake).await else {
            return Err(unreachable());
        };
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Its error reaches each of its streams.
            let _ = connection.await;
        }));
        *current = Some(Connected {
            sender: sender.clone(),
            driver,
        });
        Ok((sender, pass))
    }

    /// Forgets the connection, because it takes no further streams. Those on it go on.
    pub(super) async fn retire(&self) {
        if let Some(Connected { driver, .. }) = self.current.lock().await.take() {
            // Without its handle it ends when its last stream does.
            driver.detach();
        }
    }
}
