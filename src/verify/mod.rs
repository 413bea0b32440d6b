//! The other end: reads the stream back and settles each record against what the run says it sent.
//!
//! [`Proof`] is pure: it is told what was acked and what was read, and says what was delivered, lost,
//! duplicated, out of order, corrupted or foreign. `lineage` says which shards may be read: children
//! after their parents. [`Consumer`] reads them.

mod consumer;
mod lineage;
mod proof;
mod waterfall;

pub use consumer::{Acks, Consumer};
pub use lineage::Lineage;
pub use proof::{Arrived, Proof};
pub use waterfall::Waterfall;
