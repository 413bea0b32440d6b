//! Log lines while the view is up: its last ones are shown, and all are written to stderr after it.

use super::view::LogLine;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// Lines that are kept to be written after the view; of more the oldest are left out.
const KEPT: usize = 1000;

/// Lines that the view is given.
const SHOWN: usize = 100;

/// The log lines of this process, of which stderr has only one.
static TAIL: Mutex<Tail> = Mutex::new(Tail::new());

fn tail() -> MutexGuard<'static, Tail> {
    TAIL.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Tail {
    holding: bool,
    /// As they would have been written.
    held: VecDeque<Vec<u8>>,
    left_out: u64,
    /// As they are shown.
    shown: VecDeque<LogLine>,
}

impl Tail {
    const fn new() -> Self {
        Self { holding: false, held: VecDeque::new(), left_out: 0, shown: VecDeque::new() }
    }

    fn hold(&mut self, line: &[u8]) {
        if self.held.len() == KEPT {
            self.held.pop_front();
            self.left_out += 1;
        }
        self.held.push_back(line.to_vec());
    }

    fn show(&mut self, line: LogLine) {
        if self.shown.len() == SHOWN {
            self.shown.pop_front();
        }
        self.shown.push_back(line);
    }

    fn write_held(&mut self, to: &mut impl Write) -> io::Result<()> {
        self.holding = false;
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 {
            writeln!(to, "({left_out} earlier log lines are left out)")?;
        }
        self.held.drain(..).try_for_each(|line| to.write_all(&line))
    }
}

/// From now on log lines are held.
pub(super) fn hold() {
    tail().holding = true;
}

/// Writes the lines that were held; later ones go to stderr again.
pub(super) fn release(to: &mut impl Write) {
    // That nobody reads them is not the run's concern.
    let _ = tail().write_held(to);
}

/// The last lines, the latest last.
pub(super) fn lines() -> Vec<LogLine> {
    tail().shown.iter().cloned().collect()
}

/// The writer of log lines in their own form: to stderr, or held while the view is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToStderr;

impl Write for ToStderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        {
            let mut tail = tail();
            if tail.holding {
                tail.hold(line);
                return Ok(line.len());
            }
        }
        // That nobody reads it is not the run's concern; the subscriber would panic.
        let _ = io::stderr().write_all(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writer of log lines to be shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToView;

impl<'a> MakeWriter<'a> for ToView {
    type Writer = OfLevel;

    fn make_writer(&'a self) -> OfLevel {
        OfLevel(Level::INFO)
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> OfLevel {
        OfLevel(*of.level())
    }
}

/// Shows what is written as lines of this level.
#[derive(Debug)]
pub(crate) struct OfLevel(Level);

impl Write for OfLevel {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let mut tail = tail();
        for text in text.lines() {
            // What a terminal would obey must not reach it.
            let text = text.trim().chars().map(|c| if c.is_control() { '�' } else { c }).collect();
            tail.show(LogLine { level: self.0, text });
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The time of day before a line that is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", chrono::Local::now().format("%H:%M:%S"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_written_later_and_bounded() {
        let mut tail = Tail::new();
        tail.holding = true;
        for n in 0..KEPT + 2 {
            tail.hold(format!("line {n}\n").as_bytes());
            tail.show(LogLine { level: Level::INFO, text: n.to_string() });
        }
        let mut written = Vec::new();
        tail.write_held(&mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.starts_with("(2 earlier log lines are left out)\nline 2\nline 3\n"), "{written:.90}");
        assert!(written.ends_with(&format!("line {}\n", KEPT + 1)));
        assert_eq!((tail.shown.len(), tail.holding, tail.held.len()), (SHOWN, false, 0));
        // Nothing is written twice.
        let mut again = Vec::new();
        tail.write_held(&mut again).unwrap();
        assert!(again.is_empty());
    }
}
