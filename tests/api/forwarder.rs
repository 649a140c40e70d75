//! A port of loopback that leads to another, and can be shut: between the API server and us, in either direction.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::watch,
};

/// Forwards for as long as its runtime runs.
#[derive(Clone, Debug)]
pub struct Forwarder {
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    /// Changes when the connections of until then are to end.
    hang_up: watch::Sender<()>,
    /// Connections now.
    open: watch::Sender<usize>,
    is_shut: watch::Sender<bool>,
}

// === impl Forwarder ===

impl Forwarder {
    pub fn to(target: u16, runtime: &Handle) -> Self {
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let shared = Arc::new(Shared {
            target,
            hang_up: watch::Sender::new(()),
            open: watch::Sender::new(0),
            is_shut: watch::Sender::new(false),
        });
        let forwarder = Self { port, shared };
        let accepting = Arc::clone(&forwarder.shared);
        runtime.spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("there are descriptors");
                tokio::spawn(forward(client, Arc::clone(&accepting)));
            }
        });
        forwarder
    }

    /// Ends every connection, and waits until the clients have seen it: the next request needs a new handshake.
    pub async fn hang_up(&self) {
        let shared = &self.shared;
        shared.hang_up.send_replace(());
        let mut open = shared.open.subscribe();
        let none = open.wait_for(|open| *open == 0).await;
        none.expect("the sender is here");
    }

    /// Ends every connection, and each new one at once; or lets them through again.
    pub fn shut(&self, is_shut: bool) {
        self.shared.is_shut.send_replace(is_shut);
        self.shared.hang_up.send_replace(());
    }
}

async fn forward(mut client: TcpStream, shared: Arc<Shared>) {
    let mut hang_up = shared.hang_up.subscribe();
    if *shared.is_shut.borrow() {
        return;
    }
    shared.open.send_modify(|open| *open += 1);
    let target = SocketAddr::from((Ipv4Addr::LOCALHOST, shared.target));
    if let Ok(mut server) = TcpStream::connect(target).await {
        tokio::select! {
            biased;
            _ = hang_up.changed() => {}
            // An error is either side's leaving.
            _ = copy_bidirectional(&mut client, &mut server) => {}
        }
    }
    // Of the client's end we know when it closes its own.
    if client.shutdown().await.is_ok() {
        let mut rest = [0; 1024];
        while client.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
    shared.open.send_modify(|open| *open -= 1);
}
