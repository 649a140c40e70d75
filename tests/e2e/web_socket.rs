//! An app that takes its time to stop, and a client that does not let go.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
};

use serde_json::json;

use super::{pod::APP, stage::Stage};
use crate::support::{kubectl::Kubectl, wait::eventually};

const UPGRADE: &str =
    "GET /echo HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A port of loopback that leads to a Service. It ends when dropped.
struct Forward {
    kubectl: Child,
    address: String,
}

/// A pod that stays to be looked at after its end, until this is dropped.
struct Kept<'a> {
    kubectl: &'a Kubectl,
    name: &'a str,
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_app_that_needs_8_s_to_stop_ends_cleanly_with_a_web_socket_open() {
    let stage = Stage::new("web-socket");
    stage.apply("web-socket/web.yaml");
    stage.rolled_out("web");
    let pod = stage.pods("web").remove(0);
    let _kept = Kept::new(&stage.kubectl, pod.name());
    let forward = Forward::to(&stage, "service/web");
    let mut socket = TcpStream::connect(&forward.address).expect("kubectl listens");
    socket.write_all(UPGRADE.as_bytes()).unwrap();
    let mut answer = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(answer.read_line(&mut head).unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");

    let delete = format!("delete pod {} --wait=false", pod.name());
    stage.kubectl.call(&delete).ok();
    // The drain lets it be for a while yet.
    socket.write_all(b"still here?\n").unwrap();
    let mut echo = String::new();
    answer.read_line(&mut echo).unwrap();
    assert_eq!(echo, "still here?\n");

    let ended = eventually("the app to end", || {
        let pod = pod.again()?;
        let ended = pod.exit_code(APP).clone();
        (!ended.is_null())
            .then_some(ended)
            .ok_or_else(|| "it runs".to_owned())
    });
    assert_eq!(
        ended,
        json!(0),
        "killed by the kubelet, as its grace period was over"
    );
    // Closed or reset: it is over.
    let _ = answer.read_to_end(&mut Vec::new());
}

// === impl Forward ===

impl Forward {
    fn to(stage: &Stage, target: &str) -> Self {
        let mut command = stage.kubectl.command();
        command
            .args(["port-forward", target, ":80"])
            .stdout(Stdio::piped());
        let mut kubectl = command.spawn().expect("kubectl starts");
        let mut line = String::new();
        BufReader::new(kubectl.stdout.as_mut().expect("stdout is piped"))
            .read_line(&mut line)
            .expect("kubectl writes UTF-8");
        let address = line.split(' ').find(|word| word.starts_with("127.0.0.1:"));
        let address = address.expect("kubectl says where it listens").to_owned();
        Self { kubectl, address }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

// === impl Kept ===

impl<'a> Kept<'a> {
    fn new(kubectl: &'a Kubectl, name: &'a str) -> Self {
        let kept = Self { kubectl, name };
        kept.finalizers(r#"["portcullis.dev/e2e"]"#);
        kept
    }

    fn finalizers(&self, list: &str) {
        let patch = format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
        let arguments = ["patch", "pod", self.name, "--type=merge", "--patch", &patch];
        self.kubectl.call_with(&arguments, None).ok();
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.finalizers("null");
    }
}
