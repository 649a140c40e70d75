//! A Secret that is missing, and that somebody has promised to make.

use std::thread;

use serde_json::{Value, json};

use super::{
    installation::{Session, assert_warned},
    objects::{self, container, definition, deployment, env_from_secret, spec},
};

/// Kinds that make Secrets: group and version, kind and plural, and the `spec` of one that makes the Secret of this name.
type Kind = (
    &'static str,
    &'static str,
    (&'static str, &'static str),
    fn(&str) -> Value,
);

const KINDS: [Kind; 4] = [
    (
        "external-secrets.io",
        "v1",
        ("ExternalSecret", "externalsecrets"),
        |secret| json!({"target": {"name": secret}}),
    ),
    (
        "bitnami.com",
        "v1alpha1",
        ("SealedSecret", "sealedsecrets"),
        |_| json!({"encryptedData": {}}),
    ),
    (
        "cert-manager.io",
        "v1",
        ("Certificate", "certificates"),
        |secret| json!({"secretName": secret}),
    ),
    (
        "secrets-store.csi.x-k8s.io",
        "v1",
        ("SecretProviderClass", "secretproviderclasses"),
        |secret| json!({"secretObjects": [{"secretName": secret, "type": "Opaque"}]}),
    ),
];

const ACROSS: (&str, &str) = ("ClusterExternalSecret", "clusterexternalsecrets");

/// A Deployment of that name that reads a Secret of the same name.
fn reading(secret: &str) -> String {
    let mut app = container("app");
    app["env"] = json!([env_from_secret("URL", secret, "url")]);
    deployment(secret, spec([app])).to_string()
}

fn define_kinds(session: &Session) {
    let kinds = KINDS.map(|(group, version, names, _)| definition(group, version, names));
    let mut across = definition("external-secrets.io", "v1", ACROSS);
    across["spec"]["scope"] = json!("Cluster");
    let all = objects::list(kinds.into_iter().chain([across]));
    session.admin().apply(&all).ok();
    let wait = "wait --for=condition=Established -f -";
    session.admin().feed(wait, &all).ok();
}

/// Each half of this fails without its guard: the warning without `Context::producer`, the refusals if that looks at
/// the kind alone and not at the namespace and the target.
#[test]
fn a_secret_that_is_declared_warns_and_one_that_is_not_is_refused() {
    let session = Session::shared();
    define_kinds(&session);
    let (here, elsewhere) = (session.namespace("made"), session.namespace("elsewhere"));
    for (group, version, (kind, plural), makes) in KINDS {
        let secret = format!("of-{plural}");
        let declaration = |name: &str, secret: &str| {
            let metadata = json!({"name": name});
            let api = format!("{group}/{version}");
            json!({"apiVersion": api, "kind": kind, "metadata": metadata, "spec": makes(secret)})
                .to_string()
        };
        here.refuses(&reading(&secret), "secret-reference");
        // Somebody declares another one, and somebody elsewhere this one.
        here.admin.apply(&declaration("other", "other")).ok();
        elsewhere.admin.apply(&declaration(&secret, &secret)).ok();
        here.refuses(&reading(&secret), "secret-reference");

        here.admin.apply(&declaration(&secret, &secret)).ok();
        let answer = here.developer.apply(&reading(&secret));
        assert!(
            answer.stderr.contains(&format!("a {kind} declares it")),
            "{kind}: {}",
            answer.stderr
        );
        assert_warned(answer, "secret-reference");
        let told = here.answers(&secret, 3).remove(2).expect("we were asked");
        let by = &told.annotations["validate.portcullis.dev/lowered-by"];
        assert_eq!(by, "producer", "{kind}");

        // Looked up live: what is not there any more promises nothing.
        here.developer
            .call(&format!("delete deployment {secret}"))
            .ok();
        here.admin
            .call(&format!("delete {plural}.{group} {secret}"))
            .ok();
        here.refuses(&reading(&secret), "secret-reference");
    }

    let across = |namespace: &str| {
        json!({
            "apiVersion": "external-secrets.io/v1", "kind": ACROSS.0, "metadata": {"name": "across"},
            "spec": {
                "externalSecretSpec": {"target": {"name": "shared"}},
                "namespaceSelectors": [{"matchLabels": {"kubernetes.io/metadata.name": namespace}}],
            },
        })
        .to_string()
    };
    session.admin().apply(&across(&elsewhere.name)).ok();
    here.refuses(&reading("shared"), "secret-reference");
    session.admin().apply(&across(&here.name)).ok();
    assert_warned(here.developer.apply(&reading("shared")), "secret-reference");
}

#[test]
fn a_secret_for_a_token_is_filled_by_a_controller_and_never_missed() {
    let session = Session::shared();
    let namespace = session.namespace("token");
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "ci"}});
    let token = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "ci-token", "annotations": {"kubernetes.io/service-account.name": "ci"}},
    });
    let mut app = container("app");
    app["env"] = json!([env_from_secret("TOKEN", "ci-token", "token")]);
    let reads = deployment("app", spec([app.clone()]));
    let set = objects::list([account, token, reads]);
    // Many times, since the controller is quick.
    thread::scope(|scope| {
        for _ in 0..4 {
            let fresh = session.namespace("token");
            let set = &set;
            scope.spawn(move || {
                let answer = fresh.developer.apply(set);
                assert_eq!(answer.stderr, "");
                answer.ok();
            });
        }
    });
    namespace.developer.apply(&set).ok();
    let mut reads = |key: &str, secret: &str| {
        app["env"] = json!([env_from_secret("TOKEN", secret, key)]);
        deployment("other", spec([app.clone()])).to_string()
    };
    namespace.refuses(&reads("tokens", "ci-token"), "secret-reference");

    // One that the controller never fills, since its account is not there, and can't take away either: empty for sure.
    let empty = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": "empty", "annotations": {"kubernetes.io/service-account.name": "nobody"},
            "finalizers": ["example.com/keep"],
        },
    });
    namespace.admin.feed("create -f -", &empty.to_string()).ok();
    namespace.refuses(&reads("tokens", "empty"), "secret-reference");
    namespace.developer.apply(&reads("token", "empty")).ok();
    let patch =
        r#"patch secret empty --type=json -p [{"op":"remove","path":"/metadata/finalizers"}]"#;
    namespace.admin.call(patch).ok();
}
