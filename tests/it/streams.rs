//! Streams of other kinds and numbers than the one provisioned stream of the other tests.
#![cfg(feature = "embedded")]

use crate::harness::{assert_balanced, finished, start};
use crate::reshard::{STREAM, call, serve_wrapped};
use ferrokinesis::actions::Operation;
use serde_json::{Value, json};

/// Runs against a server, which is another process's as far as the run can see.
async fn run_at(url: &str, flags: &[&str]) -> (i32, Value, String) {
    let mut all = vec!["--region", "us-east-1", "--endpoint-url", url, "--summary", "-"];
    all.extend(["--threshold", "achieved_rps > 1"]);
    all.extend(flags);
    let child = start(&all);
    finished(&tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap())
}

/// Of an on-demand stream nobody says what a shard takes, so that the limit adapts; its throughput can be raised
/// under load.
#[tokio::test(flavor = "multi_thread")]
async fn an_on_demand_stream_is_found_out_about_and_warmed() {
    let (store, url) = serve_wrapped(4, 0, |app| app).await;
    let arn = store.get_stream(STREAM).await.unwrap().stream_arn;
    let mode = json!({"StreamARN": arn, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}});
    call(&store, Operation::UpdateStreamMode, mode).await;
    let flags = ["--stream", STREAM, "--rps", "800", "--duration", "4s", "--allow-drill"];
    let drill = ["--drill", "at=1s warm-throughput=50", "--threshold", "drills.max_settled_after_s < 60"];
    let (code, summary, stderr) = run_at(&url, &[&flags[..], &drill].concat()).await;
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert_balanced(&summary);
    assert_eq!(summary["acked"], 3_200);
    assert_eq!(summary["environment"]["streams"][0]["mode"], "on_demand");
    // A fixed limit would be 1,000; one that adapts begins a little below that, and rises only if it is waited for.
    let limits: Vec<f64> = summary["shards"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shard| shard["limit_rps"].as_f64().unwrap())
        .collect();
    assert_eq!(limits, [980.0; 4], "{summary:#}");
    let drill = &summary["drills"][0];
    assert_eq!(drill["error"], Value::Null, "{drill:#}");
    assert_eq!((&drill["shards_before"], &drill["shards_after"]), (&4.into(), &4.into()), "{drill:#}");
    assert!(drill["change"].as_str().unwrap().contains("UpdateStreamWarmThroughput"), "{drill:#}");
    assert!(drill["settled_after_s"].as_f64() >= drill["changed_after_s"].as_f64(), "{drill:#}");
    assert_eq!(store.get_stream(STREAM).await.unwrap().warm_throughput_mibps, 50);
}

/// Loads of one run may have a stream each: each is placed by its own shards, and told by its own name.
#[tokio::test(flavor = "multi_thread")]
async fn each_load_may_have_a_stream_of_its_own() {
    let (store, url) = serve_wrapped(2, 0, |app| app).await;
    let other = json!({"StreamName": "clicks", "ShardCount": 3});
    call(&store, Operation::CreateStream, other).await;
    let config = std::env::temp_dir().join(format!("tickgen-streams-{}.toml", std::process::id()));
    std::fs::write(
        &config,
        format!(
            "records = 900\nquiet = true\n[[load]]\nname = \"orders\"\nstream = \"{STREAM}\"\nrps = 600\n\
             [[load]]\nname = \"clicks\"\nstream = \"clicks\"\nrps = 900\n"
        ),
    )
    .unwrap();
    let (code, summary, stderr) = run_at(&url, &["--config", config.to_str().unwrap()]).await;
    std::fs::remove_file(config).unwrap();
    assert_eq!(code, 0, "{stderr}\n{summary:#}");
    assert_balanced(&summary);
    assert_eq!(summary["stream"], format!("{STREAM},clicks"));
    let shards = |of: &Value, stream: &str| -> (usize, u64) {
        let own = of["shards"].as_array().unwrap().iter().filter(|shard| shard["stream"] == stream);
        own.fold((0, 0), |(count, acked), shard| (count + 1, acked + shard["acked"].as_u64().unwrap()))
    };
    assert_eq!((shards(&summary, STREAM), shards(&summary, "clicks")), ((2, 900), (3, 900)));
    for (name, stream) in [("orders", STREAM), ("clicks", "clicks")] {
        let load = &summary["loads"][name];
        assert_eq!(
            (&load["stream"], &load["acked"], &load["misrouted"]),
            (&stream.into(), &900.into(), &0.into())
        );
        assert_eq!(shards(load, stream).1, 900, "{load:#}");
        // Each has its stream to itself, and with it the whole of its shards.
        assert!(
            load["shards"].as_array().unwrap().iter().all(|shard| shard["limit_rps"] == 1_000.0),
            "{load:#}"
        );
    }
    assert_eq!(summary["environment"]["streams"].as_array().unwrap().len(), 2);
}
