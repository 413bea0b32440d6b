//! What is the highest rate that holds an objective.
//!
//! [`Knee`] says which rate to try next and takes the result, without time or I/O; [`crate::run::search`]
//! offers the rates, one run each; [`SearchSummary`] tells what was found.

mod knee;
mod summary;

pub use knee::{Answer, Knee, Next};
pub(crate) use summary::HEADING;
pub use summary::{Point, SEARCH_SCHEMA_VERSION, SearchFacts, SearchSummary, Verdict};
