//! Our certificates change under a constant stream of reviews, each over a new handshake, and none is lost: the API
//! server reaches one replica by the validating configuration and another by the mutating one.

use std::{fs, path::PathBuf, thread, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::Instant};

use super::{
    forwarder::Forwarder, installation::launch, lifecycle::Ground, objects::list, reviews::Reviews,
};
use crate::support::{
    clock::Clock,
    manifests::{BASE, called_by_url},
    server::{Launch, Server, authorize},
    wait::eventually,
};

/// Each replica has looked at its clock twice in this time: every 10 s, the answer may take as long.
const TWO_LOOKS: Duration = Duration::from_secs(30);

/// Where the authorities are kept.
const SECRET: &str = "secret portcullis-ca --namespace portcullis-system";

/// Two replicas, and what is between them and the API server.
struct Stage {
    ground: Ground,
    runtime: Runtime,
    manifests: Vec<Value>,
    launches: [Launch; 2],
    replicas: Vec<Server>,
    forwarders: [Forwarder; 2],
}

// === impl Stage ===

impl Stage {
    /// Everything but the replicas.
    fn set() -> Self {
        let ground = Ground::new();
        let runtime = Runtime::new().expect("threads are to be had");
        let one = launch(&ground.plane);
        let two = one.another("two");
        let forwarders = [&one, &two].map(|to| Forwarder::to(to.port, runtime.handle()));
        let mut manifests = called_by_url(&ground.admin, BASE, forwarders[0].port);
        let [validating, mutating] = forwarders.each_ref().map(|it| format!(":{}/", it.port));
        for object in &mut manifests {
            if object["kind"] == "MutatingWebhookConfiguration" {
                let text = object.to_string().replace(&validating, &mutating);
                *object = serde_json::from_str(&text).expect("it is JSON still");
            }
        }
        ground.apply(&manifests);
        authorize(&ground.plane, &one);
        Self {
            ground,
            runtime,
            manifests,
            launches: [one, two],
            replicas: Vec::new(),
            forwarders,
        }
    }

    /// Both replicas, started at the same moment.
    fn start(&mut self) {
        self.replicas = start(self.launches.each_ref());
        let reviews = self.reviews();
        reviews.await_judged(4);
        reviews.end();
    }

    fn begin() -> Self {
        let mut stage = Self::set();
        stage.start();
        stage
    }

    fn reviews(&self) -> Reviews {
        Reviews::begin(
            self.runtime.handle(),
            self.ground.admin.kubeconfig(),
            "default",
            self.forwarders.to_vec(),
        )
    }

    fn stop(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.stop();
        }
    }

    fn end(mut self) {
        self.stop();
        let all = list(self.manifests.clone());
        let answer = self
            .ground
            .admin
            .feed("delete --ignore-not-found -f -", &all);
        answer.ok();
    }

    fn call(&self, words: &str) -> String {
        self.ground.admin.call(words).ok()
    }

    /// The Secret, or why there is none.
    fn secret(&self) -> Result<Value, String> {
        let answer = self.ground.admin.call(&format!("get {SECRET} -o json"));
        let printed = answer.success_output()?;
        serde_json::from_str(&printed).map_err(|error| error.to_string())
    }

    fn data(&self, field: &str) -> String {
        let secret = self.secret().expect("it is there");
        let text = secret["data"][field].as_str();
        text.unwrap_or_default().to_owned()
    }

    /// Waits, for as long as a rotation may take, until the Secret has this field.
    fn await_field(&self, field: &str) {
        let field = field.replace('.', r"\.");
        self.call(&format!(
            "wait --for=jsonpath={{.data.{field}}} {SECRET} --timeout=180s"
        ));
    }

    /// What each entry of both configurations trusts.
    fn bundles(&self) -> Vec<Vec<u8>> {
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let printed = self.call(&format!("get {kinds} -o json"));
        let list: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
        let items = list["items"].as_array().expect("a list has items");
        let entries = items
            .iter()
            .flat_map(|item| item["webhooks"].as_array().expect("a list"));
        let bundle = |entry: &Value| {
            let text = entry["clientConfig"]["caBundle"].as_str();
            certificates(text.unwrap_or_default())
        };
        entries.map(bundle).map(|it| it.concat()).collect()
    }

    /// Waits until all entries trust these certificates (the base64 of a PEM each), and no others.
    fn await_bundles(&self, of: &[&str]) {
        let mut wanted: Vec<_> = of.iter().flat_map(|text| certificates(text)).collect();
        wanted.sort();
        let wanted = wanted.concat();
        eventually("every entry's bundle", || {
            let bundles = self.bundles();
            let all = bundles.iter().all(|bundle| *bundle == wanted);
            all.then_some(()).ok_or_else(|| format!("{of:?}"))
        });
    }

    /// A way to the API server that can be shut, and the kubeconfig that takes it.
    fn way_to_the_api_server(&self) -> (Forwarder, PathBuf) {
        let path = &self.launches[0].kubeconfig;
        let text = fs::read_to_string(path).expect("it was written");
        let mut config: Value = serde_json::from_str(&text).expect("as JSON");
        let server = &mut config["clusters"][0]["cluster"]["server"];
        let url = server.as_str().expect("it names a server").to_owned();
        let (host, port) = url.rsplit_once(':').expect("with a port");
        let port = port.parse().expect("which is a number");
        let forwarder = Forwarder::to(port, self.runtime.handle());
        *server = json!(format!("{host}:{}", forwarder.port));
        let path = path.with_extension("forwarded");
        fs::write(&path, config.to_string()).expect("the folder is ours");
        (forwarder, path)
    }

    /// Waits until each replica has served a second certificate since it started.
    fn await_second_leaves(&self) {
        for which in [0, 1] {
            eventually("a second leaf", || {
                let log = self.log(which);
                let served = log.matches("serving a new certificate").count();
                (served == 2)
                    .then_some(())
                    .ok_or_else(|| served.to_string())
            });
        }
    }

    fn log(&self, which: usize) -> String {
        fs::read_to_string(&self.launches[which].log).expect("it writes one")
    }
}

/// Servers that start at the same moment.
fn start<const N: usize>(launches: [&Launch; N]) -> Vec<Server> {
    thread::scope(|scope| {
        let starting = launches.map(|launch| scope.spawn(|| launch.start()));
        let started = starting.map(|server| server.join().expect("it starts"));
        started.into_iter().collect()
    })
}

/// DER of the certificates in the base64 of a PEM text, in order.
fn certificates(base64: &str) -> Vec<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let pem = BASE64_STANDARD.decode(base64).expect("it is base64");
    let certificates = CertificateDer::pem_slice_iter(&pem).map(|it| it.expect("it is PEM"));
    certificates.map(|der| der.to_vec()).collect()
}

/// An authority whose life ended so many days ago, as the Secret would hold it.
fn expired_secret() -> Value {
    let day = Duration::from_secs(24 * 60 * 60);
    let now = std::time::SystemTime::now();
    let key = KeyPair::generate().expect("keys can be made");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_before = (now - day * 400).into();
    params.not_after = (now - day * 35).into();
    let certificate = params.self_signed(&key).expect("it signs itself");
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "portcullis-ca", "namespace": "portcullis-system"},
        "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()},
    })
}

/// The commands of the README that this sentence leads to.
fn command(of: &str) -> String {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = fs::read_to_string(readme).expect("the README is there");
    let line = readme
        .lines()
        .find(|line| line.contains(of))
        .expect("the README says how");
    let (_, command) = line.split_once("`kubectl ").expect("a command");
    let (words, _) = command.split_once('`').expect("its end");
    words.to_owned()
}

#[test]
fn a_rotation_that_is_asked_for_loses_no_review() {
    let stage = Stage::begin();
    let first = stage.data("tls.crt");
    let reviews = stage.reviews();

    stage.call(&command("portcullis.dev/rotate"));
    stage.await_field("next.key");
    let next = stage.data("next.crt");
    assert_eq!(stage.data("tls.crt"), first, "the first one signs on");
    stage.await_bundles(&[&first, &next]);
    stage.await_field("previous.crt");
    assert_eq!(stage.data("tls.crt"), next);
    stage.await_bundles(&[&first, &next]);
    stage.await_second_leaves();

    // The longest leaf, without its week.
    stage.call(&format!(
        "annotate {SECRET} --overwrite portcullis.dev/previous-until=2026-01-01T00:00:00Z"
    ));
    stage.await_bundles(&[&next]);
    assert_eq!(stage.data("previous.crt"), "");
    reviews.pass(50);
    let tally = reviews.end();
    println!("a rotation: {tally}");
    tally.assert_none_lost("a rotation");
    stage.end();
}

#[test]
fn a_secret_that_is_deleted_while_others_start_loses_no_review() {
    let stage = Stage::begin();
    let first = stage.data("tls.crt");
    let reviews = stage.reviews();

    stage.call(&format!("delete {SECRET}"));
    eventually("the Secret", || stage.secret());
    assert_eq!(stage.data("tls.crt"), first, "it is put back");
    reviews.pass(50);

    // Two more come upon there being none, and are first: they know of no authority.
    let more = [
        stage.launches[0].another("three"),
        stage.launches[0].another("four"),
    ];
    stage.call(&format!("delete {SECRET}"));
    let others = start(more.each_ref());
    let current = stage.data("tls.crt");
    for bundle in stage.bundles() {
        let trusts = |text: &str| {
            let certificate = &certificates(text)[0];
            bundle
                .windows(certificate.len())
                .any(|part| part == certificate)
        };
        assert!(trusts(&first) && trusts(&current));
    }
    reviews.pass(50);
    for server in others {
        server.stop();
    }
    let tally = reviews.end();
    println!("two deletions of the Secret: {tally}");
    tally.assert_none_lost("two deletions of the Secret");
    stage.end();
}

#[test]
fn an_expired_authority_is_replaced_by_whoever_starts_and_loses_no_review() {
    // Both come upon it.
    let mut stage = Stage::set();
    let put = |stage: &Stage| {
        let expired = expired_secret();
        stage.ground.admin.apply(&expired.to_string()).ok();
        // Not what is read a moment later: who serves may have replaced it by then.
        let certificate = expired["stringData"]["tls.crt"].as_str();
        BASE64_STANDARD.encode(certificate.expect("PEM"))
    };
    let expired = put(&stage);
    stage.start();
    let good = stage.data("tls.crt");
    assert_ne!(good, expired);
    let reviews = stage.reviews();
    reviews.pass(50);

    // A third one does, while the first two serve.
    let third = stage.launches[0].another("three");
    let expired = put(&stage);
    let started = third.start();
    eventually("another authority", || {
        let now = stage.data("tls.crt");
        (now != expired).then_some(()).ok_or(now)
    });
    reviews.pass(500);
    started.stop();
    let tally = reviews.end();
    println!("an expired authority: {tally}");
    tally.assert_none_lost("an expired authority");
    stage.end();
}

#[test]
fn clocks_that_are_off_by_400_days_lose_no_review() {
    let mut stage = Stage::set();
    let clocks = [Clock::new(), Clock::new()];
    for (launch, clock) in stage.launches.iter_mut().zip(&clocks) {
        launch.envs = clock.envs();
    }
    stage.start();
    let authority = stage.data("tls.crt");
    let reviews = stage.reviews();
    for jumps in [["+400d", "-400d"], ["-400d", "+400d"]] {
        for (clock, jump) in clocks.iter().zip(jumps) {
            clock.set(jump);
        }
        reviews.go_on_for(TWO_LOOKS);
    }
    let tally = reviews.end();
    println!("jumps of the clocks: {tally}");
    tally.assert_none_lost("jumps of the clocks");

    // They start with it.
    stage.stop();
    stage.start();
    let reviews = stage.reviews();
    reviews.go_on_for(TWO_LOOKS);
    let tally = reviews.end();
    println!("a start with wrong clocks: {tally}");
    tally.assert_none_lost("a start with wrong clocks");
    assert_eq!(
        stage.data("tls.crt"),
        authority,
        "it is good by the right clock"
    );
    stage.end();
}

#[test]
fn a_leaf_that_is_renewed_without_an_api_server_loses_no_review() {
    let mut stage = Stage::set();
    let clock = Clock::new();
    let (forwarder, kubeconfig) = stage.way_to_the_api_server();
    for launch in &mut stage.launches {
        launch.kubeconfig.clone_from(&kubeconfig);
        launch.envs = clock.envs();
    }
    stage.start();
    let reviews = stage.reviews();
    forwarder.shut(true);
    clock.set("+6d");
    stage.await_second_leaves();
    reviews.pass(50);
    forwarder.shut(false);
    reviews.pass(50);
    let tally = reviews.end();
    println!("a leaf's renewal: {tally}");
    tally.assert_none_lost("a leaf's renewal");
    stage.end();
}

#[test]
fn a_bundle_that_somebody_overwrites_is_repaired_in_seconds() {
    let stage = Stage::begin();
    let good = stage.data("tls.crt");
    let foreign = expired_secret();
    let foreign = foreign["stringData"]["tls.crt"].as_str().expect("PEM");
    let patch = |entry: u8| {
        let path = format!("/webhooks/{entry}/clientConfig/caBundle");
        json!([{"op": "replace", "path": path, "value": BASE64_STANDARD.encode(foreign)}])
    };
    let reviews = stage.reviews();
    let overwritten = Instant::now();
    // Those that the reviews come by.
    for (kind, entry) in [
        ("validatingwebhookconfiguration", 0),
        ("mutatingwebhookconfiguration", 1),
    ] {
        let patch = patch(entry).to_string();
        let words = ["patch", kind, "portcullis", "--type=json", "-p", &patch];
        stage.ground.admin.call_with(&words, None).ok();
    }
    stage.await_bundles(&[&good]);
    let repaired = overwritten.elapsed();
    reviews.pass(50);
    let tally = reviews.end();
    let after = tally
        .lost
        .last()
        .map(|it| it.at.duration_since(overwritten));
    println!(
        "an overwritten bundle: {tally}, the last after {after:?}, repaired after {repaired:?}"
    );
    assert!(tally.judged > 20);
    assert!(repaired < Duration::from_secs(20), "{repaired:?}");
    // The API server's own watch has the last word.
    assert!(after.is_none_or(|after| after < repaired + Duration::from_secs(5)));
    stage.end();
}
