//! A small web app with the vices of real ones: late to listen, slow at first, quick to die.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep},
};

/// What the app is like.
#[derive(Args, Clone, Debug)]
pub struct Character {
    /// How long it takes until it listens.
    #[arg(long, env, value_parser = humantime::parse_duration, default_value = "0s")]
    pub listen_after: Duration,
    /// How many pages are slow at first, whoever asks for them.
    #[arg(long, env, default_value_t = 0)]
    pub cold_requests: u32,
    /// For how long from its start every page is slow.
    #[arg(long, env, value_parser = humantime::parse_duration, default_value = "0s")]
    pub cold_for: Duration,
    /// How long a slow page takes; four are made at a time.
    #[arg(long, env, value_parser = humantime::parse_duration, default_value = "200ms")]
    pub cold_cost: Duration,
    /// The PostgreSQL that slow pages need. Without it they only take their time.
    #[arg(long, env)]
    pub database_url: Option<String>,
    /// How long it goes on after SIGTERM.
    #[arg(long, env, value_parser = humantime::parse_duration, default_value = "0s")]
    pub end_after: Duration,
    /// What its pages say of themselves.
    #[arg(long, env, default_value = "v1")]
    pub release: String,
}

struct App {
    character: Character,
    began: Instant,
    pool: Semaphore,
    /// Pages that are still slow.
    cold: AtomicU32,
    wedged: AtomicBool,
}

type Answer = Response<Full<Bytes>>;

/// Slow pages at a time.
const POOL: usize = 4;

/// The most memory that a request may ask it to take, in MiB.
const MOST_MEMORY: usize = 1024;

/// Serves when its time has come, and until dropped.
pub async fn serve(address: SocketAddr, character: Character) -> io::Result<Infallible> {
    sleep(character.listen_after).await;
    let listener = TcpListener::bind(address).await?;
    tracing::info!(%address, "listening");
    let app = Arc::new(App {
        cold: AtomicU32::new(character.cold_requests),
        character,
        began: Instant::now(),
        pool: Semaphore::new(POOL),
        wedged: AtomicBool::new(false),
    });
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        while connections.try_join_next().is_some() {}
        let app = Arc::clone(&app);
        connections.spawn(async move {
            let service = service_fn(|request| app.answer(request));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

// === impl App ===

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, Infallible> {
        if self.wedged.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let path = request.uri().path().to_owned();
        let mut segments = path.split('/').skip(1);
        let (verb, amount) = (segments.next(), segments.next());
        let amount = amount.and_then(|amount| amount.parse().ok());
        let answer = match (request.method(), verb, amount) {
            (&Method::GET, Some("live" | "ready"), _) => text("yes\n".to_owned()),
            (&Method::GET, Some("page"), _) => self.page().await,
            (&Method::GET, Some("echo"), _) => echo(request),
            (&Method::GET, Some("burn"), Some(ms)) => burn(Duration::from_millis(ms)).await,
            (&Method::POST, Some("wedge"), _) => {
                self.wedged.store(true, Ordering::SeqCst);
                text("wedged\n".to_owned())
            }
            (&Method::POST, Some("take"), Some(mebibytes)) => take(mebibytes),
            (&Method::POST, Some("crash"), _) => std::process::exit(1),
            _ => status(StatusCode::NOT_FOUND),
        };
        Ok(answer)
    }

    async fn page(&self) -> Answer {
        if let Err(error) = self.warm_up().await {
            tracing::warn!(%error, "a page failed");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        text(format!("a page of {}\n", self.character.release))
    }

    fn is_cold(&self) -> bool {
        let is_new = self.began.elapsed() < self.character.cold_for;
        is_new || self.cold.load(Ordering::SeqCst) > 0
    }

    /// What a page costs while the app is cold.
    async fn warm_up(&self) -> Result<(), tokio_postgres::Error> {
        if !self.is_cold() {
            return Ok(());
        }
        let _permit = self.pool.acquire().await.expect("the pool is never closed");
        if !self.is_cold() {
            return Ok(());
        }
        match &self.character.database_url {
            None => sleep(self.character.cold_cost).await,
            Some(url) => query(url, self.character.cold_cost).await?,
        }
        let less = |cold: u32| cold.checked_sub(1);
        let _ = self
            .cold
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        Ok(())
    }
}

async fn query(url: &str, cost: Duration) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    // Ends with its client.
    tokio::spawn(connection);
    let seconds = cost.as_secs_f64();
    client
        .batch_execute(&format!("SELECT pg_sleep({seconds})"))
        .await
}

/// Takes the connection and sends back what comes, to its end.
fn echo(request: Request<Incoming>) -> Answer {
    tokio::spawn(async move {
        let Ok(stream) = hyper::upgrade::on(request).await else {
            return;
        };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(stream));
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    });
    let mut answer = status(StatusCode::SWITCHING_PROTOCOLS);
    let websocket = HeaderValue::from_static("websocket");
    answer.headers_mut().insert(header::UPGRADE, websocket);
    let upgrade = HeaderValue::from_static("upgrade");
    answer.headers_mut().insert(header::CONNECTION, upgrade);
    answer
}

/// Keeps a core busy.
async fn burn(duration: Duration) -> Answer {
    let burnt = spawn_blocking(move || {
        let began = Instant::now();
        let mut rounds = 0_u64;
        while began.elapsed() < duration {
            rounds = std::hint::black_box(rounds + 1);
        }
        rounds
    });
    text(format!("{} rounds\n", burnt.await.unwrap_or_default()))
}

/// Takes memory and never gives it back.
fn take(mebibytes: u64) -> Answer {
    let bytes = usize::try_from(mebibytes)
        .unwrap_or(MOST_MEMORY)
        .min(MOST_MEMORY)
        << 20;
    // Not zeroes: those the kernel would not hand out before they are written.
    std::mem::forget(std::hint::black_box(vec![1_u8; bytes]));
    text("taken\n".to_owned())
}

fn text(text: String) -> Answer {
    Response::new(Full::new(Bytes::from(text)))
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = status;
    answer
}
