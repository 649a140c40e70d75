//! `portcullis audit` of a real cluster: what it holds already, judged as if it were made now.

use std::path::Path;

use portcullis::contract::GATE_LABEL;
use serde_json::{Value, json};

use super::{
    installation::{Namespace, Session},
    objects::{
        bare_spec, container, deployment, env_from_secret, list, secret, sound_spec, spec, workload,
    },
};
use crate::support::{
    program::{Said, portcullis},
    server::with_token,
    wait::eventually,
};

/// Lets it audit, with these further arguments.
fn audit(kubeconfig: &Path, arguments: &[&str]) -> Said {
    let plain = ["audit", "--color=never"];
    portcullis(kubeconfig, &[&plain[..], arguments].concat())
}

/// The same, of one namespace, as JSON.
fn audit_of(kubeconfig: &Path, namespace: &Namespace, arguments: &[&str]) -> (i32, Value) {
    let within = ["-o", "json", "-n", &namespace.name];
    let said = audit(kubeconfig, &[&within[..], arguments].concat());
    let report = serde_json::from_str(&said.out)
        .unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err));
    (said.status, report)
}

/// `KIND/NAME RULE` of all that would be refused.
fn denied(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("findings").iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a string").to_owned();
    findings
        .filter(|finding| finding["level"] == "deny")
        .map(|finding| {
            let [kind, name, rule] = ["kind", "name", "rule"].map(|key| text(finding, key));
            format!("{kind}/{name} {rule}")
        })
        .collect()
}

/// The rules that a container breaks about which nothing is said.
const BARE: [&str; 5] = [
    "readiness-probe",
    "liveness-probe",
    "cpu-request",
    "memory-request",
    "memory-limit",
];

fn reading(name: &str, secret: &str) -> Value {
    let mut app = container("app");
    app["env"] = json!([env_from_secret("TOKEN", secret, "token")]);
    deployment(name, spec([app]))
}

fn enforce(namespace: &Namespace, level: &str) {
    let label = format!(
        "label --overwrite namespace {} portcullis.dev/enforce={level}",
        namespace.name
    );
    namespace.admin.call(&label).ok();
}

/// The ClusterRole that ships for audits.
fn shipped_role() -> String {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/manifests/audit/cluster-role.yaml"
    );
    std::fs::read_to_string(path).expect("it ships")
}

/// Whoever holds a token of a ServiceAccount that is bound to this ClusterRole and nothing else.
fn bound_to(namespace: &Namespace, role: &str, folder: &Path) -> std::path::PathBuf {
    let Namespace { name, admin, .. } = namespace;
    admin.call(&format!("create serviceaccount {role}")).ok();
    let account = format!("{name}:{role}");
    let binding = format!(
        "create clusterrolebinding {role}-{name} --clusterrole={role} --serviceaccount={account}"
    );
    admin.call(&binding).ok();
    let token = admin.call(&format!("create token {role}")).ok();
    let kubeconfig = folder.join(role);
    let text = with_token(admin.kubeconfig(), token.trim());
    std::fs::write(&kubeconfig, text).expect("the folder is ours");
    kubeconfig
}

#[test]
fn what_is_there_is_judged_as_if_it_were_made_now_and_what_is_controlled_through_its_owner() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("audit", &[("portcullis.dev/enforce", "none")]);
    let objects = [
        workload("CronJob", "nightly", bare_spec()),
        workload("Pod", "alone", bare_spec()),
        deployment("bare", bare_spec()),
        deployment("sound", sound_spec()),
        secret("there", "token"),
        reading("reads", "there"),
        reading("stuck", "not-there"),
    ];
    namespace.developer.apply(&list(objects)).ok();
    eventually("a ReplicaSet of the bare Deployment", || {
        let sets = namespace.admin.call("get replicasets -o name").ok();
        let count = sets.lines().count();
        (count == 4).then_some(()).ok_or(sets)
    });
    let admin = session.admin();

    // A namespace where nothing is judged is left out, and said to be.
    let (status, report) = audit_of(admin.kubeconfig(), &namespace, &[]);
    assert_eq!((status, denied(&report).len()), (0, 0), "{report:#}");
    let counts = |report: &Value| report["summary"].clone();
    assert_eq!(counts(&report)["leftOut"], 6, "{report:#}");
    let said = audit(admin.kubeconfig(), &["-n", &namespace.name]);
    let left_out = format!("nothing is judged there: {} (6)", namespace.name);
    assert!(said.out.contains(&left_out), "{}", said.out);

    enforce(&namespace, "deny");
    let (status, report) = audit_of(admin.kubeconfig(), &namespace, &[]);
    assert_eq!(status, 1);
    let resources = &BARE[2..];
    let expected: Vec<_> = [("Pod/alone", &BARE[..]), ("Deployment/bare", &BARE)]
        .into_iter()
        .chain([("Deployment/stuck", &["secret-reference"][..])])
        .chain([("CronJob/nightly", resources)])
        .flat_map(|(object, rules)| rules.iter().map(move |rule| format!("{object} {rule}")))
        .collect();
    assert_eq!(denied(&report), expected, "{report:#}");
    assert_eq!(counts(&report)["objects"], 6);
    assert_eq!(counts(&report)["denied"], 4);
    assert_eq!(counts(&report)["throughOwners"], 4, "the ReplicaSets");
    assert_eq!(report["unread"], json!([]));
    // Made while Portcullis was there and nobody asked it; a Secret may have gone later.
    let let_in: Vec<_> = (report["letIn"].as_array().expect("a list").iter())
        .map(|item| item["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(let_in, ["alone", "bare", "nightly"]);
    // The same again, to the letter.
    let again = audit(admin.kubeconfig(), &["-n", &namespace.name]);
    let once_more = audit(admin.kubeconfig(), &["-n", &namespace.name]);
    assert_eq!(again.out, once_more.out);
    assert!(
        again
            .out
            .contains("To fix, in spec.template.spec.containers[name=app]:")
    );
    assert!(
        again.out.contains("6 objects judged: 4 denied"),
        "{}",
        again.out
    );
    assert_eq!(again.err, "", "no progress where there is no terminal");
}

#[test]
fn where_a_namespace_only_warns_nothing_would_be_refused() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("audit", &[("portcullis.dev/enforce", "warn")]);
    namespace
        .developer
        .apply(&list([deployment("bare", bare_spec())]))
        .ok();
    let (status, report) = audit_of(session.admin().kubeconfig(), &namespace, &[]);
    assert_eq!((status, denied(&report).len()), (0, 0), "{report:#}");
    assert_eq!(report["summary"]["warned"], 1);
    assert_eq!(report["letIn"], json!([]));
}

#[test]
fn what_would_break_is_told_by_namespace_and_a_baseline_leaves_what_is_new() {
    let session = Session::shared();
    let [worse, better] = ["worse", "better"]
        .map(|topic| session.labelled_namespace(topic, &[("portcullis.dev/enforce", "warn")]));
    let bare = |name: &str| deployment(name, bare_spec());
    worse.developer.apply(&list([bare("a"), bare("b")])).ok();
    better
        .developer
        .apply(&list([bare("c"), deployment("d", sound_spec())]))
        .ok();
    let admin = session.admin();
    let both = ["-n", &better.name, "-n", &worse.name, "--would-deny"];

    let said = audit(admin.kubeconfig(), &both);
    assert_eq!(said.status, 1, "{}", said.err);
    let lines: Vec<_> = said.out.lines().collect();
    assert!(lines[0].starts_with("namespace"), "{}", said.out);
    for (line, namespace, counts) in [(1, &worse, ["2", "2"]), (2, &better, ["1", "2"])] {
        let words: Vec<_> = lines[line].split_whitespace().collect();
        assert_eq!(
            words[..3],
            [&[&*namespace.name][..], &counts].concat(),
            "{}",
            said.out
        );
    }
    assert!(
        lines[1].contains("readiness-probe 2, liveness-probe 2"),
        "{}",
        said.out
    );

    // All of it is known from here on.
    let json = audit(admin.kubeconfig(), &[&both[..], &["-o", "json"]].concat());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let known = folder.path().join("known.json");
    std::fs::write(&known, &json.out).expect("the folder is ours");
    let known = known.to_str().expect("a plain name");
    let since = [&both[..], &["--baseline", known, "-o", "json"]].concat();
    let said = audit(admin.kubeconfig(), &since);
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["findings"], json!([]));
    assert_eq!(report["summary"]["gone"], 0);

    better.developer.apply(&list([bare("e")])).ok();
    worse.developer.call("delete deployment a").ok();
    let said = audit(admin.kubeconfig(), &since);
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    let report: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(
        denied(&report),
        BARE.map(|rule| format!("Deployment/e {rule}"))
    );
    assert!(
        report["summary"]["gone"].as_u64() >= Some(5),
        "{}",
        report["summary"]
    );
}

#[test]
fn what_may_not_be_read_is_unknown_and_said_once_with_what_helps() {
    let session = Session::shared();
    let namespace = session.namespace("audit");
    let objects = [
        secret("there", "token"),
        reading("one", "there"),
        reading("two", "there"),
    ];
    namespace.developer.apply(&list(objects)).ok();
    // The role that ships, and one that lacks the Secrets.
    let admin = session.admin();
    let whole = shipped_role();
    let lame = whole
        .replace("name: portcullis-audit", "name: lame-audit")
        .replace(
            "configmaps, namespaces, secrets, serviceaccounts",
            "configmaps, namespaces, serviceaccounts",
        );
    assert_ne!(whole, lame);
    admin.apply(&whole).ok();
    admin.apply(&lame).ok();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [whole, lame] =
        ["portcullis-audit", "lame-audit"].map(|role| bound_to(&namespace, role, folder.path()));

    eventually("the role that ships to be enough", || {
        let (status, report) = audit_of(&whole, &namespace, &[]);
        let enough = status == 0 && report["unread"] == json!([]) && report["gates"] == json!([]);
        enough
            .then_some(())
            .ok_or_else(|| format!("{status} {report:#}"))
    });
    let (_, report) = audit_of(&whole, &namespace, &[]);
    assert_eq!(report["summary"]["objects"], 2);

    let (status, report) = audit_of(&lame, &namespace, &[]);
    assert_eq!(status, 2, "{report:#}");
    assert_eq!(report["summary"]["unknown"], 2, "{report:#}");
    assert_eq!(report["findings"], json!([]));
    let unread = report["unread"].as_array().expect("a list");
    assert_eq!(unread.len(), 1, "{report:#}");
    assert_eq!(
        (&unread[0]["verb"], &unread[0]["resource"]),
        (&json!("get"), &json!("secrets"))
    );
    assert_eq!(unread[0]["count"], 2);
    assert!(
        unread[0]["why"]
            .as_str()
            .is_some_and(|why| why.starts_with("403 Forbidden"))
    );
    let said = audit(&lame, &["-n", &namespace.name]);
    assert!(
        said.out.contains("get secrets: 403 Forbidden"),
        "{}",
        said.out
    );
    assert!(said.out.contains("manifests/audit"), "{}", said.out);
    assert!(
        said.out.contains("0 denied, 0 warned, 2 unknown, 0 passed"),
        "{}",
        said.out
    );
}

#[test]
fn lists_that_are_refused_do_not_count_as_empty_ones() {
    let session = Session::shared();
    let namespace = session.namespace("audit");
    // Within her namespace she may look, but not at the settings of us all.
    let (status, report) = audit_of(namespace.developer.kubeconfig(), &namespace, &[]);
    assert_eq!(status, 2, "{report:#}");
    let told = report["unread"].to_string();
    assert!(told.contains("the settings"), "{told}");
    let settings = namespace.admin.kubeconfig().with_extension("settings.yaml");
    std::fs::write(&settings, "").expect("the folder is ours");
    let own = ["--settings", settings.to_str().expect("a plain name")];
    let (_, report) = audit_of(namespace.developer.kubeconfig(), &namespace, &own);
    let told = report["unread"].to_string();
    assert!(!told.contains("the settings"), "{told}");
    let said = audit(namespace.developer.kubeconfig(), &["-o", "json"]);
    assert_eq!(said.status, 2, "{}", said.out);
    assert!(
        said.out
            .contains(r#""verb":"list","resource":"deployments.apps""#),
        "{}",
        said.out
    );
}

#[test]
fn exemptions_are_listed_with_their_reasons_and_with_what_comes_of_them() {
    let session = Session::shared();
    let namespace = session.labelled_namespace(
        "audit",
        &[
            ("portcullis.dev/exemptions", "allowed"),
            ("portcullis.dev/enforce", "deny"),
        ],
    );
    let mut greedy = container("app");
    greedy["resources"]["limits"] = json!({"cpu": "100m"});
    let mut batch = deployment("batch", spec([greedy]));
    batch["metadata"]["annotations"] = json!({
        "portcullis.dev/exempt": "memory-limit: it takes what a night leaves; cpu-request: old; no-rule: x",
    });
    namespace.developer.apply(&list([batch])).ok();
    let admin = session.admin();
    let effects = |report: &Value| {
        let exemptions = report["exemptions"].as_array().expect("a list").iter();
        let said = exemptions.map(|exemption| {
            let [text, effect] =
                ["text", "effect"].map(|key| exemption[key].as_str().expect("a string"));
            format!("{effect}: {text}")
        });
        said.collect::<Vec<_>>()
    };
    let (status, report) = audit_of(admin.kubeconfig(), &namespace, &[]);
    assert_eq!(status, 0, "{report:#}");
    assert_eq!(
        effects(&report),
        [
            "in-force: it takes what a night leaves",
            "idle: old",
            "mistaken: there is no rule \"no-rule\"",
        ]
    );
    let text = audit(admin.kubeconfig(), &["-n", &namespace.name]).out;
    let line = format!(
        "Deployment {}/batch  memory-limit: it takes what a night leaves\n",
        namespace.name
    );
    assert!(text.contains(&line), "{text}");

    // Without the label of its namespace it counts for nothing.
    let forbid = format!(
        "label namespace {} portcullis.dev/exemptions-",
        namespace.name
    );
    admin.call(&forbid).ok();
    let (status, report) = audit_of(admin.kubeconfig(), &namespace, &[]);
    assert_eq!(status, 1, "{report:#}");
    assert_eq!(denied(&report), ["Deployment/batch memory-limit"]);
    assert_eq!(
        effects(&report)[0],
        "not-allowed: it takes what a night leaves"
    );
}

#[test]
fn a_page_for_people_holds_what_the_cluster_gave_as_text_only() {
    let session = Session::shared();
    let namespace = session.labelled_namespace("page", &[("portcullis.dev/enforce", "none")]);
    let mut bare = deployment("bare", bare_spec());
    bare["metadata"]["annotations"] =
        json!({"portcullis.dev/exempt": "cpu-limit: </script><img src=x>"});
    namespace.developer.apply(&list([bare])).ok();
    let asked = ["-o", "html", "--would-deny", "-n", &namespace.name];
    let said = audit(session.admin().kubeconfig(), &asked);
    assert_eq!(said.status, 1, "{}", said.err);
    let page = said.out;
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(
        page.contains("<h1>1 workload would be refused</h1>"),
        "{page}"
    );
    assert!(page.contains(r"\u003c/script>\u003cimg src=x>"), "{page}");
    assert!(!page.contains("<img"), "{page}");
}

#[test]
fn pods_that_asked_for_a_gate_and_have_none_are_listed() {
    let session = Session::shared();
    let namespace = session.namespace("audit");
    let pod = workload("Pod", "late", sound_spec()).to_string();
    namespace.developer.feed("create -f -", &pod).ok();
    // A gate comes when a pod is made, and never later.
    let ask = format!("label pod late {GATE_LABEL}=enabled");
    namespace.developer.call(&ask).ok();
    let admin = session.admin();
    let (status, report) = audit_of(admin.kubeconfig(), &namespace, &[]);
    assert_eq!(status, 0, "it would not be refused: {report:#}");
    let gates = report["gates"].to_string();
    let words = format!(
        "pods that demand a gate and have none: 1 ({}/late)",
        namespace.name
    );
    assert!(gates.contains(&words), "{gates}");
    // Others are not looked at.
    let elsewhere = session.namespace("audit");
    let (_, report) = audit_of(admin.kubeconfig(), &elsewhere, &[]);
    assert_eq!(report["gates"], json!([]));
}

#[test]
fn what_can_not_be_audited_is_an_error_of_use() {
    let session = Session::shared();
    let admin = session.admin();
    let said = audit(admin.kubeconfig(), &["-n", "nowhere"]);
    assert_eq!((said.status, said.out.as_str()), (64, ""));
    assert!(
        said.err.contains("there is no namespace \"nowhere\""),
        "{}",
        said.err
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("text");
    std::fs::write(&file, "no JSON").expect("the folder is ours");
    let file = file.to_str().expect("a plain name");
    let said = audit(admin.kubeconfig(), &["--baseline", file]);
    assert_eq!(said.status, 64);
    assert!(said.err.contains("--output json"), "{}", said.err);
    let said = audit(Path::new("/nowhere/kubeconfig"), &[]);
    assert_eq!(said.status, 64);
}
