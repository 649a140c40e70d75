//! How long the same manifests take, and how much memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{
    files::policy,
    program::{GATOR, KUBE_SCORE, KYVERNO, Program},
};

/// Runs of each program, in turns; what is told is the median.
const ROUNDS: usize = 3;

/// How many manifests, and whether Kyverno's CEL policy, which takes minutes, is asked as well.
const SETS: [(usize, bool); 2] = [(2000, true), (5000, false)];

/// A program that reads a folder.
struct Contender {
    name: String,
    /// Where it stands, or why there is none.
    program: Result<PathBuf, String>,
    arguments: fn(&mut Command, &Path),
    rounds: usize,
}

/// What a run took.
struct Usage {
    seconds: f64,
    cpu: f64,
    peak_kib: f64,
}

/// Prints a table for each set.
pub fn print() {
    for (count, with_cel) in SETS {
        let folder = TempDir::new().expect("a temporary folder");
        for number in 0..count {
            let path = folder.path().join(format!("{number:05}.yaml"));
            fs::write(path, manifest(number)).expect("the folder is ours");
        }
        println!("| {count} manifests | time | manifests a second | CPU time | peak memory |");
        println!("| --- | --- | --- | --- | --- |");
        let contenders = contenders(with_cel);
        let mut taken: Vec<Vec<Usage>> = contenders.iter().map(|_| Vec::new()).collect();
        for round in 0..ROUNDS {
            for (contender, taken) in contenders.iter().zip(&mut taken) {
                if let (Ok(program), true) = (&contender.program, round < contender.rounds) {
                    let mut command = Command::new(program);
                    (contender.arguments)(&mut command, folder.path());
                    taken.push(measured(&command));
                }
            }
        }
        for (contender, taken) in contenders.iter().zip(&taken) {
            match &contender.program {
                Ok(_) => row(&contender.name, count, taken),
                Err(why) => println!("| {} | not built: {why} | | | |", contender.name),
            }
        }
        println!();
    }
}

fn row(name: &str, count: usize, taken: &[Usage]) {
    let median = |of: fn(&Usage) -> f64| {
        let mut numbers: Vec<_> = taken.iter().map(of).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    let seconds = median(|usage| usage.seconds);
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    println!(
        "| {name} | {seconds:.2} s | {:.0} | {:.2} s | {:.0} MiB |",
        count / seconds,
        median(|usage| usage.cpu),
        median(|usage| usage.peak_kib) / 1024.0,
    );
}

fn contenders(with_cel: bool) -> Vec<Contender> {
    let ours = Contender {
        name: "`portcullis check`, every rule".to_owned(),
        program: Ok(env!("CARGO_BIN_EXE_portcullis").into()),
        arguments: |command, folder| {
            command.arg("check").arg(folder);
        },
        rounds: ROUNDS,
    };
    let kube_score = Contender::of(&KUBE_SCORE, "its tests", ROUNDS, |command, folder| {
        command.arg("score").args(files(folder));
    });
    let patterns = Contender::of(
        &KYVERNO,
        "patterns, two rules",
        ROUNDS,
        |command, folder| {
            let policy = policy("kyverno-patterns.yaml");
            command
                .arg("apply")
                .arg(policy)
                .arg("--resource")
                .arg(folder);
        },
    );
    let gator = Contender::of(&GATOR, "our Rego", 1, |command, folder| {
        let policy = policy("gatekeeper.yaml");
        command
            .args(["test", "--filename"])
            .arg(folder)
            .arg("--filename")
            .arg(policy);
    });
    let cel = Contender::of(&KYVERNO, "our CEL", 1, |command, folder| {
        let policy = policy("kyverno.yaml");
        command
            .arg("apply")
            .arg(policy)
            .arg("--resource")
            .arg(folder);
    });
    let mut all = vec![ours, kube_score, patterns, gator];
    all.extend(with_cel.then_some(cel));
    all
}

impl Contender {
    fn of(
        program: &Program,
        what: &str,
        rounds: usize,
        arguments: fn(&mut Command, &Path),
    ) -> Self {
        Self {
            name: format!("{} {}, {what}", program.name, program.version),
            program: program.path(),
            arguments,
            rounds,
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is ours");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort();
    files
}

/// Runs it under GNU time, which alone knows the peak of a child's memory; what it says of the manifests is dropped.
fn measured(command: &Command) -> Usage {
    let folder = TempDir::new().expect("a temporary folder");
    let report = folder.path().join("usage");
    let status = Command::new("/usr/bin/time")
        .args(["--quiet", "--format=%e %U %S %M", "--output"])
        .arg(&report)
        .arg(command.get_program())
        .args(command.get_args())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("GNU time is installed");
    // Findings are an exit status, too.
    assert!(status.code().is_some(), "{command:?} was ended by a signal");
    let report = fs::read_to_string(report).expect("GNU time writes it");
    let numbers: Vec<f64> = report
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    Usage {
        seconds: numbers[0],
        cpu: numbers[1] + numbers[2],
        peak_kib: numbers[3],
    }
}

/// A Deployment of 2 containers with probes, resources and 6 references.
fn manifest(number: usize) -> String {
    include_str!("manifest.yaml")
        .replace("NUMBER", &number.to_string())
        .replace("NAMESPACE", &format!("shop-{}", number % 20))
        .replace("OBJECT", &(number % 200).to_string())
}
