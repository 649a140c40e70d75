//! What the demonstration shows: a line a second while it runs, a table at the end.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    time::Duration,
};

use portcullis::gate::screen::Screen;

use crate::client::{RATE, Sample, Seen};

/// A good answer that took longer is shown as slow.
const SLOW: Duration = Duration::from_millis(250);

/// Requests that one character of a bar stands for.
const UNIT: u32 = RATE / 16;

/// What stands left of the last column: seconds, four counts, the bar, and the gaps between.
const LEFT_OF_GATE: usize = 6 + 2 + 5 + 2 + 4 + 2 + 6 + 2 + 7 + 2 + BAR + 2;

/// The longest bar.
const BAR: usize = 32;

/// How requests went.
#[derive(Clone, Copy, Default)]
pub struct Moment {
    quick: u32,
    slow: u32,
    failed: u32,
    waiting: u32,
}

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
    pub fn running(&self, second: u64, moment: Moment, gate: &str) {
        if self.is_terminal {
            print!("\r\u{1b}[2K{}", self.line(second, moment, gate));
            let _ = stdout().flush();
        }
    }

    pub fn over(&self, second: u64, moment: Moment, gate: &str) {
        let clear = if self.is_terminal { "\r\u{1b}[2K" } else { "" };
        println!("{clear}{}", self.line(second, moment, gate));
    }

    fn line(&self, second: u64, moment: Moment, gate: &str) -> String {
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
            second,
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
    pub fn table(&self, without: &Seen, with: &Seen) {
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
type Row = (&'static str, fn(&Seen) -> String);

const ROWS: [Row; 7] = [
    ("requests", |seen| seen.sent.to_string()),
    ("failed", |seen| {
        let failed = seen.samples.iter().filter(|sample| !sample.good);
        failed.count().to_string()
    }),
    ("first good answer after", |seen| show(first_good(seen))),
    ("p50 of all good answers", |seen| {
        show(percentile(seen, 50, None))
    }),
    ("p99 of all good answers", |seen| {
        show(percentile(seen, 99, None))
    }),
    ("p50 of those sent after the first", |seen| {
        show(percentile(seen, 50, first_good(seen)))
    }),
    ("p99 of those sent after the first", |seen| {
        show(percentile(seen, 99, first_good(seen)))
    }),
];

fn first_good(seen: &Seen) -> Option<Duration> {
    good(seen).map(|sample| sample.ended).min()
}

fn percentile(seen: &Seen, percent: usize, from: Option<Duration>) -> Option<Duration> {
    let from = from.unwrap_or_default();
    let mut took: Vec<_> = good(seen)
        .filter(|sample| sample.sent >= from)
        .map(Sample::took)
        .collect();
    took.sort_unstable();
    // By nearest rank.
    let rank = (took.len() * percent).div_ceil(100);
    took.get(rank.checked_sub(1)?).copied()
}

fn good(seen: &Seen) -> impl Iterator<Item = &Sample> {
    seen.samples.iter().filter(|sample| sample.good)
}

fn show(duration: Option<Duration>) -> String {
    match duration {
        None => "never".to_owned(),
        Some(short) if short < Duration::from_secs(1) => {
            format!("{:.1} ms", short.as_secs_f64() * 1000.0)
        }
        Some(long) => format!("{:.1} s", long.as_secs_f64()),
    }
}

// === impl Moment ===

impl Moment {
    /// What ended in this second, and what waits at its end.
    pub fn of(seen: &Seen, second: u64) -> Self {
        let ended = u32::try_from(seen.samples.len()).unwrap();
        let mut moment = Self {
            waiting: seen.sent - ended,
            ..Self::default()
        };
        let now = seen.samples.iter();
        for sample in now.filter(|sample| sample.ended.as_secs() == second) {
            let count = match sample.good {
                false => &mut moment.failed,
                true if sample.took() > SLOW => &mut moment.slow,
                true => &mut moment.quick,
            };
            *count += 1;
        }
        moment
    }
}
