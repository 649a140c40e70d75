//! Verdicts as they are reached, and their sums.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use super::facts::Source;
use crate::{
    cli::{
        cores,
        manifests::{
            input::{self, Problem},
            object::{Contents, Object, Reader, Subject},
        },
        output::{Judged, Output, Place, Summary, Unjudged, Violation},
        progress::Progress,
        terminal::Shown,
    },
    policy::{
        finding::{Finding, Level},
        settings::Settings,
        workload::{Malformed, Workload},
    },
    yaml::Position,
};

/// Writes verdicts, and counts them.
pub(super) struct Report<'w> {
    pub(super) output: Box<dyn Output>,
    pub(super) out: &'w mut dyn Write,
    pub(super) errors: &'w mut dyn Write,
    pub(super) summary: Summary,
}

// === impl Report ===

impl Report<'_> {
    /// Reads all inputs: what is to be judged, and what is to be patched, is returned; what answers questions goes to
    /// `source`.
    pub(super) fn gather<'s>(
        &mut self,
        paths: &[PathBuf],
        reader: &Reader<'s>,
        source: &mut Source,
    ) -> io::Result<(Vec<Subject<'s>>, Vec<Object<'s>>)> {
        let stdin = [PathBuf::from("-")];
        let (inputs, problems) = input::inputs(if paths.is_empty() { &stdin } else { paths });
        for problem in problems {
            self.problem(&problem)?;
        }
        let mut progress = Progress::new("read", inputs.len());
        let (mut subjects, mut objects) = (Vec::new(), Vec::new());
        let read = |input: &_| reader.read(input);
        cores::spread(&inputs, read, |input, mut contents| {
            progress.step(self.errors)?;
            if let Source::Files(files) = source {
                contents.index(input, files);
            }
            let Contents {
                subjects: found,
                all,
                skipped,
                problems,
                ..
            } = contents;
            self.summary.skipped += skipped;
            for problem in problems {
                self.problem(&problem)?;
            }
            subjects.extend(found);
            objects.extend(all);
            io::Result::Ok(())
        })?;
        progress.clear(self.errors)?;
        Ok((subjects, objects))
    }

    /// Judges all subjects, on every core.
    pub(super) fn judge_all(
        &mut self,
        subjects: &[Subject<'_>],
        source: &Source,
        settings: &Settings,
    ) -> io::Result<()> {
        let mut progress = Progress::new("judged", subjects.len());
        let judge = |subject: &Subject<'_>| {
            let workload = Workload::read(subject.kind, &subject.namespace, &subject.json)?;
            Ok::<_, Malformed>(workload.map(|workload| {
                let findings = source.judge(&workload, settings).findings;
                let pointers: Vec<_> = findings.iter().map(|it| it.path.as_str()).collect();
                let places = subject.positions(&pointers);
                (workload.name().into_owned(), findings, places)
            }))
        };
        cores::spread(subjects, judge, |subject, verdict| {
            progress.step(self.errors)?;
            match verdict {
                Ok(Some((name, findings, places))) => {
                    self.judged(subject, &name, &findings, places)
                }
                Ok(None) => {
                    self.summary.skipped += 1;
                    Ok(())
                }
                Err(malformed) => self.problem(&subject.problem(&malformed)),
            }
        })?;
        progress.clear(self.errors)
    }

    fn judged(
        &mut self,
        subject: &Subject<'_>,
        name: &str,
        findings: &[Finding],
        (begin, places): (Position, Vec<Position>),
    ) -> io::Result<()> {
        let Subject {
            file,
            kind,
            namespace,
            ..
        } = subject;
        let violations: Vec<_> = (findings.iter().zip(places))
            .map(|(finding, place)| Violation::of(finding, place))
            .collect();
        let levels = findings.iter().map(|finding| finding.level);
        let worst = levels.max().unwrap_or(Level::None);
        self.summary.count(worst, false);
        let place = Place {
            file,
            position: Some(begin),
        };
        let judged = Judged {
            kind,
            namespace,
            name,
            place: Some(place),
            violations: &violations,
            unknown: false,
        };
        self.output.judged(&judged, self.out)
    }

    fn problem(&mut self, problem: &Problem) -> io::Result<()> {
        self.summary.problems += 1;
        writeln!(self.errors, "{}", Shown(&problem.to_string()))?;
        let Problem {
            file,
            position,
            message,
        } = problem;
        let unjudged = Unjudged {
            name: file,
            place: Some(Place {
                file,
                position: *position,
            }),
            message,
        };
        self.output.unjudged(&unjudged, self.out)
    }
}
