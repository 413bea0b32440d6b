//! The other end: reads the stream back and settles each record against what the run says it sent.
//!
//! [`Proof`] is pure: it is told what was acked and what was read, and says what was delivered, lost,
//! duplicated, out of order, corrupted or foreign. `lineage` says which shards may be read: children
//! after their parents. [`Consumer`] reads them.

mod consumer;
mod index;
mod lineage;
mod manifest;
mod proof;
mod searchable;
mod tips;
mod turn;
mod waterfall;

pub use consumer::{Acks, CLOCKS, Consumer, When};
pub use index::{Index, IndexError};
pub use lineage::Lineage;
pub use manifest::{AckBook, Manifest, ManifestLoad, Noting};
pub use proof::{Arrived, Proof};
pub use searchable::{Part, Searchable, Span, pages};
pub use turn::Reader;
pub use waterfall::Waterfall;
