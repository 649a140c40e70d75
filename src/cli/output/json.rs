//! JSON for other programs: its shape is a promise.

use std::io::{self, Write};

use serde::Serialize;

use super::{Judged, Output, Summary, Unjudged, Violation};

/// One object with `findings`, one a line, and `summary`.
#[derive(Debug, Default)]
pub(in crate::cli) struct Json {
    begun: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    rule: &'a str,
    level: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    api_version: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    container: Option<&'a str>,
    path: &'a str,
    message: &'a str,
    fix: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fingerprints: Vec<String>,
}

#[derive(Serialize)]
struct Counts {
    objects: usize,
    denied: usize,
    warned: usize,
    skipped: usize,
}

// === impl Json ===

impl Json {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let separator = if self.begun { "," } else { "{\"findings\":[" };
        self.begun = true;
        out.write_all(separator.as_bytes())
    }

    /// Ends the list of findings; what follows are further members of the one object.
    pub(in crate::cli) fn end_findings(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.begun {
            writeln!(out)?;
        } else {
            self.begin(out)?;
        }
        write!(out, "]")
    }
}

impl Output for Json {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        let api_version = judged.kind.api_version();
        for violation in judged.violations {
            let Violation {
                rule,
                level,
                container,
                path,
                message,
                fix,
                fingerprints,
                position: _,
            } = *violation;
            self.begin(out)?;
            writeln!(out)?;
            let line = Line {
                rule: rule.as_str(),
                level: level.as_str(),
                file: judged.place.map(|place| place.file),
                api_version: &api_version,
                kind: &judged.kind.kind,
                namespace: judged.namespace,
                name: judged.name,
                container,
                path,
                message,
                fix: fix.map(|fix| fix.yaml.as_str()),
                fingerprints: fingerprints.iter().map(ToString::to_string).collect(),
            };
            serde_json::to_writer(&mut *out, &line)?;
        }
        Ok(())
    }

    fn unjudged(&mut self, _: &Unjudged<'_>, _: &mut dyn Write) -> io::Result<()> {
        Ok(()) // has no place in the shape; standard error and the exit status tell
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        let Summary {
            objects,
            denied,
            warned,
            skipped,
            ..
        } = *summary;
        self.end_findings(out)?;
        write!(out, ",\"summary\":")?;
        serde_json::to_writer(
            &mut *out,
            &Counts {
                objects,
                denied,
                warned,
                skipped,
            },
        )?;
        writeln!(out, "}}")
    }
}
