//! All that was compared: workloads, and within them names.

use futures_util::{StreamExt as _, stream};

use super::{
    Outcome,
    side::{Answers, Loaded, Side},
};
use crate::policy::parity::{Cell, Key, Pair, Row, Standing};

/// Both sides, workload by workload.
#[derive(Debug)]
pub(super) struct Matrix {
    /// What the sides are called.
    pub(super) names: [String; 2],
    pub(super) workloads: Vec<Compared>,
}

/// A workload.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) key: Key,
    /// Which sides have it.
    pub(super) is_in: [bool; 2],
    /// Empty where only one has it.
    pub(super) rows: Vec<Row>,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) workloads: usize,
    /// Of these, those that only one side has.
    pub(super) only_in: [usize; 2],
    /// Names of workloads that both have.
    pub(super) names: usize,
    /// Of these, those that one side lacks.
    pub(super) missing_in: [usize; 2],
    /// Those that come from different places.
    pub(super) other_source: usize,
    /// Those that could not be compared.
    pub(super) unknown: usize,
}

/// Workloads whose facts are asked for at a time.
const AT_ONCE: usize = 8;

// === impl Matrix ===

impl Matrix {
    /// Compares two sides.
    pub(super) async fn of(sides: [&Side; 2], [first, second]: [Loaded; 2]) -> Self {
        let sources = [first.source, second.source];
        let compare = |pair: Pair| {
            let [one, other] = &sources;
            async move {
                let [of_one, of_other] = pair.questions();
                let answers = [one.answer(of_one).await, other.answer(of_other).await];
                Compared {
                    is_in: pair.is_in(),
                    rows: pair.rows(answers.each_ref().map(Answers::known)),
                    key: pair.key,
                }
            }
        };
        let pairs = first.environment.pairs(second.environment);
        let compared = stream::iter(pairs).map(compare).buffered(AT_ONCE);
        Self {
            names: sides.map(Side::to_string),
            workloads: compared.collect().await,
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let mut summary = Summary {
            workloads: self.workloads.len(),
            ..Summary::default()
        };
        for Compared { is_in, rows, .. } in &self.workloads {
            let [only_first, only_second] = &mut summary.only_in;
            *only_first += usize::from(*is_in == [true, false]);
            *only_second += usize::from(*is_in == [false, true]);
            summary.names += rows.len();
            for row in rows {
                let [missing_first, missing_second] = &mut summary.missing_in;
                match row.standing() {
                    Standing::Same => {}
                    Standing::MissingInFirst => *missing_first += 1,
                    Standing::MissingInSecond => *missing_second += 1,
                    Standing::OtherSource => summary.other_source += 1,
                    Standing::Unknown => summary.unknown += 1,
                }
            }
        }
        summary
    }

    /// What came of it, where so many inputs could not be read.
    pub(super) fn outcome(&self, problems: usize) -> Outcome {
        let cells = self.workloads.iter().flat_map(|it| &it.rows);
        let mut cells = cells.flat_map(|row| &row.cells);
        if problems > 0 || cells.any(|cell| matches!(cell, Cell::Unknown { failed: true, .. })) {
            Outcome::Unclear
        } else if self.summary().differs() {
            Outcome::Different
        } else {
            Outcome::Same
        }
    }
}

// === impl Compared ===

impl Compared {
    /// Something of it is not the same on both sides.
    pub(super) fn differs(&self) -> bool {
        self.is_in.contains(&false) || self.rows.iter().any(|it| it.standing() != Standing::Same)
    }
}

// === impl Summary ===

impl Summary {
    pub(super) fn differs(&self) -> bool {
        let Self {
            workloads: _,
            only_in,
            names: _,
            missing_in,
            other_source,
            unknown: _,
        } = *self;
        only_in.iter().chain(&missing_in).sum::<usize>() + other_source > 0
    }
}
