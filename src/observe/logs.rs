use std::io::{IsTerminal as _, stderr};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Writes tickgen's own log lines to stderr, as text or JSON; call once.
///
/// Of other crates only errors are written, whatever the level: at finer levels the SDK logs requests
/// and answers, and a log must not hold what signs them.
pub fn init(level: Level, json: bool) {
    let targets = Targets::new().with_default(Level::ERROR).with_target("tickgen", level);
    let layer = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()).with_target(false);
    let layer = if json { layer.json().boxed() } else { layer.boxed() };
    // Fails only if a subscriber is set already, which then keeps the lines.
    let _ = registry().with(layer.with_filter(targets)).try_init();
}
