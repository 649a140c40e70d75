//! Who may use whom: the edges that keep the judge and the gate's state machine pure, and the gate small.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What the clients of an API server are called.
const CLUSTER: [&str; 3] = ["kube", "k8s_openapi", "json_patch"];

/// A file of `src` without its tests and comments.
struct Source {
    path: PathBuf,
    /// As a path: `crate::policy::rules::probes`.
    module: Vec<String>,
    code: String,
}

#[test]
fn the_judge_is_pure() {
    let mut forbidden = vec![
        "tokio",
        "hyper",
        "hyper_util",
        "tracing",
        "metrics",
        "std::env",
        "std::fs",
        "std::time",
        "std::net",
        "std::process",
        "crate::facts",
        "crate::webhook",
        "crate::gate",
        "crate::server",
        "crate::cli",
    ];
    forbidden.extend(CLUSTER);
    assert_uses_none_of("policy", &forbidden);
}

#[test]
fn facts_know_nothing_of_those_who_ask_for_them() {
    assert_uses_none_of(
        "facts",
        &[
            "crate::webhook",
            "crate::gate",
            "crate::server",
            "crate::cli",
        ],
    );
}

#[test]
fn the_state_machine_of_the_gate_uses_only_std_and_the_contract() {
    for source in sources("gate/state") {
        for path in source.used() {
            let allowed = ["std", "core", "crate::contract", "crate::gate::state"];
            assert!(
                allowed.iter().any(|allowed| is_below(&path, allowed)),
                "{} uses {path}",
                source.path.display()
            );
        }
        for clock in [
            "std::env",
            "std::fs",
            "std::net",
            "Instant::now",
            "SystemTime",
        ] {
            assert!(
                !source.mentions(clock),
                "{} uses {clock}",
                source.path.display()
            );
        }
    }
}

#[test]
fn the_gate_knows_nothing_of_admission() {
    let mut forbidden = vec![
        "crate::policy",
        "crate::facts",
        "crate::webhook",
        "crate::cli",
    ];
    forbidden.extend(CLUSTER);
    assert_uses_none_of("gate", &forbidden);
}

#[test]
fn the_shared_server_uses_no_module_of_the_project() {
    for source in sources("server") {
        for path in source.used() {
            let own = is_below(&path, "crate::server") || !is_below(&path, "crate");
            assert!(own, "{} uses {path}", source.path.display());
        }
    }
}

#[test]
fn the_gate_links_no_client_of_an_api_server() {
    let cargo = std::env::var_os("CARGO").expect("cargo runs its tests");
    let tree = Command::new(cargo)
        .current_dir(ROOT)
        .args([
            "tree",
            "--locked",
            "--offline",
            "--edges=normal",
            "--prefix=none",
            "--format={p}",
        ])
        .args(["--no-default-features", "--features=gate"])
        .output()
        .expect("cargo tree");
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).expect("UTF-8");
    let names: Vec<_> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains(&"hyper"), "the tree of the gate: {tree}");
    for name in names {
        let foreign = name.starts_with("kube") || name == "k8s-openapi" || name == "json-patch";
        assert!(!foreign, "the gate links {name}");
    }
}

#[test]
fn finds_what_a_file_uses() {
    let source = Source {
        path: PathBuf::from("src/policy/rules/x.rs"),
        module: ["crate", "policy", "rules", "x"].map(String::from).to_vec(),
        code: String::from(
            "use std::{fmt, sync::{Arc, Mutex as M}};\npub(super) use super::{Rule, super::facts};\nuse crate::a;\n\
             let x = std::time::Duration::ZERO; webhook::metrics::X;",
        ),
    };
    let expected = [
        "std::fmt",
        "std::sync::Arc",
        "std::sync::Mutex",
        "crate::policy::rules::Rule",
        "crate::policy::facts",
        "crate::a",
    ];
    assert_eq!(source.used(), expected);
    assert!(source.mentions("std::time"));
    assert!(
        !source.mentions("metrics"),
        "webhook::metrics is not the crate"
    );
}

fn assert_uses_none_of(folder: &str, forbidden: &[&str]) {
    for source in sources(folder) {
        let used = source.used();
        for name in forbidden {
            let imported = used.iter().any(|path| is_below(path, name));
            assert!(
                !imported && !source.mentions(name),
                "{} uses {name}",
                source.path.display()
            );
        }
    }
}

fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every file below `src/FOLDER`, but for those that hold only tests.
fn sources(folder: &str) -> Vec<Source> {
    let src = Path::new(ROOT).join("src");
    let mut open = vec![src.join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if is_test_module(&path) {
            continue;
        }
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .expect("a folder")
                    .map(|entry| entry.expect("an entry").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(Source::read(&src, path));
        }
    }
    assert!(!found.is_empty(), "src/{folder} holds no code");
    found
}

/// Its `mod` line stands under `#[cfg(test)]`.
fn is_test_module(path: &Path) -> bool {
    let name = path.file_stem().expect("a name").to_string_lossy();
    let parent = path.with_file_name("mod.rs");
    let Ok(parent) = fs::read_to_string(parent) else {
        return false;
    };
    let lines: Vec<_> = parent.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        pair[0] == "#[cfg(test)]"
            && pair[1]
                .trim_end_matches(';')
                .ends_with(&format!("mod {name}"))
    })
}

// === impl Source ===

impl Source {
    fn read(src: &Path, path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        let code = code
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        let below = path
            .strip_prefix(src)
            .expect("below src")
            .with_extension("");
        let mut module = vec![String::from("crate")];
        module.extend(below.iter().map(|part| part.to_string_lossy().into_owned()));
        module.retain(|part| part != "mod");
        Self {
            code: code.collect::<Vec<_>>().join("\n"),
            module,
            path,
        }
    }

    /// Full paths of all that it imports.
    fn used(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for statement in self.code.split(';') {
            let Some(start) = find_use(statement) else {
                continue;
            };
            expand("", &statement[start..], &mut paths);
        }
        paths.into_iter().map(|path| self.resolve(&path)).collect()
    }

    /// `name::` occurs in it as the beginning of a path.
    fn mentions(&self, name: &str) -> bool {
        let name = format!("{name}::");
        self.code.match_indices(&name).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            !before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == ':')
        })
    }

    fn resolve(&self, path: &str) -> String {
        let mut module = self.module.clone();
        let mut rest = path;
        while let Some(above) = rest.strip_prefix("super::") {
            // In a `mod.rs` the module is the folder, so the first `super` leaves the folder there too.
            module.pop();
            rest = above;
        }
        match rest.strip_prefix("self::") {
            Some(below) => format!("{}::{below}", module.join("::")),
            None if rest.len() < path.len() => format!("{}::{rest}", module.join("::")),
            None => path.to_owned(),
        }
    }
}

/// Where the tree of the `use` that begins a line of this statement starts.
fn find_use(statement: &str) -> Option<usize> {
    let mut at = 0;
    for line in statement.split_inclusive('\n') {
        let item = line.trim_start();
        let item = item
            .strip_prefix("pub(super) ")
            .or_else(|| item.strip_prefix("pub(crate) "))
            .unwrap_or(item);
        let item = item.strip_prefix("pub ").unwrap_or(item);
        if let Some(tree) = item.strip_prefix("use ") {
            return Some(at + line.len() - tree.len());
        }
        at += line.len();
    }
    None
}

/// Expands the braces of a use tree.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        if !path.is_empty() {
            paths.push(
                format!("{prefix}{path}")
                    .trim_end_matches("::self")
                    .to_owned(),
            );
        }
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut start) = (0, 0);
    for (at, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&prefix, &group[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&prefix, &group[start..], paths);
}
