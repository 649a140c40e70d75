//! The page for a terminal: what `portcullis-gate status` prints.

use std::{
    env,
    fmt::{self, Write as _},
    io::{self, IsTerminal as _},
    iter,
    str::FromStr,
    time::Duration,
};

use super::{
    state::State,
    status::{self, CheckStatus, Status, WarmupStatus},
};

/// What the page is printed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Its width in characters. Lines are wrapped to it, but never below 40.
    pub columns: u16,
    /// Whether it shows colours.
    pub colored: bool,
}

/// The few styles in use, as SGR parameters (ECMA-48 section 8.3.117).
#[derive(Clone, Copy, Debug)]
enum Style {
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
    Blue,
    Magenta,
}

/// Where the width is not known: what a pipe's reader or a log shows.
const COLUMNS: u16 = 100;

const MIN_COLUMNS: usize = 40;

/// Phases of the history that are shown.
const SHOWN_PHASES: usize = 20;

/// Windows in the sparkline.
const SHOWN_WINDOWS: usize = 32;

/// The page for a gate at one moment.
pub fn render(status: &Status, screen: Screen) -> String {
    let mut page = String::new();
    screen.put_state(&mut page, status);
    screen.put_checks(&mut page, status);
    if let Some(warmup) = &status.warmup {
        screen.put_warmup(&mut page, warmup);
    }
    screen.put_traffic(&mut page, status);
    screen.put_timeline(&mut page, status);
    page
}

// === impl Screen ===

impl Screen {
    /// That of this process's standard output. Colours only on a terminal, and not where
    /// `NO_COLOR` is set (<https://no-color.org>) or `TERM` is `dumb`.
    pub fn of_stdout() -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout());
        let columns = size.map_or(0, |size| size.ws_col);
        Self {
            columns: if columns == 0 { COLUMNS } else { columns },
            colored: io::stdout().is_terminal()
                && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }

    fn put_state(self, page: &mut String, status: &Status) {
        let lasted = status.at.duration_since(status.since).unwrap_or_default();
        let ready = if status.ready { "ready" } else { "not ready" };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            page,
            "{} for {}, {ready}",
            self.paint(style(status.state), status.state.name()),
            status::brief(Duration::from_secs(lasted.as_secs())),
        );
        self.put_text(page, 2, &status.reason);
        let way: Vec<_> = status
            .way()
            .into_iter()
            .map(|state| {
                if state == status.state {
                    self.paint(style(state), format_args!("[{}]", state.name()))
                } else {
                    self.paint(Style::Dim, state.name())
                }
            })
            .collect();
        let _ = writeln!(page, "\n  {}", way.join(" → "));
    }

    fn put_checks(self, page: &mut String, status: &Status) {
        if status.checks.is_empty() {
            return;
        }
        self.put_heading(page, "checks");
        let checks = || status.checks.iter();
        let widest = |of: fn(&CheckStatus) -> usize| checks().map(of).max().unwrap_or_default();
        let name = widest(|check| check.name.chars().count()).min(24);
        let kind = widest(|check| kind(check).len());
        for check in checks() {
            let (style, sign) = match check.standing {
                "passing" => (Style::Green, '✓'),
                "failing" => (Style::Red, '✗'),
                _ => (Style::Dim, '·'),
            };
            let found = match &check.last {
                None => "no result yet".to_owned(),
                Some(run) => {
                    let age = status::ago(status.at, run.at);
                    match &run.problem {
                        Some(problem) => format!("{problem}, {age}"),
                        None => format!("passed in {} ms, {age}", run.took_ms),
                    }
                }
            };
            let _ = write!(
                page,
                "  {}  {:name$}  {}  ",
                self.paint(style, format_args!("{sign} {:<7}", check.standing)),
                shown(&check.name),
                self.paint(Style::Dim, format_args!("{:<kind$}", self::kind(check))),
            );
            self.put_rest(page, 2 + 9 + 2 + name + 2 + kind + 2, &found);
        }
    }

    fn put_warmup(self, page: &mut String, warmup: &WarmupStatus) {
        self.put_heading(page, "warm-up");
        if warmup.attempts == 0 {
            self.put_text(page, 2, "begins when all checks pass");
            return;
        }
        let numbers = &warmup.numbers;
        let p95 = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), status::latency);
        let target = warmup.target_p95_us.map_or_else(String::new, |target| {
            format!(", target {}", status::latency(target))
        });
        let text = format!(
            "{}, attempt {}: p95 {} cold, {} now{target}; {} requests, {} failed, {}",
            warmup.verdict.unwrap_or("not begun"),
            warmup.attempts,
            p95(numbers.cold_p95_us),
            p95(numbers.warm_p95_us),
            numbers.requests,
            numbers.errors,
            status::brief(Duration::from_millis(numbers.took_ms)),
        );
        self.put_text(page, 2, &text);
        let values: Vec<_> = numbers
            .cold_p95_us
            .into_iter()
            .chain(numbers.windows_us.iter().copied())
            .collect();
        if values.len() > 1 {
            let curve = self.paint(Style::Blue, sparkline(&values));
            let _ = writeln!(page, "  {curve}");
        }
    }

    fn put_traffic(self, page: &mut String, status: &Status) {
        self.put_heading(page, "traffic");
        let traffic = &status.traffic;
        let text = format!(
            "held {} ({}), in flight {}, streams {}, connections {}",
            traffic.held,
            status::size(traffic.held_bytes),
            traffic.in_flight,
            traffic.streams,
            traffic.connections,
        );
        self.put_text(page, 2, &text);
        if let Some(ramp) = &status.ramp {
            let held = if ramp.is_held {
                ", held there because p95 has doubled"
            } else {
                ""
            };
            let (step, steps, limit) = (ramp.step, ramp.steps, ramp.limit);
            let text = format!("ramp: {limit} at a time, step {step} of {steps}{held}");
            self.put_text(page, 2, &text);
        }
    }

    fn put_timeline(self, page: &mut String, status: &Status) {
        self.put_heading(page, "timeline (UTC)");
        let phases = status.phases();
        let skipped = phases.len().saturating_sub(SHOWN_PHASES);
        if skipped > 0 {
            let _ = writeln!(page, "  {skipped} earlier ones: see --output json");
        }
        for phase in phases.iter().skip(skipped) {
            let _ = write!(
                page,
                "  {}  {}  {:<11}  ",
                self.paint(
                    Style::Dim,
                    format_args!("{:<11}", status::clock(status.at, phase.began))
                ),
                self.paint(
                    style(phase.state),
                    format_args!("{:<8}", phase.state.name())
                ),
                status::brief(phase.lasted),
            );
            self.put_rest(page, 2 + 11 + 2 + 8 + 2 + 11 + 2, phase.reason);
        }
    }

    fn put_heading(self, page: &mut String, heading: &str) {
        let _ = writeln!(page, "\n{}", self.paint(Style::Bold, heading));
    }

    fn put_text(self, page: &mut String, indent: usize, text: &str) {
        page.extend(iter::repeat_n(' ', indent));
        self.put_rest(page, indent, text);
    }

    /// The rest of a line of which `indent` characters are written, and what it is wrapped into.
    fn put_rest(self, page: &mut String, indent: usize, text: &str) {
        let columns = usize::from(self.columns).max(MIN_COLUMNS);
        // Where a column would be too narrow to read in, lines go on at the left.
        let hang = if columns.saturating_sub(indent) < MIN_COLUMNS / 2 {
            4
        } else {
            indent
        };
        let mut at = indent;
        for (index, word) in shown(text).split(' ').enumerate() {
            let space = usize::from(index > 0);
            let length = word.chars().count();
            if at > hang && at + space + length > columns {
                page.truncate(page.trim_end_matches(' ').len());
                page.push('\n');
                page.extend(iter::repeat_n(' ', hang));
                at = hang;
            } else {
                page.extend(iter::repeat_n(' ', space));
                at += space;
            }
            page.push_str(word);
            at += length;
        }
        page.push('\n');
    }

    fn paint(self, style: Style, text: impl fmt::Display) -> String {
        if !self.colored {
            return text.to_string();
        }
        let parameter = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "1;31",
            Style::Yellow => "1;33",
            Style::Green => "1;32",
            Style::Blue => "1;34",
            Style::Magenta => "1;35",
        };
        format!("\u{1b}[{parameter}m{text}\u{1b}[0m")
    }
}

impl fmt::Display for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = if self.colored { "color" } else { "plain" };
        write!(f, "{} {style}", self.columns)
    }
}

impl FromStr for Screen {
    type Err = UnknownScreen;

    fn from_str(text: &str) -> Result<Self, UnknownScreen> {
        let (columns, style) = text.split_once(' ').ok_or(UnknownScreen(()))?;
        let colored = match style {
            "color" => true,
            "plain" => false,
            _ => return Err(UnknownScreen(())),
        };
        let columns = columns.parse().map_err(|_| UnknownScreen(()))?;
        Ok(Self { columns, colored })
    }
}

/// Not as [`Screen`] writes itself.
#[derive(Debug, thiserror::Error)]
#[error("no screen such as \"100 plain\"")]
pub struct UnknownScreen(());

fn style(state: State) -> Style {
    match state {
        State::Closed | State::Reclosed => Style::Red,
        State::Checking => Style::Yellow,
        State::Warming | State::Ramping => Style::Blue,
        State::Open => Style::Green,
        State::Draining => Style::Magenta,
    }
}

fn kind(check: &CheckStatus) -> String {
    format!("{}, {}", check.kind, check.scope)
}

/// Without control characters: what an app or a server said reaches no terminal as a command.
fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            shown.extend(char.escape_unicode());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// The last windows as blocks, on a logarithmic scale: a cold app may be a hundred times as slow.
fn sparkline(values: &[u64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let last = values.get(values.len().saturating_sub(SHOWN_WINDOWS)..);
    let last = last.unwrap_or_default();
    let log = |micros: u64| f64::from(u32::try_from(micros.max(1)).unwrap_or(u32::MAX)).ln();
    let low = last.iter().copied().min().map_or(0.0, log);
    let high = last.iter().copied().max().map_or(0.0, log);
    let block = |micros: &u64| {
        let share = (log(*micros) - low) / (high - low).max(f64::EPSILON);
        let above = (1_u8..8)
            .filter(|step| share * 8.0 >= f64::from(*step))
            .count();
        BLOCKS.get(above).copied().unwrap_or(' ')
    };
    last.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::status::samples, *};

    const PLAIN: Screen = Screen {
        columns: 100,
        colored: false,
    };

    #[test]
    fn says_why_it_is_closed() {
        insta::assert_snapshot!(render(&samples::closed(), PLAIN));
    }

    #[test]
    fn shows_a_warm_up_under_way() {
        insta::assert_snapshot!(render(&samples::warming(), PLAIN));
    }

    #[test]
    fn shows_an_open_gate_and_how_it_came_to_open() {
        insta::assert_snapshot!(render(&samples::open(), PLAIN));
    }

    #[test]
    fn shows_a_drain() {
        insta::assert_snapshot!(render(&samples::draining(), PLAIN));
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for columns in [40, 60, 80] {
            let page = render(&samples::closed(), Screen { columns, ..PLAIN });
            for line in page.lines() {
                // Names and way are never cut, and have a line of their own.
                let is_whole = line.contains('→') || line.contains("startup");
                let width = line.chars().count();
                assert!(
                    is_whole || width <= usize::from(columns),
                    "{columns}: {line}"
                );
            }
        }
    }

    #[test]
    fn colours_are_all_that_differs_on_a_terminal() {
        let colored = Screen {
            colored: true,
            ..PLAIN
        };
        let plain = render(&samples::open(), PLAIN);
        let painted = render(&samples::open(), colored);
        assert!(!plain.contains('\u{1b}'));
        let sgr = regex_lite::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
        assert_eq!(sgr.replace_all(&painted, ""), plain);
    }

    #[test]
    fn what_others_said_cannot_command_the_terminal() {
        let page = render(&samples::closed(), PLAIN);
        assert!(page.contains("\\u{1b}[31m"), "{page}");
    }
}
