//! Whose word counts: namespaces, settings, where facts come from; and the commands beside check.

use serde_json::Value;

use super::{GOOD, check_in, fed, folder, portcullis};

/// A passing deployment whose app reads a key of a Secret.
fn reading(secret: &str, key: &str) -> String {
    let env = format!(
        "        env:\n        - name: URL\n          valueFrom: {{secretKeyRef: {{name: {secret}, key: {key}}}}}\n        readinessProbe:"
    );
    GOOD.replacen("        readinessProbe:", &env, 1)
}

fn secret(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: {namespace}}}\nstringData: {{url: x}}\n"
    )
}

/// Status of a check, and rule, level and message of its findings.
fn findings(files: &[(&str, &[u8])], args: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let folder = folder(files);
    let said = check_in(&folder, &[args, &["-o", "json", "."]].concat());
    let json: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = json["findings"].as_array().unwrap().iter();
    let findings = findings
        .map(|f| (text(f, "rule"), text(f, "level"), text(f, "message")))
        .collect();
    (said.status, findings)
}

#[test]
fn namespaces_are_as_kubectl_has_them() {
    let bare = GOOD
        .replace("  namespace: shop\n", "")
        .replace("memory: 256Mi", "");
    let named = |args: &[&str]| {
        let said = fed(
            &[&["check", "-o", "json", "-"], args].concat(),
            bare.as_bytes(),
        );
        let json: Value = serde_json::from_str(&said.out).unwrap();
        json["findings"][0]["namespace"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(named(&[]), "default");
    assert_eq!(named(&["-n", "team"]), "team");
    let said = fed(&["check", "-n", "team", "-"], GOOD.as_bytes());
    assert_eq!(said.status, 2);
    let refused = "the object's namespace is \"shop\" and -n says \"team\": kubectl refuses that";
    assert_eq!(
        said.err,
        format!("stdin:6:3: {refused}\nstdin:27:3: {refused}\n"),
        "the Deployment, and the Service that leads to it"
    );
    assert_eq!(
        fed(&["check", "-n", "shop", "-"], GOOD.as_bytes()).status,
        0
    );
}

#[test]
fn typed_lists_lend_their_items_a_kind() {
    let pod = "  spec: {containers: [{name: app}]}\n";
    let list = format!(
        "apiVersion: v1\nkind: PodList\nitems:\n- metadata: {{name: a}}\n{pod}- metadata: {{name: b}}\n{pod}"
    );
    let said = fed(&["check", "-"], list.as_bytes());
    assert!(
        said.out.contains("Pod default/a  stdin:4") && said.out.contains("Pod default/b  stdin:6"),
        "{}",
        said.out
    );
    assert!(
        said.out.contains("2 objects judged: 2 denied"),
        "{}",
        said.out
    );
}

#[test]
fn an_object_that_is_none_of_its_kind_is_a_problem_with_its_line() {
    let wrong = GOOD.replace("      - name: app", "      - name: [app]");
    let said = fed(&["check", "-"], wrong.as_bytes());
    assert_eq!(said.status, 2);
    assert!(
        said.err
            .starts_with("stdin:11:9: not a Deployment: spec.template.spec.containers[0].name: "),
        "{}",
        said.err
    );
}

#[test]
fn namespaces_among_the_files_set_the_level_of_their_workloads() {
    let namespace = b"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {portcullis.dev/enforce: warn}}\n";
    let bad = GOOD.replace("memory: 256Mi", "");
    let (status, found) = findings(&[("a.yaml", bad.as_bytes())], &[]);
    assert_eq!((status, found[0].1.as_str()), (1, "deny"));
    let (status, found) = findings(&[("a.yaml", bad.as_bytes()), ("z.yaml", namespace)], &[]);
    assert_eq!((status, found[0].1.as_str()), (0, "warn"));
}

#[test]
fn settings_are_read_as_the_server_reads_them() {
    let bad = GOOD.replace("memory: 256Mi", "");
    let with = |settings: &str| {
        let folder = folder(&[
            ("a.yaml", bad.as_bytes()),
            ("settings", settings.as_bytes()),
        ]);
        check_in(&folder, &["--settings", "settings", "a.yaml"])
    };
    assert_eq!(with("rules:\n  memory-limit: {level: warn}\n").status, 0);
    assert_eq!(with("").status, 1);
    let said = with("enforce: deny\nrules:\n  memory-limit:\n    level: loud\n");
    assert_eq!(said.status, 64);
    assert!(
        said.err.contains("settings:4:5") && said.err.contains("rules.memory-limit.level"),
        "{}",
        said.err
    );
    let said = with("enforce: [\n");
    assert_eq!(said.status, 64);
    assert!(said.err.contains("settings:2:"), "{}", said.err);
}

#[test]
fn options_that_can_not_be_used_are_exit_64() {
    for args in [
        &["check", "--facts", "nowhere"][..],
        &["check", "--strict-references", "--facts", "none", "x"],
    ] {
        let said = portcullis(args);
        assert_eq!((said.status, said.out.as_str()), (64, ""), "{}", said.err);
        assert!(!said.err.is_empty());
    }
    let said = portcullis(&[
        "check",
        "--facts",
        "cluster",
        "--kubeconfig",
        "/nonexistent",
        "shop",
    ]);
    assert_eq!(said.status, 64);
    assert!(
        said.err.contains("--kubeconfig /nonexistent"),
        "{}",
        said.err
    );
}

const KUBECONFIG: &str = "apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:9'}}]
users: [{name: u, user: {token: t}}]
contexts:
- {name: staging, context: {cluster: c, user: u, namespace: staging}}
- {name: production, context: {cluster: c, user: u, namespace: shop}}
current-context: staging
";

#[test]
fn a_context_may_be_named_and_one_that_is_not_there_is_told_with_those_that_are() {
    let folder = folder(&[("kubeconfig", KUBECONFIG.as_bytes())]);
    let file = folder.path().join("kubeconfig");
    let file = file.to_str().unwrap();
    let cluster = ["check", "--facts", "cluster", "--kubeconfig", file];
    let object = GOOD.replace("  namespace: shop\n", "");
    let object = object.replace("memory: 256Mi", "");
    let with = |context: &[&str]| fed(&[&cluster, context, &["-"]].concat(), object.as_bytes());
    // Nobody listens there; the object is in the namespace of the context all the same.
    let chosen = with(&["--context", "production"]);
    assert!(chosen.out.contains("shop/"), "{}{}", chosen.out, chosen.err);
    let current = with(&[]);
    assert!(
        current.out.contains("staging/"),
        "{}{}",
        current.out,
        current.err
    );
    let nowhere = with(&["--context", "produciton"]);
    assert_eq!(nowhere.status, 64);
    let told = "--context produciton: there is no such context; those of the kubeconfig: staging, production";
    assert!(nowhere.err.contains(told), "{}", nowhere.err);
}

#[test]
fn control_characters_of_a_manifest_never_reach_a_terminal() {
    let bad = GOOD
        .replace("memory: 256Mi", "")
        .replace("- name: app", "- name: \"a\\e[31mb\"");
    let said = fed(&["check", "-"], bad.as_bytes());
    assert!(
        !said.out.contains('\u{1b}') && said.out.contains("\\u{1b}"),
        "{}",
        said.out
    );
}

#[test]
fn explain_tells_of_rules_and_their_neighbours() {
    let list = portcullis(&["explain"]);
    assert_eq!((list.status, list.out.contains("memory-limit")), (0, true));
    let one = portcullis(&["explain", "memory-limit"]);
    assert!(
        one.out.contains("Does not pass:") && one.out.contains("Passes:"),
        "{}",
        one.out
    );
    let none = portcullis(&["explain", "memory-limits"]);
    assert_eq!((none.status, none.out.as_str()), (64, ""));
    let said = "portcullis: there is no rule \"memory-limits\"; did you mean memory-limit";
    assert!(none.err.starts_with(said), "{}", none.err);
}

#[test]
fn settings_prints_a_schema_and_tries_out_a_file() {
    let schema = portcullis(&["settings", "--schema"]);
    let parsed: Value = serde_json::from_str(&schema.out).unwrap();
    assert!(parsed["properties"]["rules"].is_object(), "{}", schema.out);
    let folder = folder(&[("good", b"enforce: warn\n"), ("bad", b"enforced: warn\n")]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!(portcullis(&["settings", "--file", &path("good")]).status, 0);
    let bad = portcullis(&["settings", "--file", &path("bad")]);
    assert_eq!(bad.status, 64);
    assert!(
        bad.err.contains("bad:1:1") && bad.err.contains("enforced"),
        "{}",
        bad.err
    );
    assert_eq!(portcullis(&["settings"]).status, 64);
}

#[test]
fn help_names_every_exit_status_and_gives_examples() {
    let help = portcullis(&["check", "--help"]);
    assert_eq!(help.status, 0);
    for text in ["Exit status:", "Examples:", "--strict-references", "  64  "] {
        assert!(help.out.contains(text), "{text}");
    }
}

#[test]
fn references_are_looked_up_among_the_files_and_nowhere_else() {
    let found = |files: &[(&str, &[u8])], args: &[&str]| {
        let (status, found) = findings(files, args);
        let found: Vec<_> = found
            .into_iter()
            .filter(|(rule, ..)| rule == "secret-reference")
            .collect();
        (status, found)
    };
    let (reader, here, elsewhere) = (reading("db", "url"), secret("shop"), secret("base"));
    let reader = ("reader.yaml", reader.as_bytes());
    assert_eq!(
        found(&[reader, ("z.yaml", here.as_bytes())], &[]),
        (0, Vec::new())
    );

    let (status, unknown) = found(&[reader], &[]);
    assert_eq!(
        (status, unknown.len(), unknown[0].1.as_str()),
        (0, 1, "warn"),
        "{unknown:?}"
    );
    let (status, missing) = found(&[reader], &["--strict-references"]);
    assert_eq!((status, missing[0].1.as_str()), (1, "deny"), "{missing:?}");
    assert_eq!(found(&[reader], &["--facts", "none"]), (0, Vec::new()));

    let (status, other) = found(&[reader, ("base/z.yaml", elsewhere.as_bytes())], &[]);
    assert_eq!((status, other[0].1.as_str()), (0, "warn"));
    assert!(
        other[0].2.contains("base/z.yaml") && other[0].2.contains("\"base\""),
        "{other:?}"
    );
    let (status, _) = found(
        &[reader, ("base/z.yaml", elsewhere.as_bytes())],
        &["--strict-references"],
    );
    assert_eq!(status, 1);

    let typo = reading("db", "uri");
    let (status, key) = found(
        &[
            ("reader.yaml", typo.as_bytes()),
            ("z.yaml", here.as_bytes()),
        ],
        &[],
    );
    assert_eq!((status, key[0].1.as_str()), (1, "deny"), "{key:?}");
}

#[test]
fn unquoted_words_that_kubectl_takes_for_booleans_are_told_with_their_line() {
    let metadata = "  name: catalog\n  labels:\n    canary: on\n  annotations:\n    owner: no\n";
    let env = "        env:\n        - name: DEBUG\n          value: yes\n        readinessProbe:";
    let text =
        GOOD.replacen("  name: catalog\n", metadata, 1)
            .replacen("        readinessProbe:", env, 1);
    let said = fed(&["check", "-"], text.as_bytes());
    assert_eq!(said.status, 1, "{}{}", said.out, said.err);
    for (line, word) in [(7, "canary"), (9, "owner"), (21, "DEBUG")] {
        let told = said.out.lines().any(|told| {
            told.contains("deny  string-value")
                && told.contains(&format!("line {line}:"))
                && told.contains(word)
        });
        assert!(told, "{word}: {}", said.out);
    }
}

#[test]
fn patch_prints_every_object_with_what_its_pods_get() {
    let settings = b"rules:\n  memory-limit: {patch: 256Mi}\n  readiness-probe: {patch: true}\n";
    let namespace = b"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {portcullis.dev/patch: enabled}}\n";
    let bad = GOOD.replace(", memory: 256Mi", "").replace(
        "        readinessProbe:\n          httpGet: {path: /ready, port: http}\n",
        "",
    );
    let folder = folder(&[
        ("a.yaml", bad.as_bytes()),
        ("settings", settings),
        ("z.yaml", namespace),
    ]);
    let printed = |inputs: &[&str]| -> Value {
        let said = check_in(
            &folder,
            &[&["--patch", "--settings", "settings"], inputs].concat(),
        );
        assert_eq!((said.status, said.err.as_str()), (0, ""));
        serde_json::from_str(&said.out).unwrap()
    };
    let list = printed(&["a.yaml", "z.yaml"]);
    let kinds: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["kind"])
        .collect();
    assert_eq!(kinds, ["Deployment", "Service", "Namespace"]);
    let container =
        |list: &Value| list["items"][0]["spec"]["template"]["spec"]["containers"][0].clone();
    let patched = container(&list);
    assert_eq!(patched["resources"]["limits"]["memory"], "256Mi");
    assert_eq!(patched["resources"]["limits"]["cpu"], "500m");
    assert!(
        patched["readinessProbe"]["tcpSocket"].is_object(),
        "{patched}"
    );
    assert!(
        container(&printed(&["a.yaml"]))["readinessProbe"].is_null(),
        "its namespace asks for no patches"
    );
}

/// Checks what stands in the repository's folder `manifests`, with nothing but the files: status, and count denied.
fn check_manifests(args: &[&str]) -> (i32, u64, String) {
    let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/");
    let args = args.iter().map(|arg| arg.replace("manifests/", manifests));
    let args: Vec<_> = ["check", "-o", "json"]
        .into_iter()
        .map(str::to_owned)
        .chain(args)
        .collect();
    let said = portcullis(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let report: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.err));
    assert!(
        report["summary"]["objects"].as_u64() > Some(0),
        "{}",
        said.out
    );
    (
        said.status,
        report["summary"]["denied"].as_u64().unwrap(),
        said.out,
    )
}

#[test]
fn our_own_manifests_pass_our_own_rules() {
    let (status, denied, said) = check_manifests(&["manifests/base"]);
    assert_eq!((status, denied), (0, 0), "{said}");
}

#[test]
fn rejected_samples_are_denied_and_accepted_ones_pass() {
    let settings = "--settings=manifests/samples/settings.yaml";
    let folder = |name| {
        let (status, ..) = check_manifests(&[settings, "manifests/samples/given", name]);
        status
    };
    assert_eq!(folder("manifests/samples/rejected"), 1);
    assert_eq!(folder("manifests/samples/accepted"), 0);
    // Each by itself, where all that there is has been given.
    for name in ["checkout", "image-resizer", "notification"] {
        let file = format!("manifests/samples/rejected/{name}.yaml");
        let (status, _, said) = check_manifests(&[
            settings,
            "--strict-references",
            "manifests/samples/given",
            &file,
        ]);
        assert_eq!(status, 1, "{said}");
    }
}
