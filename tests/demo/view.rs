//! What the demonstration shows: a line a second while it runs, a table at the end.

use std::io::{IsTerminal as _, Write as _, stdout};

use portcullis::gate::screen::Screen;

use crate::report::{Moment, Summary};

/// Requests that one character of a bar stands for.
const UNIT: u32 = 5;

/// What stands left of the last column: seconds, four counts, the bar, and the gaps between.
const LEFT_OF_GATE: usize = 6 + 2 + 5 + 2 + 4 + 2 + 6 + 2 + 7 + 2 + BAR + 2;

/// The longest bar.
const BAR: usize = 32;

/// Where lines go: rewritten and coloured on a terminal, plain elsewhere.
pub struct View {
    is_terminal: bool,
    is_colored: bool,
    columns: usize,
}

// === impl View ===

impl View {
    pub fn new() -> Self {
        let is_terminal = stdout().is_terminal();
        let Screen { columns, colored } = Screen::of_stdout();
        Self {
            is_terminal,
            is_colored: colored,
            // A line that is rewritten must not wrap.
            columns: if is_terminal {
                columns.into()
            } else {
                usize::MAX
            },
        }
    }

    pub fn heading(&self, text: &str) {
        println!("\n{}\n", self.paint("1", text));
        println!("  time  quick  slow  failed  waiting  {:<BAR$}  gate", "");
    }

    /// What the bars are made of.
    pub fn legend(&self) {
        println!(
            "\nOf the requests of each second: {} quick, {} slow, {} failed, {} still waiting.",
            self.paint("32", "█"),
            self.paint("33", "▓"),
            self.paint("31", "×"),
            self.paint("2", "░"),
        );
    }

    /// The second that is running: only a terminal shows it before it is over.
    pub fn running(&self, moment: Moment, gate: &str) {
        if self.is_terminal {
            print!("\r\u{1b}[2K{}", self.line(moment, gate));
            let _ = stdout().flush();
        }
    }

    pub fn over(&self, moment: Moment, gate: &str) {
        let clear = if self.is_terminal { "\r\u{1b}[2K" } else { "" };
        println!("{clear}{}", self.line(moment, gate));
    }

    fn line(&self, moment: Moment, gate: &str) -> String {
        let mut left = BAR;
        let mut bar = String::new();
        for (count, color, sign) in [
            (moment.quick, "32", "█"),
            (moment.slow, "33", "▓"),
            (moment.failed, "31", "×"),
            (moment.waiting, "2", "░"),
        ] {
            let length = usize::try_from(count.div_ceil(UNIT)).unwrap().min(left);
            left -= length;
            bar += &self.paint(color, &sign.repeat(length));
        }
        let gate: String = gate
            .chars()
            .take(self.columns.saturating_sub(LEFT_OF_GATE))
            .collect();
        format!(
            "{:>4} s  {:>5}  {:>4}  {:>6}  {:>7}  {bar}{}  {gate}",
            moment.second,
            moment.quick,
            moment.slow,
            moment.failed,
            moment.waiting,
            " ".repeat(left),
        )
        .trim_end()
        .to_owned()
    }

    /// Both acts beside each other.
    pub fn table(&self, without: &Summary, with: &Summary) {
        println!("\n{}\n", self.paint("1", "In the end"));
        println!("{:<34}{:>16}{:>16}", "", "without a gate", "with the gate");
        for (name, of) in ROWS {
            println!("  {name:<32}{:>16}{:>16}", of(without), of(with));
        }
        println!(
            "\nThe gate held what came too early. In a cluster a pod that is not ready gets no \
             requests:\nthe other replicas answer them."
        );
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.is_colored && !text.is_empty() {
            format!("\u{1b}[{color}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A row of the table: its name, and what stands in it.
type Row = (&'static str, fn(&Summary) -> String);

const ROWS: [Row; 7] = [
    ("requests", |all| all.sent.to_string()),
    ("failed", |all| all.failed.to_string()),
    ("slower than 250 ms", |all| all.slow.to_string()),
    ("first good answer after", |all| show(all.first_good_ms)),
    ("p50 of good answers", |all| show(all.p50_ms)),
    ("p99 of good answers", |all| show(all.p99_ms)),
    ("slowest good answer", |all| show(all.max_ms)),
];

fn show(ms: Option<f64>) -> String {
    match ms {
        None => "never".to_owned(),
        Some(ms) if ms < 1000.0 => format!("{ms:.1} ms"),
        Some(ms) => format!("{:.1} s", ms / 1000.0),
    }
}
