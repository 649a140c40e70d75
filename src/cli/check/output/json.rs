//! JSON for other programs: its shape is a promise.

use std::io::{self, Write};

use serde::Serialize;

use super::{Judged, Output};
use crate::{
    cli::check::{Summary, input::Problem},
    policy::finding::Finding,
};

/// One object with `findings`, one a line, and `summary`.
#[derive(Debug, Default)]
pub(super) struct Json {
    begun: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    rule: &'a str,
    level: &'a str,
    file: &'a str,
    api_version: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    container: Option<&'a str>,
    path: &'a str,
    message: &'a str,
    fix: Option<&'a str>,
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
}

impl Output for Json {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        let api_version = judged.subject.kind.api_version();
        for (finding, _) in judged.findings {
            let Finding {
                rule,
                level,
                container,
                path,
                message,
                fix,
                offences: _,
            } = finding;
            self.begin(out)?;
            writeln!(out)?;
            let line = Line {
                rule: rule.as_str(),
                level: level.as_str(),
                file: &judged.subject.file,
                api_version: &api_version,
                kind: &judged.subject.kind.kind,
                namespace: &judged.subject.namespace,
                name: judged.name,
                container: container.as_deref(),
                path,
                message,
                fix: fix.as_ref().map(|fix| fix.yaml.as_str()),
            };
            serde_json::to_writer(&mut *out, &line)?;
        }
        Ok(())
    }

    fn problem(&mut self, _: &Problem, _: &mut dyn Write) -> io::Result<()> {
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
        if self.begun {
            writeln!(out)?;
        } else {
            self.begin(out)?;
        }
        write!(out, "],\"summary\":")?;
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
