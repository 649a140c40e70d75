//! Open-loop load over HTTP/1.1, with nothing but the standard library: `gate.sh` compiles it by itself.
//!
//! ```text
//! open rate ADDRESS PATH CONNECTIONS PER_SECOND SECONDS   prints p50, p99 and p99.9 in ms
//! open keep ADDRESS PATH CONNECTIONS                      one request each, then keeps them open
//! open streams ADDRESS PATH STREAMS                       the same with streams of HTTP/2
//! ```
//!
//! A request is sent when it is due, however long those before it took. One that finds its connection
//! busy is late, and its lateness counts; the oversleeping of this program's own threads does not.
#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_in_result,
    reason = "a program for measuring, not for serving"
)]

use std::{
    env,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Streams on a connection of HTTP/2: fewer than the gate allows.
const STREAMS: usize = 250;

fn main() {
    let words: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["rate", address, path, connections, per_second, seconds] => {
            let length = Duration::from_secs(number(seconds));
            let pause = Duration::from_secs(number(connections)) / number(per_second) as u32;
            let mut taken = rate(address, path, number(connections), pause, length);
            taken.sort_unstable();
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| quantile(&taken, part));
            println!("{p50:.3} {p99:.3} {p999:.3}");
        }
        ["keep", address, path, connections] => {
            let count = number(connections);
            keep((0..count).map(|_| Connection::asking(address, path)));
        }
        ["streams", address, path, streams] => {
            let ids: Vec<_> = (0..number(streams) as u32)
                .map(|place| 2 * place + 1)
                .collect();
            keep(
                ids.chunks(STREAMS)
                    .map(|ids| held_streams(address, path, ids)),
            );
        }
        // `cargo test --all-targets` runs it like this.
        _ => println!("see the first lines of the source"),
    }
}

/// How long each request took. Each connection sends one every `pause`, evenly apart from the others'. Before, each sends
/// one that does not count: the gate connects to its app at a connection's first request, where other proxies have
/// connections left from who was there before.
fn rate(
    address: &str,
    path: &str,
    connections: u64,
    pause: Duration,
    length: Duration,
) -> Vec<Duration> {
    let begun = Instant::now() + Duration::from_millis(200); // all have asked once by then
    thread::scope(|scope| {
        let start = |place| {
            move || {
                let mut connection = Connection::asking(address, path);
                connection.read_answer();
                let mut due = begun + pause.mul_f64(place as f64 / connections as f64);
                let mut taken = Vec::new();
                while due < begun + length {
                    let wait = due.saturating_duration_since(Instant::now());
                    thread::sleep(wait);
                    let sent = if wait.is_zero() { due } else { Instant::now() };
                    connection.ask();
                    connection.read_answer();
                    taken.push(sent.elapsed());
                    due += pause;
                }
                taken
            }
        };
        let threads: Vec<_> = (0..connections)
            .map(|place| scope.spawn(start(place)))
            .collect();
        let taken = threads.into_iter().flat_map(thread::ScopedJoinHandle::join);
        taken.flatten().collect()
    })
}

/// Keeps connections until it is killed.
fn keep<T>(connections: impl Iterator<Item = T>) {
    let kept: Vec<_> = connections.collect();
    println!("{}", kept.len());
    loop {
        thread::park();
    }
}

/// A connection of HTTP/2 (RFC 9113) with a `GET` on each of these streams.
fn held_streams(address: &str, path: &str, ids: &[u32]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]); // SETTINGS without any
    // RFC 7541: GET and http by their places in the static table, two literals with names of it.
    let mut head = vec![0x82, 0x86, 0x04, path.len() as u8];
    head.extend(path.as_bytes());
    head.extend(b"\x01\x05bench");
    for id in ids {
        bytes.extend([0, 0, head.len() as u8, 1, 0x5]); // HEADERS with END_STREAM and END_HEADERS
        bytes.extend(id.to_be_bytes());
        bytes.extend(&head);
    }
    stream.write_all(&bytes).expect("the server reads");
    stream
}

/// The latency that this part of the requests did not exceed, in milliseconds.
fn quantile(taken: &[Duration], part: f64) -> f64 {
    let place = (part * taken.len().saturating_sub(1) as f64).round() as usize;
    taken
        .get(place)
        .map_or(f64::NAN, |taken| taken.as_secs_f64() * 1e3)
}

fn number(word: &str) -> u64 {
    word.parse().expect("a whole number")
}

/// A kept connection and its memory.
struct Connection {
    stream: TcpStream,
    request: String,
    bytes: Vec<u8>,
}

// === impl Connection ===

impl Connection {
    fn asking(address: &str, path: &str) -> Self {
        let mut connection = Self::open(address, path);
        connection.ask();
        connection
    }

    fn open(address: &str, path: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Self {
            stream,
            request: format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"),
            bytes: Vec::new(),
        }
    }

    fn ask(&mut self) {
        let request = self.request.as_bytes();
        self.stream.write_all(request).expect("the server reads");
    }

    /// Reads a response that has a `Content-Length`.
    fn read_answer(&mut self) {
        self.bytes.clear();
        let mut block = vec![0; 64 * 1024];
        let mut length = None;
        while length.is_none_or(|length| self.bytes.len() < length) {
            let read = self.stream.read(&mut block).expect("the server answers");
            assert!(read > 0, "the server closed within an answer");
            self.bytes
                .extend_from_slice(block.get(..read).unwrap_or_default());
            length = length.or_else(|| whole_length(&self.bytes));
        }
    }
}

/// Length of the head and the body that it announces, when the head is whole.
fn whole_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(bytes.get(..head)?).expect("a head of ASCII");
    assert!(text.starts_with("HTTP/1.1 200"), "not answered: {text}");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim())
    });
    Some(head + number(length.expect("a length")) as usize)
}
