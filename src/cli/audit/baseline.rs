//! A former audit: what was known then is not told again.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    audit::{Report, Violation},
    policy::finding::Fingerprint,
};

/// Each violation that was known, and how often. What is left in the end is gone.
#[derive(Debug)]
pub(super) struct Baseline(HashMap<Fingerprint, usize>);

/// What came of the comparison.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    /// Findings that were known.
    pub(super) known: usize,
    /// Violations that were there then, and are not any more.
    pub(super) gone: usize,
}

/// A baseline that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--baseline {}: it must be what portcullis audit --output json wrote", file.display())]
pub struct BaselineError {
    file: PathBuf,
    #[source]
    source: io::Error,
}

/// As much of a report as a comparison needs.
#[derive(Deserialize)]
struct Former {
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    fingerprints: Vec<Fingerprint>,
}

// === impl Baseline ===

impl Baseline {
    /// Reads what `--output json` wrote.
    pub(super) fn read(file: &Path) -> Result<Self, BaselineError> {
        let read = || {
            let reader = BufReader::new(File::open(file)?);
            let Former { findings } = serde_json::from_reader(reader)?;
            Ok(findings)
        };
        let findings = read().map_err(|source| BaselineError {
            file: file.to_owned(),
            source,
        })?;
        let mut held: HashMap<Fingerprint, usize> = HashMap::new();
        for Finding { fingerprints } in findings {
            for fingerprint in fingerprints {
                *held.entry(fingerprint).or_default() += 1;
            }
        }
        Ok(Self(held))
    }

    /// Leaves of `report` what is new.
    pub(super) fn subtract_from(mut self, report: &mut Report) -> Change {
        let mut known = 0;
        report.retain(|violation| {
            let is_known = self.knows(violation);
            known += usize::from(is_known);
            !is_known
        });
        Change {
            known,
            gone: self.0.values().sum(),
        }
    }

    /// All that it speaks of was there before; each violation once, so the second of two equal ones is new.
    fn knows(&mut self, violation: &Violation) -> bool {
        let fingerprints = &violation.fingerprints;
        let mut all = true;
        for fingerprint in fingerprints {
            let held = self.0.get_mut(fingerprint).filter(|count| **count > 0);
            match held {
                Some(count) => *count -= 1,
                None => all = false,
            }
        }
        all
    }
}
