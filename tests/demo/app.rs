//! The app of the demonstration: pages from a database, quick only once they are in its cache.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};

/// Pages that it has.
pub const PAGES: u32 = 16;

/// What a page costs the database. Nothing keeps two requests from asking for the same page.
const QUERY: &str = "SELECT pg_sleep(0.2)";

/// Connections to the database.
const POOL: usize = 4;

struct App {
    database: String,
    pool: Semaphore,
    cached: Mutex<HashSet<String>>,
}

/// Serves on `port` until dropped.
pub async fn run(port: u16, database: String) -> std::io::Result<Infallible> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let app = Arc::new(App {
        database,
        pool: Semaphore::new(POOL),
        cached: Mutex::default(),
    });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let app = Arc::clone(&app);
        connections.spawn(async move {
            let service = service_fn(|request| app.answer(request));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

// === impl App ===

impl App {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let is_cached = self.cached.lock().unwrap().contains(&path);
        let mut response = Response::new(Full::new(Bytes::from_static(b"a page\n")));
        if is_cached {
            return Ok(response);
        }
        match self.query().await {
            Ok(()) => {
                self.cached.lock().unwrap().insert(path);
            }
            Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
        }
        Ok(response)
    }

    async fn query(&self) -> Result<(), tokio_postgres::Error> {
        let _permit = self.pool.acquire().await.unwrap();
        let (client, connection) =
            tokio_postgres::connect(&self.database, tokio_postgres::NoTls).await?;
        // Ends with its client.
        tokio::spawn(connection);
        client.batch_execute(QUERY).await
    }
}
