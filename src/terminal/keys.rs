//! The keys, and what they mean.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read as _};
use std::time::Duration;

/// How long a key must be left alone to be pressed again.
pub(super) const HELD_KEY: Duration = Duration::from_millis(500);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Faster,
    Slower,
    Pause,
    Drain,
    Quit,
    /// Ctrl-C, which a raw terminal does not make a signal.
    Interrupt,
    Help,
    Close,
}

/// The keys in what was typed. Sequences of escape, such as of arrow keys, mean nothing.
pub(super) fn read(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        rest = after;
        keys.extend(match first {
            b'+' | b'=' => Some(Key::Faster),
            b'-' | b'_' => Some(Key::Slower),
            b'p' | b'P' | b' ' => Some(Key::Pause),
            b'd' | b'D' => Some(Key::Drain),
            b'q' | b'Q' => Some(Key::Quit),
            0x03 => Some(Key::Interrupt),
            b'?' | b'h' | b'H' => Some(Key::Help),
            0x1b if after.is_empty() => Some(Key::Close),
            0x1b => {
                rest = after_sequence(after);
                None
            }
            _ => None,
        });
    }
    keys
}

/// What follows a sequence whose escape was read: ESC [ parameters and a letter, ESC O and one, or Alt and
/// a key.
fn after_sequence(bytes: &[u8]) -> &[u8] {
    let end = match bytes {
        [b'[', parameters @ ..] => {
            1 + parameters.iter().position(|byte| (0x40..=0x7e).contains(byte)).unwrap_or(parameters.len())
        }
        [b'O', ..] => 1,
        _ => 0,
    };
    bytes.get(end + 1..).unwrap_or_default()
}

/// Where keys come from. This is not crossterm's reader, which takes a terminal that is gone for one where
/// nothing was typed and asks it again at once, for ever.
#[derive(Debug)]
pub(super) struct Keyboard(Option<File>);

impl Keyboard {
    /// That of this process's terminal; stdin may be something else, such as a file to replay.
    pub(super) fn open() -> io::Result<Self> {
        File::open("/dev/tty").map(Some).map(Self)
    }

    /// Waits until something is typed, for this long at most; tells what.
    pub(super) fn wait(&mut self, longest: Duration) -> Vec<Key> {
        let Some(terminal) = &self.0 else {
            wait_for(&mut [], longest);
            return Vec::new();
        };
        if !wait_for(&mut [PollFd::new(terminal, PollFlags::IN)], longest) {
            return Vec::new();
        }
        let mut bytes = [0; 256];
        match (&mut &*terminal).read(&mut bytes) {
            Ok(typed) if typed > 0 => read(&bytes[..typed]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Vec::new(),
            _ => {
                self.0 = None;
                Vec::new()
            }
        }
    }
}

/// Whether something can be read before the time is over.
fn wait_for(from: &mut [PollFd<'_>], longest: Duration) -> bool {
    let longest = Timespec::try_from(longest).ok();
    // A signal ends the wait early, which costs a frame at most.
    poll(from, longest.as_ref()).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_help_says() {
        use Key::{Close, Drain, Faster, Help, Interrupt, Pause, Quit, Slower};
        assert_eq!(read(b"+-pdq?"), [Faster, Slower, Pause, Drain, Quit, Help]);
        assert_eq!(read(b"\x03x\x1b"), [Interrupt, Close]);
    }

    #[test]
    fn sequences_are_no_keys() {
        // Up, F5, Home of another kind, Alt-q, and a sequence that is cut off.
        assert_eq!(read(b"\x1b[A\x1b[15~\x1bOH\x1bq+"), [Key::Faster]);
        assert_eq!(read(b"\x1b[20"), []);
        assert_eq!(read("ä日".as_bytes()), []);
    }
}
