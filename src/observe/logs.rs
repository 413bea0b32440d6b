use crate::terminal::{colours, tail};
use std::io::{IsTerminal as _, stderr};
use std::sync::OnceLock;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, registry, reload};

/// What changes the level of the log that was begun.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Writes tickgen's own log lines to stderr, as text or JSON; call once. While a live view is up they are
/// shown there, and written after it.
///
/// Of other crates only errors are written, whatever the level: at finer levels the SDK logs requests
/// and answers, and a log must not hold what signs them.
pub fn init(level: Level, json: bool) {
    let watched = stderr().is_terminal();
    let layer =
        fmt::layer().with_writer(|| tail::ToStderr).with_ansi(watched && colours()).with_target(false);
    let mut layers = vec![if json { layer.json().boxed() } else { layer.boxed() }];
    if watched {
        let shown = fmt::layer().with_writer(tail::ToView).with_ansi(false).with_timer(tail::TimeOfDay);
        layers.push(shown.with_target(false).with_level(false).boxed());
    }
    let (filter, handle) = reload::Layer::new(targets(level));
    // Fails only if a subscriber is set already, which then keeps the lines.
    if registry().with(layers.with_filter(filter)).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Writes lines of this level and above from now on.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // Fails only if the log is gone.
        let _ = handle.reload(targets(level));
    }
}

fn targets(level: Level) -> Targets {
    Targets::new().with_default(Level::ERROR).with_target("tickgen", level)
}
