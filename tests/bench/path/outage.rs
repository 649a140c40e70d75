//! What our own start, a new authority of ours and a large cluster cost, on a real API server: how long it takes until
//! `failurePolicy` is Fail, how reviews fare while certificates change, how soon a Secret that was missing counts, and how
//! much memory is in use after many reviews of which no two refer to the same.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::{Client, Error};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    task::{JoinSet, block_in_place},
    time::Instant,
};

use super::{
    load::{Latencies, Target},
    review_of,
    scale::container,
    server,
    support::{
        control_plane::ControlPlane,
        kubectl::Kubectl,
        manifests::{BASE, called_by_url},
        policies::Policies,
        server::{Launch, Server, authorize},
        stream::{client, is_ours, post},
        wait::{at_length, eventually},
    },
};

/// First starts, each of which finds nothing of ours.
const STARTS: usize = 3;

/// Secrets that come after the Deployment that reads them.
const LATE_SECRETS: usize = 200;

/// Creations at a time, while certificates change.
const SENDERS: usize = 8;

/// Secrets of the large cluster; each has two keys.
const SECRETS: usize = 50_000;

/// Requests at once that make them.
const MAKERS: usize = 16;

/// Reviews, each of which refers to a key that no other refers to.
const REVIEWS: usize = 2 * SECRETS;

const NAMESPACE: &str = "shop";

/// A control plane with our manifests on it.
struct Stage {
    plane: ControlPlane,
    admin: Kubectl,
    launch: Launch,
    manifests: String,
}

/// Starts a control plane, measures on it, prints the tables, and stops it.
pub async fn measure(length: Duration) {
    let stage = Stage::set();
    stage.make_namespace();
    let mut server: Option<Server> = None;
    println!("| from the start of a first replica to | fastest of {STARTS} | slowest |");
    println!("| --- | --- | --- |");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        if let Some(before) = server.take() {
            before.stop();
        }
        let (started, took) = block_in_place(|| stage.first_start());
        server = Some(started);
        starts.push(took);
    }
    let server = server.expect("it was started");
    for (place, name) in ["the first refusal", "`Fail`, proved"].iter().enumerate() {
        let taken = Latencies::new(starts.iter().map(|start| start[place]).collect());
        let [fastest, slowest] = [0.0, 1.0].map(|part| taken.quantile(part) / 1e3);
        println!("| {name} | {fastest:.1} s | {slowest:.1} s |");
    }

    let api = client(stage.plane.kubeconfig("admin")).await;
    late_secrets(&api).await;
    println!(
        "\n| creations through the API server, {SENDERS} at a time | answered | a second | p50 | p99 | not judged |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    stage
        .load("nothing else", &api, tokio::time::sleep(length))
        .await;
    let rotation = async { block_in_place(|| stage.rotate()) };
    stage
        .load("a new authority comes into use", &api, rotation)
        .await;
    stage.large_cluster(&api, &server).await;
    block_in_place(|| server.stop());
    stage.plane.stop();
}

// === impl Stage ===

impl Stage {
    fn set() -> Self {
        let plane = ControlPlane::start();
        let admin = plane.kubectl("admin");
        let kubeconfig = plane.folder().join("portcullis.kubeconfig");
        let launch = Launch::on(&plane, kubeconfig, "enforce: deny\n");
        let objects = called_by_url(&admin, BASE, launch.port);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let manifests = list.to_string();
        admin.apply(&manifests).ok();
        authorize(&plane, &launch);
        Self {
            plane,
            admin,
            launch,
            manifests,
        }
    }

    /// A replica that finds no registration and no authority; and how long it took until a Deployment that breaks the
    /// rules was refused, and until all that may be `Fail` was that.
    fn first_start(&self) -> (Server, [Duration; 2]) {
        for object in [
            "validatingwebhookconfiguration portcullis",
            "mutatingwebhookconfiguration portcullis",
            "secret portcullis-ca --namespace portcullis-system",
        ] {
            let delete = format!("delete --ignore-not-found {object}");
            self.admin.call(&delete).ok();
        }
        self.admin.apply(&self.manifests).ok();
        let begun = Instant::now();
        let server = self.launch.start();
        let bare = deployment("bare", &json!({"name": "app", "image": "app:1"})).to_string();
        eventually("a refusal", || {
            let answer = self.admin.feed("create --dry-run=server -f -", &bare);
            is_ours(&answer.stderr).then_some(()).ok_or(answer.stderr)
        });
        let refused = begun.elapsed();
        at_length("Fail", || {
            let policies = Policies::read(&self.admin)?;
            let are_all = policies.are_all("Fail");
            are_all.then_some(()).ok_or_else(|| format!("{policies:?}"))
        });
        (server, [refused, begun.elapsed()])
    }

    fn make_namespace(&self) {
        self.admin
            .call(&format!("create namespace {NAMESPACE}"))
            .ok();
        let account = format!("get serviceaccount default --namespace {NAMESPACE}");
        eventually("its ServiceAccount", || self.admin.call(&account).success());
    }

    /// Has a new authority made, and waits until it is the one that signs.
    fn rotate(&self) {
        let secret = "secret portcullis-ca --namespace portcullis-system";
        let ask = format!("annotate {secret} portcullis.dev/rotate=now");
        self.admin.call(&ask).ok();
        let signs = format!(r"wait --for=jsonpath={{.data.previous\.crt}} {secret} --timeout=240s");
        self.admin.call(&signs).ok();
        eventually("a leaf of it", || {
            let log = fs::read_to_string(&self.launch.log).map_err(|error| error.to_string())?;
            let served = log.matches("serving a new certificate").count();
            (served >= 2)
                .then_some(())
                .ok_or_else(|| served.to_string())
        });
    }

    /// Creates Deployments that break the rules, as dry runs, until `over`; each must be refused by us.
    async fn load(&self, name: &str, api: &Client, over: impl Future<Output = ()>) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut senders = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..SENDERS {
            senders.spawn(send(api.clone(), Arc::clone(&stop)));
        }
        over.await;
        stop.store(true, Ordering::Relaxed);
        let (taken, unjudged): (Vec<_>, Vec<_>) = senders.join_all().await.into_iter().unzip();
        let length = begun.elapsed();
        let latencies = Latencies::new(taken.concat());
        let rate = latencies.count() as f64 / length.as_secs_f64();
        println!(
            "| {name}, {:.0} s | {} | {rate:.0} | {:.1} ms | {:.1} ms | {} |",
            length.as_secs_f64(),
            latencies.count(),
            latencies.quantile(0.5),
            latencies.quantile(0.99),
            unjudged.iter().sum::<usize>(),
        );
    }

    /// Makes the Secrets, and sends reviews straight at the server, on as many connections as an API server keeps.
    async fn large_cluster(&self, api: &Client, server: &Server) {
        println!("\n| memory in use | now | most so far |");
        println!("| --- | --- | --- |");
        let print = |name: String| {
            let (now, most) = (server.resident_mib(), server.peak_mib());
            println!("| {name} | {now} MiB | {most} MiB |");
        };
        print("before".to_owned());
        make_secrets(api).await;
        print(format!("beside {SECRETS} Secrets in the cluster"));
        let found = || {
            server
                .metric("portcullis_webhook_fact_lookups_total{fact=\"secret\",outcome=\"found\"}")
        };
        let before = block_in_place(found);
        let target = Target {
            address: ([127, 0, 0, 1], self.launch.port).into(),
            tls: server::client(self.roots()),
            review: Arc::new(|number| {
                let key = if number < SECRETS { "one" } else { "two" };
                let object = reading(&format!("s{}", number % SECRETS), key);
                review_of(&object).to_string().into()
            }),
        };
        let (latencies, rate) = target.all_of(REVIEWS).await;
        let looked_up = block_in_place(found) - before;
        print(format!(
            "after {REVIEWS} reviews with a reference of their own each, {rate:.0} a second (p99 {:.1} ms), {looked_up} \
             lookups in the API server",
            latencies.quantile(0.99)
        ));
    }

    /// What the API server trusts us by.
    fn roots(&self) -> RootCertStore {
        let bundle = "get validatingwebhookconfiguration portcullis -o jsonpath={.webhooks[0].clientConfig.caBundle}";
        let bundle = BASE64_STANDARD.decode(self.admin.call(bundle).ok());
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&bundle.expect("base64")) {
            roots.add(authority.expect("PEM")).expect("a certificate");
        }
        roots
    }
}

/// Refused creations, one after the other: how long each took, and how many were not refused by us.
async fn send(api: Client, stop: Arc<AtomicBool>) -> (Vec<Duration>, usize) {
    let bare = deployment("bare", &json!({"name": "app", "image": "app:1"}));
    let (mut taken, mut unjudged) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = create(&api, &bare, "?dryRun=All").await;
        taken.push(begun.elapsed());
        unjudged += usize::from(answer.err().is_none_or(|said| !is_ours(&said)));
    }
    (taken, unjudged)
}

/// How soon a Deployment passes after the Secret that it reads has come.
async fn late_secrets(api: &Client) {
    let (mut taken, mut tries) = (Vec::new(), 0);
    for number in 0..LATE_SECRETS {
        let name = format!("late-{number}");
        let mut object = reading(&name, "one");
        object["metadata"]["name"] = name.as_str().into();
        // In earnest: a dry run is only warned.
        let refused = create(api, &object, "").await;
        let refused = refused.expect_err("there is no Secret");
        assert!(refused.contains("secret-reference"), "{refused}");
        make_secret(api, &name).await;
        let come = Instant::now();
        loop {
            tries += 1;
            if create(api, &object, "").await.is_ok() {
                break;
            }
        }
        taken.push(come.elapsed());
    }
    let latencies = Latencies::new(taken);
    println!(
        "\n| from a Secret's creation to its Deployment's, {LATE_SECRETS} times | tries | p50 | p99 |"
    );
    println!("| --- | --- | --- | --- |");
    println!(
        "| refused a moment before | {tries} | {:.1} ms | {:.1} ms |",
        latencies.quantile(0.5),
        latencies.quantile(0.99)
    );
}

/// Creates a Deployment; `Err` with what was said against it.
async fn create(api: &Client, object: &Value, query: &str) -> Result<(), String> {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments{query}");
    match api.request_text(post(&path, object)).await {
        Ok(_) => Ok(()),
        Err(Error::Api(status)) => Err(status.message.clone()),
        Err(error) => panic!("the API server does not answer: {error}"),
    }
}

async fn make_secrets(api: &Client) {
    let mut makers = JoinSet::new();
    for maker in 0..MAKERS {
        let api = api.clone();
        makers.spawn(async move {
            for number in (maker..SECRETS).step_by(MAKERS) {
                make_secret(&api, &format!("s{number}")).await;
            }
        });
    }
    makers.join_all().await;
}

async fn make_secret(api: &Client, name: &str) {
    let path = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
        "stringData": {"one": "a value", "two": "another"},
    });
    let made = api.request_text(post(&path, &secret)).await;
    made.expect("a Secret like any other");
}

/// A Deployment that breaks no rule, if there is this key.
fn reading(secret: &str, key: &str) -> Value {
    let mut app = container();
    let source = json!({"secretKeyRef": {"name": secret, "key": key}});
    app["env"] = json!([{"name": "PASSWORD", "valueFrom": source}]);
    deployment("reading", &app)
}

fn deployment(name: &str, container: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        },
    })
}
