//! What the demonstrations show: a line a second while they run, a table at the end.

use std::io::{IsTerminal as _, Write as _, stdout};

use portcullis::gate::screen::Screen;

use crate::{
    report::{Moment, Summary},
    table::{Row, show},
};

/// Requests that one character of a bar stands for.
const UNIT: u32 = 5;

/// What stands left of the last column: seconds, four counts, the bar, and the gaps between.
const LEFT_OF_GATE: usize = 6 + 2 + 5 + 2 + 4 + 2 + 6 + 2 + 7 + 2 + BAR + 2;

/// The longest bar.
const BAR: usize = 32;

/// Rows of the plot.
const PLOT: u32 = 3;

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

    /// The name of what follows, above the columns; the last of them is the caller's.
    pub fn heading(&self, text: &str, last: &str) {
        println!("\n{}\n", self.paint("1", text));
        let columns = format!("  time  quick  slow  failed  waiting  {:<BAR$}  {last}", "");
        println!("{}", columns.trim_end());
    }

    /// A heading with no columns below it.
    pub fn title(&self, text: &str) {
        println!("\n{}\n", self.paint("1", text));
    }

    /// What somebody types.
    pub fn command(&self, text: &str) {
        println!("  {}", self.paint("1", &format!("$ {text}")));
    }

    /// What is answered.
    pub fn answer(&self, text: &str, passed: bool) {
        for line in text.lines() {
            println!("    {}", self.paint(if passed { "2" } else { "31" }, line));
        }
    }

    /// What happens meanwhile.
    pub fn told(&self, text: &str) {
        println!("         {}", self.paint("36", text));
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
            let length = usize::try_from(count.div_ceil(UNIT))
                .unwrap_or(left)
                .min(left);
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

    /// Both sides beside each other: without Portcullis, or its gate, and with it.
    pub fn table(&self, title: &str, rows: &[Row], (without, with): (&Summary, &Summary)) {
        println!("\n{}\n", self.paint("1", title));
        println!("{:<34}{:>16}{:>16}", "", "without", "with");
        for (name, of) in rows {
            println!("  {name:<32}{:>16}{:>16}", of(without), of(with));
        }
    }

    /// The p99 of each second, a column each, both sides to the same scale.
    pub fn plot(&self, without: &[u32], with: &[u32]) {
        let highest = without
            .iter()
            .chain(with)
            .copied()
            .max()
            .unwrap_or_default()
            .max(1);
        println!(
            "\n  p99 of each second, up to {}:",
            show(Some(f64::from(highest)))
        );
        for (name, color, values) in [("without", "31", without), ("with", "32", with)] {
            for row in (0..PLOT).rev() {
                let blocks: String = values
                    .iter()
                    .map(|value| block(*value, highest, row))
                    .collect();
                let label = if row == 0 { name } else { "" };
                if !blocks.trim().is_empty() {
                    println!("  {label:>7} {}", self.paint(color, blocks.trim_end()));
                }
            }
        }
    }

    fn paint(&self, color: &str, text: &str) -> String {
        if self.is_colored && !text.is_empty() {
            format!("\u{1b}[{color}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The part of a column that is in one row of the plot.
fn block(value: u32, highest: u32, row: u32) -> char {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // One eighth at least: a second of the client is never nothing.
    let eighths = (value.saturating_mul(PLOT * 8) / highest).max(1);
    let here = eighths.saturating_sub(row * 8).min(8);
    usize::try_from(here)
        .ok()
        .and_then(|here| EIGHTHS.get(here))
        .copied()
        .unwrap_or(' ')
}
