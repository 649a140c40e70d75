//! A report in a real browser: what a person does with it works, and twenty thousand rows do not freeze it.
//!
//! `make bench-page`. Not part of `make test`, which would need a browser for it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::*;

const FINDINGS: usize = 20_000;

const HARNESS: &str = include_str!("browser.js");

/// What a cluster might be given to harm who reads the report.
const ATTACK: &str = "</script><script>window.attacked = true</script><img src=x onerror=\"attacked = true\"> gpj\u{202e}exe";

#[derive(Debug, Deserialize)]
struct Told {
    paint: u64,
    ready: u64,
    steps: Vec<Step>,
    text: String,
    attacked: bool,
}

#[derive(Debug, Deserialize)]
struct Step {
    name: String,
    status: String,
    rows: usize,
    groups: Vec<String>,
    first: String,
    sorted: String,
    focus: String,
    longest: u64,
}

#[test]
#[ignore = "needs chromium: make bench-page"]
fn twenty_thousand_rows_do_not_freeze_a_browser() {
    let page = page();
    let told = used(&page);
    let size = page.len() / 1024;
    println!(
        "{FINDINGS} findings: {size} KiB, first paint {} ms, ready {} ms",
        told.paint, told.ready
    );
    for Step {
        name,
        status,
        longest,
        ..
    } in &told.steps
    {
        println!("  {name:16} {status:32} longest task {longest} ms");
        assert!(*longest < 500, "{name} froze the page");
    }
    let step = |name: &str| told.steps.iter().find(|step| step.name == name).unwrap();
    assert!(!told.attacked);
    let harmless = ATTACK.replace('\u{202e}', "\\u{202e}");
    assert!(told.text.contains(&harmless), "{}", told.text);
    let load = step("load");
    assert_eq!((load.rows, &*load.status), (100, "20,000 rows"));
    assert_eq!(
        (&*load.groups[0], &*load.first),
        ("team-0", "Deployment app-0"),
        "as given"
    );
    let search = step("search");
    assert_eq!(
        search.status, "1,111 of 20,000 rows",
        "app-7, app-70 and so on"
    );
    assert_eq!(step("search nothing").rows, 0);
    let sort = step("sort");
    assert_eq!(
        (&*sort.sorted, &*sort.focus),
        ("none,ascending,none,none", "Workload")
    );
    assert_eq!(
        (&*sort.groups[0], &*sort.first),
        ("team-0", "Deployment app-0"),
        "within groups"
    );
    let down = step("sort down");
    assert_eq!(
        (&*down.groups[0], &*down.first),
        ("team-0", "Deployment app-99")
    );
    let ungrouped = step("ungroup");
    assert_eq!(
        (ungrouped.groups.len(), &*ungrouped.first),
        (0, "Deployment app-9999")
    );
    assert_eq!(step("next page").focus, "Next");
    assert_eq!(step("follow a link").status, "500 of 20,000 rows");
    assert_eq!(step("print").rows, 500);
    assert_eq!(step("printed").rows, 100);
}

/// What the harness tells of `page` in a browser.
fn used(page: &str) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    fs::write(&file, page).unwrap();
    let mut chromium = Command::new("timeout")
        .args([
            "60",
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
        ])
        .args(["--remote-debugging-port=0", "--no-first-run"]) // stays, where it would leave at once
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .arg(format!("file://{}", file.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(chromium.stderr.take().unwrap()).lines();
    let told = lines.map_while(Result::ok).find_map(|line| {
        let (_, told) = line.split_once("portcullis-page ")?;
        BASE64_STANDARD.decode(told.split_once(' ')?.0).ok()
    });
    // timeout hands this signal on, where it could not hand on SIGKILL.
    let id = chromium.id().to_string();
    Command::new("kill").arg(id).status().unwrap();
    chromium.wait().unwrap();
    serde_json::from_slice(&told.expect("what the page told")).unwrap()
}

/// A report of many findings, and the harness, which may run beside the page's own script.
fn page() -> String {
    let mut out = Vec::new();
    let title = Title {
        window: "20,000",
        command: "portcullis audit",
        at: "now",
    };
    let mut page = Page::begin(&mut out, title).unwrap();
    let sums = Sums {
        heading: "By namespace",
        column: "namespace",
        counted: ["deny", "warn"],
    };
    let sum = Sum {
        name: "team-3",
        more: "",
        bad: 500,
        fair: 0,
        all: 500,
    };
    page.sums(&[(sums, vec![sum])]).unwrap();
    let columns = [
        Column {
            tones: &[("deny", Tone::Bad), ("warn", Tone::Wait)],
            ..Column::new("Level", Role::Choice)
        },
        Column::new("Namespace", Role::Group),
        Column::new("Workload", Role::Name),
        Column::new("Rule", Role::Choice),
        Column::new("Problem", Role::Text),
        Column::new("Fix", Role::Fix),
    ];
    let mut list = page.list("Findings", &columns, FINDINGS).unwrap();
    for n in 0..FINDINGS {
        let workload = format!("Deployment app-{n}");
        let secret =
            format!("container \"app\" reads Secret \"app-{n}-secrets\", which does not exist");
        let problem = if n == 0 { ATTACK } else { &*secret };
        let fix =
            "spec.template.spec.containers[name=app]\nresources:\n  limits:\n    memory: 256Mi\n";
        let level = if n % 3 == 0 { "deny" } else { "warn" };
        let namespace = format!("team-{}", n / 500);
        list.row([
            level,
            &namespace,
            &workload,
            "secret-reference",
            problem,
            fix,
        ])
        .unwrap();
    }
    list.end("").unwrap();
    page.end().unwrap();
    let page = String::from_utf8(out).unwrap();
    let policy = format!("script-src {} ", Source(HARNESS));
    page.replace("script-src ", &policy)
        .replace("</body>", &format!("<script>{HARNESS}</script>\n</body>"))
}
