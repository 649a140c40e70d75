//! What a terminal is shown, and what a pipe: colour, text that can't harm a terminal, readers that leave.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
};

use clap::ValueEnum;

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    colored: bool,
}

/// The few styles in use, as SGR parameters (ECMA-48 section 8.3.117).
#[derive(Clone, Copy, Debug)]
pub(super) enum Style {
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
}

/// Writes until the reader leaves, then nothing, without an error: `portcullis check . | head` is no failure, and its
/// exit status is that of the whole check.
#[derive(Debug)]
pub(super) struct Pipe<W>(Option<W>);

/// Text without the control characters that a manifest may hold: none reaches a terminal.
pub(super) struct Shown<'a>(pub(super) &'a str);

/// `1 workload`, `2 workloads`.
pub(super) fn counted(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

// === impl Palette ===

impl Palette {
    /// The colours for standard output.
    pub(super) fn new(color: Color) -> Self {
        let colored = match color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: set and not empty, whatever its value.
            Color::Auto => {
                io::stdout().is_terminal()
                    && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        };
        Self { colored }
    }

    /// `text` in `style`.
    pub(super) fn paint(self, style: Style, text: impl fmt::Display) -> String {
        if !self.colored {
            return text.to_string();
        }
        let parameter = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "1;31",
            Style::Yellow => "33",
            Style::Green => "32",
        };
        format!("\u{1b}[{parameter}m{text}\u{1b}[0m")
    }
}

// === impl Pipe ===

impl<W: Write> Pipe<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(Some(writer))
    }

    fn until_closed<T>(
        &mut self,
        done: T,
        act: impl FnOnce(&mut W) -> io::Result<T>,
    ) -> io::Result<T> {
        let Some(writer) = &mut self.0 else {
            return Ok(done);
        };
        match act(writer) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.0 = None;
                Ok(done)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_closed(bytes.len(), |writer| writer.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.until_closed((), Write::flush)
    }
}

// === impl Shown ===

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            if char.is_control() {
                write!(f, "{}", char.escape_unicode())?;
            } else {
                fmt::Write::write_char(f, char)?;
            }
        }
        Ok(())
    }
}
