//! What can be done with runs that have ended: read them, add them up, and compare them.
//!
//! [`EndedRun`] is a summary with its histogram log, read from texts; [`merge`] makes one run of several, and
//! [`Comparison`] tells how one differs from another and what of that is noise. [`crate::run::report`] reads and
//! writes the files.

mod compare;
mod limits;
mod merge;
mod read;

pub use compare::{Change, Comparison, Judgement};
pub use limits::{MaxRegression, RegressionResult};
pub use merge::{MergeError, merge};
pub use read::{EndedRun, ReadError};
