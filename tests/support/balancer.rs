//! What a Service does where no node does it: takes connections, and hands each to one of those who are listed.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
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
    routes: Arc<Mutex<Routes>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Routes {
    /// Ports of loopback, in the order in which they get connections.
    listed: Vec<u16>,
    /// The process whose connections lead nowhere.
    shut_out: Option<u32>,
}

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
        let routes = Arc::<Mutex<Routes>>::default();
        runtime.spawn(accept(listener, Arc::clone(&routes)));
        Self {
            port,
            routes,
            _runtime: runtime,
        }
    }

    /// New connections go to these in turns; those that are open stay where they are.
    pub fn list(&self, ports: &[u16]) {
        ports.clone_into(&mut self.routes().listed);
    }

    /// New connections of this process are closed as they come.
    pub fn shut_out(&self, process: Option<u32>) {
        self.routes().shut_out = process;
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, routes: Arc<Mutex<Routes>>) {
    let turn = AtomicUsize::new(0);
    loop {
        let Ok((mut client, from)) = listener.accept().await else {
            continue;
        };
        let port = {
            let routes = routes.lock().unwrap_or_else(PoisonError::into_inner);
            let place = turn.fetch_add(1, Ordering::Relaxed);
            let is_open = routes.shut_out.is_none_or(|process| !is_of(from, process));
            let count = routes.listed.len();
            (is_open && count > 0).then(|| routes.listed[place % count])
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

/// This process has the end of a connection that is at `address` (proc(5): `/proc/net/tcp`, `/proc/PID/fd`).
fn is_of(address: SocketAddr, process: u32) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let end = format!(":{:04X}", address.port());
    let mut rows = table
        .lines()
        .map(|row| row.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1).is_some_and(|local| local.ends_with(&end)));
    let Some(inode) = row.as_ref().and_then(|row| row.get(9)) else {
        return false;
    };
    let socket = format!("socket:[{inode}]");
    let open = fs::read_dir(format!("/proc/{process}/fd"));
    let mut open = open.into_iter().flatten().flatten();
    open.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*socket))
}
