use crate::load::Nanos;
use crate::tick::{Draws, Ticks};
use minijinja::Value;
use minijinja::value::Object;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The variables of a template.
pub(super) const NAMES: [&str; 9] =
    ["n", "event_time", "unix_s", "unix_ms", "unix_us", "unix_ns", "ticker", "price", "volume"];

/// The name by which functions find the facts; no template can say it.
pub(super) const SELF: &str = "the facts";

/// Where the padding goes in the text: a character that Unicode keeps for such uses.
const PAD_MARK: char = '\u{fdd0}';

/// `pad` was not called.
const NO_PAD: u64 = u64::MAX;

/// What a template can say of one record.
#[derive(Debug)]
pub(super) struct Facts {
    n: u64,
    unix: Nanos,
    event_time: String,
    ticker: String,
    price: f64,
    volume: u32,
    draws: Draws,
    // How many random numbers were drawn, and the size that was asked for: a rendering is one thread's.
    drawn: AtomicU64,
    padded_to: AtomicU64,
}

impl Facts {
    pub(super) fn new(n: u64, intended: Nanos, draws: Draws, ticks: &mut Ticks) -> Self {
        let tick = ticks.facts(n, intended);
        Self {
            n,
            unix: tick.unix,
            event_time: String::from_utf8_lossy(&tick.event_time).into_owned(),
            ticker: tick.ticker.to_owned(),
            price: f64::from(tick.cents) / 100.0,
            volume: tick.volume,
            draws: Draws::new(draws.bits(n), 0),
            drawn: AtomicU64::new(0),
            padded_to: AtomicU64::new(NO_PAD),
        }
    }

    /// The next random bits of this record.
    pub(super) fn bits(&self) -> u64 {
        self.draws.bits(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// The next random number of this record below `len`.
    pub(super) fn index(&self, len: usize) -> usize {
        self.draws.index(self.drawn.fetch_add(1, Ordering::Relaxed), len)
    }

    /// The next random number of this record in `[0, 1)`.
    pub(super) fn unit(&self) -> f64 {
        self.draws.unit(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes that the payload is to be padded to `bytes`; the mark that it gives stands for the padding.
    pub(super) fn ask_for_padding(&self, bytes: u64) -> Result<char, String> {
        match self.padded_to.swap(bytes, Ordering::Relaxed) {
            NO_PAD => Ok(PAD_MARK),
            _ => Err("pad may be called once in a record".to_owned()),
        }
    }

    /// The size that was asked for.
    pub(super) fn padding(&self) -> Option<u64> {
        Some(self.padded_to.load(Ordering::Relaxed)).filter(|&bytes| bytes != NO_PAD)
    }

    /// Puts the padding that was asked for in the place of its mark.
    pub(super) fn pad(&self, text: String) -> Result<String, String> {
        let Some(bytes) = self.padding() else { return Ok(text) };
        let mut parts = text.split(PAD_MARK);
        let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
            return Err("what pad gives must be written once".to_owned());
        };
        let natural = before.len() + after.len();
        let filler = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_sub(natural));
        let filler = filler.ok_or_else(|| format!("{natural} bytes, more than pad({bytes}) asks for"))?;
        Ok([before, &"x".repeat(filler), after].concat())
    }
}

impl Object for Facts {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Some(match key {
            "n" => Value::from(self.n),
            "event_time" => Value::from(self.event_time.as_str()),
            "unix_s" => Value::from(self.unix / 1_000_000_000),
            "unix_ms" => Value::from(self.unix / 1_000_000),
            "unix_us" => Value::from(self.unix / 1_000),
            "unix_ns" => Value::from(self.unix),
            "ticker" => Value::from(self.ticker.as_str()),
            "price" => Value::from(self.price),
            "volume" => Value::from(self.volume),
            SELF => Value::from_dyn_object(Arc::clone(self)),
            _ => return None,
        })
    }
}
