use super::Record;
use super::aggregate::AggregateSize;
use crate::load::{MILLISECOND, Nanos};
use crate::tick::Source;
use std::collections::VecDeque;

/// How user records become entries.
#[derive(Clone, Debug)]
pub enum Packing {
    /// Each is an entry.
    Single,
    /// Many of one shard are one entry, an aggregate.
    Aggregate {
        /// The size of the aggregate in the making.
        size: AggregateSize,
        /// The size at which an aggregate is full, in bytes.
        full: usize,
        /// How long records wait for their aggregate to fill.
        linger: Nanos,
    },
}

/// The partition key of an aggregate; an explicit hash key places it.
pub(super) const AGGREGATE_KEY: &[u8] = b"a";

/// The longest of [`Packing::turn`].
const LONGEST_TURN: Nanos = 10 * MILLISECOND;

impl Packing {
    /// How long a record that is due may wait to be made with the next ones: a fifth of what its aggregate lingers. At
    /// 100,000/s a wake for each 5 ms rather than each millisecond saves a quarter of the processor time, one for each
    /// 10 ms 8 % more.
    pub(super) fn turn(&self) -> Nanos {
        match self {
            Self::Single => 0,
            Self::Aggregate { linger, .. } => (linger / 5).min(LONGEST_TURN),
        }
    }

    /// How many of `records`, which wait for the shard that begins at `first_hash_key`, the next entry takes,
    /// and its size as Kinesis counts it.
    pub(super) fn next_entry(
        &mut self,
        first_hash_key: u128,
        records: &VecDeque<Record>,
        source: &Source,
    ) -> (usize, usize) {
        let Some(first) = records.front() else {
            return (0, 0);
        };
        let Self::Aggregate { size, full, .. } = self else {
            return (1, first.bytes());
        };
        size.clear(first_hash_key);
        let shares_keys = source.shares_keys();
        let (mut count, mut bytes) = (0, 0);
        for record in records {
            let key = if shares_keys { source.key_index(record.n) } else { None };
            let grown = size.add(key, usize::from(record.key_len), record.payload_len as usize);
            if grown > *full && count > 0 {
                break;
            }
            (count, bytes) = (count + 1, grown);
        }
        (count, bytes + AGGREGATE_KEY.len())
    }
}
