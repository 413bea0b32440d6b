//! What reads the stream back: its shards with their lineage, and their records.

use super::protocol::StreamRef;
use super::{Client, ShardId, StreamError};
use crate::load::Nanos;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Record, ShardIteratorType};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A shard as `ListShards` tells it, open or closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedShard {
    /// Its number.
    pub id: ShardId,
    /// The shards that it was split or merged from.
    pub parents: Vec<ShardId>,
    /// Whether it takes records.
    pub open: bool,
}

/// Where the reading of a shard begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At its oldest record.
    Oldest,
    /// After its newest record.
    Newest,
    /// At the first record that arrived at or after this time, in nanoseconds since 1970-01-01 UTC.
    Time(Nanos),
    /// At this sequence number.
    At(String),
    /// After the record of this sequence number.
    After(String),
}

/// A stored Kinesis record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition key.
    pub partition_key: String,
    /// Its data, which may be an aggregate.
    pub data: Vec<u8>,
    /// When the stream took it, in nanoseconds since 1970-01-01 UTC by the stream's clock, which tells
    /// milliseconds.
    pub arrived: i64,
}

/// How far each shard was read: the sequence number of the last record.
#[derive(Clone, Debug, Default)]
pub struct ReadMarks(Arc<Mutex<BTreeMap<ShardId, String>>>);

impl ReadMarks {
    /// Notes that a shard was read up to this record.
    pub fn set(&self, shard: ShardId, sequence_number: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, sequence_number);
    }

    /// How far a shard was read.
    #[must_use]
    pub fn of(&self, shard: ShardId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }
}

/// What one `GetRecords` gave.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records.
    pub records: Vec<StoredRecord>,
    /// The sequence number of the last of them.
    pub last: Option<String>,
    /// Where the next page begins; `None` once a closed shard was read to its end.
    pub next: Option<String>,
    /// How far it was from the newest record, in milliseconds.
    pub behind_ms: u64,
    /// Whether there was nothing newer than it.
    pub at_tip: bool,
}

/// The most records of one answer.
const MOST_RECORDS: usize = 10_000;

/// Whether an answer of so many records reached the tip. Somebody may always be writing, so it need not be
/// empty. A full one is not believed: servers that only look like Kinesis say 0 of every page.
pub(super) fn is_at_tip(records: usize, behind_ms: u64) -> bool {
    behind_ms == 0 && records < MOST_RECORDS
}

impl Client {
    /// Every shard that has records or may get some, by `ListShards`.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn all_shards(&self) -> Result<Vec<ListedShard>, StreamError> {
        let mut shards = Vec::new();
        let mut next_token: Option<String> = None;
        loop {
            let request = match (&next_token, &self.stream) {
                (Some(token), _) => self.sdk.list_shards().next_token(token),
                (None, StreamRef::Name(name)) => self.sdk.list_shards().stream_name(name),
                (None, StreamRef::Arn(arn)) => self.sdk.list_shards().stream_arn(arn),
            };
            let page = request.send().await.map_err(|error| self.failed("ListShards", &error))?;
            shards.extend(page.shards().iter().filter_map(listed));
            next_token = page.next_token().map(str::to_owned);
            if next_token.is_none() {
                return Ok(shards);
            }
        }
    }

    /// `GetShardIterator`: where the reading of a shard begins.
    ///
    /// # Errors
    /// If the shard is not there, or cannot be asked.
    pub async fn shard_iterator(&self, shard: ShardId, from: &Position) -> Result<String, StreamError> {
        let request = match &self.stream {
            StreamRef::Name(name) => self.sdk.get_shard_iterator().stream_name(name),
            StreamRef::Arn(arn) => self.sdk.get_shard_iterator().stream_arn(arn),
        };
        let request = request.shard_id(shard.to_string());
        let request = match from {
            Position::Oldest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Position::Newest => request.shard_iterator_type(ShardIteratorType::Latest),
            Position::Time(at) => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_nanos(i128::from(*at)).unwrap_or(DateTime::from_secs(0))),
            Position::At(sequence_number) => request
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(sequence_number),
            Position::After(sequence_number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(sequence_number),
        };
        let answer = request.send().await.map_err(|error| self.failed("GetShardIterator", &error))?;
        Ok(answer.shard_iterator().unwrap_or_default().to_owned())
    }

    /// `GetRecords`: the next records of a shard, 10,000 or 10 MiB at most.
    ///
    /// # Errors
    /// If the iterator is five minutes old, the shard was read too often, or cannot be asked.
    pub async fn get_records(&self, iterator: &str) -> Result<Page, StreamError> {
        let mut request = self.sdk.get_records().shard_iterator(iterator);
        if let StreamRef::Arn(arn) = &self.stream {
            request = request.stream_arn(arn);
        }
        let answer = request.send().await.map_err(|error| self.failed("GetRecords", &error))?;
        let last = answer.records.last().map(|record| record.sequence_number.clone());
        let behind_ms = answer.millis_behind_latest.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
        Ok(Page {
            behind_ms,
            at_tip: is_at_tip(answer.records.len(), behind_ms),
            records: answer.records.into_iter().map(stored).collect(),
            last,
            next: answer.next_shard_iterator,
        })
    }
}

fn listed(shard: &aws_sdk_kinesis::types::Shard) -> Option<ListedShard> {
    let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
    let ending = shard.sequence_number_range().and_then(|range| range.ending_sequence_number());
    Some(ListedShard {
        id: ShardId::parse(shard.shard_id())?,
        parents: parents.into_iter().flatten().filter_map(ShardId::parse).collect(),
        open: ending.is_none(),
    })
}

pub(super) fn stored(record: Record) -> StoredRecord {
    let arrived = record.approximate_arrival_timestamp.map_or(0, |time| time.as_nanos());
    StoredRecord {
        partition_key: record.partition_key.unwrap_or_default(),
        data: record.data.into_inner(),
        arrived: i64::try_from(arrived).unwrap_or(0),
    }
}
