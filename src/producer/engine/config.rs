use crate::kinesis::ShardMap;
use crate::kinesis::protocol::StreamRef;
use crate::load::{Nanos, Stride};
use crate::producer::{
    BatchBounds, Entry, Pace, Packing, Record, RetryPolicy, Room, ShardQuota, Wire, Witness,
};
use crate::tick::{Feed, Source};
use bytes::Bytes;
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
    /// What each shard may take; `None`: no limit.
    pub quota: Option<ShardQuota>,
    /// When failed records are sent again.
    pub retry: RetryPolicy,
    /// How much is kept at most, by all engines of the run.
    pub room: Arc<Room>,
    /// Records meant to start before this are offered but not measured.
    pub warmup: Nanos,
    /// The seed of the run, for the jitter of retries.
    pub seed: u64,
}

/// One `PutRecords` attempt on its way.
#[derive(Debug)]
pub struct Request {
    /// The body to send.
    pub body: Bytes,
    pub(super) records: Vec<Record>,
    pub(super) entries: Vec<Entry>,
    pub(super) sent: Nanos,
    // The room that it takes, which was settled before its body was written.
    pub(super) room: usize,
}

impl Request {
    /// The user records it carries, entry by entry.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many entries it has.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}
