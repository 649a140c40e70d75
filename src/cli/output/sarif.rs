//! SARIF 2.1.0 (OASIS), as GitHub code scanning and others read it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Judged, Output, Place, Summary, Unjudged, Violation};
use crate::{
    policy::{
        finding::Level,
        rules::{RULES, Rule},
    },
    yaml::Position,
};

/// One run; results one a line.
#[derive(Debug, Default)]
pub(in crate::cli) struct Sarif {
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
        for violation in judged.violations {
            self.begin(out)?;
            write!(out, "{}", result(judged, violation))?;
        }
        Ok(())
    }

    fn unjudged(&mut self, unjudged: &Unjudged<'_>, _: &mut dyn Write) -> io::Result<()> {
        let message = json!({"text": unjudged.message});
        let notification = match unjudged.place {
            None => json!({"level": "error", "message": message}),
            Some(place) => json!({
                "level": "error",
                "message": message,
                "locations": [{"physicalLocation": physical(place)}],
            }),
        };
        self.problems.push(notification);
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

fn result(judged: &Judged<'_>, violation: &Violation<'_>) -> Value {
    let Violation {
        rule,
        level: weight,
        container,
        path,
        message,
        position,
        ..
    } = *violation;
    let title = judged.title();
    // The same as long as the fault is, wherever the lines move.
    let fingerprint = format!("{rule} {title} {} {path}", container.unwrap_or_default());
    let text = format!("{title}: {message}{}", violation.remedy("\n\n"));
    let logical = json!([{"fullyQualifiedName": title, "kind": "resource"}]);
    let location = match judged.place {
        None => json!({"logicalLocations": logical}),
        Some(Place { file, .. }) => json!({
            "physicalLocation": physical(Place { file, position }),
            "logicalLocations": logical,
        }),
    };
    json!({
        "ruleId": rule.as_str(),
        "ruleIndex": rule.index(),
        "level": level(weight),
        "message": {"text": text},
        "locations": [location],
        "partialFingerprints": {"portcullis/v1": fingerprint},
    })
}

/// A physical location (SARIF 3.29).
fn physical(place: Place<'_>) -> Value {
    let artifact = json!({"uri": uri(place.file)});
    match place.position {
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
