//! Proof of delivery on streams that others write to, and that take long to read.
#![cfg(feature = "embedded")]

use crate::prove::run_beside;
use crate::reshard::{STREAM, serve_wrapped};
use crate::verify::{at, count, kept};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use ferrokinesis::actions::{Operation, dispatch};
use ferrokinesis::store::Store;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Somebody else who writes to every shard all the time, and a server that tells tips and times as the test
/// says.
#[derive(Clone, Copy)]
struct Crowd {
    /// What is told of a page's distance from the tip.
    behind_ms: fn(records: usize) -> u64,
    /// How much later than now the others' records are said to have come, in seconds.
    ahead_s: f64,
    /// The most records of a page.
    most: u64,
    /// After so many pages nothing more is given.
    pages: usize,
}

#[derive(Clone)]
struct Among {
    crowd: Crowd,
    store: Arc<OnceLock<Store>>,
    pages: Arc<AtomicUsize>,
    writes: bool,
}

const OTHER: &str = "somebody else's";

impl Crowd {
    const NONE: Self = Self { behind_ms: |_| 0, ahead_s: 0.0, most: 10_000, pages: usize::MAX };

    async fn pass(State(among): State<Among>, request: Request, next: Next) -> Response {
        let Among { crowd, store, pages, writes } = among;
        let target = request.headers().get("x-amz-target").map(|target| target.to_str().unwrap().to_owned());
        if !target.is_some_and(|target| target.ends_with(".GetRecords")) {
            return next.run(request).await;
        }
        if writes {
            // One for each shard, so that whatever is read has records.
            let record = |shard: u128| {
                let hash = (shard << 125).to_string();
                json!({"Data": "e30=", "PartitionKey": OTHER, "ExplicitHashKey": hash})
            };
            let records: Vec<Value> = (0..8).map(record).collect();
            let put = json!({"StreamName": STREAM, "Records": records});
            dispatch(store.get().unwrap(), Operation::PutRecords, put).await.unwrap();
        }
        let (mut parts, body) = request.into_parts();
        let mut asked: Value = serde_json::from_slice(&to_bytes(body, usize::MAX).await.unwrap()).unwrap();
        asked["Limit"] = crowd.most.into();
        if pages.fetch_add(1, Ordering::Relaxed) >= crowd.pages {
            let next = asked["ShardIterator"].take();
            let nothing = json!({"Records": [], "NextShardIterator": next, "MillisBehindLatest": 9_000});
            return nothing.to_string().into_response();
        }
        parts.headers.remove("content-length");
        let answer = next.run(Request::from_parts(parts, Body::from(asked.to_string()))).await;
        let mut given: Value =
            serde_json::from_slice(&to_bytes(answer.into_body(), usize::MAX).await.unwrap()).unwrap();
        let records = given["Records"].as_array_mut().unwrap();
        for record in records.iter_mut().filter(|record| record["PartitionKey"] == OTHER) {
            let arrived = record["ApproximateArrivalTimestamp"].as_f64().unwrap();
            record["ApproximateArrivalTimestamp"] = json!(arrived + crowd.ahead_s);
        }
        given["MillisBehindLatest"] = (crowd.behind_ms)(records.len()).into();
        given.to_string().into_response()
    }

    /// Serves a stream with these others.
    async fn serve(self, shards: u32, writes: bool) -> String {
        let store: Arc<OnceLock<Store>> = Arc::default();
        let layered = Among { crowd: self, store: Arc::clone(&store), pages: Arc::default(), writes };
        let (served, url) =
            serve_wrapped(shards, 0, |app| app.layer(from_fn_with_state(layered, Self::pass))).await;
        assert!(store.set(served).is_ok());
        url
    }
}

/// On a stream that others write to no page is ever empty: a shard was read far enough at its tip, or once
/// it gave what came well after the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_others_write_to_is_proved() {
    let never_at_its_tip = Crowd { behind_ms: |_| 700, ahead_s: 900.0, ..Crowd::NONE };
    for crowd in [Crowd::NONE, never_at_its_tip] {
        let url = crowd.serve(8, true).await;
        let load =
            ["--stream", STREAM, "--rps", "400", "--records", "400", "--verify", "--verify-wait", "3s"];
        let load = [&load[..], &at(&url), &["--threshold", "achieved_rps > 1"]].concat();
        let (code, summary, stderr) = run_beside(&load).await;
        assert_eq!(code, 0, "{stderr}");
        let verify = &summary["verify"];
        let counts = ["acked", "delivered", "lost", "unread"].map(|name| count(verify, name));
        assert_eq!((counts, &verify["error"]), ([400, 400, 0, 0], &Value::Null), "{summary:#}");
        assert!(count(verify, "foreign") >= 8, "{summary:#}");
        let file = kept(&summary);
        let of = ["verify", "--summary-of", file.to_str().unwrap(), "--verify-wait", "3s"];
        let (code, report, stderr) = run_beside(&[&of[..], &at(&url)].concat()).await;
        assert_eq!((code, count(&report, "verify.delivered")), (0, 400), "{stderr}");
    }
}

/// However long it takes: the wait is for what does not come. What was not read then is not called lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_read_as_long_as_more_comes() {
    let slow = Crowd { behind_ms: |records| if records < 30 { 0 } else { 5_000 }, most: 30, ..Crowd::NONE };
    for (crowd, expected) in [(slow, [300, 0, 0]), (Crowd { pages: 4, ..slow }, [120, 0, 180])] {
        let url = crowd.serve(1, false).await;
        let load = ["--stream", STREAM, "--rps", "600", "--records", "300"];
        let (code, summary, stderr) = run_beside(&[&load[..], &at(&url)].concat()).await;
        assert_eq!(code, 0, "{stderr}");
        let file = kept(&summary);
        let of = ["verify", "--summary-of", file.to_str().unwrap(), "--verify-wait", "1s"];
        let (code, report, stderr) = run_beside(&[&of[..], &at(&url)].concat()).await;
        let counts = ["delivered", "lost", "unread"].map(|name| count(&report["verify"], name));
        assert_eq!(counts, expected, "{stderr}");
        assert_eq!(count(&report, "verify.acked"), counts.iter().sum::<u64>());
        assert_eq!(report["verify"]["lost_ranges"], json!([]));
        if expected[2] == 0 {
            assert_eq!(code, 0, "{stderr}");
            // It takes ten pages of 210 ms, so there is something to tell meanwhile.
            assert!(stderr.contains("reading back"), "{stderr}");
        } else {
            assert_eq!(code, 98, "{stderr}");
            assert!(stderr.contains("120 delivered = 300 acked - 0 lost - 180 not read + 0 not"), "{stderr}");
            assert!(stderr.contains("Not all was read: not read to the end: 1 shards"), "{stderr}");
        }
    }
}
