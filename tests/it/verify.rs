//! Proof of delivery, against streams that do what the test says: every fault is found as it was made.
#![cfg(feature = "embedded")]

use crate::docs::{report_schema, violations};
use crate::harness::{Stored, assert_balanced, finished, run, signal, start};
use crate::prove::run_beside;
use crate::proxy::{Meddling, Proxy};
use crate::reshard::{STREAM, serve_wrapped};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use ferrokinesis::actions::subscribe_to_shard::execute_streaming;
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::{Store, StoreOptions};
use ferrokinesis::{create_app, serve_plain_http};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tickgen::tick::Stamp;
use tokio::sync::Mutex;

pub(crate) fn count(summary: &Value, name: &str) -> u64 {
    let value = name.split('.').fold(summary, |value, name| &value[name]);
    value.as_u64().unwrap_or_else(|| panic!("{name} in {summary:#}"))
}

/// The numbers that the summary says are lost.
pub(crate) fn lost(summary: &Value) -> BTreeSet<u64> {
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
    let of_summary = summary.clone();
    let again = tokio::task::spawn_blocking(move || verified_afterwards(&of_summary, &url)).await.unwrap();
    let (code_afterwards, report) = again;
    // The record from before the run is read too.
    let settled = |verify: &Value| {
        let names = ["acked", "delivered", "delivered_unacked", "lost", "lost_ranges", "duplicated"];
        let more = ["duplicated_records", "out_of_order", "corrupted", "error"];
        names.iter().chain(&more).map(|name| verify[name].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(settled(&report["verify"]), settled(verify), "{report:#}\n{verify:#}");
    let expected = if code == 98 { 98 } else { 0 };
    assert_eq!((code_afterwards, count(&report, "verify.foreign")), (expected, 2), "{report:#}");
    (code, summary, done)
}

/// A summary in a file, for others to read.
pub(crate) fn kept(summary: &Value) -> PathBuf {
    let name = format!("summary-{}.json", summary["run_id"].as_str().expect("run_id"));
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, summary.to_string()).unwrap();
    file
}

/// What `tickgen verify` finds of a run by its summary.
fn verified_afterwards(summary: &Value, url: &str) -> (i32, Value) {
    let file = kept(summary);
    let of = ["verify", "--summary-of", file.to_str().unwrap()];
    let (code, report, stderr) = run(&[&of[..], &at(url), &["--verify-wait", "1s"]].concat());
    assert!(report.is_object(), "{stderr}");
    assert_eq!(violations(&report_schema(), &report, ""), [] as [String; 0]);
    std::fs::remove_file(file).unwrap();
    (code, report)
}

pub(crate) fn at(url: &str) -> [&str; 4] {
    ["--region", "us-east-1", "--endpoint-url", url]
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
    assert_eq!((count(verify, "sent_to_acked_ms.count"), count(verify, "untimed")), (150_000, 0));
    assert!(stderr.contains("after the intended start (told in whole seconds)"), "{stderr}");
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
        &["--keys", "per-shard", "--stamp", "body"],
        &["--template", template, "--aggregate"],
        &["--stamp", "body"],
        &["--payload-bytes", "4KiB", "--embedded-bytes", "1MiB"],
    ] {
        let mut all = vec!["--rps", "800", "--duration", "2s", "--shards", "4", "--verify"];
        // Requests that are under way together may overtake each other.
        all.extend(["--max-requests", "1"]);
        all.extend(["--threshold", "achieved_rps > 1"]);
        all.extend(flags);
        let (code, summary, stderr) = run(&all);
        assert_eq!(code, 0, "{flags:?}: {stderr}");
        let verify = &summary["verify"];
        let counts = ["delivered", "lost", "duplicated", "corrupted", "foreign"];
        assert_eq!(counts.map(|name| count(verify, name)), [1_600, 0, 0, 0, 0], "{flags:?}: {verify:#}");
        assert!(
            count(verify, "out_of_order") <= count(&summary, "retried_entries"),
            "{flags:?}: {summary:#}"
        );
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

/// What the server stored before the connection was cut is stored again, and counted; so it is told by who
/// reads the store.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_after_the_server_took_them_make_duplicates() {
    // With less to linger there are enough requests to cut some.
    for flags in [&["--stamp", "key"][..], &["--aggregate", "--linger", "10ms"]] {
        let (store, url) = serve_wrapped(8, 0, |app| app).await;
        let proxy = Proxy::before(&url, Meddling { cut: Some(7), ..Meddling::default() }).await;
        let load = ["--stream", STREAM, "--rps", "1000", "--duration", "2s", "--verify"];
        let load = [&load[..], flags, &at(&proxy.url), &["--threshold", "achieved_rps > 1"]].concat();
        let (code, summary, stderr) = run_beside(&load).await;
        assert_eq!(code, 0, "{stderr}");
        let (cuts, stored) = proxy.cut();
        let read = crate::reshard::read(&store).await;
        assert!(cuts > 5 && stored > 0, "{cuts} cuts");
        let verify = &summary["verify"];
        let names = ["acked", "delivered", "lost", "unread", "duplicated", "corrupted", "foreign"];
        let counts = names.map(|name| count(verify, name));
        assert_eq!(counts, [2_000, 2_000, 0, 0, stored, 0, 0], "{flags:?}: {verify:#}");
        assert_eq!((read.user_records, read.distinct), (2_000 + stored, 2_000));
        assert!(stored <= count(&summary, "possible_duplicates"), "{summary:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_reader_is_not_given_are_lost() {
    let (_, url) = serve_wrapped(4, 0, |app| app).await;
    let hide: fn(u64) -> bool = |n| n % 100 >= 97;
    let proxy = Proxy::before(&url, Meddling { hide: Some(hide), ..Meddling::default() }).await;
    let load = ["--stream", STREAM, "--rps", "500", "--records", "500", "--verify", "--verify-wait", "3s"];
    let (code, summary, stderr) = run_beside(&[&load[..], &at(&proxy.url)].concat()).await;
    assert_eq!((code, count(&summary, "verify.lost")), (98, 15), "{stderr}");
    // The wait after the load is not shown as a load of nothing.
    assert!(stderr.contains("s  reading back\n") && !stderr.contains("0/s of 0"), "{stderr}");
    assert_eq!(lost(&summary), (0..500).filter(|&n| hide(n)).collect::<BTreeSet<u64>>());
    assert_eq!(summary["verify"]["lost_ranges"].as_array().unwrap().len(), 5);
}

/// Read when both are full, children that were begun before their parents' end would mix with them.
#[tokio::test(flavor = "multi_thread")]
async fn children_are_read_after_their_parents() {
    let (_, url) = serve_wrapped(4, 0, |app| app).await;
    let load = ["--stream", STREAM, "--rps", "1000", "--duration", "5s", "--max-requests", "1"];
    let keys = ["--keys", "ticker", "--tickers", "200", "--stamp", "body"];
    let drills = ["--allow-drill", "--drill", "at=1s split=hottest", "--drill", "at=3s merge"];
    let more = ["--threshold", "achieved_rps > 1"];
    let (code, summary, stderr) = run_beside(&[&load[..], &keys, &drills, &more, &at(&url)].concat()).await;
    assert_eq!(code, 0, "{stderr}");
    let (code, report) = tokio::task::spawn_blocking(move || {
        let (code, report) = verified_afterwards(&summary, &url);
        assert!(count(&report, "verify.out_of_order") <= count(&summary, "retried_entries"), "{report:#}");
        (code, report)
    })
    .await
    .unwrap();
    assert_eq!((code, count(&report, "verify.delivered")), (0, 5_000), "{report:#}");
}

/// What was throttled comes later than what was sent after it, and nothing else does.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_sent_again_is_out_of_order() {
    let (_, url) = serve_wrapped(2, 0, |app| app).await;
    let load = ["--stream", STREAM, "--rps", "2600", "--duration", "3s", "--max-requests", "1", "--verify"];
    let more = ["--shard-limit", "none", "--keys", "ticker", "--threshold", "achieved_rps > 1"];
    let (code, summary, stderr) = run_beside(&[&load[..], &more, &at(&url)].concat()).await;
    assert_eq!(code, 0, "{stderr}");
    let (late, again) = (count(&summary, "verify.out_of_order"), count(&summary, "retried_entries"));
    assert!(0 < late && late <= again, "{late} of {again}: {summary:#}");
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

/// What the stream's server saw of a consumer's way.
type Seen = Arc<std::sync::Mutex<Vec<String>>>;

/// Notes operations and, of subscriptions, where they begin; refuses the second subscription as Kinesis
/// does one that comes too early.
async fn note(
    State((seen, order, store)): State<(Seen, Arc<Mutex<()>>, Store)>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
    let operation = target.and_then(|target| target.split_once('.').map(|(_, name)| name.to_owned()));
    let operation = operation.unwrap_or_default();
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut entry = operation.clone();
    if operation == "SubscribeToShard" {
        let asked: Value = serde_json::from_slice(&body).unwrap();
        entry = format!("{operation} {}", asked["StartingPosition"]["Type"].as_str().unwrap());
    }
    let subscriptions = {
        let mut seen = seen.lock().unwrap();
        seen.push(entry);
        seen.iter().filter(|entry| entry.starts_with("SubscribeToShard")).count()
    };
    if operation == "SubscribeToShard" && subscriptions == 6 {
        let refusal = json!({"__type": "ResourceInUseException", "message": "another is active"});
        return (StatusCode::BAD_REQUEST, refusal.to_string()).into_response();
    }
    if operation == "SubscribeToShard" {
        // Past the server's check of the request, which loses the sequence number.
        let asked: Value = serde_json::from_slice(&body).unwrap();
        let events = execute_streaming(&store, asked, "application/x-amz-json-1.1").await.unwrap();
        return ([("content-type", "application/vnd.amazon.eventstream")], events).into_response();
    }
    let request = Request::from_parts(parts, Body::from(body));
    if operation == "PutRecords" {
        // One by one, as the store reads for subscribers without regard to writes.
        let _turn = order.lock().await;
        return next.run(request).await;
    }
    next.run(request).await
}

/// A stream of four shards whose subscriptions last a second; what is asked of it is noted.
async fn serve_subscriptions() -> (Store, String, Seen) {
    let seen = Seen::default();
    let options = StoreOptions {
        create_stream_ms: 0,
        update_stream_ms: 0,
        shard_limit: 100,
        enforce_limits: true,
        subscribe_to_shard_session_ms: 1_000,
        ..StoreOptions::default()
    };
    let (app, store) = create_app(options);
    let app = app.layer(from_fn_with_state((Arc::clone(&seen), Arc::default(), store.clone()), note));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve_plain_http(listener, app, std::future::pending()));
    let stream = json!({"StreamName": STREAM, "ShardCount": 4});
    dispatch(&store, Operation::CreateStream, stream).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    (store, url, seen)
}

/// How often an operation was asked for.
fn asked(seen: &Seen, operation: &str) -> usize {
    seen.lock().unwrap().iter().filter(|entry| entry.starts_with(operation)).count()
}

/// Subscriptions are renewed when they are over or refused, and begin where the last ended; children are
/// subscribed to after their parents; the consumer is deregistered.
#[tokio::test(flavor = "multi_thread")]
async fn a_registered_consumer_proves_a_resharded_stream() {
    let (_, url, seen) = serve_subscriptions().await;
    let load =
        ["--stream", STREAM, "--rps", "500", "--duration", "8s", "--keys", "ticker", "--tickers", "200"];
    let verify = ["--verify", "--consumer", "fan-out", "--threshold", "achieved_rps > 1"];
    let drills = ["--allow-drill", "--drill", "at=2s split=hottest", "--drill", "at=4s merge"];
    let flags: Vec<String> =
        [&load[..], &verify, &drills, &at(&url)].concat().into_iter().map(str::to_owned).collect();
    let run = move || run(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, summary, stderr) = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(code, 0, "{stderr}");
    let verify = &summary["verify"];
    let counts = ["delivered", "lost", "duplicated", "corrupted", "foreign"];
    assert_eq!(counts.map(|name| count(verify, name)), [4_000, 0, 0, 0, 0], "{verify:#}");
    let (oldest, after) =
        (asked(&seen, "SubscribeToShard TRIM_HORIZON"), asked(&seen, "SubscribeToShard AFTER"));
    assert!(oldest >= 3 && after > 8, "{:#?}", seen.lock().unwrap());
    let operations = ["RegisterStreamConsumer", "DeregisterStreamConsumer", "GetRecords"];
    assert_eq!(operations.map(|operation| asked(&seen, operation)), [1, 1, 0]);
    assert_eq!(asked(&seen, "SubscribeToShard LATEST"), 4);
}

/// However a run ends: by a signal, by an error before it begins, and in `tickgen verify`.
#[tokio::test(flavor = "multi_thread")]
async fn a_registered_consumer_is_deregistered_on_every_path() {
    let (store, url, seen) = serve_subscriptions().await;
    let load = ["--stream", STREAM, "--rps", "200", "--verify", "--consumer", "fan-out", "--summary", "-"];
    for signals in 1..=2 {
        let mut child = start(&[&load[..], &at(&url)].concat());
        let before = store.metrics().retained_records();
        while store.metrics().retained_records() < before + 100 {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        for _ in 0..signals {
            signal(&child, "TERM");
        }
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        assert!(finished(&output).1.is_object());
        assert_eq!(asked(&seen, "DeregisterStreamConsumer"), signals);
    }
    // A run whose summary tickgen verify reads as a consumer of its own.
    let load = ["--stream", STREAM, "--rps", "300", "--records", "300"];
    let flags = [&load[..], &at(&url)].concat().into_iter().map(str::to_owned).collect::<Vec<_>>();
    let stamped = move || run(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let (code, summary, stderr) = tokio::task::spawn_blocking(stamped).await.unwrap();
    assert_eq!(code, 0, "{stderr}");
    let of = kept(&summary);
    let verify = move || {
        run(&[&["verify", "--summary-of", of.to_str().unwrap(), "--consumer", "fan-out"][..], &at(&url)]
            .concat())
    };
    let (code, report, stderr) = tokio::task::spawn_blocking(verify).await.unwrap();
    assert_eq!((code, count(&report, "verify.delivered")), (0, 300), "{stderr}");
    assert_eq!(asked(&seen, "RegisterStreamConsumer"), 3);
    assert_eq!(asked(&seen, "DeregisterStreamConsumer"), 3);
}

/// Of the embedded stream, too.
#[test]
fn the_embedded_stream_is_proved_by_a_registered_consumer() {
    let flags = ["--rps", "3000", "--duration", "4s", "--verify", "--consumer", "fan-out"];
    let (code, summary, stderr) = run(&[&flags[..], &["--threshold", "achieved_rps > 1"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let counts = ["delivered", "lost", "duplicated"].map(|name| count(&summary["verify"], name));
    assert_eq!(counts, [12_000, 0, 0]);
    assert!(!stderr.contains("a consumer is left"), "{stderr}");
}
