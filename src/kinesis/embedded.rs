//! An embedded Kinesis: crate ferrokinesis, in this process, on a loopback port.
//!
//! It throttles each shard at 1,000 records/s and 1 MiB/s as Kinesis does (in fixed windows of a
//! second, data bytes only), and keeps records in memory: once they pass a bound, the oldest are
//! trimmed, so that a run of days ends as it began. What is to be read back is trimmed only once it was.

use super::{ReadMarks, ShardId};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::{create_app, serve_plain_http};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

/// The name of the embedded stream.
pub const STREAM: &str = "tickgen";

/// The region that the embedded Kinesis claims to be in.
pub const REGION: &str = "us-east-1";

/// Access key and secret for it: it checks their form, not what they are.
pub const CREDENTIALS: (&str, &str) = ("embedded", "embedded");

/// Bytes of one request that it takes: Kinesis' limit until October 2025.
pub const MAX_REQUEST_BYTES: usize = 5 * 1024 * 1024;

/// A `PutRecords` body of 10 MiB is 14 MiB in base64 and JSON.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// How often the size of what is kept is looked at.
const TRIM_INTERVAL: Duration = Duration::from_millis(500);

/// Records that are read to be deleted at once; nothing is written meanwhile.
const TRIM_LOT: usize = 200;

/// A running embedded Kinesis; it ends when this is dropped.
#[derive(Debug)]
pub struct Embedded {
    address: SocketAddr,
    // Aborts its tasks when dropped.
    _tasks: JoinSet<()>,
}

/// Why the embedded Kinesis did not start.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No loopback port to listen on.
    #[error("the embedded Kinesis has no port on 127.0.0.1: {0}")]
    Listen(#[from] std::io::Error),
    /// The stream could not be made.
    #[error("the embedded Kinesis made no stream: {0}")]
    CreateStream(String),
}

impl Embedded {
    /// Starts it with one stream of `shards` shards, which keeps `keep_bytes` of records, and besides
    /// those past `unread`, if someone reads them; as a subscriber, if `fan_out`.
    ///
    /// # Errors
    /// If there is no port, or the stream cannot be made.
    #[expect(clippy::disallowed_methods, reason = "the server and the trimmer are its tasks")]
    pub async fn start(
        shards: u32,
        keep_bytes: u64,
        unread: Option<ReadMarks>,
        fan_out: bool,
    ) -> Result<Self, EmbeddedError> {
        let options = StoreOptions {
            create_stream_ms: 0,
            delete_stream_ms: 0,
            update_stream_ms: 0,
            // Of the account: room for the largest UpdateShardCount, which opens before it closes.
            shard_limit: shards.saturating_mul(4).max(1000),
            enforce_limits: true,
            // Its check of a request loses the sequence number with which a subscription is renewed, which
            // then begins at the oldest record: none is ever renewed.
            subscribe_to_shard_session_ms: u64::MAX,
            aws_region: REGION.to_owned(),
            ..StoreOptions::default()
        };
        let (app, store) = create_app(options);
        create_stream(&store, shards).await?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let order = Order { lock: Arc::default(), fan_out };
        let trimming = trim(store, Arc::clone(&order.lock), keep_bytes, unread);
        let app = app.layer(DefaultBodyLimit::max(MAX_BODY)).layer(from_fn_with_state(order, in_order));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            if let Err(error) = serve_plain_http(listener, app, std::future::pending()).await {
                tracing::error!(%error, "the embedded Kinesis ended");
            }
        });
        tasks.spawn(trimming);
        Ok(Self { address, _tasks: tasks })
    }

    /// The URL of the service.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What is kept apart.
#[derive(Clone)]
struct Order {
    lock: Arc<RwLock<()>>,
    // Whether the store itself reads, for subscribers: then writes come one by one.
    fan_out: bool,
}

/// Keeps reads and writes apart, for two reasons. The store numbers the records of a request first and keeps them
/// afterwards, so that a reader in between who sees those of a later request would go past them for ever. And
/// its reads hold a lock of threads while they wait for one of tasks: a write meanwhile blocks its thread, and once all
/// threads are blocked there is none for the reader to go on in.
async fn in_order(
    State(Order { lock: order, fan_out }): State<Order>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let is = |operation: &str| target.is_some_and(|target| target.ends_with(operation));
    let reads = is(".GetRecords") || is(".GetShardIterator");
    if reads || fan_out && is(".PutRecords") {
        let _no_writer = order.write().await;
        next.run(request).await
    } else {
        let _no_reader = order.read().await;
        next.run(request).await
    }
}

async fn create_stream(store: &Store, shards: u32) -> Result<(), EmbeddedError> {
    let input = serde_json::json!({"StreamName": STREAM, "ShardCount": shards});
    dispatch(store, Operation::CreateStream, input)
        .await
        .map_err(|error| EmbeddedError::CreateStream(format!("{error:?}")))?;
    // The shards come about in a task of the store's own.
    loop {
        let stream = store.get_stream(STREAM).await;
        let stream = stream.map_err(|error| EmbeddedError::CreateStream(format!("{error:?}")))?;
        if stream.stream_status == ferrokinesis::types::StreamStatus::Active {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Deletes the oldest records of every shard whenever more than `keep_bytes` are kept.
async fn trim(store: Store, order: Arc<RwLock<()>>, keep_bytes: u64, unread: Option<ReadMarks>) {
    let metrics = store.metrics();
    loop {
        tokio::time::sleep(TRIM_INTERVAL).await;
        while metrics.retained_bytes() > keep_bytes {
            if trim_quarter(&store, &order, metrics.retained_records(), unread.as_ref()).await == 0 {
                break;
            }
        }
    }
}

/// Deletes about a quarter of all records, the oldest of each shard, but none that is yet to be read;
/// tells how many.
async fn trim_quarter(store: &Store, order: &RwLock<()>, records: u64, unread: Option<&ReadMarks>) -> usize {
    let Ok(stream) = store.get_stream(STREAM).await else {
        return 0;
    };
    let shards = stream.shards.len().max(1);
    let each = usize::try_from(records).unwrap_or(usize::MAX) / 4 / shards + 1;
    let mut deleted = 0;
    for shard in (0..).take(shards) {
        let mark =
            unread.map(|marks| marks.of(ShardId(u64::try_from(shard).unwrap_or(0))).unwrap_or_default());
        let mut left = each;
        while left > 0 {
            let lot = trim_lot(store, order, shard, left.min(TRIM_LOT), mark.as_deref()).await;
            deleted += lot;
            left = if lot < TRIM_LOT { 0 } else { left - lot };
        }
    }
    deleted
}

/// Deletes the oldest records of a shard, `most` of them and none past `mark`; tells how many.
async fn trim_lot(store: &Store, order: &RwLock<()>, shard: i64, most: usize, mark: Option<&str>) -> usize {
    let hex = ferrokinesis::sequence::shard_ix_to_hex(shard);
    let oldest = {
        // See `in_order`.
        let _no_writer = order.write().await;
        // '0' follows '/', so this is every key of the shard.
        store.get_records_range_limited(STREAM, &format!("{hex}/"), &format!("{hex}0"), most).await
    };
    // Sequence numbers of a shard have one length, so that their texts sort as they do.
    let may_go =
        |key: &String| mark.is_none_or(|mark| key.split_once('/').is_some_and(|(_, number)| number <= mark));
    let keys: Vec<String> = oldest.into_iter().map(|(key, _)| key).filter(may_go).collect();
    store.delete_record_keys(STREAM, &keys).await;
    keys.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_bounded_and_the_newest_stay() {
        let (_, store) = create_app(StoreOptions { create_stream_ms: 0, ..StoreOptions::default() });
        create_stream(&store, 2).await.unwrap();
        let data = "A".repeat(4000);
        let mut last = serde_json::Value::Null;
        for _ in 0..100 {
            let input = serde_json::json!({"StreamName": STREAM, "Data": data, "PartitionKey": "k"});
            last = dispatch(&store, Operation::PutRecord, input).await.unwrap().unwrap();
        }
        let metrics = store.metrics();
        assert!(metrics.retained_bytes() > 100_000);
        let trimmer = trim(store.clone(), Arc::default(), 100_000, None);
        let done = async {
            while metrics.retained_bytes() > 100_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! { () = trimmer => {}, () = done => {} }
        let kept = store.get_record_store(STREAM).await;
        assert!(!kept.is_empty());
        let last = last["SequenceNumber"].as_str().unwrap();
        assert!(kept.keys().any(|key| key.ends_with(last)), "the newest record was trimmed");
    }
}
