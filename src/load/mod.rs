//! When: the schedule of intended starts.
//!
//! A schedule is a pure function of the time elapsed since the run began. It says how many records
//! are due and when each was meant to start; it never looks at what was sent, so a slow stream
//! cannot slow the load down (an open loop).

mod rate;
mod schedule;

pub use rate::{ParseRateError, Rate};
pub use schedule::{Schedule, Stride};

/// Nanoseconds since the run began: the only clock of the pure part.
pub type Nanos = u64;

/// One millisecond in [`Nanos`].
pub const MILLISECOND: Nanos = 1_000_000;

/// One second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;
