//! Drills: runs that change their own stream under load, on the embedded Kinesis and on one that the
//! test reads, slows down and scripts.
#![cfg(feature = "embedded")]

use crate::docs::{summary_schema, violations};
use crate::harness::{assert_balanced, finished, run, start};
use crate::reshard::{Read, STREAM, read, serve_wrapped};
use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use ferrokinesis::store::Store;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value:#}"))
}

fn seconds(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} in {value:#}"))
}

/// What holds of every drill that was done, whatever the machine's speed.
fn assert_done(summary: &Value, drill: &Value, shards: (u64, u64)) {
    assert_eq!(drill["error"], Value::Null, "{drill:#}");
    assert_eq!((count(drill, "shards_before"), count(drill, "shards_after")), shards, "{drill:#}");
    assert!(seconds(drill, "started_s") >= seconds(drill, "at_s"), "{drill:#}");
    let changed = seconds(drill, "changed_after_s");
    assert!(changed >= 0.0, "{drill:#}");
    assert!(drill["settled_after_s"].as_f64().is_none_or(|settled| settled >= changed), "{drill:#}");
    assert!(count(drill, "misrouted") <= count(summary, "misrouted"), "{summary:#}");
    assert!(count(drill, "throttled_entries") <= count(summary, "throttled_entries"), "{summary:#}");
}

fn took(summary: &Value, shard: &str) -> u64 {
    let shards = summary["shards"].as_array().unwrap();
    shards.iter().find(|one| one["id"] == shard).map_or(0, |one| count(one, "acked"))
}

#[test]
fn a_split_and_a_merge_under_load_lose_nothing_and_settle() {
    let (code, summary, stderr) = run(&[
        "--rps",
        "1000",
        "--duration",
        "9s",
        "--shards",
        "4",
        "--allow-drill",
        "--drill",
        "at=3s merge",
        "--drill",
        "at=1s split=hottest",
        "--threshold",
        "achieved_rps > 1",
        "--threshold",
        "acked == 9000",
        "--threshold",
        "drills.max_changed_after_s < 5",
        "--threshold",
        "cost.usd < 1",
    ]);
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert!(stderr.contains("threshold   held   drills.max_changed_after_s < 5 (is "), "{stderr}");
    assert_balanced(&summary);
    assert_eq!(violations(&summary_schema(), &summary, ""), [] as [String; 0]);
    let drills = summary["drills"].as_array().unwrap();
    assert_eq!(drills.len(), 2, "{summary:#}");
    assert_eq!(drills[0]["drill"], "at=1s split=hottest");
    assert_done(&summary, &drills[0], (4, 5));
    assert_done(&summary, &drills[1], (5, 4));
    // Five calm seconds follow the merge; one is enough.
    assert!(drills[1]["settled_after_s"].is_f64(), "{summary:#}");
    for id in 4..=6 {
        assert!(took(&summary, &format!("shardId-{id:012}")) > 0, "shard {id} took nothing: {summary:#}");
    }
    for drill in
        ["drill       at=1s split=hottest: SplitShard shardId-0", ", 4 to 5 shards after 0.", "MergeShards"]
    {
        assert!(stderr.contains(drill), "{drill}\n---\n{stderr}");
    }
}

#[test]
fn the_hottest_is_the_shard_that_takes_the_load() {
    let drill = ["--allow-drill", "--drill", "at=1s split=hottest", "--keys", "fixed:partitionkey"];
    let load = ["--rps", "500", "--duration", "4s", "--shards", "4", "--threshold", "achieved_rps > 1"];
    let (code, summary, stderr) = run(&[&drill[..], &load].concat());
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert_balanced(&summary);
    let drill = &summary["drills"][0];
    assert_done(&summary, drill, (4, 5));
    let split = drill["change"].as_str().unwrap().strip_prefix("SplitShard ").unwrap();
    for id in (0..4).map(|id| format!("shardId-{id:012}")) {
        assert_eq!(took(&summary, &id) > 0, id == split, "{summary:#}");
    }
    // One of its children takes the key, and so the rest of the load.
    assert_eq!(
        took(&summary, split)
            + took(&summary, "shardId-000000000004")
            + took(&summary, "shardId-000000000005"),
        2_000
    );
    assert!(took(&summary, split) < 2_000, "{summary:#}");
}

#[test]
fn a_drill_needs_to_be_allowed() {
    let (code, summary, stderr) = run(&["--drill", "at=1s merge", "--records", "1"]);
    assert_eq!((code, summary), (2, Value::Null), "{stderr}");
    assert!(stderr.contains("--drill at=1s merge: changes the stream itself: allow that with"), "{stderr}");
    assert!(stderr.contains("Nothing was sent"), "{stderr}");
}

#[test]
fn a_threshold_on_drills_needs_one() {
    let (code, _, stderr) = run(&["--threshold", "drills.max_settled_after_s < 5", "--records", "1"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("drills.max_settled_after_s < 5: needs a --drill"), "{stderr}");
}

#[test]
fn a_drill_that_the_stream_does_not_have_is_refused() {
    let flags = ["--allow-drill", "--drill", "at=1s warm-throughput=50", "--duration", "5s"];
    let (code, summary, stderr) = run(&flags);
    assert_eq!((code, summary), (2, Value::Null), "{stderr}");
    assert!(stderr.contains("only on-demand streams have a warm throughput"), "{stderr}");
    assert!(stderr.contains("Nothing was sent"), "{stderr}");
}

/// What cannot be done fails the run, but the load goes on to its end, and the next drill too.
#[test]
fn a_drill_that_cannot_be_done_fails_the_run() {
    let (code, summary, stderr) = run(&[
        "--rps",
        "500",
        "--duration",
        "4s",
        "--shards",
        "2",
        "--allow-drill",
        "--drill",
        "at=1s split=shardId-000000000099",
        "--drill",
        "at=2s merge=shardId-000000000001+shardId-000000000000",
        "--threshold",
        "achieved_rps > 1",
    ]);
    assert_eq!(code, 1, "{stderr}");
    assert_balanced(&summary);
    assert_eq!((count(&summary, "acked"), &summary["stopped_by"]), (2_000, &"schedule".into()));
    assert_eq!(summary["drills"][0]["error"], "shardId-000000000099 is not an open shard of the stream");
    assert_done(&summary, &summary["drills"][1], (2, 1));
    assert!(stderr.contains("shardId-000000000099: FAILED: shardId-000000000099 is not"), "{stderr}");
}

/// A run that ends early has not done its drills, and does not hide it.
#[test]
fn a_drill_whose_time_does_not_come_fails_the_run() {
    // A closed loop of so many records ends when they are acked, which nobody knows beforehand.
    let flags = ["--rps", "max", "--records", "500", "--allow-drill", "--drill", "at=1m merge"];
    let (code, summary, stderr) = run(&flags);
    assert_eq!(code, 1, "{stderr}");
    assert_eq!(summary["drills"][0]["error"], "the run ended before its time came");
    assert_eq!(violations(&summary_schema(), &summary, ""), [] as [String; 0]);
}

/// Runs drills against a server that the test reads.
async fn drilled(
    shards: u32,
    update_ms: u64,
    wrap: impl FnOnce(Router) -> Router,
    flags: &[&str],
) -> (i32, Value, String, Read) {
    let (store, url): (Store, String) = serve_wrapped(shards, update_ms, wrap).await;
    let mut all = vec!["--stream", STREAM, "--region", "us-east-1", "--endpoint-url", &url, "--allow-drill"];
    all.extend(["--summary", "-", "--threshold", "achieved_rps > 1"]);
    all.extend(flags);
    let child = start(&all);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (code, summary, stderr) = finished(&output);
    (code, summary, stderr, read(&store).await)
}

/// The new shards name no parent here; tickgen needs none. Up, then down.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_shard_count_replaces_every_shard() {
    let flags = ["--rps", "1000", "--duration", "7s", "--drill", "at=1s update-shard-count=6"];
    let down = ["--drill", "at=3s update-shard-count=3"];
    let (code, summary, stderr, read) = drilled(4, 0, |app| app, &[&flags[..], &down].concat()).await;
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert_balanced(&summary);
    assert_done(&summary, &summary["drills"][0], (4, 6));
    assert_done(&summary, &summary["drills"][1], (6, 3));
    assert_eq!((read.user_records, read.distinct, read.misplaced), (7_000, 7_000, 0));
    // The last three took the load of the last seconds.
    let last: u64 = (10..13).map(|id| took(&summary, &format!("shardId-{id:012}"))).sum();
    assert!(last > 1_000, "{summary:#}");
}

/// Requests for an operation, of which the first are answered with an error.
fn refusing(
    operation: &'static str,
    times: u64,
    code: &'static str,
) -> (impl FnOnce(Router) -> Router, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let wrap = move |app: Router| {
        app.layer(from_fn(move |request: Request, next: Next| {
            let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
            let meant = target.is_some_and(|target| target.ends_with(operation));
            let refuse = meant && counter.fetch_add(1, Ordering::SeqCst) < times;
            async move {
                if refuse {
                    let kind = [("content-type", "application/x-amz-json-1.1")];
                    let body = format!(r#"{{"__type":"{code}","message":"so says the test"}}"#);
                    return (StatusCode::BAD_REQUEST, kind, body).into_response();
                }
                next.run(request).await
            }
        }))
    };
    (wrap, asked)
}

/// A stream that is in use is asked again, and one that takes its time is waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_stream_is_asked_again() {
    let (wrap, asked) = refusing("SplitShard", 2, "ResourceInUseException");
    let flags = ["--rps", "1000", "--duration", "8s", "--drill", "at=1s split=shardId-000000000001"];
    let (code, summary, stderr, read) = drilled(4, 700, wrap, &flags).await;
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert_balanced(&summary);
    assert_done(&summary, &summary["drills"][0], (4, 5));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    // Two pauses of a second, and the change itself.
    assert!(seconds(&summary["drills"][0], "changed_after_s") >= 2.7, "{summary:#}");
    assert_eq!((read.user_records, read.distinct, read.misplaced), (8_000, 8_000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_not_permitted_names_the_permission() {
    let (wrap, asked) = refusing("MergeShards", u64::MAX, "AccessDeniedException");
    let flags = ["--rps", "500", "--duration", "3s", "--drill", "at=1s merge"];
    let (code, summary, stderr, _) = drilled(2, 0, wrap, &flags).await;
    assert_eq!(code, 1, "{stderr}");
    assert_eq!((count(&summary, "acked"), asked.load(Ordering::SeqCst)), (1_500, 1));
    let error = "MergeShards of stream resharded: AccessDeniedException: so says the test. Allow the role \
                 kinesis:MergeShards on the stream.";
    assert_eq!(summary["drills"][0]["error"], error);
    assert!(stderr.contains(error), "{stderr}");
}

/// A stream that never does it says why, and the run passes that on.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_answer_to_a_failing_drill_is_told() {
    let (wrap, _) = refusing("MergeShards", u64::MAX, "ResourceInUseException");
    let flags = ["--rps", "200", "--duration", "4s", "--drill", "at=1s merge", "--quiet"];
    let (code, summary, stderr, _) = drilled(2, 0, wrap, &flags).await;
    assert_eq!(code, 1, "{stderr}");
    let error = summary["drills"][0]["error"].as_str().unwrap();
    assert!(error.starts_with("the run ended before the stream did it; its last answer: "), "{error}");
    assert!(error.contains("so says the test"), "{error}");
    // Quiet is not silent about a failure.
    assert!(stderr.contains(&format!("error: --drill at=1s merge: {error}")), "{stderr}");
}
