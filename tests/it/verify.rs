//! Proof of delivery, against streams that do what the test says: every fault is found as it was made.
#![cfg(feature = "embedded")]

use crate::harness::{Stored, assert_balanced, finished, run, start};
use crate::reshard::{STREAM, serve_wrapped};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::Store;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use tickgen::tick::Stamp;
use tokio::sync::Mutex;

fn count(summary: &Value, name: &str) -> u64 {
    let value = name.split('.').fold(summary, |value, name| &value[name]);
    value.as_u64().unwrap_or_else(|| panic!("{name} in {summary:#}"))
}

/// The numbers that the summary says are lost.
fn lost(summary: &Value) -> BTreeSet<u64> {
    let ranges = summary["verify"]["lost_ranges"].as_array().expect("lost_ranges");
    ranges.iter().flat_map(|range| count(range, "first")..=count(range, "last")).collect()
}

/// What is done to some of the requests.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// Of so many requests one is stored and answered by an error.
    cut: Option<usize>,
    /// Of so many requests one has its first record deleted from the stream.
    delete: Option<usize>,
    /// Of so many requests one has its first record spoiled on its way.
    spoil: Option<usize>,
}

/// What was done.
#[derive(Default)]
struct Done {
    requests: usize,
    /// How often each record was stored, by its number.
    stored: BTreeMap<u64, u64>,
    deleted: BTreeSet<u64>,
    spoiled: BTreeSet<u64>,
}

/// A server between the run and the stream.
#[derive(Clone)]
struct Between {
    faults: Faults,
    store: Arc<OnceLock<Store>>,
    done: Arc<Mutex<Done>>,
}

impl Between {
    fn new(faults: Faults) -> Self {
        Self { faults, store: Arc::default(), done: Arc::default() }
    }

    /// Requests go one by one, so that nothing is read before the test has done with it.
    async fn pass(State(between): State<Self>, request: Request, next: Next) -> Response {
        let mut done = between.done.lock().await;
        let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
        if !target.is_some_and(|target| target.ends_with(".PutRecords")) {
            return next.run(request).await;
        }
        done.requests += 1;
        let turn = done.requests;
        let is_turn = |every: Option<usize>| every.is_some_and(|every| turn.is_multiple_of(every));
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let sent: Vec<Vec<u64>> = Stored::read_body(&body).iter().map(numbers).collect();
        let body = if is_turn(between.faults.spoil) {
            done.spoiled.insert(sent[0][0]);
            spoiled(&body).into()
        } else {
            body
        };
        let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
        let (parts, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let answers: Value = serde_json::from_slice(&body).unwrap();
        for (answer, numbers) in answers["Records"].as_array().unwrap().iter().zip(&sent) {
            for n in numbers.iter().filter(|_| answer["SequenceNumber"].is_string()) {
                *done.stored.entry(*n).or_default() += 1;
            }
        }
        if is_turn(between.faults.delete) {
            let first = &answers["Records"][0];
            let shard = first["ShardId"].as_str().unwrap().rsplit('-').next().unwrap();
            let hex = ferrokinesis::sequence::shard_ix_to_hex(shard.parse().unwrap());
            let key = format!("{hex}/{}", first["SequenceNumber"].as_str().unwrap());
            between.store.get().unwrap().delete_record_keys(STREAM, &[key]).await;
            done.deleted.extend(&sent[0]);
        }
        if is_turn(between.faults.cut) {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
        Response::from_parts(parts, Body::from(body))
    }
}

/// The numbers of the records of an entry, by their stamps.
fn numbers(entry: &Stored) -> Vec<u64> {
    let stamp = |key: &str, data: &[u8]| Stamp::parse(key.as_bytes()).or_else(|| Stamp::in_payload(data));
    entry.records.iter().map(|record| stamp(&record.key, &record.data).expect("a stamp").n).collect()
}

/// The body with the first record's year altered.
fn spoiled(body: &[u8]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(body).unwrap();
    let data = &mut value["Records"][0]["Data"];
    let mut bytes = base64_simd::STANDARD.decode_to_vec(data.as_str().unwrap()).unwrap();
    bytes[16] = b'9';
    *data = base64_simd::STANDARD.encode_to_string(&bytes).into();
    serde_json::to_vec(&value).unwrap()
}

/// A verified run through these faults: its exit code, its summary, and what was done.
async fn verified(faults: Faults, flags: &[&str]) -> (i32, Value, Done) {
    let between = Between::new(faults);
    let layered = between.clone();
    let wrap = |app: axum::Router| app.layer(from_fn_with_state(layered, Between::pass));
    let (store, url) = serve_wrapped(8, 0, wrap).await;
    assert!(between.store.set(store.clone()).is_ok());
    // A record of somebody else's, from before the run: it is not read.
    let other = json!({"StreamName": STREAM, "Data": "e30=", "PartitionKey": "k"});
    dispatch(&store, Operation::PutRecord, other.clone()).await.unwrap();
    let mut all = vec!["--stream", STREAM, "--region", "us-east-1", "--endpoint-url", &url, "--quiet"];
    all.extend(["--verify", "--verify-wait", "2s", "--summary", "-", "--threshold", "achieved_rps > 1"]);
    all.extend(flags);
    let child = start(&all);
    while store.metrics().retained_records() < 100 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // And one while it runs.
    dispatch(&store, Operation::PutRecord, other).await.unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (code, summary, stderr) = finished(&output);
    assert!(summary["verify"].is_object(), "{stderr}");
    assert_balanced(&summary);
    let verify = &summary["verify"];
    assert_eq!(count(verify, "acked"), count(&summary, "acked"), "{summary:#}");
    assert_eq!(
        count(verify, "acked"),
        count(verify, "delivered") - count(verify, "delivered_unacked") + count(verify, "lost")
    );
    assert_eq!((count(verify, "foreign"), &verify["error"]), (1, &Value::Null), "{summary:#}");
    let done = std::mem::take(&mut *between.done.lock().await);
    (code, summary, done)
}

const LOAD: [&str; 4] = ["--rps", "1000", "--duration", "3s"];

/// The first command of the proof: everything arrives, once.
#[test]
fn the_embedded_stream_is_proved() {
    let (code, summary, stderr) =
        run(&["--rps", "5000", "--duration", "30s", "--verify", "--threshold", "achieved_rps > 1"]);
    assert_eq!(code, 0, "{stderr}");
    let verify = &summary["verify"];
    let counts = ["acked", "delivered", "delivered_unacked", "lost", "duplicated", "corrupted", "foreign"];
    assert_eq!(counts.map(|name| count(verify, name)), [150_000, 150_000, 0, 0, 0, 0, 0], "{verify:#}");
    assert_eq!(count(verify, "intended_to_read_ms.count"), 150_000);
    assert_eq!(count(verify, "sent_to_acked_ms.count"), 150_000);
    assert!(stderr.contains("proved            150000 delivered = 150000 acked - 0 lost"), "{stderr}");
}

/// What was not read yet is not trimmed, however little is to be kept.
#[test]
fn every_kind_of_key_and_load_is_proved() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/templates/trade.json");
    for flags in [
        &["--keys", "ticker"][..],
        &["--keys", "zipf:1", "--market", "walk", "--aggregate"],
        &["--keys", "fixed:k", "--payload-bytes", "300"],
        &["--keys", "per-shard"],
        &["--keys", "per-shard", "--aggregate"],
        &["--template", template, "--aggregate"],
        &["--stamp", "body"],
        &["--payload-bytes", "4KiB", "--embedded-bytes", "1MiB"],
    ] {
        let mut all = vec!["--rps", "800", "--duration", "2s", "--shards", "4", "--verify"];
        all.extend(["--threshold", "achieved_rps > 1"]);
        all.extend(flags);
        let (code, summary, stderr) = run(&all);
        assert_eq!(code, 0, "{flags:?}: {stderr}");
        let verify = &summary["verify"];
        let counts = ["delivered", "lost", "duplicated", "corrupted", "foreign"];
        assert_eq!(counts.map(|name| count(verify, name)), [1_600, 0, 0, 0, 0], "{flags:?}: {verify:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_counted_as_they_were_made() {
    for flags in [&[][..], &["--aggregate"], &["--keys", "ticker", "--shard-limit", "none"]] {
        let faults = Faults { cut: Some(7), ..Faults::default() };
        let (code, summary, done) = verified(faults, &[&LOAD, flags].concat()).await;
        assert_eq!(code, 0, "{summary:#}");
        let (copies, records) = done
            .stored
            .values()
            .fold((0, 0), |(copies, records), times| (copies + times - 1, records + u64::from(*times > 1)));
        assert!(copies > 50, "{flags:?}: {copies} copies");
        let verify = &summary["verify"];
        assert_eq!((count(verify, "duplicated"), count(verify, "duplicated_records")), (copies, records));
        assert_eq!((count(verify, "lost"), count(verify, "delivered")), (0, 3_000), "{verify:#}");
        assert!(records <= count(&summary, "possible_duplicates"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_found_lost_each_by_its_number() {
    let faults = Faults { delete: Some(20), ..Faults::default() };
    let (code, summary, done) = verified(faults, &LOAD).await;
    assert_eq!(code, 98, "{summary:#}");
    assert!(done.deleted.len() > 3);
    assert_eq!(lost(&summary), done.deleted);
    assert_eq!(count(&summary, "verify.lost"), done.deleted.len() as u64);
    // The producer was told that all is well.
    assert_eq!(count(&summary, "lost"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn spoiled_records_are_corrupted_and_so_lost() {
    let faults = Faults { spoil: Some(20), ..Faults::default() };
    let (code, summary, done) = verified(faults, &LOAD).await;
    assert_eq!(code, 98, "{summary:#}");
    assert_eq!(count(&summary, "verify.corrupted"), done.spoiled.len() as u64);
    assert_eq!(lost(&summary), done.spoiled);
}

/// Records that failed although they were stored are told apart from acked ones.
#[tokio::test(flavor = "multi_thread")]
async fn stored_records_that_failed_are_delivered_without_an_ack() {
    let faults = Faults { cut: Some(3), ..Faults::default() };
    let flags = [&LOAD[..], &["--max-attempts", "1"]].concat();
    let (_, summary, done) = verified(faults, &flags).await;
    let failed = count(&summary, "failed");
    assert!(failed > 100, "{summary:#}");
    assert_eq!(count(&summary, "verify.delivered_unacked"), failed);
    assert_eq!(count(&summary, "verify.delivered"), done.stored.len() as u64);
}

/// Children are read after their parents, through splits and merges, to the last record.
#[test]
fn a_resharded_stream_is_proved() {
    let (code, summary, stderr) = run(&[
        "--rps",
        "2000",
        "--duration",
        "12s",
        "--shards",
        "4",
        "--keys",
        "ticker",
        "--tickers",
        "200",
        "--allow-drill",
        "--drill",
        "at=2s split=hottest",
        "--drill",
        "at=7s merge",
        "--verify",
        "--threshold",
        "achieved_rps > 1",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let verify = &summary["verify"];
    let counts = ["delivered", "lost", "duplicated", "corrupted", "foreign"];
    assert_eq!(counts.map(|name| count(verify, name)), [24_000, 0, 0, 0, 0], "{verify:#}");
}

#[test]
fn what_cannot_be_proved_is_refused() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/templates/trade.json");
    for (flags, why) in [
        (
            &["--verify", "--stamp", "none"][..],
            "--stamp none: --verify needs records that say which they are",
        ),
        (&["--verify", "--to", "/dev/null"], "--verify true: reads a stream back"),
        (&["--stamp", "key", "--keys", "ticker"], "--stamp key: needs --keys uniform or per-shard"),
        (&["--stamp", "body", "--template", template], "--stamp body: is for the ticker record"),
        (&["--verify", "--keys", "ticker", "--template", template], "--verify true: needs --keys uniform or"),
        (
            &["--verify", "--shape", "replay:/dev/null"],
            "--verify true: records of a file cannot be made again",
        ),
        (&["--stamp", "head"], "--stamp head: expected auto, key, body or none"),
    ] {
        let (code, _, stderr) = run(&[&["--records", "1"], flags].concat());
        assert!(code == 2 && stderr.contains(why), "{flags:?}: {stderr}");
    }
}
