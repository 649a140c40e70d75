//! The manifests, read as the types of the Kubernetes API and held against the code.

mod access;

mod report;

use std::{collections::BTreeSet, fs, path::Path};

use clap::Parser;
use k8s_openapi::{
    Metadata, Resource,
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        },
        apps::v1::Deployment,
        core::v1::{ConfigMap, Namespace, PodSpec, Probe, ResourceQuota, Service, ServiceAccount},
        flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use portcullis::{
    facts::access::SELF_CHECK_NAMESPACE,
    webhook::{
        config::{CertificateSource, Config, ServeArgs},
        metrics::{Entry, NO_ANSWER},
    },
    yaml,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");

/// The controllers that make pods, or what makes pods.
const CONTROLLERS: [&str; 8] = [
    "system:kube-controller-manager",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:replication-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
];

/// The options as the Deployment's container gets them.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(Box<ServeArgs>),
}

/// The one object of a file.
fn value(file: &str) -> Value {
    let path = Path::new(MANIFESTS).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut documents: Vec<_> = yaml::documents(&text)
        .map(|document| {
            document
                .unwrap_or_else(|error| panic!("{file}: {error}"))
                .value
        })
        .collect();
    assert_eq!(documents.len(), 1, "{file}: one object a file");
    documents.remove(0)
}

/// The same, as the type that its kind says; a field that the type does not know would be lost in silence.
fn read<T: DeserializeOwned + serde::Serialize>(file: &str) -> T {
    let written = value(file);
    let object: T =
        serde_json::from_value(written.clone()).unwrap_or_else(|error| panic!("{file}: {error}"));
    let kept = serde_json::to_value(&object).expect("it was JSON before");
    assert_eq!(
        written, kept,
        "{file}: fields that the API does not know, or writes otherwise"
    );
    object
}

fn base<T: DeserializeOwned + serde::Serialize + Resource + Metadata<Ty = ObjectMeta>>(
    file: &str,
) -> T {
    read(&format!("base/{file}.yaml"))
}

fn config() -> Config {
    let arguments = container().args.expect("the container has arguments");
    let cli = Cli::try_parse_from(std::iter::once("portcullis".to_owned()).chain(arguments))
        .unwrap_or_else(|error| panic!("deployment.yaml: {error}"));
    let Command::Serve(args) = cli.command;
    (*args).into()
}

fn pod() -> PodSpec {
    let deployment: Deployment = base("deployment");
    deployment
        .spec
        .and_then(|spec| spec.template.spec)
        .expect("a Deployment has a pod template")
}

fn container() -> k8s_openapi::api::core::v1::Container {
    pod().containers.remove(0)
}

fn port(name: &str) -> i32 {
    let ports = container().ports.unwrap_or_default();
    let port = ports.iter().find(|port| port.name.as_deref() == Some(name));
    port.unwrap_or_else(|| panic!("deployment.yaml: no port {name}"))
        .container_port
}

#[test]
fn each_file_of_the_base_is_listed_and_reads_as_its_kind() {
    // Each by its type, so that a field misspelt is a failure here and not in somebody's cluster.
    let mut files = BTreeSet::new();
    let mut check = |file: &str, object: Value| {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        assert!(kind.is_string() && name.is_string(), "{file}: {object}");
        files.insert(format!("{file}.yaml"));
    };
    macro_rules! each {
        ($($file:literal: $kind:ty,)*) => {
            $(check($file, serde_json::to_value(base::<$kind>($file)).expect("an object is JSON"));)*
        };
    }
    each! {
        "cluster-role": ClusterRole,
        "cluster-role-binding": ClusterRoleBinding,
        "deployment": Deployment,
        "flow-schema": FlowSchema,
        "mutating-webhook": MutatingWebhookConfiguration,
        "namespace": Namespace,
        "namespace-labels": ValidatingAdmissionPolicy,
        "namespace-labels-binding": ValidatingAdmissionPolicyBinding,
        "network-policy": NetworkPolicy,
        "pod-disruption-budget": PodDisruptionBudget,
        "priority-level": PriorityLevelConfiguration,
        "role": Role,
        "role-binding": RoleBinding,
        "self-check-namespace": Namespace,
        "self-check-quota": ResourceQuota,
        "self-check-role": Role,
        "self-check-role-binding": RoleBinding,
        "service": Service,
        "service-account": ServiceAccount,
        "settings": ConfigMap,
        "validating-webhook": ValidatingWebhookConfiguration,
    }
    let listed: BTreeSet<String> =
        serde_json::from_value(value("base/kustomization.yaml")["resources"].clone())
            .expect("a list of files");
    assert_eq!(files, listed);
    let present: BTreeSet<_> = fs::read_dir(Path::new(MANIFESTS).join("base"))
        .expect("the base is there")
        .map(|entry| {
            entry
                .expect("it can be read")
                .file_name()
                .into_string()
                .expect("a plain name")
        })
        .filter(|name| name != "kustomization.yaml")
        .collect();
    assert_eq!(present, listed);
}

#[test]
fn the_arguments_parse_and_agree_with_ports_names_and_mounts() {
    let config = config();
    assert_eq!(i32::from(config.listen.port()), port("https"));
    assert_eq!(i32::from(config.admin_listen.port()), port("admin"));

    let service: Service = base("service");
    let namespace: Namespace = base("namespace");
    assert_eq!(Some(&config.namespace), namespace.metadata.name.as_ref());
    assert_eq!(service.metadata.namespace, namespace.metadata.name);
    let host = format!(
        "{}.{}.svc",
        service.metadata.name.expect("a name"),
        config.namespace
    );
    assert_eq!(config.certificates, CertificateSource::Own(vec![host]));

    let spec = service.spec.expect("a Service has a spec");
    let ports = spec.ports.expect("a Service has ports");
    assert_eq!(
        ports[0].target_port,
        Some(IntOrString::String("https".to_owned()))
    );
    let deployment: Deployment = base("deployment");
    let template = deployment.spec.expect("a Deployment has a spec").template;
    assert_eq!(spec.selector, template.metadata.expect("labels").labels);

    let settings: ConfigMap = base("settings");
    let mounts = container().volume_mounts.expect("the settings are mounted");
    let file = config.settings.expect("the settings are named");
    assert_eq!(file.parent(), Some(Path::new(&mounts[0].mount_path)));
    assert!(
        mounts[0].sub_path.is_none(),
        "a subPath mount never sees a change"
    );
    let key = file
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a plain name");
    assert!(
        settings
            .data
            .expect("the settings have a file")
            .contains_key(key)
    );
    let volume = pod().volumes.expect("volumes").remove(0);
    assert_eq!(
        Some(volume.config_map.expect("from a ConfigMap").name),
        settings.metadata.name
    );
    assert_eq!(
        pod().service_account_name,
        base::<ServiceAccount>("service-account").metadata.name
    );
}

#[test]
fn the_self_check_has_a_namespace_where_nothing_can_be_made() {
    let namespace: Namespace = base("self-check-namespace");
    let name = Some(SELF_CHECK_NAMESPACE);
    assert_eq!(namespace.metadata.name.as_deref(), name);
    let labels = namespace.metadata.labels.expect("labels");
    // Or no pod would come by the entry for namespaces that demand a gate.
    assert_eq!(labels[portcullis::contract::GATE_LABEL], "enabled");
    let quota: ResourceQuota = base("self-check-quota");
    assert_eq!(quota.metadata.namespace.as_deref(), name);
    let hard = quota.spec.and_then(|spec| spec.hard).expect("a limit");
    assert_eq!(hard["pods"].0, "0");
    // The name that tells replicas apart is that of the EndpointSlices.
    let env = container().env.expect("env");
    let replica = env.iter().find(|env| env.name == "PORTCULLIS_REPLICA");
    let source = replica.and_then(|env| env.value_from.as_ref());
    let field = source.and_then(|source| source.field_ref.as_ref());
    assert_eq!(field.expect("of the pod").field_path, "metadata.name");
}

#[test]
fn the_webhooks_call_the_paths_that_are_served_at_the_service() {
    let port = base::<Service>("service")
        .spec
        .and_then(|spec| spec.ports)
        .expect("ports")[0]
        .port;
    let validating: ValidatingWebhookConfiguration = base("validating-webhook");
    let mutating: MutatingWebhookConfiguration = base("mutating-webhook");
    let validating = validating.webhooks.expect("a webhook");
    let mutating = mutating.webhooks.expect("a webhook");
    let validating = validating
        .iter()
        .map(|webhook| (&webhook.name, &webhook.client_config, "/validate"));
    let mutating = mutating.iter().map(|webhook| {
        let injects = webhook.name.starts_with("inject");
        let path = if injects { "/inject" } else { "/mutate" };
        (&webhook.name, &webhook.client_config, path)
    });
    for (name, client, path) in validating.chain(mutating) {
        // Who is held up reads it in the API server's words.
        let may_be_fail = Entry::of(name).is_some();
        let path = format!("{path}{}", if may_be_fail { NO_ANSWER } else { "" });
        let service = client.service.as_ref().expect("called by Service");
        assert_eq!(
            (service.name.as_str(), service.namespace.as_str()),
            ("portcullis", "portcullis-system")
        );
        assert_eq!(
            (service.path.as_deref(), service.port),
            (Some(&*path), Some(port))
        );
    }
}

#[test]
fn the_webhooks_ship_a_closed_mouth_and_all_that_the_server_does_not_write() {
    for file in ["validating-webhook", "mutating-webhook"] {
        for webhook in webhooks(file) {
            ships_a_closed_mouth(file, &webhook);
        }
    }
    let mutating = &webhooks("mutating-webhook")[0];
    assert_eq!(
        mutating["namespaceSelector"]["matchExpressions"][2],
        serde_json::json!({"key": portcullis::policy::facts::PATCH, "operator": "In", "values": ["enabled"]}),
    );
}

/// The entries of one of the two configurations.
fn webhooks(file: &str) -> Vec<Value> {
    let webhooks = value(&format!("base/{file}.yaml"))["webhooks"].take();
    serde_json::from_value(webhooks).expect("a list of webhooks")
}

fn ships_a_closed_mouth(file: &str, webhook: &Value) {
    assert!(
        webhook["rules"].is_null(),
        "{file}: rules are the server's to write"
    );
    assert!(
        webhook["failurePolicy"].is_null(),
        "{file}: failurePolicy is the server's to write"
    );
    assert!(
        webhook["clientConfig"]["caBundle"].is_null(),
        "{file}: caBundle is the server's to write"
    );
    assert_eq!(webhook["timeoutSeconds"], 3, "{file}");
    assert_eq!(webhook["matchPolicy"], "Equivalent", "{file}");
    assert_eq!(webhook["sideEffects"], "None", "{file}");
    assert_eq!(
        webhook["admissionReviewVersions"],
        serde_json::json!(["v1"]),
        "{file}"
    );
    let excluded = &webhook["namespaceSelector"]["matchExpressions"];
    assert_eq!(
        excluded[0]["key"], "kubernetes.io/metadata.name",
        "{file}: a label nobody can change"
    );
    assert_eq!(
        excluded[0]["values"],
        serde_json::json!(["kube-system", "portcullis-system"]),
        "{file}"
    );
}

#[test]
fn namespaces_without_rules_are_left_out_but_for_pods_that_ask_for_a_gate() {
    for webhook in webhooks("validating-webhook")
        .into_iter()
        .chain(webhooks("mutating-webhook"))
    {
        let name = webhook["name"].as_str().expect("a name");
        let expressions = &webhook["namespaceSelector"]["matchExpressions"];
        let by_level = expressions
            .as_array()
            .expect("a list")
            .iter()
            .any(|expression| {
                expression["key"] == portcullis::policy::facts::ENFORCE
                    && expression["values"] == serde_json::json!(["none"])
            });
        assert_eq!(by_level, !name.starts_with("inject"), "{name}");
    }
}

#[test]
fn each_pod_that_asks_for_a_gate_comes_by_one_entry() {
    let entries = webhooks("mutating-webhook");
    let injecting = || entries.iter().skip(1);
    for entry in injecting() {
        assert_eq!(entry["reinvocationPolicy"], "IfNeeded");
        let but_for_selectors = |entry: &Value| {
            let mut entry = entry.clone();
            for field in ["name", "namespaceSelector", "objectSelector"] {
                entry[field].take();
            }
            let path = entry["clientConfig"]["service"]["path"].take();
            let served = path.as_str().map(|path| path.trim_end_matches(NO_ANSWER));
            (served == Some("/inject"), entry)
        };
        assert_eq!(but_for_selectors(entry), but_for_selectors(&entries[1]));
    }
    let labels = [
        None,
        Some("enabled"),
        Some("preferred"),
        Some("disabled"),
        Some("on"),
    ];
    for (pod, namespace) in labels
        .into_iter()
        .flat_map(|pod| labels.map(|namespace| (pod, namespace)))
    {
        let admits = |selector: &Value, value: Option<&str>| {
            let mut gate = selector["matchExpressions"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|expression| expression["key"] == portcullis::contract::GATE_LABEL);
            gate.all(|expression| {
                let values = expression["values"].as_array().expect("a list");
                let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
                listed == (expression["operator"] == "In")
            })
        };
        let by: Vec<_> = injecting()
            .filter(|entry| {
                admits(&entry["namespaceSelector"], namespace)
                    && admits(&entry["objectSelector"], pod)
            })
            .map(|entry| entry["name"].as_str().expect("a name"))
            .collect();
        let expected: &[&str] = match (pod, namespace) {
            (Some("enabled"), _) => &["inject.portcullis.dev"],
            (Some("preferred"), _) => &["inject-preferred.portcullis.dev"],
            (_, Some("enabled")) => &["inject-by-namespace.portcullis.dev"],
            (Some("disabled"), _) => &[],
            (_, Some("preferred")) => &["inject-preferred-by-namespace.portcullis.dev"],
            _ => &[],
        };
        assert_eq!(by, expected, "pod {pod:?} in namespace {namespace:?}");
    }
}

#[test]
fn controllers_are_left_out_by_who_asks_and_only_where_templates_were_judged() {
    let condition = |file: &str, number: usize| {
        let webhook = value(file)["webhooks"][0].clone();
        webhook["matchConditions"][number]["expression"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let who = condition("base/validating-webhook.yaml", 0);
    let named: BTreeSet<_> = who
        .split('\'')
        .filter(|part| part.starts_with("system:"))
        .collect();
    assert_eq!(named, BTreeSet::from(CONTROLLERS));
    let nodes = "!('system:nodes' in request.userInfo.groups)";
    assert_eq!(condition("base/validating-webhook.yaml", 1), nodes);
    // It is replicaset-controller and its like who make the pods to be patched.
    assert_eq!(condition("base/mutating-webhook.yaml", 0), nodes);
    assert_eq!(condition("base/mutating-webhook.yaml", 1), "");
}

#[test]
fn the_probes_ask_the_admin_port_for_what_it_serves() {
    let container = container();
    let target = |probe: Option<Probe>| {
        let http = probe
            .and_then(|probe| probe.http_get)
            .expect("a probe by HTTP");
        (http.path.expect("a path"), http.port)
    };
    let admin = || IntOrString::String("admin".to_owned());
    assert_eq!(
        target(container.readiness_probe),
        ("/ready".to_owned(), admin())
    );
    assert_eq!(
        target(container.liveness_probe),
        ("/live".to_owned(), admin())
    );
}

#[test]
fn the_overlay_changes_the_settings_and_nothing_else() {
    let overlay = value("overlays/observe/kustomization.yaml");
    assert_eq!(
        overlay["patches"],
        serde_json::json!([{"path": "settings.yaml"}])
    );
    let (base, observed): (ConfigMap, ConfigMap) =
        (base("settings"), read("overlays/observe/settings.yaml"));
    assert_eq!(base.metadata.name, observed.metadata.name);
    assert_eq!(
        base.data.expect("a file").into_keys().collect::<Vec<_>>(),
        observed
            .data
            .expect("a file")
            .into_keys()
            .collect::<Vec<_>>(),
    );
}
