//! What a Service does where no node does it: takes connections, and hands each to one of those who are listed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

/// A balancer on loopback; it ends with this value, and every connection with it.
pub struct Balancer {
    pub port: u16,
    listed: Listed,
    _runtime: Runtime,
}

/// Ports of loopback, in the order in which they get connections.
type Listed = Arc<Mutex<Vec<u16>>>;

// === impl Balancer ===

impl Balancer {
    /// Nobody is listed yet: connections are closed as they come.
    pub fn start() -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let listed = Listed::default();
        runtime.spawn(accept(listener, Arc::clone(&listed)));
        Self {
            port,
            listed,
            _runtime: runtime,
        }
    }

    /// New connections go to these in turns; those that are open stay where they are.
    pub fn list(&self, ports: &[u16]) {
        ports.clone_into(&mut self.listed.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

async fn accept(listener: TcpListener, listed: Listed) {
    let turn = AtomicUsize::new(0);
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            continue;
        };
        let port = {
            let listed = listed.lock().unwrap_or_else(PoisonError::into_inner);
            let place = turn.fetch_add(1, Ordering::Relaxed);
            (!listed.is_empty()).then(|| listed[place % listed.len()])
        };
        let Some(port) = port else { continue };
        tokio::spawn(async move {
            // Nobody is tried after the first, as in a Service: who is listed and does not listen loses it.
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            if let Ok(mut server) = TcpStream::connect(address).await {
                let _ = client
                    .set_nodelay(true)
                    .and_then(|()| server.set_nodelay(true));
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
