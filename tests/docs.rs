//! The README's generated parts are what the code says. `make docs` writes them anew.
//!
//! A generated part stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, each on a line of its own.

use std::{env, fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use portcullis::{
    cli::report, contract::Settings, gate, policy::rules::RULES, settings, webhook, yaml,
};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

/// Set to anything, it makes the test write the parts instead of comparing them.
const UPDATE: &str = "UPDATE_DOCS";

/// The rules, in the order of the table in the code.
fn rules() -> String {
    let mut table = String::from("| rule | demands | level |\n| --- | --- | --- |\n");
    for rule in RULES {
        let summary = rule.summary.replace('|', "\\|");
        writeln!(table, "| `{}` | {summary} | {} |", rule.id, rule.level).unwrap();
    }
    table
}

/// `text` with the part `name` replaced.
fn with_part(text: &str, name: &str, body: &str) -> String {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {name}:{edge} -->\n"));
    let (before, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("README has no {begin}"));
    let (_, after) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("README has no {end}"));
    format!("{before}{begin}{body}{end}{after}")
}

#[test]
fn the_readme_holds_the_rules_and_metrics_as_the_code_has_them() {
    let readme = fs::read_to_string(README).expect("README.md");
    let parts = [
        ("rules", rules()),
        ("webhook-metrics", webhook::metrics::markdown()),
        ("report-metrics", report::metrics::markdown()),
        ("gate-metrics", gate::metrics::table()),
    ];
    let generated = parts.iter().fold(readme.clone(), |text, (name, body)| {
        with_part(&text, name, body)
    });
    if env::var_os(UPDATE).is_some() {
        fs::write(README, generated).expect("README.md");
        return;
    }
    assert!(
        readme == generated,
        "the README's tables differ from the code: run `make docs`\n\n{generated}"
    );
}

#[test]
fn a_gate_starts_with_the_settings_that_the_readme_shows() {
    let readme = fs::read_to_string(README).expect("README.md");
    let section = readme.split("## The traffic gate\n").nth(1).unwrap();
    let example = section.split("```json\n").nth(1).unwrap();
    let settings = Settings::decode(example.split("```").next().unwrap()).unwrap();
    assert!(settings.warmup().is_some());
}

#[test]
fn the_admission_settings_that_the_readme_shows_can_be_used() {
    let readme = fs::read_to_string(README).expect("README.md");
    let (_, rest) = readme
        .split_once("```yaml\nenforce:")
        .expect("README has settings in YAML");
    let (settings, _) = rest.split_once("```").unwrap();
    let settings = settings::parse(format!("enforce:{settings}").into(), Path::new("README.md"));
    if let Err(error) = settings {
        panic!("{error}: {:?}", std::error::Error::source(&error));
    }
}

#[test]
fn continuous_integration_runs_tasks_of_the_makefile_and_nothing_else() {
    let read = |file| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    let (workflow, makefile) = (read(".github/workflows/ci.yml"), read("Makefile"));
    let workflow = yaml::documents(&workflow)
        .next()
        .expect("one document")
        .expect("YAML")
        .value;
    let jobs = workflow["jobs"].as_object().expect("jobs");
    let mut tasks = Vec::new();
    for (name, job) in jobs {
        for step in job["steps"].as_array().expect("steps") {
            let Some(run) = step["run"].as_str() else {
                let uses = step["uses"].as_str().expect("a step runs or uses");
                let (_, pin) = uses.split_once('@').expect("an action has a version");
                assert_eq!(pin.len(), 40, "{name}: {uses} is not pinned");
                continue;
            };
            if let Some(task) = run.strip_prefix("make ") {
                assert!(makefile.contains(&format!("\n{task}: ")), "{name}: {run}");
                tasks.push(task);
            } else {
                assert!(run.starts_with("${{ "), "{name}: {run}");
            }
        }
    }
    assert_eq!(tasks, ["test", "docs", "image"]);
}

#[test]
fn the_manifest_that_the_readme_shows_gets_a_gate_without_a_warning() {
    let readme = fs::read_to_string(README).expect("README.md");
    let section = readme.split("## Injecting the gate\n").nth(1).unwrap();
    let manifest = section.split("```yaml\n").nth(1).unwrap();
    let manifest = manifest.split("```").next().unwrap();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("checkout.yaml");
    fs::write(&file, manifest).expect("the folder is ours");
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["check", "--output", "json"])
        .arg(&file)
        .output()
        .expect("portcullis starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let rules: Vec<_> = findings.iter().map(|finding| &finding["rule"]).collect();
    // The Secret is not among the files, and a CPU limit is left out on purpose.
    assert_eq!(rules, ["cpu-limit", "secret-reference"], "{report:#}");
}
