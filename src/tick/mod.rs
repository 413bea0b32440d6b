//! What: the synthetic ticker records and the keys that place them.
//!
//! Record *n* is a pure function of the seed and *n* (its `EVENT_TIME` of the intended start), so a
//! record is never kept while it waits: it is made when it is sent, and made again when it is resent.

mod event_time;
mod keys;
mod source;
mod ticker;

pub use crate::draw::Draws;
pub use event_time::{EventTime, TimeZone};
pub use keys::{KeyKind, Keys, ParseKeysError};
pub use source::Source;
pub use ticker::{PayloadError, Ticks};
