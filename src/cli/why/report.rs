//! What was found out, for people and for programs.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{Outcome, look::Seen};
use crate::cli::terminal::{Palette, Shown, Style};

/// All pods.
#[derive(Debug)]
pub(super) struct Report(Vec<Seen>);

#[derive(Serialize)]
struct Json<'a> {
    pods: &'a [Seen],
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    ready: usize,
    #[serde(rename = "notReady")]
    not_ready: usize,
}

/// What is told of a gate's `/status`. Whatever else it holds is of a newer gate.
#[derive(Debug, Deserialize)]
struct Gate {
    state: String,
    reason: String,
    since: String,
    #[serde(default)]
    checks: Vec<Check>,
    #[serde(default)]
    transitions: Vec<Transition>,
}

#[derive(Debug, Deserialize)]
struct Check {
    name: String,
    kind: String,
    standing: String,
    last: Option<Run>,
}

#[derive(Debug, Deserialize)]
struct Run {
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Transition {
    at: String,
    from: String,
    to: String,
    reason: String,
}

/// Changes of state that are told: the last ones.
const TRANSITIONS: usize = 5;

// === impl Report ===

impl Report {
    pub(super) fn new(pods: Vec<Seen>) -> Self {
        Self(pods)
    }

    pub(super) fn outcome(&self) -> Outcome {
        let Summary { ready, not_ready } = self.summary();
        if not_ready == 0 && ready > 0 {
            Outcome::Ready
        } else {
            Outcome::NotReady
        }
    }

    fn summary(&self) -> Summary {
        let ready = self.0.iter().filter(|pod| pod.ready).count();
        Summary {
            ready,
            not_ready: self.0.len() - ready,
        }
    }

    pub(super) fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let json = Json {
            pods: &self.0,
            summary: self.summary(),
        };
        serde_json::to_writer_pretty(&mut *out, &json)?;
        writeln!(out)
    }

    pub(super) fn write_text(&self, palette: Palette, out: &mut dyn Write) -> io::Result<()> {
        for pod in &self.0 {
            pod.write(palette, out)?;
        }
        let Summary { ready, not_ready } = self.summary();
        match (ready, not_ready) {
            (0, 0) => writeln!(out, "it has no pods: kubectl describe says why"),
            (ready, not_ready) => writeln!(out, "{ready} ready, {not_ready} not ready"),
        }
    }
}

// === impl Seen ===

impl Seen {
    fn write(&self, palette: Palette, out: &mut dyn Write) -> io::Result<()> {
        let standing = if self.ready {
            palette.paint(Style::Green, "ready")
        } else {
            palette.paint(Style::Red, "not ready")
        };
        let name = format!("{}/{}", self.namespace, self.name);
        let name = palette.paint(Style::Bold, Shown(&name));
        writeln!(out, "{name}  {standing}")?;
        match (&self.gate, &self.unanswered) {
            (Some(status), _) => match Gate::deserialize(status) {
                Ok(gate) => gate.write(palette, out)?,
                Err(error) => writeln!(out, "  its gate's answer can't be read: {error}")?,
            },
            (None, Some(why)) => writeln!(out, "  its gate can't be asked: {}", Shown(why))?,
            (None, None) => writeln!(out, "  it has no gate")?,
        }
        for note in &self.notes {
            writeln!(out, "  {}", Shown(note))?;
        }
        Ok(())
    }
}

// === impl Gate ===

impl Gate {
    fn write(&self, palette: Palette, out: &mut dyn Write) -> io::Result<()> {
        let (state, reason, since) = (&self.state, &self.reason, second(&self.since));
        writeln!(
            out,
            "  gate {} since {}: {}",
            Shown(state),
            Shown(since),
            Shown(reason)
        )?;
        for check in &self.checks {
            let (name, kind) = (Shown(&check.name), Shown(&check.kind));
            let standing = match check.standing.as_str() {
                "passing" => palette.paint(Style::Green, "passing"),
                "failing" => palette.paint(Style::Red, "failing"),
                other => palette.paint(Style::Dim, Shown(other)),
            };
            let problem = check.last.as_ref().and_then(|last| last.problem.as_deref());
            match problem {
                Some(problem) => {
                    writeln!(
                        out,
                        "  check {name} ({kind}) {standing}: {}",
                        Shown(problem)
                    )?;
                }
                None => writeln!(out, "  check {name} ({kind}) {standing}")?,
            }
        }
        let skipped = self.transitions.len().saturating_sub(TRANSITIONS);
        for change in self.transitions.iter().skip(skipped) {
            let Transition {
                at,
                from,
                to,
                reason,
            } = change;
            let line = format!("{} {from} -> {to}: {reason}", second(at));
            writeln!(out, "  {}", palette.paint(Style::Dim, Shown(&line)))?;
        }
        Ok(())
    }
}

/// A time without its fraction of a second.
fn second(time: &str) -> &str {
    time.split('.').next().unwrap_or(time)
}
