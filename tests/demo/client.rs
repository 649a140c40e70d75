//! The client of the demonstration: so many requests a second, whatever becomes of them.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, interval_at, timeout},
};

use crate::app::PAGES;

/// Requests a second.
pub const RATE: u32 = 80;

/// When the client gives a request up.
const PATIENCE: Duration = Duration::from_secs(15);

/// A request that has ended. Times are since the first one was sent.
#[derive(Clone, Copy)]
pub struct Sample {
    pub sent: Duration,
    pub ended: Duration,
    pub good: bool,
}

/// What the client has seen so far.
#[derive(Default)]
pub struct Seen {
    pub sent: u32,
    pub samples: Vec<Sample>,
}

// === impl Sample ===

impl Sample {
    pub fn took(&self) -> Duration {
        self.ended.saturating_sub(self.sent)
    }
}

/// Sends for so many seconds, and waits for the last answer.
pub async fn run(port: u16, seconds: u32, seen: Arc<Mutex<Seen>>) {
    let began = Instant::now();
    let mut ticks = interval_at(began, Duration::from_secs(1) / RATE);
    let mut requests = JoinSet::new();
    for index in 0..RATE * seconds {
        ticks.tick().await;
        let seen = Arc::clone(&seen);
        seen.lock().unwrap().sent += 1;
        requests.spawn(async move {
            let sent = began.elapsed();
            let good = timeout(PATIENCE, get(port, index % PAGES)).await;
            let sample = Sample {
                sent,
                ended: began.elapsed(),
                good: matches!(good, Ok(Ok(true))),
            };
            seen.lock().unwrap().samples.push(sample);
        });
    }
    requests.join_all().await;
}

async fn get(port: u16, page: u32) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET /page/{page} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}
