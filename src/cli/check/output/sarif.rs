//! SARIF 2.1.0 (OASIS), as GitHub code scanning and others read it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Judged, Output};
use crate::{
    cli::check::{Summary, input::Problem},
    policy::{
        finding::{Finding, Level},
        rules::{RULES, Rule},
    },
    yaml::Position,
};

/// One run; results one a line.
#[derive(Debug, Default)]
pub(super) struct Sarif {
    begun: bool,
    problems: Vec<Value>,
}

// === impl Sarif ===

impl Sarif {
    /// Writes what stands before the next result.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.begun {
            return writeln!(out, ",");
        }
        self.begun = true;
        let rules: Vec<_> = RULES.iter().map(|rule| describe(rule)).collect();
        let driver = json!({
            "name": "portcullis",
            "semanticVersion": env!("CARGO_PKG_VERSION"),
            "rules": rules,
        });
        writeln!(
            out,
            "{{\"$schema\":\"https://json.schemastore.org/sarif-2.1.0.json\","
        )?;
        writeln!(
            out,
            "\"version\":\"2.1.0\",\"runs\":[{{\"tool\":{{\"driver\":{driver}}},"
        )?;
        writeln!(out, "\"columnKind\":\"unicodeCodePoints\",\"results\":[")
    }
}

impl Output for Sarif {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        for (finding, position) in judged.findings {
            self.begin(out)?;
            write!(out, "{}", result(judged, finding, *position))?;
        }
        Ok(())
    }

    fn problem(&mut self, problem: &Problem, _: &mut dyn Write) -> io::Result<()> {
        let Problem {
            file,
            position,
            message,
        } = problem;
        self.problems.push(json!({
            "level": "error",
            "message": {"text": message},
            "locations": [{"physicalLocation": place(file, *position)}],
        }));
        Ok(())
    }

    fn finish(&mut self, _: &Summary, out: &mut dyn Write) -> io::Result<()> {
        if !self.begun {
            self.begin(out)?;
        }
        let invocation = json!({
            "executionSuccessful": self.problems.is_empty(),
            "toolExecutionNotifications": self.problems,
        });
        writeln!(out, "\n],\"invocations\":[{invocation}]}}]}}")
    }
}

/// A rule's metadata (SARIF 3.49).
fn describe(rule: &Rule) -> Value {
    let fenced = format!(
        "{}\n\nDoes not pass:\n\n```yaml\n{}\n```\n\nPasses:\n\n```yaml\n{}\n```\n",
        rule.why,
        rule.example.trim_end(),
        rule.fixed.trim_end()
    );
    json!({
        "id": rule.id.as_str(),
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.why},
        "help": {"text": rule.why, "markdown": fenced},
        "defaultConfiguration": {"level": level(rule.level)},
    })
}

fn result(judged: &Judged<'_>, finding: &Finding, position: Position) -> Value {
    let Finding {
        rule,
        container,
        path,
        message,
        fix,
        ..
    } = finding;
    let fix = fix
        .as_ref()
        .map(|fix| format!("\n\nTo fix, in {}:\n{}", fix.at, fix.yaml.trim_end()));
    let title = judged.title();
    // The same as long as the fault is, wherever the lines move.
    let fingerprint = format!(
        "{rule} {title} {} {path}",
        container.as_deref().unwrap_or_default()
    );
    let text = format!("{title}: {message}{}", fix.unwrap_or_default());
    json!({
        "ruleId": rule.as_str(),
        "ruleIndex": rule.index(),
        "level": level(finding.level),
        "message": {"text": text},
        "locations": [{
            "physicalLocation": place(&judged.subject.file, Some(position)),
            "logicalLocations": [{"fullyQualifiedName": title, "kind": "resource"}],
        }],
        "partialFingerprints": {"portcullis/v1": fingerprint},
    })
}

/// A physical location (SARIF 3.29).
fn place(file: &str, position: Option<Position>) -> Value {
    let artifact = json!({"uri": uri(file)});
    match position {
        None => json!({"artifactLocation": artifact}),
        Some(Position { line, column }) => json!({
            "artifactLocation": artifact,
            "region": {"startLine": line, "startColumn": column},
        }),
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Deny => "error",
        Level::Warn => "warning",
        Level::None => "none",
    }
}

/// A path as a URI reference (RFC 3986): what is not unreserved or `/` is encoded.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.strip_prefix("./").unwrap_or(path).bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(byte.into());
        } else {
            let digits = [byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16));
            uri.push('%');
            uri.extend(
                digits
                    .into_iter()
                    .flatten()
                    .map(|digit| digit.to_ascii_uppercase()),
            );
        }
    }
    uri
}
