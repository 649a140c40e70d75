//! File descriptors that the gate needs for bytes on their way, and what it does without.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use super::harness::{Gate, PATIENCE};

#[tokio::test]
async fn connections_that_broke_off_leave_no_file_descriptors() {
    /// What the gate keeps for later use, 8 pipes, and the connection of who asks for its status.
    const KEPT: usize = 17;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let app = listener.local_addr().unwrap().port();
    tokio::spawn(mirror(listener));
    let gate = Gate::start(app, r#""protocol": "tcp""#);
    gate.reaches("open").await;
    let before = gate.descriptors("");
    let block = vec![b'x'; 64 * 1024];
    for round in 0..3 {
        let mut clients = Vec::new();
        for _ in 0..100 {
            let mut client = connect(&gate).await;
            // Nobody reads what comes back, so that it stays in the gate's pipes.
            let filled = async { while client.write_all(&block).await.is_ok() {} };
            assert!(timeout(Duration::from_millis(5), filled).await.is_err());
            clients.push(client);
        }
        if round % 2 == 0 {
            for client in &clients {
                client.set_zero_linger().unwrap();
            }
        }
        drop(clients);
        gate.shows("no connection", |status| {
            status["traffic"]["connections"] == 0
        })
        .await;
        let after = gate.descriptors("");
        assert!(after <= before + KEPT, "{before} before, {after} after");
    }
}

#[tokio::test]
async fn bytes_pass_when_no_descriptor_is_left_for_a_pipe() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let app = listener.local_addr().unwrap().port();
    let (whole, mut received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let whole = whole.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).await.unwrap();
                whole.send(bytes).unwrap();
            });
        }
    });
    let gate = Gate::start(app, r#""protocol": "tcp""#);
    gate.reaches("open").await;
    let mut client = connect(&gate).await;
    gate.shows("a tunnel", |status| status["traffic"]["streams"] == 1)
        .await;
    let pipes = gate.descriptors("pipe:");
    gate.limit_descriptors(3).await;
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    client.write_all(&sent).await.unwrap();
    client.shutdown().await.unwrap();
    let got = timeout(PATIENCE, async {
        loop {
            // The gate's own looks at the port send nothing.
            match received.recv().await.unwrap() {
                bytes if bytes.is_empty() => {}
                bytes => return bytes,
            }
        }
    });
    assert!(got.await.unwrap() == sent, "other bytes came");
    assert_eq!(gate.descriptors("pipe:"), pipes);
}

/// An app that sends back everything, and ends when its client does.
async fn mirror(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
    }
}

/// A connection; a `tcp` port listens a moment after the opening.
async fn connect(gate: &Gate) -> TcpStream {
    let connect = async {
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", gate.listen)).await {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, connect).await.unwrap()
}
