//! Messages made to be read in two ways: none of them reaches the app.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use portcullis::gate::switch::Passage;
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::harness::{App, Client, Gate, PATIENCE, until};

/// Requests that must not reach the app, and how they are answered.
const HOSTILE: [(&str, &str); 32] = [
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 38\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 38\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\n Content-Length: 0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "501",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
        "400",
    ),
    (
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    ("GET / HTTP/1.1\nHost: a\n\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "400"),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n",
        "400",
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: y\rz\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "400"),
    ("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", "400"),
    ("GET /\r\n\r\n", "400"),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "405"),
    ("\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n", "400"),
];

/// First lines: right, odd and hostile.
const LINES: &[&str] = &[
    "GET / HTTP/1.1",
    "POST /a?b HTTP/1.1",
    "POST / HTTP/1.0",
    "PUT http://b/c HTTP/1.1",
    "GET  / HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "POST / HTTP/1.1 ",
    "HEAD / HTTP/1.1",
];

/// Fields of the same three kinds.
const FIELDS: &[&str] = &[
    "Host: a",
    "Host: b",
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 5, 5",
    "content-length:\t5",
    "Content-Length : 5",
    "Content-Length: 0x5",
    "Content_Length: 5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: identity",
    "transfer-encoding: chunked ",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: xchunked",
    "X: y",
    "Transfer-Encoding\t: chunked",
    " folded: x",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: content-length, transfer-encoding, host",
    "Upgrade: websocket",
    "TE: trailers",
    "X: y\0",
    "Expect: 100-continue",
    "Connection: upgrade",
    "X-Portcullis-Reason: z",
];

/// What may follow a head.
const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n",
    "0\r\n\r\n",
    "5\nhello\n0\n\n",
    "5\r\nhelloX0\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "10000000000000000\r\n",
    "-5\r\nhello\r\n0\r\n\r\n",
];

/// An app that notes every byte, and answers as often as a message might have ended.
fn recorder(app: App) -> (SocketAddr, Arc<Mutex<Vec<Vec<u8>>>>) {
    let (address, connections) = (app.address, Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let stream = app.accept_or_wait().await;
            let place = {
                let mut seen = seen.lock().unwrap();
                seen.push(Vec::new());
                seen.len() - 1
            };
            tokio::spawn(record(stream, Arc::clone(&seen), place));
        }
    });
    (address, connections)
}

async fn record(mut stream: TcpStream, seen: Arc<Mutex<Vec<Vec<u8>>>>, place: usize) {
    let (mut answered, mut part) = (0, [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut part).await {
        let whole = {
            let mut seen = seen.lock().unwrap();
            seen[place].extend_from_slice(&part[..read]);
            messages(
                &seen[place],
                Reader {
                    length_first: false,
                    bare_lf: false,
                },
            )
            .1
        };
        while answered < whole {
            answered += 1;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

/// One of the ways in which servers are known to read.
#[derive(Debug, Clone, Copy)]
struct Reader {
    /// `Content-Length` beats `Transfer-Encoding`.
    length_first: bool,
    /// A lone LF ends a line.
    bare_lf: bool,
}

/// A head, and a body or what is there of it.
type Message = (Vec<u8>, Vec<u8>);

/// The messages that this reader sees, and how many of them are whole.
fn messages(mut bytes: &[u8], reader: Reader) -> (Vec<Message>, usize) {
    let (mut all, mut whole) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let Some((head, rest)) = head(bytes, reader) else {
            all.push((bytes.to_vec(), Vec::new()));
            break;
        };
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
        };
        let length = field("content-length:").and_then(|value| value.parse::<usize>().ok());
        let chunked = field("transfer-encoding:").is_some_and(|value| value.contains("chunked"));
        let body = if chunked && !(reader.length_first && length.is_some()) {
            chunks(rest, reader)
        } else {
            let length = length.unwrap_or(0);
            (length <= rest.len()).then_some(length)
        };
        let Some(body) = body else {
            all.push((head.to_vec(), rest.to_vec()));
            break;
        };
        all.push((head.to_vec(), rest[..body].to_vec()));
        whole += 1;
        bytes = &rest[body..];
    }
    (all, whole)
}

fn head(bytes: &[u8], reader: Reader) -> Option<(&[u8], &[u8])> {
    let end = |needle: &[u8]| {
        bytes
            .windows(needle.len())
            .position(|window| window == needle)
            .map(|at| at + needle.len())
    };
    let strict = end(b"\r\n\r\n");
    let lenient = if reader.bare_lf {
        end(b"\n\n").or_else(|| end(b"\n\r\n"))
    } else {
        None
    };
    let at = [strict, lenient].into_iter().flatten().min()?;
    Some(bytes.split_at(at))
}

/// The length of a chunked body.
fn chunks(bytes: &[u8], reader: Reader) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = bytes[at..].iter().position(|byte| *byte == b'\n')?;
        let text = String::from_utf8_lossy(&bytes[at..at + line]);
        if !reader.bare_lf && !text.ends_with('\r') {
            return None;
        }
        let digits: String = text.chars().take_while(char::is_ascii_hexdigit).collect();
        let size = usize::from_str_radix(&digits, 16).ok()?;
        at += line + 1;
        if size == 0 {
            return head(&bytes[at - 2..], reader).map(|(trailers, _)| at - 2 + trailers.len());
        }
        at = at.checked_add(size)?.checked_add(2)?;
        if at > bytes.len() {
            return None;
        }
    }
}

/// Sends bytes and their end; everything that comes back.
async fn exchange(gate: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(gate).await;
    // The gate may have closed already.
    let _ = client.stream.write_all(bytes).await;
    let _ = client.stream.shutdown().await;
    let mut answer = Vec::new();
    let read = client.stream.read_to_end(&mut answer);
    let _ = timeout(PATIENCE, read)
        .await
        .expect("the gate neither answers nor closes");
    answer
}

#[tokio::test]
async fn hostile_requests_get_400_and_close() {
    let (app, seen) = recorder(App::listen().await);
    let gate = Gate::open(app);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for (request, status) in HOSTILE {
        let answer = exchange(gate.address, format!("{request}{smuggled}").as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request:?}: {answer}"
        );
        assert_eq!(
            answer.matches("HTTP/1.1 ").count(),
            1,
            "{request:?}: more than one answer"
        );
        assert!(
            answer.contains("Connection: close\r\n"),
            "{request:?}: {answer}"
        );
    }
    let seen = seen.lock().unwrap().concat();
    assert!(!String::from_utf8_lossy(&seen).contains("smuggled"));
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_431() {
    let (app, seen) = recorder(App::listen().await);
    let gate = Gate::open(app);
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(40_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(150)
    );
    for head in [long, many] {
        let answer = exchange(gate.address, head.as_bytes()).await;
        assert!(
            answer.starts_with(b"HTTP/1.1 431 "),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn odd_but_valid_requests_pass() {
    let (app, _) = recorder(App::listen().await);
    let gate = Gate::open(app);
    for request in [
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost:a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET /%00%zz?a=|{}^\"<> HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "VERSION-CONTROL / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\ty\t\r\nEmpty:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n003;q=\"x\"\r\nabc\r\n0;last\r\nT: 1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let answer = exchange(gate.address, request.as_bytes()).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{request:?}: {answer}");
    }
}

/// Requests made of parts that are each right, odd or hostile, some of them damaged.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let line = select(LINES);
    let field = select(FIELDS);
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")];
    let body = select(BODIES);
    let request = (
        line,
        prop::collection::vec((field, end.clone()), 0..5),
        end,
        any::<bool>(),
        body,
    )
        .prop_map(|(line, fields, end, host, body)| {
            let mut request = format!("{line}{end}");
            if host {
                request += "Host: a\r\n";
            }
            for (field, end) in fields {
                request += field;
                request += end;
            }
            request + end + body
        });
    let damage = prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(request, 1..4), damage).prop_map(|(requests, damage)| {
        let mut bytes = requests.concat().into_bytes();
        if let Some((place, byte)) = damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        bytes
    })
}

/// What must hold for everything that reaches the app, whatever was sent.
fn is_read_alike(reached: &[u8]) -> Result<(), TestCaseError> {
    let readers = [(false, false), (false, true), (true, false), (true, true)].map(
        |(length_first, bare_lf)| {
            messages(
                reached,
                Reader {
                    length_first,
                    bare_lf,
                },
            )
        },
    );
    for other in &readers[1..] {
        prop_assert_eq!(&readers[0], other);
    }
    for (head, _) in &readers[0].0 {
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let count = |name: &str| text.matches(&format!("\n{name}:")).count();
        prop_assert_eq!(count("host"), 1, "{}", text);
        prop_assert!(
            count("content-length") + count("transfer-encoding") <= 1,
            "{}",
            text
        );
        prop_assert!(
            !text.contains("x-portcullis") && !text.contains('\0'),
            "{}",
            text
        );
        prop_assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "{}", text);
        for line in text
            .lines()
            .filter(|line| line.starts_with("transfer-encoding"))
        {
            prop_assert_eq!(line, "transfer-encoding: chunked");
        }
    }
    Ok(())
}

#[test]
fn whatever_is_sent_all_readers_read_the_same_of_what_arrives() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let (gate, seen) = runtime.block_on(async {
        let (app, seen) = recorder(App::listen().await);
        (Gate::open(app), seen)
    });
    let mut runner = TestRunner::new(Config {
        cases: 500,
        ..Config::default()
    });
    let tried = runner.run(&requests(), |bytes| {
        runtime.block_on(async {
            exchange(gate.address, &bytes).await;
            until("done", || gate.traffic.connections.value() == 0).await;
        });
        for reached in seen.lock().unwrap().drain(..) {
            is_read_alike(&reached)?;
        }
        Ok(())
    });
    assert_eq!(gate.switch.passage(), Passage::Open);
    tried.unwrap();
}
