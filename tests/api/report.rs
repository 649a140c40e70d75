//! `portcullis report` on a real cluster: what it writes, and above all what it does not.

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use portcullis::contract::{ADMIN_PORT, GATE_CONTAINER, GATE_LABEL};
use serde_json::{Value, json};

use super::objects::{
    bare_spec, container, deployment, env_from_secret, list, secret, sound_spec, spec, workload,
};
use crate::support::{
    control_plane::ControlPlane,
    kubectl::Kubectl,
    program::{Said, portcullis},
    server::{fetch, free_port, with_token},
    wait::eventually,
};

/// One test at a time: which APIs are served is the cluster's.
static PLANE: LazyLock<Mutex<Cluster>> = LazyLock::new(|| Mutex::new(Cluster::new()));

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The kinds that reports can be of, as `tests/fixtures/crds` has them.
const OPEN_REPORTS: &str = "reports";
const POLICY_REPORTS: &str = "policyreports";

/// A cluster without our server, so that anything can be made; with the rights of `manifests/report`.
struct Cluster {
    admin: Kubectl,
    /// Of the ServiceAccount that ships.
    reporter: PathBuf,
    _plane: ControlPlane,
}

/// A namespace of one test.
struct Shop {
    name: String,
    admin: Kubectl,
}

/// `portcullis report` as it runs in a pod.
struct Replica {
    process: Child,
    admin_port: u16,
}

// === impl Cluster ===

impl Cluster {
    fn new() -> Self {
        let plane = ControlPlane::start();
        let admin = plane.kubectl("admin");
        let namespace = format!("{ROOT}/manifests/base/namespace.yaml");
        admin.call_with(&["apply", "-f", &namespace], None).ok();
        let manifests = format!("{ROOT}/manifests/report");
        admin.call_with(&["apply", "-k", &manifests], None).ok();
        let token =
            admin.call("create token portcullis-report -n portcullis-system --duration 24h");
        let reporter = plane.folder().join("report.kubeconfig");
        let kubeconfig = with_token(plane.kubeconfig("admin"), token.ok().trim());
        fs::write(&reporter, kubeconfig).expect("the folder is ours");
        Self {
            admin,
            reporter,
            _plane: plane,
        }
    }

    fn turn() -> MutexGuard<'static, Self> {
        PLANE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, with these kinds served and no other.
    fn serving(kinds: &[&str]) -> MutexGuard<'static, Self> {
        let cluster = Self::turn();
        for kind in [OPEN_REPORTS, POLICY_REPORTS] {
            cluster.serve(kind, kinds.contains(&kind));
        }
        cluster
    }

    fn serve(&self, kind: &str, wanted: bool) {
        let file = format!("{ROOT}/tests/fixtures/crds/{kind}.json");
        let words: &[&str] = if wanted {
            &["apply", "--server-side", "-f", &file]
        } else {
            &["delete", "--ignore-not-found", "-f", &file]
        };
        self.admin.call_with(words, None).ok();
        let api = match kind {
            OPEN_REPORTS => "/apis/openreports.io/v1alpha1",
            _ => "/apis/wgpolicyk8s.io/v1alpha2",
        };
        eventually("discovery to know of it", || {
            let answer = self.admin.call(&format!("get --raw {api}"));
            let is_served = answer.stdout.contains(kind);
            (is_served == wanted).then_some(()).ok_or(answer.stderr)
        });
        if wanted {
            // Of a kind that is new nothing can be read for a moment.
            eventually("its list", || {
                let list = self.admin.call(&format!("get --raw {api}/{kind}"));
                list.success()
            });
        }
    }

    fn namespace(&self) -> Shop {
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let name = format!("report-{number}");
        self.admin.call(&format!("create namespace {name}")).ok();
        eventually("ServiceAccount default", || {
            let get = format!("get serviceaccount default -n {name}");
            self.admin.call(&get).success()
        });
        let admin = self.admin.in_namespace(&name);
        Shop { name, admin }
    }

    /// The role that ships with `less` in place of `granted`, until the role that is returned is applied.
    fn take_right(&self, granted: &str, less: &str) -> String {
        let file = format!("{ROOT}/manifests/audit/cluster-role.yaml");
        let whole = fs::read_to_string(file).expect("it ships");
        let lame = whole.replace(granted, less);
        assert_ne!(whole, lame);
        self.admin.apply(&lame).ok();
        whole
    }

    /// One audit with the rights that ship.
    fn report(&self, shop: &Shop) -> Said {
        portcullis(&self.reporter, &["report", "--once", "-n", &shop.name])
    }
}

// === impl Shop ===

impl Shop {
    fn apply(&self, objects: impl IntoIterator<Item = Value>) {
        self.admin.apply(&list(objects)).ok();
    }

    fn get(&self, words: &str) -> Value {
        let printed = self.admin.call(&format!("get {words} -o json")).ok();
        serde_json::from_str(&printed).expect("kubectl prints JSON")
    }

    fn report_of(&self, kind: &str) -> Value {
        self.get(&format!("{kind} portcullis"))
    }

    fn has_no_report_of(&self, kind: &str) {
        let found = self.admin.call(&format!("get {kind} -o name")).ok();
        assert_eq!(found, "");
    }

    /// Our Events about this workload.
    fn violations(&self, name: &str) -> Vec<Value> {
        self.events("PolicyViolation", name)
    }

    /// Our Events of this reason about an object of this name.
    fn events(&self, reason: &str, name: &str) -> Vec<Value> {
        let events = self.get("events");
        let events = events["items"].as_array().expect("a list").iter();
        let ours = events.filter(|event| {
            let about = &event["involvedObject"];
            event["source"]["component"] == "portcullis-report"
                && event["reason"] == reason
                && about["name"] == name
        });
        ours.cloned().collect()
    }
}

// === impl Replica ===

impl Replica {
    fn start(cluster: &Cluster, shop: &Shop) -> Self {
        let admin_port = free_port();
        let process = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["report", "-n", &shop.name])
            .arg(format!("--admin-listen=127.0.0.1:{admin_port}"))
            .arg("--kubeconfig")
            .arg(&cluster.reporter)
            .stderr(Stdio::null())
            .spawn()
            .expect("portcullis starts");
        Self {
            process,
            admin_port,
        }
    }

    fn metric(&self, series: &str) -> Result<f64, String> {
        let page = fetch(self.admin_port, "/metrics").map_err(|error| error.to_string())?;
        let line = page.lines().find(|line| line.starts_with(series));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        value.ok_or(page)
    }

    fn has_audited(&self) -> Result<(), String> {
        let at = self.metric("portcullis_audit_last_success_timestamp_seconds")?;
        (at > 0.0).then_some(()).ok_or_else(|| "not yet".to_owned())
    }

    /// As the kubelet ends it.
    fn terminate(mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.expect("kill is a program, too").success());
        let status = self.process.wait().expect("it was started by us");
        status.code()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
}

/// `NAME RULE RESULT` of each.
fn results(report: &Value) -> Vec<String> {
    let results = report["results"].as_array().expect("results").iter();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    results
        .map(|result| {
            let name = text(&result["resources"][0]["name"]);
            let (rule, result) = (text(&result["rule"]), text(&result["result"]));
            format!("{name} {rule} {result}")
        })
        .collect()
}

fn without_memory_limit() -> Value {
    let mut app = container("app");
    app["resources"]["limits"] = json!({"cpu": "100m"});
    spec([app])
}

#[test]
fn what_is_wrong_in_a_namespace_is_one_report_that_is_written_only_when_it_changes() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let shop = cluster.namespace();
    shop.apply([
        deployment("web", without_memory_limit()),
        deployment("sound", sound_spec()),
    ]);
    let said = cluster.report(&shop);
    assert_eq!((said.status, &*said.out), (0, ""), "{}", said.err);
    let first = shop.report_of(OPEN_REPORTS);
    assert_eq!(results(&first), ["web memory-limit fail"], "{first:#}");
    let counts = json!({"pass": 0, "fail": 1, "error": 0, "warn": 0, "skip": 0});
    assert_eq!(first["summary"], counts);
    assert_eq!(first["source"], "portcullis");
    let subject = &first["results"][0]["resources"][0];
    let web = shop.get("deployment web");
    assert_eq!(subject["uid"], web["metadata"]["uid"]);
    assert_eq!(first["results"][0]["properties"]["container"], "app");

    // Another process that remembers nothing finds it as it should be.
    assert_eq!(cluster.report(&shop).status, 0);
    let second = shop.report_of(OPEN_REPORTS);
    assert_eq!(version(&second), version(&first), "not written again");

    // What somebody has changed is put right, and what changes is told.
    let patch = r#"{"summary":{"fail":0}}"#;
    let patch = [
        "patch",
        OPEN_REPORTS,
        "portcullis",
        "--type=merge",
        "-p",
        patch,
    ];
    shop.admin.call_with(&patch, None).ok();
    assert_eq!(cluster.report(&shop).status, 0);
    assert_eq!(shop.report_of(OPEN_REPORTS)["summary"], counts);
    shop.apply([deployment("sound", without_memory_limit())]);
    assert_eq!(cluster.report(&shop).status, 0);
    let expected = ["sound memory-limit fail", "web memory-limit fail"];
    assert_eq!(results(&shop.report_of(OPEN_REPORTS)), expected);

    // Other namespaces' reports are none of its business.
    let elsewhere = cluster.namespace();
    assert_eq!(cluster.report(&elsewhere).status, 0);
    assert_eq!(results(&shop.report_of(OPEN_REPORTS)), expected);
    elsewhere.has_no_report_of(OPEN_REPORTS);

    // Where nothing is judged, and where all is well, there is nothing to say.
    let label = format!("label namespace {} portcullis.dev/enforce=none", shop.name);
    shop.admin.call(&label).ok();
    assert_eq!(cluster.report(&shop).status, 0);
    shop.has_no_report_of(OPEN_REPORTS);
}

#[test]
fn where_only_the_former_api_is_served_it_is_written_and_left_when_the_new_one_comes() {
    let cluster = Cluster::serving(&[POLICY_REPORTS]);
    let shop = cluster.namespace();
    shop.apply([deployment("web", without_memory_limit())]);
    let said = cluster.report(&shop);
    assert_eq!(said.status, 0, "{}", said.err);
    let former = shop.report_of(POLICY_REPORTS);
    assert_eq!(results(&former), ["web memory-limit fail"]);
    assert_eq!(cluster.report(&shop).status, 0);
    let again = shop.report_of(POLICY_REPORTS);
    assert_eq!(version(&again), version(&former), "not written again");

    cluster.serve(OPEN_REPORTS, true);
    let said = cluster.report(&shop);
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(
        results(&shop.report_of(OPEN_REPORTS)),
        ["web memory-limit fail"]
    );
    shop.has_no_report_of(POLICY_REPORTS);
}

#[test]
fn where_no_report_can_be_written_that_is_said_and_events_are_written_all_the_same() {
    let cluster = Cluster::serving(&[]);
    let shop = cluster.namespace();
    shop.apply([deployment("web", without_memory_limit())]);
    let said = cluster.report(&shop);
    assert_eq!(said.status, 2);
    assert!(
        said.err.contains("kubectl apply -f https://"),
        "{}",
        said.err
    );
    assert_eq!(shop.violations("web").len(), 1);
    // Who wants none need not have the API: that is no trouble to be called for.
    let replica = Replica::start(&cluster, &shop);
    eventually("an audit", || replica.has_audited());
    assert_eq!(replica.terminate(), Some(0));
}

#[test]
fn a_workload_that_breaks_a_rule_has_one_event_that_kubectl_describe_shows() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let shop = cluster.namespace();
    shop.apply([
        deployment("web", without_memory_limit()),
        deployment("sound", sound_spec()),
    ]);
    for _ in 0..2 {
        let said = cluster.report(&shop);
        assert_eq!(said.status, 0, "{}", said.err);
        let events = shop.violations("web");
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!(
            events[0]["count"], 1,
            "it is not told again within the hour"
        );
    }
    let described = shop.admin.call("describe deployment web").ok();
    let words = format!(
        "would be refused now: memory-limit; portcullis audit -n {} says more",
        shop.name
    );
    assert!(described.contains("PolicyViolation"), "{described}");
    assert!(described.contains(&words), "{described}");
    assert_eq!(shop.violations("sound"), Vec::<Value>::new());

    // Another rule is news.
    shop.apply([deployment("web", bare_spec())]);
    assert_eq!(cluster.report(&shop).status, 0);
    let events = shop.violations("web");
    assert_eq!((events.len(), &events[0]["count"]), (1, &json!(2)));
    let message = events[0]["message"].as_str().expect("a message");
    assert!(message.contains("readiness-probe"), "{message}");
}

#[test]
fn what_could_not_be_listed_is_not_taken_for_gone() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let shop = cluster.namespace();
    shop.apply([deployment("web", without_memory_limit())]);
    assert_eq!(cluster.report(&shop).status, 0);
    let before = shop.report_of(OPEN_REPORTS);
    shop.admin.call("delete deployment web").ok();

    let whole = cluster.take_right(
        "controllerrevisions, daemonsets, deployments,",
        "controllerrevisions, daemonsets,",
    );
    eventually("the right to be gone", || {
        let said = cluster.report(&shop);
        let is_said = said.status == 2
            && said.err.contains("list deployments.apps: 403 Forbidden")
            && said.err.contains("all reports are left as they are");
        is_said.then_some(()).ok_or(said.err)
    });
    assert_eq!(shop.report_of(OPEN_REPORTS), before);

    cluster.admin.apply(&whole).ok();
    eventually("the right to be back", || {
        let said = cluster.report(&shop);
        (said.status == 0).then_some(()).ok_or(said.err)
    });
    shop.has_no_report_of(OPEN_REPORTS);
}

#[test]
fn what_could_not_be_looked_up_is_an_error_in_the_report_and_never_fine() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let shop = cluster.namespace();
    let mut app = container("app");
    app["env"] = json!([env_from_secret("TOKEN", "there", "token")]);
    shop.apply([secret("there", "token"), deployment("reads", spec([app]))]);
    let whole = cluster.take_right(
        "namespaces, secrets, serviceaccounts",
        "namespaces, serviceaccounts",
    );
    eventually("the right to be gone", || {
        let said = cluster.report(&shop);
        let is_said = said.err.contains("get secrets: 403 Forbidden");
        is_said.then_some(()).ok_or(said.err)
    });
    let report = shop.report_of(OPEN_REPORTS);
    assert_eq!(results(&report), ["reads - error"], "{report:#}");
    cluster.admin.apply(&whole).ok();
    eventually("the right to be back", || {
        let said = cluster.report(&shop);
        let found = shop.admin.call("get reports -o name").ok();
        found.is_empty().then_some(()).ok_or(said.err)
    });
}

#[test]
fn a_namespace_whose_report_may_not_be_written_does_not_keep_the_others_from_theirs() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let (going, staying) = (cluster.namespace(), cluster.namespace());
    for shop in [&going, &staying] {
        shop.apply([deployment("web", without_memory_limit())]);
    }
    // A namespace that is being deleted takes nothing new, and keeps what is held.
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    let patch = ["patch", "deployment", "web", "--type=merge", "-p", hold];
    going.admin.call_with(&patch, None).ok();
    let kept = deployment("kept", without_memory_limit());
    going.apply([kept]);
    let hold_kept = ["patch", "deployment", "kept", "--type=merge", "-p", hold];
    going.admin.call_with(&hold_kept, None).ok();
    let gone = format!("delete namespace {} --wait=false", going.name);
    cluster.admin.call(&gone).ok();
    // The whole cluster.
    let said = portcullis(&cluster.reporter, &["report", "--once"]);
    assert_eq!(said.status, 0, "it is nobody's fault: {}", said.err);
    assert_eq!(
        results(&staying.report_of(OPEN_REPORTS)),
        ["web memory-limit fail"]
    );
    let free = r#"{"metadata":{"finalizers":null}}"#;
    for name in ["web", "kept"] {
        let patch = ["patch", "deployment", name, "--type=merge", "-p", free];
        going.admin.call_with(&patch, None).ok();
    }
}

#[test]
fn of_two_replicas_one_audits_and_the_other_takes_over_when_it_leaves() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let shop = cluster.namespace();
    shop.apply([deployment("web", without_memory_limit())]);
    let first = Replica::start(&cluster, &shop);
    eventually("the first to audit", || first.has_audited());
    let violations = r#"portcullis_audit_violations{rule="memory-limit",level="deny"}"#;
    assert_eq!(first.metric(violations), Ok(1.0));
    let report = shop.report_of(OPEN_REPORTS);
    let holder = || {
        let lease = cluster
            .admin
            .call("get lease portcullis-report -n portcullis-system -o json");
        let lease: Value = serde_json::from_str(&lease.ok()).expect("JSON");
        lease["spec"]["holderIdentity"].clone()
    };
    let before = holder();

    let second = Replica::start(&cluster, &shop);
    eventually("the second to be ready", || {
        let answer = fetch(second.admin_port, "/ready").map_err(|error| error.to_string())?;
        let is_ready = answer.starts_with("HTTP/1.1 200");
        is_ready.then_some(()).ok_or(answer)
    });
    assert!(second.has_audited().is_err(), "it waits");
    assert_eq!(second.metric(violations), Ok(0.0));
    assert_eq!(holder(), before);

    assert_eq!(first.terminate(), Some(0));
    eventually("the second to audit", || second.has_audited());
    assert_ne!(holder(), before);
    assert_eq!(second.metric(violations), Ok(1.0));
    let written = r#"portcullis_audit_writes_total{object="report",outcome="written"}"#;
    assert_eq!(second.metric(written), Ok(0.0), "it was written before");
    assert_eq!(version(&shop.report_of(OPEN_REPORTS)), version(&report));
    assert_eq!(shop.violations("web")[0]["count"], 1);
    assert_eq!(second.terminate(), Some(0));
    let left = holder();
    assert!(left.is_null() || left == "", "given back: {left}");
}

#[test]
fn a_gate_that_stays_closed_says_why_in_one_event_of_its_pod() {
    let cluster = Cluster::serving(&[OPEN_REPORTS]);
    let shop = cluster.namespace();
    let mut pod = workload("Pod", "web", sound_spec());
    let mut gate = container(GATE_CONTAINER);
    gate["ports"] = json!([{"name": "gate-admin", "containerPort": ADMIN_PORT}]);
    gate["readinessProbe"] = json!({"httpGet": {"path": "/ready", "port": ADMIN_PORT}});
    gate["livenessProbe"] = json!(null);
    pod["spec"]["containers"]
        .as_array_mut()
        .expect("containers")
        .push(gate);
    // One that asked for its gate itself, and one that has it by its namespace.
    let mut asking = pod.clone();
    asking["metadata"]["name"] = json!("asking");
    asking["metadata"]["labels"][GATE_LABEL] = json!("enabled");
    shop.apply([pod, asking]);
    let label = format!("label namespace {} {GATE_LABEL}=enabled", shop.name);
    shop.admin.call(&label).ok();
    let closed_since = |pod: &str, time: &str| {
        let ready = json!({"type": "Ready", "status": "False", "lastTransitionTime": time});
        let status = json!({"status": {
            "phase": "Running", "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "conditions": [ready],
        }});
        shop.admin.patch_status(pod, &status).ok();
    };
    // A moment ago, by a clock that is ahead.
    closed_since("web", "2099-01-01T00:00:00Z");
    let _gate = closed_gate();
    assert_eq!(cluster.report(&shop).status, 0);
    assert_eq!(shop.events("GateClosed", "web"), Vec::<Value>::new());
    assert_eq!(shop.violations("web").len(), 1, "it lacks a probe, too");

    for pod in ["web", "asking"] {
        closed_since(pod, "2026-01-01T00:00:00Z");
    }
    for _ in 0..2 {
        let said = cluster.report(&shop);
        assert_eq!(said.status, 0, "{}", said.err);
        for pod in ["web", "asking"] {
            let told = shop.events("GateClosed", pod);
            assert_eq!(told.len(), 1, "{pod}: {told:#?}");
            assert_eq!(told[0]["count"], 1, "it is not told again so soon");
        }
    }
    let described = shop.admin.call("describe pod web").ok();
    assert!(described.contains("GateClosed"), "{described}");
    assert!(described.contains("the gate is "), "{described}");
}

/// Of loopback, and nobody else's: the port of a gate's admin page is the same in every pod.
const ADDRESS: &str = "127.83.12.7";

/// A gate before an app that does not listen, as it runs in a pod of this address.
struct Gate {
    process: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn closed_gate() -> Gate {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = format!(
        r#"{{"listen": "127.0.0.1:{}", "app": "127.0.0.1:{}", "admin": "{ADDRESS}:{ADMIN_PORT}"}}"#,
        free_port(),
        free_port()
    );
    let process = Command::new(env!("CARGO_BIN_EXE_portcullis-gate"))
        .args(["run", "--state-dir"])
        .arg(folder.path())
        .env("PORTCULLIS_GATE_CONFIG", settings)
        .stderr(Stdio::null())
        .spawn()
        .expect("the gate starts");
    let gate = Gate {
        process,
        _folder: folder,
    };
    eventually("the gate to answer", || {
        TcpStream::connect((ADDRESS, ADMIN_PORT)).map_err(|error| error.to_string())
    });
    gate
}
