//! The control socket: how `probe`, `status` and `drain` reach the running gate.
//!
//! One line asks, lines answer, the end of the stream ends the answer. The socket is in a folder
//! that only the gate's container sees, so nobody else in the pod can order a drain.

use std::{
    fmt,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinSet,
    time::timeout,
};

use super::{
    keeper::Desk,
    screen::{self, Screen},
    state::Order,
    status::Status,
};

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// One line: whether the gate is ready, and why.
    Probe,
    /// A page for this terminal.
    Status(Screen),
    /// The same as JSON.
    StatusJson,
    /// Drain, unready at once.
    Drain,
    /// Drain, ready while it accepts.
    DrainDeleted,
}

/// Answers an order to drain at once, before the drain is done.
const ACCEPTED: &str = "draining\n";

/// A gate that does not answer within this time does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections at a time. What is beyond waits in the kernel.
const MAX_CONNECTIONS: usize = 64;

/// The longest request.
const MAX_LINE: u64 = 64;

// === impl Request ===

impl Request {
    const WORDS: [(&'static str, Self); 4] = [
        ("probe", Self::Probe),
        ("status json", Self::StatusJson),
        ("drain", Self::Drain),
        ("drain deleted", Self::DrainDeleted),
    ];

    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        let found = Self::WORDS.iter().find(|(word, _)| *word == line);
        found
            .map(|(_, request)| *request)
            .or_else(|| line.strip_prefix("status ")?.parse().ok().map(Self::Status))
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Status(screen) = self {
            return write!(f, "status {screen}");
        }
        let found = Self::WORDS.iter().find(|(_, request)| request == self);
        f.write_str(found.map_or("", |(word, _)| word))
    }
}

/// Binds the socket in `folder`. Fails with `AddrInUse` when a gate answers there already; a socket
/// left over from one that was killed is replaced.
pub(super) fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = socket(folder);
    if net::UnixStream::connect(&path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: UnixListener, desk: Desk) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased; // those that have ended first: they make room. Both arms are cancel-safe
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let desk = desk.clone();
                    connections.spawn(async move {
                        // Whoever asked and left is told nothing.
                        let _ = answer(stream, &desk).await;
                    });
                }
                // Out of descriptors: the kernel keeps the caller meanwhile.
                Err(_) => tokio::time::sleep(PATIENCE / 10).await,
            },
        }
    }
}

async fn answer(mut stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    let mut lines = tokio::io::BufReader::new(read.take(MAX_LINE));
    timeout(PATIENCE, lines.read_line(&mut line)).await??;
    let Some(request) = Request::parse(&line) else {
        return write.write_all(b"unknown request\n").await;
    };
    let order = match request {
        Request::Probe => {
            let line = format!("{}\n", known(desk).await?.line());
            return write.write_all(line.as_bytes()).await;
        }
        Request::Status(screen) => {
            let page = screen::render(&*known(desk).await?, screen);
            return write.write_all(page.as_bytes()).await;
        }
        Request::StatusJson => {
            let json = serde_json::to_string_pretty(&known(desk).await?)?;
            return write.write_all(format!("{json}\n").as_bytes()).await;
        }
        Request::Drain => Order::Command,
        Request::DrainDeleted => Order::PodDeleted,
    };
    write.write_all(ACCEPTED.as_bytes()).await?;
    let answer: &[u8] = if desk.drain(order).await {
        b"drained\n"
    } else {
        b"too many wait already\n"
    };
    write.write_all(answer).await
}

async fn known(desk: &Desk) -> io::Result<Box<Status>> {
    let status = desk.status().await;
    status.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Asks the gate that runs with `folder`, and returns its whole answer.
///
/// A drain is waited for however long it takes; everything else, and the first word of a drain,
/// must come within a second.
pub fn ask(folder: &Path, request: Request) -> io::Result<String> {
    let mut stream = net::UnixStream::connect(socket(folder))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    if matches!(request, Request::Drain | Request::DrainDeleted) {
        reader.read_line(&mut answer)?;
        if answer != ACCEPTED {
            return Err(io::Error::other("the gate did not accept the drain"));
        }
        answer.clear();
        reader.get_ref().set_read_timeout(None)?;
    }
    reader.read_to_string(&mut answer)?;
    Ok(answer)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("gate.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_read_as_it_is_written() {
        let screen = Screen {
            columns: 132,
            colored: true,
        };
        let words = Request::WORDS.map(|(_, request)| request);
        for request in words.into_iter().chain([Request::Status(screen)]) {
            assert_eq!(Request::parse(&format!("{request}\n")), Some(request));
        }
        assert_eq!(Request::parse("drain everything\n"), None);
    }

    #[tokio::test]
    async fn a_left_over_socket_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = bind(folder.path()).unwrap();
        let taken = bind(folder.path()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        bind(folder.path()).unwrap();
    }
}
