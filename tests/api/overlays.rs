//! The overlays, and what `manifests/monitoring` asks of the Prometheus operator, on a real API server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::{lifecycle::Ground, objects::list};
use crate::support::{
    doctor,
    manifests::{BASE, called_by_url},
    wait::eventually,
};

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");

const DEFINITIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/crds");

/// Who writes `caBundle` where cert-manager is.
const INJECTOR: &str = "--field-manager=cert-manager-cainjector";

/// The kinds of cert-manager and of the Prometheus operator.
fn define_kinds(ground: &Ground) {
    for kind in ["certificates", "issuers", "podmonitors", "prometheusrules"] {
        let file = format!("{DEFINITIONS}/{kind}.json");
        // Kept by server-side apply: a schema is longer than the annotation of a client-side one may be.
        ground
            .admin
            .call_with(&["apply", "--server-side", "-f", &file], None)
            .ok();
        // kubectl wait fails where there are no conditions at all yet.
        eventually("the kind to be served", || {
            let wait = ["wait", "--for=condition=Established", "-f", &file];
            ground.admin.call_with(&wait, None).success()
        });
    }
}

/// The `caBundle` of every entry.
fn bundles(ground: &Ground) -> Vec<Value> {
    let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let printed = ground.admin.call(&format!("get {kinds} -o json")).ok();
    let list: Value = serde_json::from_str(&printed).expect("kubectl prints JSON");
    let items = list["items"].as_array().expect("a list").iter();
    let entries = items.flat_map(|item| item["webhooks"].as_array().expect("a list"));
    entries
        .map(|entry| entry["clientConfig"]["caBundle"].clone())
        .collect()
}

/// Writes `caBundle` as the cainjector does: into every entry.
fn inject(ground: &Ground, bundle: &str) {
    for (configuration, entries) in [
        ("validatingwebhookconfiguration", 2),
        ("mutatingwebhookconfiguration", 5),
    ] {
        let add = |entry| {
            let path = format!("/webhooks/{entry}/clientConfig/caBundle");
            json!({"op": "add", "path": path, "value": bundle})
        };
        let patch: Value = (0..entries).map(add).collect();
        let patch = patch.to_string();
        let arguments = [
            "patch",
            configuration,
            "portcullis",
            INJECTOR,
            "--type=json",
            "-p",
            &patch,
        ];
        ground.admin.call_with(&arguments, None).ok();
    }
}

/// An authority, and the paths of a chain and key for 127.0.0.1 that it has signed, as a Secret is mounted.
pub fn issue(folder: &Path) -> (String, [PathBuf; 2]) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let paths = ["tls.crt", "tls.key"].map(|name| folder.join(name));
    fs::write(&paths[0], leaf.pem()).expect("the folder is ours");
    fs::write(&paths[1], key.serialize_pem()).expect("the folder is ours");
    (pem, paths)
}

#[test]
fn every_kustomization_is_taken_field_by_field_and_goes_again() {
    let ground = Ground::new();
    define_kinds(&ground);
    for kustomizations in [
        vec!["base", "report", "monitoring"],
        vec!["overlays/observe"],
        vec!["overlays/cert-manager"],
    ] {
        let folders = kustomizations
            .iter()
            .map(|name| format!("{MANIFESTS}/{name}"));
        for folder in folders.clone() {
            // A field that the schema lacks is an error.
            let apply = ["apply", "--validate=strict", "-k", &folder];
            ground.admin.call_with(&apply, None).ok();
        }
        for folder in folders.rev() {
            let delete = ["delete", "--ignore-not-found", "-k", &folder];
            ground.admin.call_with(&delete, None).ok();
        }
    }
    ground.holds_none_of(&[]);
}

#[test]
fn cert_manager_s_certificate_is_served_and_its_bundle_never_fought_over() {
    let ground = Ground::new();
    define_kinds(&ground);
    let overlay = format!("{MANIFESTS}/overlays/cert-manager");

    // Installed with an authority of our own at first, then moved over.
    let mut installed = ground.install(BASE);
    let ours = bundles(&ground);
    let manifests = called_by_url(&ground.admin, &overlay, installed.launch.port);
    ground.apply(&manifests);
    installed.manifests = manifests;
    let (authority, pair) = issue(ground.folder());
    installed.launch.certificate = Some(pair);
    installed.restart();
    eventually("our bundle to be taken back", || {
        let left = bundles(&ground);
        let any = left.iter().any(|bundle| ours.contains(bundle));
        (!any).then_some(()).ok_or_else(|| format!("{left:?}"))
    });

    let injected = STANDARD.encode(authority);
    inject(&ground, &injected);
    ground.await_enforcement();

    // Neither our server nor the manifests write it again.
    installed.restart();
    installed.await_looks(&["unchanged", "written"]); // written: the entries that are all our server's
    ground.apply(&installed.manifests);
    let manifests = list(installed.manifests.clone());
    assert_eq!(ground.admin.feed("diff -f -", &manifests).ok(), "");
    for bundle in bundles(&ground) {
        assert_eq!(bundle, json!(injected));
    }
    ground.await_enforcement();
    // The doctor knows whose bundle it is, though our own authority is still there.
    let said = doctor::ask(ground.admin.kubeconfig(), "default");
    said.has(
        "certificate ok",
        "from Certificate portcullis-system/portcullis-serving",
    );
    said.has("reach ok", "validate.portcullis.dev");
    said.lacks("certificate fail", "");

    installed.stop();
    ground.admin.feed("delete -f -", &manifests).ok();
    ground.holds_none_of(&installed.manifests);
}
