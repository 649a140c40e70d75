//! `manifests/monitoring`: what it asks for exists, alerts fire when they should, dashboards show something.

mod expression;

mod prometheus;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use portcullis::{cli::report, gate, webhook, yaml};
use serde_json::{Value, json};

use self::expression::{groupings, selectors};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const DASHBOARDS: [&str; 2] = ["portcullis-gate", "portcullis-webhook"];

/// What the PodMonitors add to every series.
const SCRAPED: [&str; 4] = ["container", "namespace", "pod", "workload"];

/// An alert as the rules have it.
struct Alert {
    name: String,
    expr: String,
    whole: Value,
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn document(file: &str) -> Value {
    let text = read(file);
    let mut documents = yaml::documents(&text);
    let document = documents.next().expect("one document");
    document
        .unwrap_or_else(|error| panic!("{file}: {error}"))
        .value
}

fn rules() -> Value {
    document("manifests/monitoring/prometheus-rule.yaml")["spec"].take()
}

fn alerts() -> Vec<Alert> {
    let rules = rules();
    let groups = rules["groups"].as_array().expect("groups").iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().expect("rules"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let alert = |rule: &Value| Alert {
        name: text(&rule["alert"]),
        expr: text(&rule["expr"]),
        whole: rule.clone(),
    };
    rules.map(alert).collect()
}

fn panels(dashboard: &str) -> Vec<Value> {
    let text = read(&format!("manifests/monitoring/dashboards/{dashboard}.json"));
    let mut dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let Value::Array(panels) = dashboard["panels"].take() else {
        panic!("a dashboard has panels");
    };
    panels
}

/// Where an expression stands, the expression, and its legend.
fn queries() -> Vec<(String, String, String)> {
    let mut queries = Vec::new();
    for dashboard in DASHBOARDS {
        for panel in panels(dashboard) {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = |field: &str| target[field].as_str().expect("a text").to_owned();
                let place = format!("{dashboard}: {}", panel["title"]);
                queries.push((place, text("expr"), text("legendFormat")));
            }
        }
    }
    for alert in alerts() {
        queries.push((alert.name, alert.expr, String::new()));
    }
    queries
}

/// Every series' name with its labels.
fn known() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut known = BTreeMap::from([("up".to_owned(), BTreeSet::from(SCRAPED))]);
    let mut add = |name: String, is_histogram: bool, labels: &[&'static str]| {
        let labels: BTreeSet<_> = labels.iter().copied().chain(SCRAPED).collect();
        if is_histogram {
            let mut with_bound = labels.clone();
            with_bound.insert("le");
            known.insert(format!("{name}_bucket"), with_bound);
            known.insert(format!("{name}_sum"), labels.clone());
            known.insert(format!("{name}_count"), labels);
        } else {
            known.insert(name, labels);
        }
    };
    let metrics = webhook::metrics::METRICS.iter();
    for metric in metrics.chain(report::metrics::METRICS) {
        let is_histogram = metric.kind == webhook::metrics::Kind::Histogram;
        add(metric.name.to_owned(), is_histogram, metric.labels);
    }
    for metric in gate::metrics::METRICS {
        let labels: Vec<_> = metric
            .labels
            .split(',')
            .filter(|label| !label.is_empty())
            .collect();
        let name = format!("{}{}", gate::metrics::PREFIX, metric.name);
        add(name, metric.kind == "histogram", &labels);
    }
    known
}

#[test]
fn every_metric_and_label_is_one_of_the_code() {
    let known = known();
    for (place, expr, legend) in queries() {
        let selectors = selectors(&expr);
        assert!(!selectors.is_empty(), "{place}: {expr}");
        let mut labels: BTreeSet<&str> = BTreeSet::new();
        for selector in selectors {
            let of = known.get(selector.name);
            let of = of.unwrap_or_else(|| panic!("{place}: there is no {}", selector.name));
            for (label, _) in &selector.matchers {
                assert!(
                    of.contains(label),
                    "{place}: {} has no label {label}",
                    selector.name
                );
            }
            labels.extend(of);
        }
        let legend = legend
            .split("{{")
            .skip(1)
            .filter_map(|part| part.split("}}").next());
        for label in groupings(&expr).into_iter().chain(legend) {
            assert!(
                labels.contains(label),
                "{place}: nothing there has a label {label}"
            );
        }
    }
}

#[test]
fn alerts_fire_on_what_they_are_for_and_on_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rules.yaml"), rules().to_string()).unwrap();
    fs::write(
        folder.path().join("alerts.yaml"),
        read("tests/monitoring/alerts.yaml"),
    )
    .unwrap();
    for (command, file) in [("check", "rules.yaml"), ("test", "alerts.yaml")] {
        let promtool = Command::new("promtool")
            .args([command, "rules", file])
            .current_dir(folder.path())
            .output()
            .expect("promtool, of the package prometheus");
        let said = [promtool.stdout, promtool.stderr].concat();
        assert!(
            promtool.status.success(),
            "{}",
            String::from_utf8_lossy(&said)
        );
    }
}

#[test]
fn every_alert_is_tested_both_ways_and_explained() {
    let tests = document("tests/monitoring/alerts.yaml");
    let tests = tests["tests"].as_array().expect("tests").iter();
    let cases: Vec<_> = tests
        .flat_map(|test| test["alert_rule_test"].as_array().expect("cases"))
        .collect();
    let readme = read("README.md");
    let runbook = readme
        .split("\n## On call\n")
        .nth(1)
        .expect("a section On call");
    let runbook = runbook.split("\n## ").next().unwrap_or_default();
    let mut names = BTreeSet::new();
    for Alert { name, whole, .. } in alerts() {
        for fires in [true, false] {
            let case = cases.iter().any(|case| {
                let expected = case["exp_alerts"]
                    .as_array()
                    .is_some_and(|alerts| !alerts.is_empty());
                case["alertname"] == name.as_str() && expected == fires
            });
            assert!(case, "{name}: no test where it fires: {fires}");
        }
        assert!(
            runbook.contains(&format!("| `{name}` |")),
            "README, On call: {name}"
        );
        let severity = whole["labels"]["severity"].as_str();
        assert!(
            matches!(severity, Some("critical" | "warning" | "info")),
            "{name}"
        );
        names.insert(name);
    }
    for row in runbook
        .lines()
        .filter_map(|line| line.strip_prefix("| `Portcullis"))
    {
        let name = format!("Portcullis{}", row.split('`').next().unwrap_or_default());
        assert!(
            names.contains(&name),
            "README, On call: there is no alert {name}"
        );
    }
}

#[test]
fn dashboards_are_laid_out_and_say_what_they_show() {
    for dashboard in DASHBOARDS {
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in panels(dashboard) {
            let title = &panel["title"];
            assert!(
                ids.insert(panel["id"].as_u64()),
                "{dashboard}: {title}: its id stands twice"
            );
            let at = |field: &str| panel["gridPos"][field].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24, "{dashboard}: {title} is too wide");
            for cell in (at("x")..at("x") + at("w"))
                .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
            {
                assert!(
                    taken.insert(cell),
                    "{dashboard}: {title} lies on another panel"
                );
            }
            if panel["type"] != "row" {
                let described = panel["description"]
                    .as_str()
                    .is_some_and(|text| text.ends_with('.'));
                assert!(described, "{dashboard}: {title} has no description");
                assert_eq!(
                    panel["datasource"],
                    json!({"type": "prometheus", "uid": "${datasource}"})
                );
            }
        }
    }
}

#[test]
fn every_file_is_part_of_the_kustomization() {
    let folder = Path::new(ROOT).join("manifests/monitoring");
    let kustomization = document("manifests/monitoring/kustomization.yaml");
    let generated = &kustomization["configMapGenerator"][0]["files"];
    let listed = [&kustomization["resources"], generated]
        .into_iter()
        .flat_map(|list| list.as_array().expect("a list"));
    let listed: BTreeSet<_> = listed
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let mut files = BTreeSet::new();
    for (below, prefix) in [
        (folder.clone(), ""),
        (folder.join("dashboards"), "dashboards/"),
    ] {
        for entry in fs::read_dir(below).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().display());
            if entry.path().is_file() && name != "kustomization.yaml" {
                files.insert(name);
            }
        }
    }
    assert_eq!(listed, files);
}
