//! Reports as one HTML file for people: nothing in it is from elsewhere, and what a cluster gave is never markup.
//!
//! A page is written from top to bottom as it is told, so a report is never in memory twice. What stands above the
//! lists is plain markup: it is there at once, and without scripts. A list is data, which the page's one script turns
//! into a table.

use std::{
    fmt,
    io::{self, Write},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::digest::{SHA256, digest};

use crate::html::{LOOK, Text, grating};

/// Rows as data, to sort and to filter.
mod list;

#[cfg(test)]
mod browser;

pub(crate) use list::{Column, List, Role, Tone};

/// The style of what only these pages have.
const STYLE: &str = include_str!("list.css");

const SCRIPT: &str = include_str!("list.js");

/// Rows of a table of sums. The list below it has all.
const SUMS: usize = 20;

/// A page that is being written.
pub(crate) struct Page<'w> {
    out: &'w mut dyn Write,
    lists: usize,
}

/// What a page is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Title<'a> {
    /// Of the window: `12 would be refused · portcullis audit`.
    pub(crate) window: &'a str,
    /// What made the page: `portcullis audit`.
    pub(crate) command: &'a str,
    /// When.
    pub(crate) at: &'a str,
}

/// The answer, in a line that can be read from afar.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) tone: Tone,
    pub(crate) heading: &'a str,
    pub(crate) reason: &'a str,
    /// What it was found with: names and values.
    pub(crate) facts: &'a [(&'a str, &'a str)],
}

/// A number, what it counts, and what more there is to say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tile<'a> {
    pub(crate) number: usize,
    pub(crate) what: &'a str,
    pub(crate) more: &'a str,
}

/// What is wrong with one of many: a namespace, a rule.
#[derive(Clone, Debug)]
pub(crate) struct Sum<'a> {
    pub(crate) name: &'a str,
    /// A line below the name; may be empty.
    pub(crate) more: &'a str,
    /// Those in the worst state, those in a lesser one, and all.
    pub(crate) bad: usize,
    pub(crate) fair: usize,
    pub(crate) all: usize,
}

/// A table of [`Sum`]s.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums<'a> {
    pub(crate) heading: &'a str,
    /// The column of the lists that the names are of, to which they lead: `namespace`.
    pub(crate) column: &'a str,
    /// What the two numbers of a row are called.
    pub(crate) counted: [&'a str; 2],
}

/// The source of a script or style that may run: its hash, as in Content Security Policy Level 3, section 2.3.1.
struct Source<'a>(&'a str);

// === impl Page ===

impl<'w> Page<'w> {
    pub(crate) fn begin(out: &'w mut dyn Write, title: Title<'_>) -> io::Result<Self> {
        let Title {
            window,
            command,
            at,
        } = title;
        let style = format!("{LOOK}{STYLE}");
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src {}; \
             script-src {}; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{}</title>\n<style>{style}</style>\n</head>\n<body>\n\
             <header><b>{}</b> <span>{}</span></header>\n<main>\n",
            Source(&style),
            Source(SCRIPT),
            Text(window),
            Text(command),
            Text(at),
        )?;
        Ok(Self { out, lists: 0 })
    }

    pub(crate) fn answer(&mut self, answer: Answer<'_>) -> io::Result<()> {
        let Answer {
            tone,
            heading,
            reason,
            facts,
        } = answer;
        // The gate is up where all is well.
        let lift = match tone {
            Tone::Good => 8,
            Tone::Wait => 4,
            Tone::Bad => 0,
        };
        write!(
            self.out,
            "<section class=\"state {tone}\">\n{}\n<div>\n<h1>{}</h1>\n<p class=\"reason\">{}</p>\n\
             <p class=\"facts\">",
            grating(lift),
            Text(heading),
            Text(reason),
        )?;
        for (name, value) in facts {
            write!(
                self.out,
                "<span>{} <bdi>{}</bdi></span> ",
                Text(name),
                Text(value)
            )?;
        }
        writeln!(self.out, "</p>\n</div>\n</section>")
    }

    pub(crate) fn tiles(&mut self, tiles: &[Tile<'_>]) -> io::Result<()> {
        writeln!(self.out, "<section class=\"tiles\">")?;
        for Tile { number, what, more } in tiles {
            let (number, what, more) = (Grouped(*number), Text(what), Text(more));
            writeln!(self.out, "<p><b>{number}</b>{what}<span>{more}</span></p>")?;
        }
        writeln!(self.out, "</section>")
    }

    /// Tables beside each other where there is room; of each the first [`SUMS`] rows, so give the worst first.
    pub(crate) fn sums(&mut self, tables: &[(Sums<'_>, Vec<Sum<'_>>)]) -> io::Result<()> {
        writeln!(self.out, "<div class=\"pair\">")?;
        for (head, sums) in tables {
            self.table(*head, sums)?;
        }
        writeln!(self.out, "</div>")
    }

    fn table(&mut self, head: Sums<'_>, sums: &[Sum<'_>]) -> io::Result<()> {
        let heading = Text(head.heading);
        writeln!(
            self.out,
            "<section>\n<h2>{heading}</h2>\n<table class=\"sums\">"
        )?;
        for sum in sums.iter().take(SUMS) {
            self.sum(head, sum)?;
        }
        writeln!(self.out, "</table>")?;
        if let Some(more @ 1..) = sums.len().checked_sub(SUMS) {
            let more = Grouped(more);
            writeln!(
                self.out,
                "<p class=\"more\">and {more} more, in the list below</p>"
            )?;
        }
        writeln!(self.out, "</section>")
    }

    fn sum(&mut self, head: Sums<'_>, sum: &Sum<'_>) -> io::Result<()> {
        let Sum {
            name,
            more,
            bad,
            fair,
            all,
        } = sum;
        write!(
            self.out,
            "<tr><th scope=\"row\"><a href=\"#{}={}\"><bdi>{}</bdi></a>",
            head.column,
            Escaped(name),
            Text(name),
        )?;
        if !more.is_empty() {
            write!(self.out, "<span>{}</span>", Text(more))?;
        }
        write!(self.out, "</th>")?;
        for (number, what, tone) in [
            (*bad, head.counted[0], Tone::Bad),
            (*fair, head.counted[1], Tone::Wait),
        ] {
            write!(self.out, "<td class=\"number {tone}\">")?;
            if number > 0 {
                write!(self.out, "<b>{}</b> {}", Grouped(number), Text(what))?;
            }
            write!(self.out, "</td>")?;
        }
        let of = |part: usize| part.saturating_mul(100).checked_div(*all).unwrap_or(0);
        writeln!(
            self.out,
            "<td class=\"share\"><svg viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{} % of {}\"><rect class=\"under\" width=\"100\" height=\"8\"/>\
             <rect class=\"wait\" width=\"{}\" height=\"8\"/><rect class=\"bad\" width=\"{}\" height=\"8\"/>\
             </svg></td></tr>",
            of(*bad),
            Grouped(*all),
            of(bad + fair),
            of(*bad),
        )
    }

    /// Begins a list of so many rows, the worst first, those of a group together.
    pub(crate) fn list<const N: usize>(
        &mut self,
        heading: &str,
        columns: &[Column<'_>; N],
        total: usize,
    ) -> io::Result<List<'_, N>> {
        self.lists += 1;
        List::begin(self.out, self.lists, (heading, total), columns)
    }

    /// A line that stands for itself.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(
            self.out,
            "<section><p class=\"none\">{}</p></section>",
            Text(text)
        )
    }

    pub(crate) fn end(self) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(
            self.out,
            "</main>\n<footer>portcullis {version}</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>"
        )
    }
}

/// A number with a comma after each three digits.
struct Grouped(usize);

/// A value in the fragment of a link, percent-encoded (RFC 3986, section 2.1).
struct Escaped<'a>(&'a str);

// === impl Source ===

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = digest(&SHA256, self.0.as_bytes());
        write!(f, "'sha256-{}'", BASE64_STANDARD.encode(hash))
    }
}

// === impl Grouped ===

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

// === impl Escaped ===

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.as_bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACK: &str = "</script><img src=x onerror=alert(1)> \"' \u{202e}";

    /// A page with `text` everywhere.
    fn page(text: &str) -> String {
        let mut out = Vec::new();
        let title = Title {
            window: text,
            command: text,
            at: text,
        };
        let mut page = Page::begin(&mut out, title).unwrap();
        page.answer(Answer {
            tone: Tone::Bad,
            heading: text,
            reason: text,
            facts: &[(text, text)],
        })
        .unwrap();
        page.tiles(&[Tile {
            number: 1_234_567,
            what: text,
            more: text,
        }])
        .unwrap();
        let sums = Sums {
            heading: text,
            column: "namespace",
            counted: [text, text],
        };
        let sum = Sum {
            name: text,
            more: text,
            bad: 1,
            fair: 2,
            all: 4,
        };
        page.sums(&[(sums, vec![sum])]).unwrap();
        let column = Column {
            name: text,
            role: Role::Text,
            tones: &[(text, Tone::Good)],
        };
        let mut list = page.list(text, &[column], 1).unwrap();
        list.row([text]).unwrap();
        list.end(text).unwrap();
        page.note(text).unwrap();
        page.end().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// What stands between the tags of the only element that begins so.
    fn within<'p>(page: &'p str, begin: &str, end: &str) -> &'p str {
        let (_, rest) = page.split_once(begin).unwrap();
        rest.split_once(end).unwrap().0
    }

    #[test]
    fn nothing_that_is_told_is_markup() {
        let (harmless, attacked) = (page("x"), page(ATTACK));
        assert_eq!(harmless.matches('<').count(), attacked.matches('<').count());
        assert!(!attacked.contains("<img"));
        assert!(attacked.contains("#namespace=%3C%2Fscript%3E"));
    }

    #[test]
    fn only_what_is_named_by_its_hash_runs() {
        let page = page("x");
        let policy = within(&page, "Content-Security-Policy\" content=\"", "\"");
        let style = Source(within(&page, "<style>", "</style>")).to_string();
        let script = Source(within(&page, "<script>", "</script>")).to_string();
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
            )
        );
        // sha256 of the empty text, FIPS 180-4.
        assert_eq!(
            Source("").to_string(),
            "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
        );
        for forbidden in ["://", "style=\"", " on"] {
            let markup = page
                .replace(SCRIPT, "")
                .replace(STYLE, "")
                .replace(LOOK, "");
            assert!(!markup.contains(forbidden), "{forbidden}");
        }
        for forbidden in ["url(", "@import", "</"] {
            assert!(
                !STYLE.contains(forbidden) && !LOOK.contains(forbidden),
                "{forbidden}"
            );
        }
    }

    #[test]
    fn the_script_makes_no_markup_of_text_and_asks_nobody() {
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "fetch(",
            "XMLHttpRequest",
            "import(",
            "://",
            "</",
        ] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_table_of_sums_is_bounded_and_says_so() {
        let mut out = Vec::new();
        let title = Title {
            window: "",
            command: "",
            at: "",
        };
        let mut page = Page::begin(&mut out, title).unwrap();
        let head = Sums {
            heading: "Workloads by namespace",
            column: "namespace",
            counted: ["refused", "warned"],
        };
        let sum = Sum {
            name: "shop",
            more: "",
            bad: 1,
            fair: 0,
            all: 1,
        };
        page.sums(&[(head, vec![sum; SUMS + 1000])]).unwrap();
        let page = String::from_utf8(out).unwrap();
        assert_eq!(page.matches("<tr>").count(), SUMS);
        assert!(page.contains("and 1,000 more, in the list below"));
    }

    #[test]
    fn reads_well_without_its_script() {
        let page = page("text");
        let policy = within(&page, "Content-Security-Policy\" content=\"", "\"");
        let page = page.replace(policy, "POLICY").replace(SCRIPT, "SCRIPT");
        insta::assert_snapshot!(page.replace(STYLE, "").replace(LOOK, "STYLE"));
    }
}
