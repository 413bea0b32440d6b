//! The live view of a run on a terminal: what it shows, and what its keys steer.
//!
//! [`Model`] makes a [`View`] of the snapshots and [`draw`] a frame of that, both pure; [`Live`] does so in
//! a thread of its own, so that a terminal that does not take its output holds up nothing but the view.

mod frame;
mod keys;
mod model;
mod screen;
mod steer;
pub(crate) mod tail;
mod text;
mod view;

pub use frame::{Ink, draw};
pub use model::{Facts, LoadEnd, Model};
pub use view::{Load, LogLine, Phase, Records, Second, Shard, Times, View, Way};

use crate::producer::{Observer, Steering};
use keys::{Key, Keyboard};
use screen::Screen;
use std::io::{self, IsTerminal as _, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use steer::{Quits, Steer, Way as Change};

/// The time between two frames; snapshots come five times a second.
const FRAME: Duration = Duration::from_millis(250);

/// The longest wait for the view to end, should its terminal take no output.
const LONGEST_END: Duration = Duration::from_secs(2);

/// What the keys ask of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// What a signal asks: first to drain, then to end at once.
    Quit,
    /// To drain.
    Drain,
    /// To drain, as the terminal is gone.
    HangUp,
}

/// Why no live view can be shown on this process's terminal, if it can't.
#[must_use]
pub fn obstacle() -> Option<String> {
    if !stderr().is_terminal() {
        return Some("stderr is not a terminal".into());
    }
    match std::env::var("TERM") {
        Err(_) => return Some("TERM is not set".into()),
        Ok(term) if matches!(term.as_str(), "" | "dumb") => {
            return Some(format!("TERM={term} has no screen"));
        }
        Ok(_) => {}
    }
    // A job in the background that touches the terminal is stopped by it.
    let ours = rustix::termios::tcgetpgrp(stderr()).is_ok_and(|group| group == rustix::process::getpgrp());
    if !ours {
        return Some("tickgen is not in the terminal's foreground".into());
    }
    Keyboard::open().err().map(|error| format!("there are no keys to read: {error}"))
}

/// Whether colours are wanted: <https://no-color.org>.
#[must_use]
pub fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A live view. It ends, and gives the terminal back, when it is dropped.
#[derive(Debug)]
pub struct Live {
    stop: Arc<AtomicBool>,
    ended: mpsc::Receiver<()>,
}

impl Live {
    /// Takes the terminal and shows the run that `observer` sees and `steering` steers, until this is dropped.
    ///
    /// # Errors
    /// If the terminal can't be taken.
    pub fn start(
        facts: Facts,
        observer: Observer,
        steering: Steering,
        ask: impl Fn(Ask) + Send + 'static,
    ) -> io::Result<Self> {
        let keyboard = Keyboard::open()?;
        let screen = Screen::take()?;
        let shown = Shown {
            screen,
            keyboard,
            model: Model::new(facts),
            observer,
            steer: Steer::new(steering),
            ask: Box::new(ask),
            ink: Ink { colours: colours() },
            quits: Quits::default(),
            help: false,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (end, ended) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        // Not a task: it waits for keys, and writes to what may not take it.
        thread::Builder::new().name("tickgen-view".into()).spawn(move || {
            // Sent when it is dropped, by a panic too.
            let _end: mpsc::Sender<()> = end;
            shown.show(&stopped);
        })?;
        Ok(Self { stop, ended })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Nothing is ever sent: this waits until the other end is dropped.
        let _ = self.ended.recv_timeout(LONGEST_END);
    }
}

/// The view in its thread.
struct Shown {
    screen: Screen,
    keyboard: Keyboard,
    model: Model,
    observer: Observer,
    steer: Steer,
    ask: Box<dyn Fn(Ask) + Send>,
    ink: Ink,
    quits: Quits,
    help: bool,
}

impl Shown {
    #[expect(
        clippy::disallowed_methods,
        reason = "frames and keys come in the time of the person who watches"
    )]
    fn show(mut self, stop: &AtomicBool) {
        let mut next = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            let now = Instant::now();
            if now >= next {
                next = now + FRAME;
                if !stderr().is_terminal() {
                    (self.ask)(Ask::HangUp);
                    return;
                }
                if !self.draw().unwrap_or(false) {
                    return;
                }
            }
            for key in self.keyboard.wait(next.saturating_duration_since(now)) {
                self.obey(key, Instant::now());
            }
        }
    }

    fn draw(&mut self) -> io::Result<bool> {
        let view = self.model.take(&self.observer.loads());
        view.log = tail::lines();
        view.help = self.help;
        view.quitting = self.quits.asked();
        let (view, ink) = (&*view, self.ink);
        self.screen.draw(|frame| draw(frame, view, ink))
    }

    fn obey(&mut self, key: Key, now: Instant) {
        match key {
            Key::Help => self.help = !self.help,
            Key::Close => self.help = false,
            Key::Drain => (self.ask)(Ask::Drain),
            Key::Quit if self.quits.is_held(now) => {}
            Key::Quit | Key::Interrupt => {
                self.quits.ask(now);
                (self.ask)(Ask::Quit);
            }
            Key::Faster => self.steer.change_rate(Change::Up, &self.observer.loads(), now),
            Key::Slower => self.steer.change_rate(Change::Down, &self.observer.loads(), now),
            Key::Pause => self.steer.pause(&self.observer.loads()),
        }
    }
}
