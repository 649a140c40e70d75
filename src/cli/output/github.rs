//! Workflow commands, by which GitHub annotates the lines of a pull request.
//!
//! Escaping as in `actions/toolkit`, `packages/core/src/command.ts`.

use std::io::{self, Write};

use super::{Judged, Output, Place, Summary, Unjudged};
use crate::policy::finding::Level;

/// One command a finding, and the summary as a line of the log.
#[derive(Debug)]
pub(in crate::cli) struct Github;

impl Output for Github {
    fn judged(&mut self, judged: &Judged<'_>, out: &mut dyn Write) -> io::Result<()> {
        let file = judged.place.map(|place| place.file);
        for violation in judged.violations {
            let command = if violation.level == Level::Deny {
                "error"
            } else {
                "warning"
            };
            let text = format!(
                "{}: {}{}",
                judged.title(),
                violation.message,
                violation.remedy("\n")
            );
            let place = file.map(|file| Place {
                file,
                position: violation.position,
            });
            writeln!(
                out,
                "::{command} {}title={}::{}",
                properties(place),
                property(violation.rule.as_str()),
                data(&text)
            )?;
        }
        Ok(())
    }

    fn unjudged(&mut self, unjudged: &Unjudged<'_>, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "::error {}title=can't be checked::{}",
            properties(unjudged.place),
            data(unjudged.message)
        )
    }

    fn finish(&mut self, summary: &Summary, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{summary}")
    }
}

/// Where to annotate.
fn properties(place: Option<Place<'_>>) -> String {
    let Some(Place { file, position }) = place else {
        return String::new();
    };
    let file = property(file);
    match position {
        Some(position) => format!(
            "file={file},line={},col={},",
            position.line, position.column
        ),
        None => format!("file={file},"),
    }
}

fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
