//! `portcullis doctor` as a user runs it, with its lines as values.

use std::path::Path;

use serde_json::Value;

use super::program::portcullis;

/// What the doctor said: the exit status, and the lines as `CHECK LEVEL MESSAGE`.
pub struct Said {
    pub status: i32,
    pub lines: Vec<String>,
}

/// Lets it examine a cluster; its bad objects go to the namespace `dry_run_in`.
pub fn ask(kubeconfig: &Path, dry_run_in: &str) -> Said {
    let said = portcullis(
        kubeconfig,
        &["doctor", "--output", "json", "--dry-run-in", dry_run_in],
    );
    let report: Value =
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.err));
    let line = |line: &Value| {
        let [check, level, message] =
            ["check", "level", "message"].map(|key| line[key].as_str().expect("a string"));
        if level != "ok" && level != "unknown" {
            assert!(line["fix"].is_string(), "no way to mend it: {line}");
        }
        format!("{check} {level} {message}")
    };
    Said {
        status: said.status,
        lines: (report["lines"].as_array().expect("lines").iter())
            .map(line)
            .collect(),
    }
}

// === impl Said ===

impl Said {
    /// There is a line that begins so and holds these words.
    #[track_caller]
    pub fn has(&self, begin: &str, words: &str) {
        assert!(
            self.is_said(begin, words),
            "no {begin} ... {words}: {:#?}",
            self.lines
        );
    }

    #[track_caller]
    pub fn lacks(&self, begin: &str, words: &str) {
        assert!(
            !self.is_said(begin, words),
            "{begin} ... {words}: {:#?}",
            self.lines
        );
    }

    pub fn is_said(&self, begin: &str, words: &str) -> bool {
        let mut lines = self.lines.iter();
        lines.any(|line| line.starts_with(begin) && line.contains(words))
    }
}
