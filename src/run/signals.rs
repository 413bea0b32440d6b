//! The signals that end a run, and the one that has its settings read again.

use super::Stops;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// How long a terminal that closes may take from its signal to its end: some signal first.
const CLOSING: Duration = Duration::from_millis(300);

/// Requests to stop by signals: SIGINT and SIGTERM are one each, SIGQUIT is two at once. SIGHUP is one if the
/// terminal is gone.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangups: Hangups,
    reloads: bool,
    asked: bool,
    again: bool,
}

impl Signals {
    /// Listens from now on. Whether SIGHUP has the settings read again (`reloads`) is told to who sends it.
    ///
    /// # Errors
    /// If a signal cannot be listened for.
    pub fn listen(reloads: bool) -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangups: Hangups::listen()?,
            reloads,
            asked: false,
            again: false,
        })
    }

    /// Whether a hangup is a request to stop. Shells and the system may send more than one, and what drains
    /// already need not end at once because nobody watches.
    fn stops_for(&self, hangup: Hangup) -> bool {
        match hangup {
            Hangup::Gone if self.asked => {}
            Hangup::Gone => {
                tracing::warn!("SIGHUP: the terminal is gone");
                return true;
            }
            Hangup::Asked if self.reloads => {}
            Hangup::Asked => tracing::warn!("SIGHUP: no config file is read again here; nothing changes"),
        }
        false
    }
}

impl Stops for Signals {
    async fn next(&mut self) {
        if std::mem::take(&mut self.again) {
            return;
        }
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => break,
                _ = self.terminate.recv() => break,
                _ = self.quit.recv() => {
                    self.again = true;
                    break;
                }
                hangup = self.hangups.next() => if self.stops_for(hangup) { break },
            }
        }
        self.asked = true;
    }
}

/// What SIGHUP means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hangup {
    /// A terminal that the process was started on is gone, and with it who watched.
    Gone,
    /// Somebody wants the settings read again.
    Asked,
}

/// SIGHUP. Under `nohup`, or as a service, a process is on no terminal.
#[derive(Debug)]
pub(super) struct Hangups {
    signal: Signal,
    terminals: usize,
    // When one that has come can be told apart.
    due: Option<Instant>,
}

impl Hangups {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self { signal: signal(SignalKind::hangup())?, terminals: terminals(), due: None })
    }

    /// The next one. Of one that has come nothing is lost if this is not waited for to its end.
    pub(super) async fn next(&mut self) -> Hangup {
        let due = if let Some(due) = self.due {
            due
        } else {
            // Signals cannot end but with the runtime.
            self.signal.recv().await;
            let closing = if self.terminals > 0 { CLOSING } else { Duration::ZERO };
            *self.due.insert(Instant::now() + closing)
        };
        sleep_until(due).await;
        self.due = None;
        if terminals() < self.terminals { Hangup::Gone } else { Hangup::Asked }
    }
}

/// How many of the standard streams are a terminal that is there.
fn terminals() -> usize {
    [stdin().is_terminal(), stdout().is_terminal(), stderr().is_terminal()]
        .into_iter()
        .filter(|is| *is)
        .count()
}
