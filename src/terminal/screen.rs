//! The terminal's own screen and mode, taken and given back.

use super::tail;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute, style};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};
use std::io::{self, Write, stderr};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the terminal is ours; a process has one.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Puts the hook in place that gives the terminal back before a panic is told.
static HOOK: Once = Once::new();

/// The terminal while it is ours. Dropping it gives it back.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<FrameBytes>>,
}

impl Screen {
    /// Takes the terminal that stderr is: no echo, every key as it is, a screen of its own.
    pub(super) fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                before(panic);
            }));
        });
        let terminal = Terminal::new(CrosstermBackend::new(FrameBytes(Vec::new())))?;
        enable_raw_mode()?;
        TAKEN.store(true, Ordering::SeqCst);
        let screen = Self { terminal };
        tail::hold();
        execute!(stderr().lock(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Draws what changed since the last frame. Tells whether the terminal is still ours.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<bool> {
        self.terminal.draw(draw)?;
        Ok(TAKEN.load(Ordering::SeqCst))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Gives the terminal back, if it is ours, and then what was to be logged meanwhile. Any thread may call
/// this at any time: the lock of stderr keeps a frame from being drawn afterwards, and a thread that draws
/// may have it twice.
pub(super) fn give_back() {
    let mut stderr = stderr().lock();
    if TAKEN.swap(false, Ordering::SeqCst) {
        leave(&mut stderr);
        let _ = disable_raw_mode();
        tail::release(&mut stderr);
    }
}

/// A terminal that is gone need not be left.
fn leave(to: &mut impl Write) {
    let _ = execute!(to, style::ResetColor, LeaveAlternateScreen, cursor::Show);
}

/// Gathers the bytes of a frame, to write them at once while the terminal is ours.
struct FrameBytes(Vec<u8>);

impl Write for FrameBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut stderr = stderr().lock();
        let written = if TAKEN.load(Ordering::SeqCst) { stderr.write_all(&self.0) } else { Ok(()) };
        self.0.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_ends_the_other_screen_and_shows_the_cursor() {
        let mut bytes = Vec::new();
        leave(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what:?} in {text:?}"));
        assert!(place("\x1b[0m") < place("\x1b[?1049l") && place("\x1b[?1049l") < place("\x1b[?25h"));
    }

    #[test]
    fn what_was_not_taken_is_not_given_back() {
        // Would write escapes to the stderr of the tests.
        assert!(!TAKEN.load(Ordering::SeqCst));
        give_back();
        assert!(!TAKEN.load(Ordering::SeqCst));
    }
}
