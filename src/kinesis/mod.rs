//! Where: the stream, its shards and limits, the wire, and the client.
//!
//! The one room that names the AWS SDK.

mod answer;
mod base64;
mod cbor;
mod client;
mod control;
#[cfg(feature = "embedded")]
pub mod embedded;
mod errors;
mod fan_out;
mod http;
pub mod limits;
pub mod md5;
pub mod null;
pub mod protocol;
mod reader;
mod route;
mod scan;
mod sha256;
mod shard_map;
mod signing;

pub use answer::{Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind};
pub use client::{Client, ClientConfig, Reach, StreamError, StreamInfo};
pub use control::{Change, ChangeError};
pub use fan_out::{Pushed, Registration, Registrations, Subscription};
pub use http::{Access, HttpClient};
pub use reader::{ListedShard, Page, Position, ReadMarks, StoredRecord};
pub use sha256::BodyHash;
pub use shard_map::{Shard, ShardId, ShardMap, ShardMapError, hash_key};

use bytes::Bytes;

/// The send step: one attempt at one `PutRecords` request.
pub trait PutRecords: Clone + Send + Sync + 'static {
    /// Whether requests are signed, so that hashing their bodies in pairs is of use.
    const SIGNED: bool;

    /// Sends a body made by [`protocol::BodyWriter`] and reads the answer; `hash` is the body's, if it is
    /// known. It never retries: the producer owns every retry.
    fn put_records(&self, body: Bytes, hash: Option<BodyHash>) -> impl Future<Output = Answer> + Send;
}
