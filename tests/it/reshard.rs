//! Splits and merges under load, on an embedded Kinesis that the test reads and reshards itself.
#![cfg(feature = "embedded")]

use crate::harness::{assert_balanced, finished, start};
use axum::Router;
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::{create_app, serve_plain_http};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;
use tickgen::kinesis::hash_key;
use tickgen::producer::aggregate;
use tokio::net::TcpListener;

pub(crate) const STREAM: &str = "resharded";

async fn serve(shards: u32) -> (Store, String) {
    serve_wrapped(shards, 0, |app| app).await
}

/// Serves a stream whose changes take a while, behind something that sees every request.
pub(crate) async fn serve_wrapped(
    shards: u32,
    update_stream_ms: u64,
    wrap: impl FnOnce(Router) -> Router,
) -> (Store, String) {
    let options = StoreOptions {
        create_stream_ms: 0,
        update_stream_ms,
        shard_limit: 100,
        enforce_limits: true,
        ..StoreOptions::default()
    };
    let (app, store) = create_app(options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve_plain_http(listener, wrap(app), std::future::pending()));
    call(&store, Operation::CreateStream, json!({"StreamName": STREAM, "ShardCount": shards})).await;
    (store, url)
}

/// Carries out a control operation and waits for the stream to be active again.
pub(crate) async fn call(store: &Store, operation: Operation, input: Value) {
    dispatch(store, operation, input).await.unwrap();
    while store.get_stream(STREAM).await.unwrap().stream_status != ferrokinesis::types::StreamStatus::Active {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn acked_so_far(store: &Store, at_least: u64) {
    while store.metrics().retained_records() < at_least {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn split_and_merge(store: &Store, step: u64) {
    acked_so_far(store, step).await;
    // Sixteen shards of 2^124 hash keys: the first is cut in its middle.
    let middle = (1_u128 << 123).to_string();
    let split =
        json!({"StreamName": STREAM, "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": middle});
    call(store, Operation::SplitShard, split).await;
    acked_so_far(store, 2 * step).await;
    let merge = json!({
        "StreamName": STREAM, "ShardToMerge": "shardId-000000000001", "AdjacentShardToMerge": "shardId-000000000002",
    });
    call(store, Operation::MergeShards, merge).await;
}

pub(crate) struct Read {
    pub(crate) user_records: u64,
    pub(crate) distinct: u64,
    /// User records whose hash key their shard does not take.
    pub(crate) misplaced: u64,
}

/// Reads the stream's store, shard by shard.
pub(crate) async fn read(store: &Store) -> Read {
    let shards = store.get_stream(STREAM).await.unwrap().shards;
    let mut seen = HashSet::new();
    let mut read = Read { user_records: 0, distinct: 0, misplaced: 0 };
    for (key, record) in store.get_record_store(STREAM).await {
        let place = usize::from_str_radix(key.split('/').next().unwrap(), 16).unwrap();
        let range = &shards[place].hash_key_range;
        let (first, last): (u128, u128) = (range.start_u128(), range.end_u128());
        let data = base64_simd::STANDARD.decode_to_vec(&record.data).unwrap();
        let records: Vec<(String, Vec<u8>)> = match aggregate::decode(&data) {
            Ok(records) => records.iter().map(|r| (r.partition_key.to_owned(), r.data.to_vec())).collect(),
            Err(_) => vec![(record.partition_key, data)],
        };
        for (key, data) in records {
            read.user_records += 1;
            read.misplaced += u64::from(!(first..=last).contains(&hash_key(key.as_bytes())));
            seen.insert((key, data));
        }
    }
    read.distinct = seen.len() as u64;
    read
}

async fn load_with_reshard(flags: &[&str], step: u64) -> (Value, Read) {
    let (store, url) = serve(16).await;
    let mut all = vec![
        "--stream",
        STREAM,
        "--region",
        "us-east-1",
        "--endpoint-url",
        &url,
        "--quiet",
        "--summary",
        "-",
    ];
    all.extend(["--threshold", "achieved_rps > 1"]);
    all.extend(flags);
    let child = start(&all);
    split_and_merge(&store, step).await;
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (code, summary, stderr) = finished(&output);
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert_balanced(&summary);
    (summary, read(&store).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_find_the_new_shards_and_are_stored_once() {
    let (summary, read) = load_with_reshard(&["--rps", "5000", "--duration", "30s"], 40_000).await;
    assert_eq!((read.user_records, read.distinct, read.misplaced), (150_000, 150_000, 0));
    assert_eq!(summary["acked"], 150_000);
    // Two children and a merged one beside the sixteen.
    let shards = summary["shards"].as_array().unwrap();
    let took = |id: &str| shards.iter().any(|shard| shard["id"] == id && shard["acked"].as_u64() > Some(0));
    for id in 16..=18 {
        assert!(took(&format!("shardId-{id:012}")), "shard {id} took nothing: {summary:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_find_the_new_shards_and_are_stored_once() {
    let flags = ["--rps", "5000", "--duration", "5s", "--aggregate", "--linger", "20ms"];
    let (summary, read) = load_with_reshard(&flags, 500).await;
    assert_eq!((read.user_records, read.distinct), (25_000, 25_000));
    assert_eq!(summary["acked"], 25_000);
    // An aggregate made for the parent may land on a child that does not take all its records: those
    // are counted, not sent again.
    assert!(
        read.misplaced <= summary["misrouted"].as_u64().unwrap(),
        "{} misplaced: {summary:#}",
        read.misplaced
    );
}

/// A stream that goes away under load: no retry mends it, so the run ends and says what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_deleted_ends_the_run() {
    for wire in ["json", "cbor"] {
        a_deleted_stream_is_told(wire).await;
    }
}

async fn a_deleted_stream_is_told(wire: &str) {
    let (store, url) = serve(4).await;
    let child = start(&[
        "--wire",
        wire,
        "--stream",
        STREAM,
        "--region",
        "us-east-1",
        "--endpoint-url",
        &url,
        "--rps",
        "1000",
        "--summary",
        "-",
    ]);
    acked_so_far(&store, 500).await;
    dispatch(&store, Operation::DeleteStream, json!({"StreamName": STREAM})).await.unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (code, summary, stderr) = finished(&output);
    assert_eq!((code, &summary["stopped_by"]), (1, &"error".into()), "{stderr}");
    assert_balanced(&summary);
    assert!(summary["acked"].as_u64() >= Some(500) && summary["failed"].as_u64() > Some(0), "{summary:#}");
    assert!(stderr.contains("ended by an error: ResourceNotFoundException"), "{stderr}");
    assert!(stderr.contains("Check --stream, --region and the account"), "{stderr}");
}
