//! An audit of a large cluster: how long it takes, and how much memory. What it finds is counted, so that a quick audit
//! that looks at nothing would show.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::support::{checkout, control_plane::ControlPlane};

/// Unless `PORTCULLIS_BENCH_WORKLOADS` says otherwise.
const WORKLOADS: usize = 20_000;

/// For each two workloads: one reads two of them, the other three.
const SECRETS_OF_TWO: usize = 5;

const NAMESPACES: usize = 100;

/// Requests at once that fill the cluster.
const FILLING: usize = 64;

/// Starts a control plane, fills it, audits it, and stops it.
pub async fn measure() {
    let count = env::var("PORTCULLIS_BENCH_WORKLOADS").ok();
    let count = count
        .and_then(|text| text.parse().ok())
        .unwrap_or(WORKLOADS);
    let plane = ControlPlane::start();
    let kubeconfig = plane.kubeconfig("admin");
    fill(kubeconfig, count).await;

    println!("| audit | time | CPU s | peak memory | output |");
    println!("| --- | --- | --- | --- | --- |");
    for arguments in [&["-o", "json"][..], &["--would-deny"], &["-o", "sarif"]] {
        run(kubeconfig, arguments, plane.folder());
    }
    plane.stop();
}

async fn fill(kubeconfig: &Path, workloads: usize) {
    let config = Kubeconfig::read_from(kubeconfig).expect("the control plane wrote it");
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await;
    let client = Client::try_from(config.expect("a kubeconfig")).expect("a client");
    let namespaces = (0..NAMESPACES).map(|number| {
        let metadata = json!({"name": namespace(number)});
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        ("/api/v1/namespaces".to_owned(), object)
    });
    create(&client, namespaces).await;
    let secrets = (0..workloads * SECRETS_OF_TWO / 2).map(|number| {
        let path = format!("/api/v1/namespaces/{}/secrets", namespace(number));
        let metadata = json!({"name": format!("secret-{number}")});
        let data = json!({"token": "x".repeat(32), "url": "y".repeat(64)});
        (path, json!({"metadata": metadata, "stringData": data}))
    });
    create(&client, secrets).await;
    let deployments = (0..workloads).map(|number| {
        let path = format!("/apis/apps/v1/namespaces/{}/deployments", namespace(number));
        (path, deployment(number))
    });
    create(&client, deployments).await;
}

fn namespace(number: usize) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

/// A Deployment of the tests' size; every second one lacks limits and probes. It is paused, so that no controller makes
/// ReplicaSets of it.
fn deployment(number: usize) -> Value {
    let first = number * SECRETS_OF_TWO / 2;
    let last = (number + 1) * SECRETS_OF_TWO / 2;
    // Those of its own namespace: what the number leaves of the namespaces is the same.
    let secrets = (first..last).map(|secret| secret - secret % NAMESPACES + number % NAMESPACES);
    let env = secrets.enumerate().map(|(index, secret)| {
        let source = json!({"secretKeyRef": {"name": format!("secret-{secret}"), "key": "token"}});
        json!({"name": format!("TOKEN_{index}"), "valueFrom": source})
    });
    let mut containers = checkout::containers(2);
    let lacks: &[_] = match number % 2 {
        0 => &["envFrom", "env"],
        _ => &[
            "envFrom",
            "env",
            "resources",
            "readinessProbe",
            "livenessProbe",
        ],
    };
    for container in &mut containers {
        let container = container.as_object_mut().expect("an object");
        for field in lacks {
            container.remove(*field);
        }
    }
    containers[0]["env"] = env.collect();
    let labels = json!({"app": format!("app-{number}")});
    json!({
        "metadata": {"name": format!("app-{number}"), "labels": labels},
        "spec": {
            "paused": true,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    })
}

async fn create(client: &Client, objects: impl Iterator<Item = (String, Value)>) {
    let requests = stream::iter(objects).map(|(path, object)| async move {
        let request = http::Request::post(&path)
            .header("content-type", "application/json")
            .body(object.to_string().into_bytes())
            .expect("a request");
        client.request_text(request).await.expect(&path);
    });
    requests
        .buffer_unordered(FILLING)
        .collect::<Vec<()>>()
        .await;
}

/// One run of the real program, and its row.
fn run(kubeconfig: &Path, arguments: &[&str], folder: &Path) {
    let file = folder.join("audit.out");
    let out = fs::File::create(&file).expect("the folder is ours");
    let begun = Instant::now();
    let mut program = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .arg("audit")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdout(out)
        .stderr(Stdio::inherit())
        .spawn()
        .expect("portcullis starts");
    let (mut peak, mut ticks) = (0, 0);
    let status = loop {
        if let Some(status) = program.try_wait().expect("it was started by us") {
            break status;
        }
        let process = Path::new("/proc").join(program.id().to_string());
        peak = peak.max(peak_kib(&process).unwrap_or_default());
        ticks = ticks.max(cpu_ticks(&process).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = begun.elapsed().as_secs_f64();
    assert_eq!(status.code(), Some(1), "half of them would be refused");
    let size = fs::metadata(&file).expect("it was written").len() as f64;
    println!(
        "| `{}` | {took:.1} s | {:.1} | {:.1} MiB | {:.1} MiB |",
        arguments.join(" "),
        ticks as f64 / 100.0,
        peak as f64 / 1024.0,
        size / 1024.0 / 1024.0,
    );
}

/// `VmHWM` of proc(5).
fn peak_kib(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// User and system time, in hundredths of a second (proc(5), `stat`, fields 14 and 15).
fn cpu_ticks(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}
