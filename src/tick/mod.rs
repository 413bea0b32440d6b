//! What: the synthetic ticker records and the keys that place them.
//!
//! Record *n* is a pure function of the seed, *n* and its intended start, so a record is never kept
//! while it waits: it is made when it is sent, and made again when it is resent.
//!
//! Each field draws for itself: 0 tickers, 1 prices, 2 keys, 3 the jitter of retries, 10 volumes, 11 the
//! market's walk, 12 templates.

mod ahead;
mod event_time;
mod gauss;
mod hex;
mod keys;
mod market;
mod replay;
mod source;
mod stamp;
mod symbols;
mod template;
mod ticker;
mod walk;
mod zipf;

pub use crate::draw::Draws;
pub use event_time::{EventTime, TimeZone};
pub use keys::{KeyKind, Keys, OWN_KEY_ROOM, OwnKeys, ParseKeysError};
pub use market::Market;
pub use replay::{Fed, Feed, Lent, MAX_REPLAYED_BYTES, Replayed};
pub use source::Source;
pub use stamp::{Stamp, StampPlace};
pub use symbols::{MAX_SYMBOLS, made_up_symbols};
pub use template::{Template, TemplateError, TemplateText};
pub use ticker::{PayloadError, TICK_ROOM, Ticks};
