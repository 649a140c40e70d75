//! The matrix for people with a browser: one file, the workload that differs most first.

use std::{
    cmp::Reverse,
    io::{self, Write},
    time::SystemTime,
};

use super::matrix::{Compared, Matrix, Summary};
use crate::{
    cli::page::{Answer, Column, Page, Role, Sum, Sums, Tile, Title, Tone},
    policy::parity::{Cell, Row, Standing},
};

/// A row of the table: a name, or a workload that only one side has.
struct Entry<'m> {
    workload: &'m Compared,
    standing: Standing,
    container: &'m str,
    name: String,
    cells: [String; 2],
}

/// The worst first.
const STANDINGS: [Standing; 5] = [
    Standing::MissingInFirst,
    Standing::MissingInSecond,
    Standing::OtherSource,
    Standing::Unknown,
    Standing::Same,
];

/// Writes all of `matrix`, what is the same included: a browser can leave it out.
pub(super) fn write(matrix: &Matrix, at: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    let mut workloads: Vec<_> = matrix.workloads.iter().collect();
    workloads.sort_by_cached_key(|workload| {
        let entries = Entry::of(workload);
        Reverse(
            entries
                .iter()
                .filter(|it| it.standing != Standing::Same)
                .count(),
        )
    });
    let entries: Vec<_> = workloads.into_iter().flat_map(Entry::of).collect();
    let summary = matrix.summary();
    let heading = heading(&entries, &summary);
    let at = humantime::format_rfc3339_seconds(at).to_string();
    let [a, b] = &matrix.names;
    let title = Title {
        window: &format!("{heading} · {a} and {b}"),
        command: "portcullis parity",
        at: &at,
    };
    let mut page = Page::begin(out, title)?;
    put_answer(&mut page, &heading, &summary, &matrix.names)?;
    put_tiles(&mut page, &summary)?;
    let words = STANDINGS.map(|standing| word(standing, &matrix.names));
    put_sums(&mut page, &entries, &words)?;
    put_entries(&mut page, &entries, &words, &matrix.names)?;
    page.end()
}

fn heading(entries: &[Entry<'_>], summary: &Summary) -> String {
    let differs = |it: &&Entry<'_>| !matches!(it.standing, Standing::Same | Standing::Unknown);
    match (entries.iter().filter(differs).count(), summary.unknown) {
        (0, 0) => String::from("no difference"),
        (0, _) => String::from("not all could be compared"),
        (1, _) => String::from("1 difference"),
        (count, _) => format!("{count} differences"),
    }
}

fn put_answer(
    page: &mut Page<'_>,
    heading: &str,
    summary: &Summary,
    names: &[String; 2],
) -> io::Result<()> {
    let tone = match summary {
        summary if summary.differs() => Tone::Bad,
        Summary { unknown: 1.., .. } => Tone::Wait,
        Summary { .. } => Tone::Good,
    };
    let [a, b] = names;
    page.answer(Answer {
        tone,
        heading,
        reason: &summary.words(names),
        facts: &[("compared", a), ("with", b)],
    })
}

fn put_tiles(page: &mut Page<'_>, summary: &Summary) -> io::Result<()> {
    let Summary {
        workloads,
        only_in,
        names,
        missing_in,
        other_source,
        unknown,
    } = summary;
    let tile = |number, what, more| Tile { number, what, more };
    let mut tiles = vec![
        tile(*workloads, "workloads", "on either side"),
        tile(only_in.iter().sum(), "on one side", "of the workloads"),
        tile(*names, "env names", "of workloads on both sides"),
        tile(
            missing_in.iter().sum(),
            "missing",
            "names that one side lacks",
        ),
        tile(*other_source, "other source", "names from different places"),
    ];
    if *unknown > 0 {
        tiles.push(tile(
            *unknown,
            "unknown",
            "names that could not be compared",
        ));
    }
    page.tiles(&tiles)
}

/// How many stand how, each of which leads to them.
fn put_sums(page: &mut Page<'_>, entries: &[Entry<'_>], words: &[String; 5]) -> io::Result<()> {
    let sums = STANDINGS.iter().zip(words).map(|(standing, word)| {
        let count = entries.iter().filter(|it| it.standing == *standing).count();
        let is_bad = tone(*standing) == Tone::Bad;
        Sum {
            name: word,
            more: "",
            bad: if is_bad { count } else { 0 },
            fair: if is_bad || *standing == Standing::Same {
                0
            } else {
                count
            },
            all: entries.len(),
        }
    });
    let head = Sums {
        heading: "How names stand",
        column: "standing",
        counted: ["missing", "to look at"],
    };
    let sums = sums.filter(|sum| sum.bad + sum.fair > 0).collect();
    page.sums(&[(head, sums)])
}

fn put_entries(
    page: &mut Page<'_>,
    entries: &[Entry<'_>],
    words: &[String; 5],
    [a, b]: &[String; 2],
) -> io::Result<()> {
    let tones: Vec<_> = words
        .iter()
        .zip(STANDINGS)
        .map(|(word, standing)| (word.as_str(), tone(standing)))
        .collect();
    let columns = [
        Column {
            tones: &tones,
            ..Column::new("Standing", Role::Choice)
        },
        Column::new("Workload", Role::Group),
        Column::new("Container", Role::Name),
        Column::new("Name", Role::Name),
        Column::new(a, Role::Text),
        Column::new(b, Role::Text),
    ];
    let mut list = page.list("Names", &columns, entries.len())?;
    for Entry {
        workload: Compared { key, .. },
        standing,
        container,
        name,
        cells: [a, b],
    } in entries
    {
        let place = STANDINGS.iter().position(|it| it == standing);
        let word = place.and_then(|place| words.get(place));
        let workload = format!("{} {}", key.kind, key.name);
        list.row([
            word.map_or("", String::as_str),
            &workload,
            container,
            name,
            a,
            b,
        ])?;
    }
    list.end("")
}

fn word(standing: Standing, [a, b]: &[String; 2]) -> String {
    match standing {
        Standing::MissingInFirst => format!("missing in {a}"),
        Standing::MissingInSecond => format!("missing in {b}"),
        Standing::OtherSource => String::from("other source"),
        Standing::Unknown => String::from("unknown"),
        Standing::Same => String::from("same"),
    }
}

fn tone(standing: Standing) -> Tone {
    match standing {
        Standing::MissingInFirst | Standing::MissingInSecond => Tone::Bad,
        Standing::OtherSource | Standing::Unknown => Tone::Wait,
        Standing::Same => Tone::Good,
    }
}

// === impl Entry ===

impl<'m> Entry<'m> {
    /// Those of one workload, the worst first.
    fn of(workload: &'m Compared) -> Vec<Self> {
        let standing = match workload.is_in {
            [true, true] => {
                let mut entries: Vec<_> = workload
                    .rows
                    .iter()
                    .map(|row| Self::of_row(workload, row))
                    .collect();
                entries.sort_by_key(|it| {
                    STANDINGS
                        .iter()
                        .position(|standing| *standing == it.standing)
                });
                return entries;
            }
            [false, _] => Standing::MissingInFirst,
            [true, false] => Standing::MissingInSecond,
        };
        let cell = |is_in| if is_in { "there" } else { "missing" }.to_owned();
        vec![Self {
            workload,
            standing,
            container: "",
            name: String::from("the workload itself"),
            cells: workload.is_in.map(cell),
        }]
    }

    fn of_row(workload: &'m Compared, row: &'m Row) -> Self {
        let what = if row.is_env_from { "envFrom " } else { "" };
        Self {
            workload,
            standing: row.standing(),
            container: &row.container,
            name: format!("{what}{}", row.name),
            cells: row.cells.each_ref().map(|cell| match cell {
                Cell::From(source) => source.to_string(),
                Cell::Missing => String::from("missing"),
                Cell::Unknown { cause, .. } => format!("unknown: {cause}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::parity::Key;

    fn compared(name: &str, is_in: [bool; 2], rows: Vec<Row>) -> Compared {
        let key = Key {
            kind: Box::from("Deployment"),
            name: Box::from(name),
            api_version: Box::from("apps/v1"),
        };
        Compared { key, is_in, rows }
    }

    fn row(name: &str, cells: [Cell; 2]) -> Row {
        Row {
            container: Box::from("app"),
            name: Box::from(name),
            is_env_from: false,
            cells,
        }
    }

    fn written(workloads: Vec<Compared>) -> String {
        let matrix = Matrix {
            names: ["staging", "production"].map(String::from),
            workloads,
        };
        let mut out = Vec::new();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_301_700);
        write(&matrix, at, &mut out).unwrap();
        let page = String::from_utf8(out).unwrap();
        let (_, body) = page.split_once("<body>").unwrap();
        body.split_once("<script>").unwrap().0.to_owned()
    }

    fn from(source: &str) -> Cell {
        Cell::From(Box::from(source))
    }

    #[test]
    fn what_differs_most_comes_first_and_what_is_the_same_is_there() {
        let unknown = Cell::Unknown {
            cause: Box::from("secret all could not be read"),
            failed: true,
        };
        let same = || row("PORT", [from("value"), from("value")]);
        let missing = row("TOKEN", [from("secret checkout/token"), Cell::Missing]);
        let other = row("HOST", [from("value"), from("configmap settings/host")]);
        let page = written(vec![
            compared("alike", [true, true], vec![same()]),
            compared("new", [true, false], Vec::new()),
            compared(
                "checkout",
                [true, true],
                vec![same(), row("URL", [unknown, Cell::Missing]), other, missing],
            ),
        ]);
        insta::assert_snapshot!(page);
    }

    #[test]
    fn no_difference_is_said_as_plainly() {
        let same = row("PORT", [from("value"), from("value")]);
        let page = written(vec![compared("alike", [true, true], vec![same])]);
        assert!(page.contains("<h1>no difference</h1>"), "{page}");
        assert!(page.contains("state good"), "{page}");
    }
}
