//! `failurePolicy: Fail` rests on proof that the API server reaches us, and on nothing else; each test has a control
//! plane of its own, since a proof takes half a minute, and a minute to be taken back.

mod flood;

mod reach;

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    injection::asking,
    installation::launch,
    objects::{bare_spec, deployment, list, sound_spec, workload},
    overlays::issue,
};
use crate::support::{
    balancer::Balancer,
    control_plane::ControlPlane,
    kubectl::Kubectl,
    manifests::{BASE, called_by_url},
    policies::Policies,
    server::{Launch, Server, authorize},
    wait::{at_length, eventually},
};

/// A proof takes seven rounds: six, and 30 s. Who is not proved after these never was on the way to it.
const MORE_ROUNDS_THAN_A_PROOF: u64 = 8;

const ENTRIES: [&str; 3] = [
    "validate.portcullis.dev",
    "inject.portcullis.dev",
    "inject-by-namespace.portcullis.dev",
];

/// What a self-check can tell.
const OUTCOMES: [&str; 4] = ["proved", "unreachable", "let_through", "unknown"];

/// A control plane with our manifests on it, and how to start servers there.
struct Rig {
    plane: ControlPlane,
    admin: Kubectl,
    manifests: Vec<Value>,
    launch: Launch,
}

// === impl Rig ===

impl Rig {
    fn new(settings: &str) -> Self {
        Self::on(ControlPlane::start(), settings, |launch| launch.port)
    }

    /// The API server calls us at this port.
    fn on(plane: ControlPlane, settings: &str, port: impl FnOnce(&Launch) -> u16) -> Self {
        let admin = plane.kubectl("admin");
        let launch = launch(&plane);
        fs::write(&launch.settings, settings).expect("the folder is ours");
        let manifests = called_by_url(&admin, BASE, port(&launch));
        admin.apply(&list(manifests.clone())).ok();
        authorize(&plane, &launch);
        Self {
            plane,
            admin,
            manifests,
            launch,
        }
    }

    /// Waits until `validate`, `inject` and `inject-by-namespace` say this.
    fn await_policies(&self, expected: [&str; 3]) {
        at_length(&format!("{expected:?}"), || {
            let policies = self.policies();
            policies.are(expected).then_some(()).ok_or_else(|| {
                let log = fs::read_to_string(&self.launch.log).unwrap_or_default();
                format!("{policies:?}: {log}")
            })
        });
    }

    fn policies(&self) -> Policies {
        Policies::of(&self.admin)
    }

    /// Changes whenever somebody writes to either configuration.
    fn versions(&self) -> String {
        let kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration";
        let words =
            format!("get {kinds} portcullis -o jsonpath={{.items[*].metadata.resourceVersion}}");
        self.admin.call(&words).ok()
    }

    /// The ready replicas that the Service of a cluster with nodes would have.
    fn ready(&self, replicas: &[&Launch]) {
        let endpoint = |(number, launch): (usize, &&Launch)| {
            json!({
                "addresses": [format!("10.1.0.{}", number + 1)],
                "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": launch.replica(), "namespace": "portcullis-system"},
            })
        };
        let endpoints: Vec<_> = replicas.iter().enumerate().map(endpoint).collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "portcullis-by-hand", "namespace": "portcullis-system",
                "labels": {
                    "kubernetes.io/service-name": "portcullis",
                    "endpointslice.kubernetes.io/managed-by": "the-test",
                },
            },
            "endpoints": endpoints, "ports": [{"name": "https", "port": 8443, "protocol": "TCP"}],
        });
        self.admin.apply(&slice.to_string()).ok();
    }

    /// Writes `caBundle` of one entry, as who injects it does.
    fn trust(&self, kind: &str, entry: u32, pem: &str) {
        let bundle = format!("/webhooks/{entry}/clientConfig/caBundle");
        let patch = json!([{"op": "add", "path": bundle, "value": STANDARD.encode(pem)}]);
        let patch = patch.to_string();
        let kind = format!("{kind}webhookconfiguration");
        let arguments = ["patch", &kind, "portcullis", "--type=json", "-p", &patch];
        self.admin.call_with(&arguments, None).ok();
    }

    /// A user's Deployment that breaks every rule, as a dry run: what became of it.
    fn bare(&self) -> Result<String, String> {
        let bare = deployment("bare", bare_spec()).to_string();
        let answer = self.admin.feed("create --dry-run=server -f -", &bare);
        answer.success_output()
    }
}

/// Waits for so many more self-checks of an entry with this outcome.
fn await_checks(server: &Server, entry: &str, outcome: &str, more: u64) {
    let goal = checks(server, entry, outcome) + more;
    at_length(&format!("{more} more {outcome} of {entry}"), || {
        let now = checks(server, entry, outcome);
        (now >= goal).then_some(()).ok_or_else(|| now.to_string())
    });
}

/// Waits for so many more rounds, whatever came of them.
fn await_rounds(server: &Server, more: u64) {
    let rounds = || {
        let outcomes = OUTCOMES.map(|outcome| checks(server, ENTRIES[0], outcome));
        outcomes.iter().sum::<u64>()
    };
    let goal = rounds() + more;
    at_length(&format!("{more} more rounds"), || {
        let now = rounds();
        (now >= goal).then_some(()).ok_or_else(|| now.to_string())
    });
}

fn checks(server: &Server, entry: &str, outcome: &str) -> u64 {
    server.metric(&format!(
        "portcullis_webhook_self_checks_total{{entry=\"{entry}\",outcome=\"{outcome}\"}}"
    ))
}

#[test]
fn a_proof_rests_on_no_rule_and_replicas_share_it_without_a_fight() {
    // All rules only warn, so none of them refuses a self-check.
    let rig = Rig::new("enforce: warn\n");
    let one = rig.launch.start();
    eventually("the entries to be open", || rig.bare());
    assert!(
        rig.policies().are(["Ignore"; 3]),
        "before there is any proof: {:?}",
        rig.policies()
    );
    rig.await_policies(["Fail"; 3]);
    for entry in ENTRIES {
        let proved = checks(&one, entry, "proved");
        assert!(proved >= 6, "{entry} after {proved}");
    }
    let policies = rig.policies();
    for name in ["patch", "inject-preferred", "inject-preferred-by-namespace"] {
        let policy = policies.entry(&format!("{name}.portcullis.dev"));
        assert_eq!(policy, "Ignore", "{name} only helps");
    }

    // Somebody takes our fields away, and we are told.
    let nothing = r#"[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"},{"op":"remove","path":"/webhooks/0/rules"}]"#;
    for kind in ["validating", "mutating"] {
        let kind = format!("{kind}webhookconfiguration");
        let arguments = ["patch", &kind, "portcullis", "--type=json", "-p", nothing];
        rig.admin.call_with(&arguments, None).ok();
    }
    rig.await_policies(["Fail"; 3]);

    let other = rig.launch.another("other");
    let two = hand_over(&rig, one, &other);
    let two = die_and_come_back(&rig, two, &other);

    // It leaves as the last one.
    rig.ready(&[&other]);
    two.stop();
    let policies = rig.policies();
    assert!(policies.are(["Ignore", "Fail", "Fail"]), "{policies:?}");
    eventually("nobody to wait for us", || rig.bare());
    rig.plane.stop();
}

/// Another replica comes, and looks without writing; then the first leaves in good order.
fn hand_over(rig: &Rig, one: Server, other: &Launch) -> Server {
    rig.ready(&[&rig.launch, other]);
    let before = rig.versions();
    let two = other.start();
    eventually("the other to have looked", || {
        (two.metric("portcullis_webhook_registrations_total") >= 2)
            .then_some(())
            .ok_or_else(String::new)
    });
    await_checks(&one, ENTRIES[0], "proved", 3);
    let idle = OUTCOMES.map(|outcome| checks(&two, ENTRIES[0], outcome));
    assert_eq!(idle, [0; 4], "one proves, and it is not this one");
    let manifests = list(rig.manifests.clone());
    assert_eq!(rig.admin.feed("diff -f -", &manifests).ok(), "");
    assert_eq!(rig.versions(), before);

    // The first leaves in good order. It is not the last, so nothing is taken back by anybody.
    one.stop();
    let calls = |launch: &Launch| {
        let at = |port: u16| format!("https://127.0.0.1:{port}/");
        manifests.replace(&at(rig.launch.port), &at(launch.port))
    };
    rig.admin.apply(&calls(other)).ok();
    await_checks(&two, ENTRIES[0], "proved", 1);
    assert!(rig.policies().are(["Fail"; 3]), "{:?}", rig.policies());
    two
}

/// A replica that is alone dies: what users make is refused, pods that demand a gate wait, and those that prefer one start.
fn die_and_come_back(rig: &Rig, two: Server, other: &Launch) -> Server {
    for (name, demand) in [("must", "enabled"), ("would", "preferred")] {
        let object = asking(deployment(name, sound_spec()), demand);
        rig.admin.apply(&object.to_string()).ok();
    }
    two.kill();
    let refusal = rig.bare().expect_err("nobody judges it");
    let words = r#"failed calling webhook "validate.portcullis.dev""#;
    assert!(refusal.contains(words), "{refusal}");
    for name in ["must", "would"] {
        let scale = format!("scale deployment {name} --replicas=1");
        rig.admin.call(&scale).ok();
    }
    let pods = |app: &str| {
        let words = format!("get pods -l app={app} -o jsonpath={{.items[*].spec}}");
        rig.admin.call(&words).ok()
    };
    let made = eventually("a pod that only prefers a gate", || {
        Some(pods("would"))
            .filter(|made| !made.is_empty())
            .ok_or_else(String::new)
    });
    assert!(!made.contains("portcullis-gate"), "{made}");
    eventually("a pod that demands one to be held back", || {
        let events =
            "get events --field-selector reason=FailedCreate -o jsonpath={.items[*].message}";
        let said = rig.admin.call(events).ok();
        let held = said.contains(r#"failed calling webhook "inject.portcullis.dev""#);
        held.then_some(()).ok_or(said)
    });
    assert_eq!(pods("must"), "");

    // It comes back, finds Fail, and leaves it at that; what waited gets its gate.
    let two = other.start();
    at_length("the pod that waited", || {
        let made = pods("must");
        made.contains("portcullis-gate").then_some(()).ok_or(made)
    });
    assert!(rig.policies().are(["Fail"; 3]), "{:?}", rig.policies());
    two
}

#[test]
fn nothing_proves_an_entry_but_its_own_refusal_and_broken_tls_takes_it_back() {
    let rig = Rig::new("");
    let (authority, pair) = issue(rig.plane.folder());
    let other_folder = rig.plane.folder().join("other");
    fs::create_dir(&other_folder).expect("the folder is ours");
    let (other_authority, _) = issue(&other_folder);
    let launch = Launch {
        certificate: Some(pair), // so that caBundle is ours to write
        ..rig.launch.clone()
    };
    let server = launch.start();

    by_quota_and_authority(&rig, &server, [&authority, &other_authority]);
    by_rights_and_somebody_else(&rig, &server, &authority);
    rig.await_policies(["Fail"; 3]);

    // For a minute the API server can't make sense of our certificate.
    for (kind, entry) in [("validating", 0), ("mutating", 1), ("mutating", 2)] {
        rig.trust(kind, entry, &other_authority);
    }
    eventually("a broken chain to hold people up", || match rig.bare() {
        Err(refusal) if refusal.contains("x509") => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    rig.await_policies(["Ignore", "Fail", "Fail"]);
    eventually("them to go on", || rig.bare());
    server.stop();
    rig.plane.stop();
}

/// A quota denies one check, since nobody asks its entry; another's authority stands in the bundle of the second entry.
/// The third is proved all the same: each has a proof of its own.
fn by_quota_and_authority(rig: &Rig, server: &Server, [authority, other]: [&str; 2]) {
    let guard = "label namespace portcullis-self-check portcullis.dev/enforce";
    rig.admin.call(&format!("{guard}=none")).ok();
    rig.trust("validating", 0, authority);
    rig.trust("mutating", 1, other);
    rig.trust("mutating", 2, authority);
    rig.await_policies(["Ignore", "Ignore", "Fail"]);
    for entry in &ENTRIES[..2] {
        let told = OUTCOMES.map(|outcome| checks(server, entry, outcome));
        assert!(
            told[0] == 0 && told[2] >= 6,
            "{entry} was only let through: {told:?}"
        );
    }
}

/// The API server refuses for want of rights; and somebody else's webhook refuses first.
fn by_rights_and_somebody_else(rig: &Rig, server: &Server, authority: &str) {
    // An RBAC refusal: nothing comes as far as we are.
    rig.admin
        .call("label namespace portcullis-self-check portcullis.dev/enforce-")
        .ok();
    rig.trust("mutating", 1, authority);
    let binding = "rolebinding portcullis --namespace portcullis-self-check";
    rig.admin.call(&format!("delete {binding}")).ok();
    await_checks(server, ENTRIES[0], "unknown", MORE_ROUNDS_THAN_A_PROOF);
    assert!(
        rig.policies().are(["Ignore", "Ignore", "Fail"]),
        "{:?}",
        rig.policies()
    );

    // Somebody else's webhook refuses first, in our very words: it calls our server.
    let somebody = somebody_else(rig.launch.port, authority);
    rig.admin.apply(&somebody.to_string()).ok();
    let mut pod = workload("Pod", "as-a-self-check", sound_spec());
    let nonce = "0".repeat(32);
    pod["metadata"]["namespace"] = json!("portcullis-self-check");
    pod["metadata"]["annotations"]["portcullis.dev/self-check"] =
        json!(format!("inject.portcullis.dev/{nonce}"));
    eventually("somebody else to refuse", || {
        let answer = rig
            .admin
            .feed("create --dry-run=server -f -", &pod.to_string());
        let by_them = answer.stderr.contains("inject.somebody.else");
        let in_our_words = answer
            .stderr
            .contains(&format!("self-check {nonce} answered by"));
        (by_them && in_our_words)
            .then_some(())
            .ok_or(answer.stdout + &answer.stderr)
    });
    let proved = ENTRIES.map(|entry| checks(server, entry, "proved"));
    rig.admin.apply(&list(rig.manifests.clone())).ok(); // the RoleBinding is back
    await_checks(server, ENTRIES[0], "unknown", MORE_ROUNDS_THAN_A_PROOF);
    assert!(
        rig.policies().are(["Ignore", "Ignore", "Fail"]),
        "{:?}",
        rig.policies()
    );
    let now = ENTRIES.map(|entry| checks(server, entry, "proved"));
    assert_eq!(now, proved, "not by somebody else's mouth");
    let delete = "delete mutatingwebhookconfiguration before-ours";
    rig.admin.call(delete).ok();
}

/// Another's webhooks, which come before ours by their name and call our server.
fn somebody_else(port: u16, authority: &str) -> Value {
    let somebody_s = |name: &str, path: &str| {
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            // A call of theirs that fails must not let ours be asked.
            "failurePolicy": "Fail",
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "clientConfig": {
                "url": format!("https://127.0.0.1:{port}{path}"), "caBundle": STANDARD.encode(authority),
            },
        })
    };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "before-ours"},
        "webhooks": [
            somebody_s("validate.somebody.else", "/validate"),
            somebody_s("inject.somebody.else", "/inject"),
        ],
    })
}

#[test]
fn one_bad_replica_of_two_is_enough() {
    let balancer = Balancer::start();
    let rig = Rig::on(ControlPlane::start(), "", |_| balancer.port);
    let (good, bad) = (rig.launch.clone(), rig.launch.another("other"));
    let (_, pair) = issue(rig.plane.folder());
    let bad = Launch {
        certificate: Some(pair), // of an authority that nobody trusts
        ..bad
    };
    // Each half the time, and not in step with the calls of a round.
    let both = [
        &good, &bad, &bad, &good, &good, &bad, &good, &bad, &bad, &good, &bad,
    ]
    .map(|one| one.port);
    balancer.list(&both);
    rig.ready(&[&good, &bad]);
    let server = good.start(); // the first holds the Lease
    eventually("the Lease to be the first's", || {
        let holder =
            "get lease portcullis --namespace portcullis-system -o jsonpath={.spec.holderIdentity}";
        let holder = rig.admin.call(holder).success_output()?;
        holder
            .starts_with(&good.replica())
            .then_some(())
            .ok_or(holder)
    });
    let second = bad.start();
    await_rounds(&server, 2 * MORE_ROUNDS_THAN_A_PROOF);
    assert!(checks(&server, ENTRIES[0], "proved") > 0, "by the good one");
    assert!(rig.policies().are(["Ignore"; 3]), "{:?}", rig.policies());

    balancer.list(&[good.port]);
    rig.ready(&[&good]);
    rig.await_policies(["Fail"; 3]);

    balancer.list(&both);
    rig.ready(&[&good, &bad]);
    rig.await_policies(["Ignore", "Fail", "Fail"]);
    assert!(
        checks(&server, ENTRIES[0], "proved") > 8,
        "though the other answered all the while"
    );
    drop(second);
    server.stop();
    rig.plane.stop();
}

#[test]
fn without_its_namespace_or_the_right_to_the_lease_it_works_on_and_proves_nothing() {
    let rig = Rig::new("");
    let delete = "delete namespace portcullis-self-check";
    rig.admin.call(delete).ok();
    let server = rig.launch.start();
    await_checks(&server, ENTRIES[0], "unknown", MORE_ROUNDS_THAN_A_PROOF);
    let judged = || match rig.bare() {
        Err(refusal) if refusal.contains("memory-limit") => Ok(()),
        answer => Err(format!("{answer:?}")),
    };
    assert_eq!(judged(), Ok(()), "it judges as before");
    assert!(rig.policies().are(["Ignore"; 3]), "{:?}", rig.policies());
    let said = fs::read_to_string(&rig.launch.log).expect("its log");
    let doubts = said.matches("not proved").count();
    assert_eq!(doubts, ENTRIES.len(), "once for each entry: {said}");
    assert!(
        said.contains("namespace \\\"portcullis-self-check\\\""),
        "{said}"
    );
    server.stop();

    // As after an upgrade of the image alone, with the roles of an older release.
    rig.admin
        .call("delete role portcullis --namespace portcullis-system")
        .ok();
    let secrets = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "portcullis", "namespace": "portcullis-system"},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "get", "update"]}],
    });
    rig.admin.apply(&secrets.to_string()).ok();
    let rules = r#"[{"op":"remove","path":"/webhooks/0/rules"}]"#;
    let arguments = [
        "patch",
        "validatingwebhookconfiguration",
        "portcullis",
        "--type=json",
        "-p",
        rules,
    ];
    rig.admin.call_with(&arguments, None).ok();
    let server = rig.launch.start();
    eventually("it to register and to judge", judged);
    assert!(rig.policies().are(["Ignore"; 3]), "{:?}", rig.policies());
    let said = fs::read_to_string(&rig.launch.log).expect("its log");
    assert_eq!(said.matches("no right to the Lease").count(), 1, "{said}");
    server.stop();
    rig.plane.stop();
}
