//! Something to look at while it takes long: one line on a terminal, nothing anywhere else.

use std::io::{self, IsTerminal, Write};

use tokio::time::{Duration, Instant};

/// Who waits for less does not ask what is going on.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// Often enough to look alive.
const EVERY: Duration = Duration::from_millis(100);

/// How far something with a known number of steps is.
#[derive(Debug)]
pub(super) struct Progress {
    verb: &'static str,
    done: usize,
    total: usize,
    next: Instant,
    terminal: bool,
    shown: bool,
}

// === impl Progress ===

impl Progress {
    /// Of `total` steps; `verb` says what is done with each.
    pub(super) fn new(verb: &'static str, total: usize) -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            verb,
            done: 0,
            total,
            next: Instant::now() + SILENT_FOR,
            terminal,
            shown: false,
        }
    }

    /// One more step is begun.
    pub(super) fn step(&mut self, errors: &mut dyn Write) -> io::Result<()> {
        self.done += 1;
        self.show(errors)
    }

    /// Some steps are done, and so many more are known of.
    pub(super) fn advance(
        &mut self,
        done: usize,
        more: usize,
        errors: &mut dyn Write,
    ) -> io::Result<()> {
        self.done += done;
        self.total = self.done + more;
        self.show(errors)
    }

    fn show(&mut self, errors: &mut dyn Write) -> io::Result<()> {
        if !self.terminal || Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + EVERY;
        self.shown = true;
        write!(
            errors,
            "\r\u{1b}[K{} {} of {}",
            self.verb, self.done, self.total
        )?;
        errors.flush()
    }

    /// All is done: the line goes.
    pub(super) fn clear(self, errors: &mut dyn Write) -> io::Result<()> {
        if self.shown {
            write!(errors, "\r\u{1b}[K")?;
        }
        Ok(())
    }
}
