//! `manifests/report`: what it asks the program to do exists, and it keeps our own rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use clap::Parser;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, ServiceAccount},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use portcullis::{cli::report::ReportArgs, contract::ADMIN_PORT};

use super::{MANIFESTS, base, read, value};

/// The options as the container gets them.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Report,
}

#[derive(Debug, clap::Subcommand)]
enum Report {
    Report(Box<ReportArgs>),
}

fn deployment() -> Deployment {
    read("report/deployment.yaml")
}

fn container() -> Container {
    let template = deployment().spec.expect("a spec").template;
    template.spec.expect("a pod spec").containers.remove(0)
}

#[test]
fn each_file_is_listed() {
    let listed: BTreeSet<String> =
        serde_json::from_value(value("report/kustomization.yaml")["resources"].clone())
            .expect("a list of files");
    let folder = Path::new(MANIFESTS).join("report");
    let present = fs::read_dir(folder).expect("it is there").map(|entry| {
        let name = entry.expect("it can be read").file_name();
        name.into_string().expect("a plain name")
    });
    let present = present.filter(|name| name != "kustomization.yaml");
    let expected: BTreeSet<_> = present.chain(["../audit".to_owned()]).collect();
    assert_eq!(listed, expected);
}

#[test]
fn it_runs_the_image_of_the_base_as_its_own_service_account() {
    let arguments = container().args.expect("arguments");
    let words = std::iter::once("portcullis".to_owned()).chain(arguments);
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
    let Report::Report(args) = cli.command;
    let said = format!("{args:?}");
    assert!(said.contains("admin_listen: [::]:8080"), "{said}");
    assert!(
        said.contains(r#"installed_in: "portcullis-system""#),
        "{said}"
    );
    let ports = container().ports.expect("a port");
    assert_eq!((ports.len(), ports[0].container_port), (1, 8080));
    let server: Deployment = base("deployment");
    let server = server.spec.and_then(|spec| spec.template.spec);
    assert_eq!(
        container().image,
        server.expect("a pod").containers[0].image
    );
    let account: ServiceAccount = read("report/service-account.yaml");
    let template = deployment().spec.expect("a spec").template;
    let pod = template.spec.expect("a pod spec");
    assert_eq!(pod.service_account_name, account.metadata.name);
    assert_eq!(
        pod.security_context.expect("one").run_as_non_root,
        Some(true)
    );
}

#[test]
fn its_network_policy_lets_it_ask_closed_gates() {
    let policy: NetworkPolicy = read("report/network-policy.yaml");
    let spec = policy.spec.expect("a spec");
    let labels = deployment().spec.expect("a spec").template.metadata;
    let labels: Option<BTreeMap<_, _>> = labels.expect("labels").labels;
    assert_eq!(spec.pod_selector.expect("a selector").match_labels, labels);
    let ports = spec.egress.expect("rules").into_iter();
    let ports = ports.flat_map(|rule| rule.ports.unwrap_or_default());
    let mut ports = ports.filter_map(|port| port.port);
    assert!(ports.any(|port| port == IntOrString::Int(ADMIN_PORT.into())));
}

#[test]
fn it_keeps_the_rules_that_it_reports_on() {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--output", "json"])
        .arg(Path::new(MANIFESTS).join("report/deployment.yaml"))
        .output()
        .expect("portcullis starts");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = said["findings"].as_array().expect("findings");
    // Its ServiceAccount is in another file.
    let rules: Vec<_> = findings.iter().map(|finding| &finding["rule"]).collect();
    assert_eq!(rules, ["service-account-reference"], "{said:#}");
}
