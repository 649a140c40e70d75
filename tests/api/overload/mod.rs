//! More than the server can do: a burst, an API server that throttles it or does not answer, and a namespace that goes.

mod burst;

mod upstream;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

use self::{
    burst::{Review, Target},
    upstream::{Mood, Upstream},
};
use super::{
    installation::{Namespace, Session, assert_refused, assert_warned},
    objects::{bare_container, bare_spec, deployment, env_from_secret, spec},
};
use crate::support::{
    server::{Launch, Server},
    wait::eventually,
};

/// What arrives at once.
const REVIEWS: usize = 10_000;

/// Nearly as many as the server accepts (`--max-connections`), and more than an API server has in flight by default
/// (`--max-requests-inflight` and `--max-mutating-requests-inflight`: 600 together).
const CONNECTIONS: usize = 1_000;

/// Nearly the largest body that is read without waiting for its turn.
const BODY: usize = 60 * 1024;

/// As large an object as an API server takes.
const LARGE_BODY: usize = 3 * 1024 * 1024;

/// A Deployment that breaks the rules whatever the cluster says, and asks something of the cluster all the same.
fn asking(namespace: &str) -> Value {
    let mut container = bare_container("app");
    container["env"] = json!([env_from_secret("PASSWORD", "not-there", "password")]);
    let mut deployment = deployment("checkout", spec([container]));
    deployment["metadata"]["namespace"] = namespace.into();
    deployment
}

/// The memory that the Deployment gives a replica.
fn memory_limit(session: &Session) -> u64 {
    let mut objects = session.manifests().iter();
    let deployment = objects.find(|object| object["kind"] == "Deployment");
    let containers =
        &deployment.expect("the base has one")["spec"]["template"]["spec"]["containers"];
    let limit = containers[0]["resources"]["limits"]["memory"].as_str();
    let mib = limit.and_then(|limit| limit.strip_suffix("Mi"));
    mib.and_then(|mib| mib.parse().ok()).expect("so many MiB")
}

fn target(session: &Session, port: u16) -> Target {
    let bundle = "get validatingwebhookconfiguration portcullis -o jsonpath={.webhooks[0].clientConfig.caBundle}";
    Target::new(port, &session.admin().call(bundle).ok())
}

fn shed(server: &Server) -> usize {
    let shed = server.metric("portcullis_webhook_requests_shed_total");
    usize::try_from(shed).expect("fewer than were sent")
}

fn await_idle(server: &Server) {
    eventually("the last review to end", || {
        let busy = server.metric("portcullis_webhook_requests_in_flight");
        (busy == 0).then_some(()).ok_or_else(|| busy.to_string())
    });
}

#[test]
fn ten_thousand_reviews_at_once_are_judged_or_turned_away_within_the_memory_that_there_is() {
    let session = Session::alone();
    let api = Upstream::of(&session.launch().kubeconfig);
    let launch = Launch {
        kubeconfig: api.kubeconfig.clone(),
        ..session.another("burst")
    };
    let server = launch.start();
    let target = target(&session, launch.port);
    let (limit, object) = (memory_limit(&session), asking("default"));
    let small = Review::new(&object, 0);
    let crowd = target.crowd(CONNECTIONS, &small);
    // Each review that is taken waits for the API server, so that all places are taken soon.
    api.is(Mood::Silent);
    let tally = crowd.burst(REVIEWS, &small);
    let (now, most) = (server.resident_mib(), server.peak_mib());
    println!("{tally:?}; {now} MiB, {most} at most");
    assert_eq!(tally.answered(), REVIEWS, "{tally:#?}");
    assert!(tally.shed > 0 && tally.refused > 0, "{tally:?}");
    assert!(
        shed(&server) >= tally.shed,
        "it counts them: {}",
        shed(&server)
    );
    assert!(most < limit, "{most} MiB");

    api.is(Mood::Well);
    await_idle(&server);
    let after = target.crowd(1, &small).burst(100, &small);
    assert_eq!(after.refused, 100, "{after:?}");
    server.stop();
}

#[test]
fn bodies_of_every_size_on_every_connection_fit_into_the_memory_that_there_is() {
    let session = Session::alone();
    let api = Upstream::of(&session.launch().kubeconfig);
    let launch = Launch {
        kubeconfig: api.kubeconfig.clone(),
        ..session.another("bodies")
    };
    let server = launch.start();
    let target = target(&session, launch.port);
    let object = asking("default");
    let [small, medium, large] = [0, BODY, LARGE_BODY].map(|bytes| Review::new(&object, bytes));
    let (most, few) = (
        target.crowd(CONNECTIONS - 20, &small),
        target.crowd(20, &small),
    );
    api.is(Mood::Silent);
    let tallies = thread::scope(|scope| {
        let bursts = [
            // One each: whoever is turned away before his body is read has to dial again.
            scope.spawn(|| most.burst(CONNECTIONS - 20, &medium)),
            scope.spawn(|| few.burst(20, &large)),
        ];
        bursts.map(|burst| burst.join().expect("it ends"))
    });
    println!("{tallies:?}; {} MiB at most", server.peak_mib());
    for (tally, sent) in tallies.iter().zip([CONNECTIONS - 20, 20]) {
        assert_eq!(tally.answered(), sent, "{tally:#?}");
    }
    assert!(
        server.peak_mib() < memory_limit(&session),
        "{} MiB",
        server.peak_mib()
    );
    server.stop();
}

/// Our server of the session, asking an API server of moods, until [`Moody::mend`].
struct Moody<'s> {
    session: &'s Session,
    api: Upstream,
    server: Server,
}

impl<'s> Moody<'s> {
    fn new(session: &'s Session) -> Self {
        session.stop_server();
        let api = Upstream::of(&session.launch().kubeconfig);
        let launch = Launch {
            kubeconfig: api.kubeconfig.clone(),
            ..session.launch().clone()
        };
        let server = launch.start();
        session.await_enforcement();
        Self {
            session,
            api,
            server,
        }
    }

    fn mend(self) {
        self.server.stop();
        self.session.start_server();
        self.session.await_enforcement();
    }
}

/// Told when this goes, whatever happens before.
struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_review_that_is_turned_away_is_sent_again_and_then_failure_policy_decides() {
    let session = Session::alone();
    let [lenient, strict] = ["lenient", "strict"].map(|topic| session.namespace(topic));
    let moody = Moody::new(&session);
    // Our entry, as it is where it is proved.
    let ours = "get validatingwebhookconfiguration portcullis -o json";
    let mut closed: Value = serde_json::from_str(&session.admin().call(ours).ok()).expect("JSON");
    closed["metadata"] = json!({"name": "closed"});
    closed["webhooks"][0]["failurePolicy"] = "Fail".into();
    closed["webhooks"][0]["namespaceSelector"] =
        json!({"matchLabels": {"kubernetes.io/metadata.name": strict.name}});
    session.admin().apply(&closed.to_string()).ok();
    let bare = deployment("bare", bare_spec()).to_string();
    let create = "create --dry-run=server -f -";
    for namespace in [&lenient, &strict] {
        assert_refused(
            namespace.developer.feed(create, &bare).refusal(),
            "memory-limit",
        );
    }

    let target = target(&session, session.launch().port);
    let small = Review::new(&asking("default"), 0);
    let crowd = target.crowd(CONNECTIONS, &small);
    let stop = Arc::new(AtomicBool::new(false));
    moody.api.is(Mood::Silent);
    thread::scope(|scope| {
        scope.spawn(|| crowd.flood(&small, &stop));
        let _end = Raised(&stop);
        eventually("all places to be taken", || {
            let shed = shed(&moody.server);
            (shed > 100).then_some(()).ok_or_else(|| shed.to_string())
        });
        let before = shed(&moody.server);
        // On a busy machine a place may be free for once, and then a rule refuses.
        eventually(
            "a review to be turned away until the end, and let in",
            || lenient.developer.feed(create, &bare).success(),
        );
        eventually("a review to be turned away until the end", || {
            let refused = strict.developer.feed(create, &bare).refusal();
            let words = r#"failed calling webhook "validate.portcullis.dev""#;
            refused.contains(words).then_some(()).ok_or(refused)
        });
        assert!(
            shed(&moody.server) > before,
            "the places were not taken any more"
        );
    });
    moody.api.is(Mood::Well);
    await_idle(&moody.server);
    for namespace in [&lenient, &strict] {
        assert_refused(
            namespace.developer.feed(create, &bare).refusal(),
            "memory-limit",
        );
    }
    session
        .admin()
        .call("delete validatingwebhookconfiguration closed")
        .ok();
    moody.mend();
}

#[test]
fn an_api_server_that_throttles_us_is_not_pressed_and_what_was_known_of_a_namespace_counts() {
    const REVIEWS: usize = 10;
    let session = Session::alone();
    let gentle = session.labelled_namespace("gentle", &[("portcullis.dev/enforce", "warn")]);
    let [strict, unseen] = ["strict", "unseen"].map(|topic| session.namespace(topic));
    let moody = Moody::new(&session);
    let create = |namespace: &Namespace| {
        let object = asking(&namespace.name).to_string();
        let create = "create --dry-run=server -f -";
        namespace.developer.feed(create, &object)
    };
    assert_warned(create(&gentle), "memory-limit");
    assert_refused(create(&strict).refusal(), "memory-limit");

    moody.api.is(Mood::Throttling);
    let before = moody.api.throttled();
    for _ in 0..REVIEWS {
        assert_warned(create(&gentle), "memory-limit");
        let refused = assert_refused(create(&strict).refusal(), "memory-limit");
        assert!(!refused.contains("are unknown"), "{refused}");
        // Of the third nobody knows how it is labelled, and failurePolicy is Fail. What its LimitRanges might fill in is
        // only warned about.
        let refused = assert_refused(create(&unseen).refusal(), "liveness-probe");
        let told =
            "are unknown, so it is judged as one without labels: the API server answered 429";
        assert!(refused.contains(told), "{refused}");
    }
    let asked = moody.api.throttled() - before;
    // Labels, LimitRanges and the Secret, once each.
    assert!(asked <= 3 * 3 * REVIEWS, "{asked}");
    let ready = moody.server.fetch("/ready").expect("it answers");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");

    moody.api.is(Mood::Well);
    let refused = assert_refused(create(&unseen).refusal(), "memory-limit");
    assert!(!refused.contains("are unknown"), "{refused}");
    moody.mend();
}

#[test]
fn a_namespace_that_is_deleted_goes_whatever_its_workloads_break() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("going", &[("portcullis.dev/enforce", "none")]);
    let mut old = deployment("old", bare_spec());
    old["spec"]["replicas"] = json!(1);
    old["metadata"]["finalizers"] = json!(["example.com/hold"]);
    namespace.developer.apply(&old.to_string()).ok();
    namespace.enforce("deny");
    let delete = format!("delete namespace {} --wait=false", namespace.name);
    namespace.admin.call(&delete).ok();
    eventually("the namespace to be going", || {
        let pods = namespace.admin.call("get pods -o name").success_output()?;
        pods.is_empty().then_some(()).ok_or(pods)
    });
    // Nobody asks us of a creation there: the API server refuses it first.
    let new = deployment("new", bare_spec()).to_string();
    let refused = namespace.admin.feed("create -f -", &new).refusal();
    assert!(
        refused.contains("because it is being terminated"),
        "{refused}"
    );
    // What the rules say of it must not hold up who takes its finalizer away.
    let release = r#"patch deployment old -p {"metadata":{"finalizers":null}}"#;
    namespace.admin.call(release).ok();
    eventually("the namespace to be gone", || {
        let get = format!("get namespace {} --ignore-not-found", namespace.name);
        let left = session.admin().call(&get).success_output()?;
        left.is_empty().then_some(()).ok_or(left)
    });
}
