//! Progress of what takes long, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Nothing is shown before this.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two changes of the line.
const INTERVAL: Duration = Duration::from_millis(250);

/// A line on stderr that says how far a piece of work is; it appears only on a terminal, and only when the work takes
/// longer than two seconds. It is wiped out at the end.
pub struct Progress {
    what: &'static str,
    is_terminal: bool,
    shown: bool,
    next: Instant,
}

impl Progress {
    /// Starts the clock for the work `what`.
    pub fn new(what: &'static str) -> Self {
        Progress {
            what,
            is_terminal: io::stderr().is_terminal(),
            shown: false,
            next: Instant::now() + PATIENCE,
        }
    }

    /// Says that `done` of `all` is done.
    pub fn at(&mut self, done: u64, all: u64) {
        if !self.is_terminal || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + INTERVAL;
        self.shown = true;
        let text = match done.saturating_mul(100).checked_div(all) {
            Some(percent) => format!("\r{}: {}%\x1b[K", self.what, percent.min(100)),
            None => format!("\r{}: {} MiB\x1b[K", self.what, done >> 20),
        };
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
