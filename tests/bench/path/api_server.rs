//! The price of a webhook as a user pays it: the same Deployment, created (dry run) through a real API server over one
//! kept connection, where nobody judges it, where we do, and where a ValidatingAdmissionPolicy does.
//!
//! Each side is a namespace of the same control plane, and a round asks every side once: what disturbs the machine
//! disturbs all three.

use std::time::Duration;

use http::Request;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    load::Latencies,
    support::{
        checkout,
        control_plane::ControlPlane,
        kubectl::Kubectl,
        manifests::{BASE, called_by_url},
        server::{Launch, Server},
        wait::eventually,
    },
};

/// Rounds for each second that another load would last.
const ROUNDS_PER_SECOND: u64 = 30;

/// Rounds that are not counted: facts become cached, connections and caches warm.
const WARM_UP: usize = 30;

/// The label by which a namespace says who judges what is made in it.
const LABEL: &str = "bench";

/// Who judges, how the table calls it, and by what its refusal is known.
const SIDES: [Side; 3] = [
    Side {
        namespace: "nobody",
        name: "nobody",
        mark: None,
    },
    Side {
        namespace: "portcullis",
        name: "Portcullis, every rule",
        mark: Some("validate.portcullis.dev"),
    },
    Side {
        namespace: "policy",
        name: "ValidatingAdmissionPolicy, probes and resources only",
        mark: Some("ValidatingAdmissionPolicy"),
    },
];

struct Side {
    namespace: &'static str,
    name: &'static str,
    mark: Option<&'static str>,
}

/// Starts a control plane, measures on it, prints the table, and stops it.
pub async fn compare(length: Duration) {
    let plane = ControlPlane::start();
    let server = install(&plane);
    let client = client(&plane).await;
    let rounds = usize::try_from(length.as_secs() * ROUNDS_PER_SECOND).unwrap_or(usize::MAX);
    let mut taken = SIDES.map(|_| Vec::with_capacity(rounds));
    for round in 0..WARM_UP + rounds {
        // Who comes first changes, as it pays for what the others before it left behind.
        for turn in 0..SIDES.len() {
            let side = (round + turn) % SIDES.len();
            let latency = create(&client, SIDES[side].namespace).await;
            if round >= WARM_UP {
                taken[side].push(latency);
            }
        }
    }
    print(&taken.map(Latencies::new));
    server.stop();
    plane.stop();
}

/// The table.
fn print(latencies: &[Latencies; 3]) {
    println!("| judged by | requests | p50 | p99 | added at p50 |");
    println!("| --- | --- | --- | --- | --- |");
    let nobody = latencies[0].quantile(0.5);
    for (side, latencies) in SIDES.iter().zip(latencies) {
        let (p50, p99) = (latencies.quantile(0.5), latencies.quantile(0.99));
        let added = match side.mark {
            Some(_) => format!("{:+.2} ms", p50 - nobody),
            None => String::new(),
        };
        println!(
            "| {} | {} | {p50:.2} ms | {p99:.2} ms | {added} |",
            side.name,
            latencies.count()
        );
    }
}

/// How long the API server took to admit the Deployment.
async fn create(client: &Client, namespace: &str) -> Duration {
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments?dryRun=All");
    let request = Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(deployment(namespace).to_string().into_bytes())
        .expect("constant parts");
    let begun = Instant::now();
    let answer = client.request_text(request).await;
    let taken = begun.elapsed();
    answer.expect("a Deployment with nothing to find is admitted");
    taken
}

async fn client(plane: &ControlPlane) -> Client {
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig("admin")).expect("it is a kubeconfig");
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.expect("it names one cluster")).expect("its certificates are sound")
}

/// The three namespaces with what the Deployment refers to, our server, and the policy; each seen at work.
fn install(plane: &ControlPlane) -> Server {
    let admin = plane.kubectl("admin");
    let launch = Launch::on(
        plane,
        plane.kubeconfig("admin").to_owned(),
        "enforce: deny\n",
    );
    let mut objects = called_by_url(&admin, BASE, launch.port);
    for webhook in objects
        .iter_mut()
        .filter_map(|object| object.get_mut("webhooks")?.as_array_mut())
        .flatten()
    {
        webhook["namespaceSelector"] = json!({"matchLabels": {LABEL: "portcullis"}});
    }
    objects.extend(SIDES.iter().flat_map(|side| namespace(side.namespace)));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    admin.apply(&list.to_string()).ok();
    admin.apply(include_str!("policy.yaml")).ok();
    let server = launch.start();
    for side in &SIDES {
        await_judge(&admin, side);
    }
    server
}

/// The API server learns of webhooks, policies and labels by watches, a moment after they are written.
fn await_judge(admin: &Kubectl, side: &Side) {
    let good = deployment(side.namespace);
    let mut bad = good.clone();
    bad["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = Value::Null;
    let create = |object: &Value| admin.feed("create --dry-run=server -f -", &object.to_string());
    eventually("the Deployment to be admitted", || create(&good).success());
    if let Some(mark) = side.mark {
        eventually("a Deployment without a probe to be refused", || {
            let answer = create(&bad);
            if answer.stderr.contains(mark) {
                answer.failure()
            } else {
                Err(answer.stderr)
            }
        });
    }
}

fn deployment(namespace: &str) -> Value {
    let mut object: Value =
        serde_json::from_str(checkout::object().get()).expect("it was JSON before");
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// A namespace, and all that the Deployment refers to.
fn namespace(name: &str) -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {LABEL: name}},
    })];
    for index in 0..5 {
        for (kind, topic) in [
            ("Secret", "secret"),
            ("Secret", "user"),
            ("ConfigMap", "config"),
            ("ConfigMap", "all"),
        ] {
            let data = if kind == "Secret" {
                "dmFsdWU="
            } else {
                "value"
            };
            objects.push(json!({
                "apiVersion": "v1",
                "kind": kind,
                "metadata": {"name": format!("{topic}-{index}"), "namespace": name},
                "data": {"key": data},
            }));
        }
    }
    objects
}
