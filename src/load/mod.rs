//! When: the schedule of intended starts.
//!
//! A [`Shape`] is the rate over time and its exact integral; [`Arrivals`] says how records arrive
//! around it; a [`Schedule`] is both, with an end. [`Starts`] goes through it, record by record. A run that
//! is steered follows a [`Course`] of shapes, and its [`Pauses`] part the schedule's time from the run's. None
//! of them looks at what was sent, so a slow stream cannot slow the load down (an open loop).

mod arrivals;
mod course;
mod parse;
mod pauses;
mod rate;
mod schedule;
mod shape;
mod walk;

pub use arrivals::Arrivals;
pub use course::Course;
pub use parse::{parse_arrivals, parse_shape};
pub use pauses::Pauses;
pub use rate::{ParseRateError, Rate};
pub use schedule::{Schedule, Starts, Stride};
pub use shape::{Curve, Piece, Shape, Thousandths};

/// Nanoseconds since the run began: the only clock of the pure part.
pub type Nanos = u64;

/// One millisecond in [`Nanos`].
pub const MILLISECOND: Nanos = 1_000_000;

/// One second in [`Nanos`].
pub const SECOND: Nanos = 1_000_000_000;
