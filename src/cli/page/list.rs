//! A list in a page: rows as data in script elements, from which the page's script makes a table.
//!
//! Reports say the same few things many times. So a word stands in full once, and is a number from then on: the how
//! many-th of the words that stand in full it is. A finding costs some thirty bytes in place of four hundred.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
};

use serde::Serialize;

use super::{Grouped, Text};

/// Rows of a list. A browser holds ten times as many, but nobody reads them.
const ROWS: usize = 100_000;

/// Rows of one script element: what the page's script reads in one go, in under 10 ms.
const BLOCK: usize = 1000;

/// Words that are remembered, so what they take of memory is bounded. Later ones stand in full each time.
const WORDS: usize = 1 << 16;

/// A colour and what it means. Never the only sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tone {
    Good,
    Wait,
    Bad,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Rows stand in groups by it. At most one column is.
    Group,
    /// One of few words, to choose by.
    Choice,
    /// A short text of its own.
    Name,
    /// A sentence.
    Text,
    /// Not a column of its own, but below the one before: a line that says where to mend, then YAML. May be empty.
    Fix,
}

/// A column of a list.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
    /// Its words that have a colour, the worst first; if any has, all have.
    pub(crate) tones: &'a [(&'a str, Tone)],
}

/// A list that is being written.
pub(crate) struct List<'p, const N: usize> {
    out: &'p mut dyn Write,
    words: HashMap<Box<str>, usize>,
    /// How many words stand in full.
    told: usize,
    rows: usize,
}

/// JSON in which no markup can begin or end: it has `<` only within strings, where there is another way to write it.
struct Inert<'w>(&'w mut dyn Write);

// === impl Column ===

impl<'a> Column<'a> {
    /// A column whose words have no colour.
    pub(crate) fn new(name: &'a str, role: Role) -> Self {
        Self {
            name,
            role,
            tones: &[],
        }
    }
}

// === impl List ===

impl<'p, const N: usize> List<'p, N> {
    pub(super) fn begin(
        out: &'p mut dyn Write,
        number: usize,
        (heading, total): (&str, usize),
        columns: &[Column<'_>; N],
    ) -> io::Result<Self> {
        let kept = total.min(ROWS);
        writeln!(
            out,
            "<section class=\"list\" data-rows=\"{kept}\">\n<h2 id=\"list-{number}\">{} \
             <span class=\"chip\">{}</span></h2>",
            Text(heading),
            Grouped(total),
        )?;
        if kept < total {
            let kept = Grouped(kept);
            writeln!(
                out,
                "<p class=\"note\">The first {kept} are on this page; -o json has all.</p>"
            )?;
        }
        writeln!(
            out,
            "<noscript><p class=\"none\">The list needs the script of this page; -o text has it too.</p></noscript>"
        )?;
        write!(out, "<script type=\"application/json\" class=\"columns\">")?;
        serde_json::to_writer(Inert(out), columns.as_slice())?;
        writeln!(out, "</script>")?;
        Ok(Self {
            out,
            words: HashMap::new(),
            told: 0,
            rows: 0,
        })
    }

    /// Writes a row: a word for each column. Those after the [`ROWS`]th are left out, as the page says.
    pub(crate) fn row(&mut self, cells: [&str; N]) -> io::Result<()> {
        if self.rows == ROWS {
            return Ok(());
        }
        let opening = if !self.rows.is_multiple_of(BLOCK) {
            ",\n["
        } else if self.rows == 0 {
            "<script type=\"application/json\" class=\"rows\">[["
        } else {
            "]</script>\n<script type=\"application/json\" class=\"rows\">[["
        };
        self.out.write_all(opening.as_bytes())?;
        self.rows += 1;
        for (index, cell) in cells.into_iter().enumerate() {
            if index > 0 {
                self.out.write_all(b",")?;
            }
            self.word(cell)?;
        }
        self.out.write_all(b"]")
    }

    fn word(&mut self, word: &str) -> io::Result<()> {
        if let Some(number) = self.words.get(word) {
            return write!(self.out, "{number}");
        }
        if self.words.len() < WORDS {
            self.words.insert(word.into(), self.told);
        }
        self.told += 1;
        Ok(serde_json::to_writer(Inert(self.out), word)?)
    }

    /// That was all; `note` says what more there is to know, if anything.
    pub(crate) fn end(self, note: &str) -> io::Result<()> {
        if self.rows > 0 {
            writeln!(self.out, "]</script>")?;
        }
        if !note.is_empty() {
            writeln!(self.out, "<p class=\"more\">{}</p>", Text(note))?;
        }
        writeln!(self.out, "</section>")
    }
}

// === impl Inert ===

impl Write for Inert<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (index, piece) in bytes.split(|&byte| byte == b'<').enumerate() {
            if index > 0 {
                self.0.write_all(b"\\u003c")?;
            }
            self.0.write_all(piece)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

// === impl Tone ===

impl fmt::Display for Tone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Wait => "wait",
            Self::Bad => "bad",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const COLUMNS: [Column<'static>; 3] = [
        Column {
            name: "Level",
            role: Role::Choice,
            tones: &[("deny", Tone::Bad), ("warn", Tone::Wait)],
        },
        Column {
            name: "Namespace",
            role: Role::Group,
            tones: &[],
        },
        Column {
            name: "Problem",
            role: Role::Text,
            tones: &[],
        },
    ];

    fn written(rows: &[[String; 3]]) -> String {
        let mut out = Vec::new();
        let mut list = List::begin(&mut out, 1, ("Findings", rows.len()), &COLUMNS).unwrap();
        for [level, namespace, problem] in rows {
            list.row([level, namespace, problem]).unwrap();
        }
        list.end("").unwrap();
        String::from_utf8(out).unwrap()
    }

    /// As the page's script reads it.
    fn read(page: &str) -> Vec<[String; 3]> {
        let mut words: Vec<String> = Vec::new();
        let mut rows = Vec::new();
        for block in page
            .split("<script type=\"application/json\" class=\"rows\">")
            .skip(1)
        {
            let (json, _) = block.split_once("</script>").unwrap();
            for row in serde_json::from_str::<Vec<[Value; 3]>>(json).unwrap() {
                rows.push(row.map(|cell| {
                    if let Some(number) = cell.as_u64() {
                        return words[usize::try_from(number).unwrap()].clone();
                    }
                    let word: String = serde_json::from_value(cell).unwrap();
                    words.push(word.clone());
                    word
                }));
            }
        }
        rows
    }

    fn row(level: &str, namespace: &str, problem: &str) -> [String; 3] {
        [level.to_owned(), namespace.to_string(), problem.to_string()]
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let odd =
            "</script><!-- <script> \"quoted\\\" 'single' \u{202e}turned\u{2028}\u{0} 🦀 é\n]]>";
        let mut rows = vec![row("deny", odd, odd), row("", "", "7")];
        rows.extend((0..2 * BLOCK + 7).map(|n| {
            row(
                "warn",
                &format!("team-{}", n / 100),
                &format!("problem {}", n % 9),
            )
        }));
        let page = written(&rows);
        assert_eq!(read(&page), rows);
        assert_eq!(page.matches("class=\"rows\"").count(), 3);
    }

    #[test]
    fn what_is_remembered_of_words_is_bounded() {
        let rows: Vec<_> = (0..2 * WORDS + 20)
            .map(|n| row("deny", "shop", &format!("no. {}", n / 2)))
            .take(ROWS)
            .collect();
        assert_eq!(read(&written(&rows)), rows);
        let many: Vec<_> = (0..ROWS).map(|n| row("deny", &n.to_string(), "")).collect();
        let mut out = io::sink();
        let mut list = List::begin(&mut out, 1, ("Findings", ROWS), &COLUMNS).unwrap();
        for [level, namespace, problem] in &many {
            list.row([level, namespace, problem]).unwrap();
        }
        assert_eq!((list.words.len(), list.told), (WORDS, ROWS + 2));
    }

    #[test]
    fn a_list_is_bounded_and_says_so() {
        let rows: Vec<_> = (0..=ROWS)
            .map(|n| row("deny", &format!("team-{}", n / 500), "same"))
            .collect();
        let page = written(&rows);
        assert_eq!(read(&page), rows[..ROWS]);
        assert!(page.contains("<span class=\"chip\">100,001</span>"));
        assert!(page.contains("The first 100,000 are on this page"));
        assert!(page.len() < 3 << 20, "{} bytes", page.len());
    }

    #[test]
    fn nothing_in_a_list_ends_its_script() {
        let attack = "</script><img src=x onerror=alert(1)><!--";
        let page = written(&[row(attack, attack, attack)]);
        assert_eq!(page.matches("</script>").count(), 2, "its own two: {page}");
        assert!(!page.contains("<img") && !page.contains("<!--"), "{page}");
    }
}
