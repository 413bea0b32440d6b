use crate::kinesis::ShardMap;
use crate::kinesis::protocol::StreamRef;
use crate::load::{Nanos, Stride};
use crate::producer::{BatchBounds, Entry, Limits, Pace, Packing, Record, RetryPolicy, Room, Wire, Witness};
use crate::tick::{Feed, Lent, Source};
use std::sync::Arc;

/// Everything an engine is made of.
#[derive(Debug)]
pub struct EngineConfig {
    /// The stream that requests name.
    pub stream: StreamRef,
    /// Its place among the run's streams, from 0.
    pub stream_place: usize,
    /// The form in which records leave.
    pub wire: Wire,
    /// Its open shards.
    pub map: ShardMap,
    /// What drives the load.
    pub pace: Pace,
    /// This engine's share of it.
    pub stride: Stride,
    /// What the records are.
    pub source: Source,
    /// Where they come from, if not from the source itself.
    pub feed: Option<Box<dyn Feed>>,
    /// Who is told which records were acked.
    pub witness: Option<Box<dyn Witness>>,
    /// How records become entries.
    pub packing: Packing,
    /// When a batch leaves.
    pub batch: BatchBounds,
    /// What each shard may take.
    pub limits: Limits,
    /// When failed records are sent again.
    pub retry: RetryPolicy,
    /// How much is kept at most, by all engines of the run.
    pub room: Arc<Room>,
    /// Records meant to start before this are offered but not measured.
    pub warmup: Nanos,
    /// The seed of the run, for the jitter of retries.
    pub seed: u64,
}

impl EngineConfig {
    /// How many records may wait in a closed loop. What waits there is what answers do not keep up with: two
    /// batches of it, or some entries for each shard, are enough to have something to send whenever there is
    /// room.
    #[must_use]
    pub fn most_waiting(&self) -> u64 {
        let per_entry = match &self.packing {
            Packing::Single => 1,
            Packing::Aggregate { full, .. } => full / self.source.max_record_bytes() + 1,
        };
        let entries = (2 * self.batch.entries).max(4 * self.map.shards().len());
        self.room.bounds().backlog.min((entries * per_entry) as u64)
    }
}

/// One `PutRecords` attempt on its way.
#[derive(Debug)]
pub struct Request {
    pub(in crate::producer) records: Vec<Record>,
    pub(in crate::producer) entries: Vec<Entry>,
    // Records that cannot be made from their number.
    pub(in crate::producer) lent: Lent,
    // When it left the engine, to be written.
    pub(super) left: Nanos,
    /// When the attempt began.
    pub(in crate::producer) sent: Nanos,
    // The room that it takes, which is settled before its body is written.
    pub(super) room: usize,
}

impl Request {
    /// The user records it carries, entry by entry.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Its entries, in the order in which the answer has their results.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
