//! The matrix for people, as a table, and for programs.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use serde::Serialize;

use super::matrix::{Compared, Matrix, Summary};
use crate::{
    cli::terminal::{Palette, Shown, Style, counted},
    policy::parity::{Cell, Key, Row, Standing},
};

/// Its shape is a promise.
#[derive(Serialize)]
struct Json<'m> {
    a: &'m str,
    b: &'m str,
    workloads: Vec<Workload<'m>>,
    summary: Counts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Workload<'m> {
    api_version: &'m str,
    kind: &'m str,
    name: &'m str,
    in_a: bool,
    in_b: bool,
    env: Vec<Variable<'m>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Variable<'m> {
    container: &'m str,
    name: &'m str,
    env_from: bool,
    standing: &'static str,
    a: Option<&'m str>,
    b: Option<&'m str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'m str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    workloads: usize,
    only_in_a: usize,
    only_in_b: usize,
    names: usize,
    missing_in_a: usize,
    missing_in_b: usize,
    other_source: usize,
    unknown: usize,
}

/// A line of the table: what it is about, what either side has, and how that is shown.
struct Line {
    title: String,
    cells: [String; 2],
    styles: [Option<Style>; 3],
}

/// What stands in a cell that could not be filled.
const UNKNOWN: &str = "?";

/// The whole matrix.
pub(super) fn write_json(matrix: &Matrix, out: &mut dyn Write) -> io::Result<()> {
    let [a, b] = &matrix.names;
    let json = Json {
        a,
        b,
        workloads: matrix.workloads.iter().map(Workload::of).collect(),
        summary: Counts::of(matrix.summary()),
    };
    serde_json::to_writer_pretty(&mut *out, &json)?;
    writeln!(out)
}

/// What differs as a table, or with `all` everything; why something could not be compared; and a line that counts.
pub(super) fn write_text(
    matrix: &Matrix,
    all: bool,
    palette: Palette,
    out: &mut dyn Write,
) -> io::Result<()> {
    let shown = matrix.workloads.iter().filter(|it| all || it.differs());
    let lines: Vec<_> = shown.flat_map(|workload| lines(workload, all)).collect();
    if !lines.is_empty() {
        let head = Line {
            title: String::new(),
            cells: matrix.names.each_ref().map(|name| shown_text(name)),
            styles: [None, Some(Style::Bold), Some(Style::Bold)],
        };
        let table: Vec<_> = std::iter::once(head).chain(lines).collect();
        let width = |of: fn(&Line) -> &str| {
            let widths = table.iter().map(|line| of(line).chars().count());
            widths.max().unwrap_or_default()
        };
        let widths = [width(|line| &line.title), width(|line| &line.cells[0])];
        for line in &table {
            line.write(widths, palette, out)?;
        }
        writeln!(out)?;
    }
    for cause in matrix.causes() {
        writeln!(out, "{UNKNOWN}  {}", Shown(cause))?;
    }
    let summary = matrix.summary();
    let style = match summary {
        summary if summary.differs() => Style::Red,
        Summary { unknown: 1.., .. } => Style::Yellow,
        Summary { .. } => Style::Green,
    };
    writeln!(
        out,
        "{}",
        palette.paint(style, summary.words(&matrix.names))
    )
}

/// Those of one workload.
fn lines(workload: &Compared, all: bool) -> Vec<Line> {
    let Compared { key, is_in, rows } = workload;
    let title = format!("{} {}", Shown(&key.kind), Shown(&key.name));
    if is_in.contains(&false) {
        let cell = |is_in| if is_in { "there" } else { "missing" }.to_owned();
        let style = |is_in: bool| (!is_in).then_some(Style::Red);
        let [first, second] = *is_in;
        return vec![Line {
            title,
            cells: is_in.map(cell),
            styles: [Some(Style::Bold), style(first), style(second)],
        }];
    }
    let head = Line {
        title,
        cells: [String::new(), String::new()],
        styles: [Some(Style::Bold), None, None],
    };
    let rows = rows
        .iter()
        .filter(|row| all || row.standing() != Standing::Same);
    std::iter::once(head).chain(rows.map(Line::of)).collect()
}

fn shown_text(text: &str) -> String {
    Shown(text).to_string()
}

// === impl Line ===

impl Line {
    fn of(row: &Row) -> Self {
        let Row {
            container,
            name,
            is_env_from,
            cells,
        } = row;
        let what = if *is_env_from { "envFrom " } else { "" };
        let [first, second] = cells.each_ref().map(|cell| match cell {
            Cell::Missing => Some(Style::Red),
            Cell::Unknown { .. } => Some(Style::Dim),
            Cell::From(_) if row.standing() == Standing::OtherSource => Some(Style::Yellow),
            Cell::From(_) => None,
        });
        Self {
            title: format!("  {}  {what}{}", Shown(container), Shown(name)),
            cells: cells.each_ref().map(|cell| match cell {
                Cell::From(source) => shown_text(source),
                Cell::Missing => "missing".to_owned(),
                Cell::Unknown { .. } => UNKNOWN.to_owned(),
            }),
            styles: [None, first, second],
        }
    }

    fn write(&self, widths: [usize; 2], palette: Palette, out: &mut dyn Write) -> io::Result<()> {
        let [first, second] = &self.cells;
        let texts = [&self.title, first, second];
        // Spaces that nothing follows are not written.
        let last = texts
            .iter()
            .rposition(|text| !text.is_empty())
            .unwrap_or_default();
        let columns = texts.into_iter().zip(self.styles).take(last + 1);
        for (index, (text, style)) in columns.enumerate() {
            let painted = match style {
                Some(style) if !text.is_empty() => palette.paint(style, text),
                _ => text.clone(),
            };
            write!(out, "{painted}")?;
            if let (Some(width), true) = (widths.get(index), index < last) {
                let pad = width - text.chars().count() + 2;
                write!(out, "{:pad$}", "")?;
            }
        }
        writeln!(out)
    }
}

// === impl Matrix ===

impl Matrix {
    /// Why cells could not be filled, each cause once.
    fn causes(&self) -> BTreeSet<&str> {
        let rows = self.workloads.iter().flat_map(|it| &it.rows);
        rows.filter_map(Row::cause).collect()
    }
}

// === impl Summary ===

impl Summary {
    /// The last line, for people.
    pub(super) fn words(&self, names: &[String; 2]) -> String {
        let Self {
            workloads,
            only_in,
            names: compared,
            missing_in,
            other_source,
            unknown,
        } = *self;
        let mut words = format!(
            "{}, {} in both",
            counted(workloads, "workload"),
            counted(compared, "env name")
        );
        let mut parts = Vec::new();
        let sides = names.iter().map(|name| Shown(name));
        for ((side, only), missing) in sides.zip(only_in).zip(missing_in) {
            if only > 0 {
                parts.push(format!("{} only in {side}", counted(only, "workload")));
            }
            if missing > 0 {
                parts.push(format!("{} missing in {side}", counted(missing, "name")));
            }
        }
        if other_source > 0 {
            parts.push(format!(
                "{} from another source",
                counted(other_source, "name")
            ));
        }
        if parts.is_empty() {
            parts.push("no difference".to_owned());
        }
        if unknown > 0 {
            parts.push(format!(
                "{} could not be compared",
                counted(unknown, "name")
            ));
        }
        words.push_str(": ");
        words.push_str(&parts.join(", "));
        words
    }
}

// === impl Workload ===

impl<'m> Workload<'m> {
    fn of(compared: &'m Compared) -> Self {
        let Compared { key, is_in, rows } = compared;
        let Key {
            kind,
            name,
            api_version,
        } = key;
        let [in_a, in_b] = *is_in;
        Self {
            api_version,
            kind,
            name,
            in_a,
            in_b,
            env: rows.iter().map(Variable::of).collect(),
        }
    }
}

// === impl Variable ===

impl<'m> Variable<'m> {
    fn of(row: &'m Row) -> Self {
        let [a, b] = row.cells.each_ref().map(|cell| match cell {
            Cell::From(source) => Some(&**source),
            Cell::Missing | Cell::Unknown { .. } => None,
        });
        Self {
            container: &row.container,
            name: &row.name,
            env_from: row.is_env_from,
            standing: match row.standing() {
                Standing::Same => "same",
                Standing::MissingInFirst => "missingInA",
                Standing::MissingInSecond => "missingInB",
                Standing::OtherSource => "otherSource",
                Standing::Unknown => "unknown",
            },
            a,
            b,
            cause: row.cause(),
        }
    }
}

// === impl Counts ===

impl Counts {
    fn of(summary: Summary) -> Self {
        let Summary {
            workloads,
            only_in: [only_in_a, only_in_b],
            names,
            missing_in: [missing_in_a, missing_in_b],
            other_source,
            unknown,
        } = summary;
        Self {
            workloads,
            only_in_a,
            only_in_b,
            names,
            missing_in_a,
            missing_in_b,
            other_source,
            unknown,
        }
    }
}
