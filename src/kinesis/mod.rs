//! Where: the stream, its shards and limits, the wire, and the client.
//!
//! The one room that names the AWS SDK.

mod answer;
mod client;
mod control;
#[cfg(feature = "embedded")]
pub mod embedded;
mod errors;
mod exchange;
pub mod limits;
pub mod md5;
pub mod protocol;
mod reader;
mod scan;
mod shard_map;

pub use answer::{Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind};
pub use client::{Client, ClientConfig, Reach, StreamError, StreamInfo};
pub use control::{Change, ChangeError};
pub use reader::{ListedShard, Page, Position, ReadMarks, StoredRecord};
pub use shard_map::{Shard, ShardId, ShardMap, ShardMapError, hash_key};

use bytes::Bytes;

/// The send step: one attempt at one `PutRecords` request.
pub trait PutRecords: Clone + Send + Sync + 'static {
    /// Sends a body made by [`protocol::BodyWriter`] and reads the answer. It never retries: the
    /// producer owns every retry.
    fn put_records(&self, body: Bytes) -> impl Future<Output = Answer> + Send;
}
