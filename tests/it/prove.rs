//! `tickgen verify`: what another process proves of a run, in its stream and in an index.
#![cfg(feature = "embedded")]

use crate::docs::{report_schema, violations};
use crate::harness::{finished, run, start, tickgen};
use crate::reshard::{STREAM, serve_wrapped};
use crate::verify::{at, count, kept};
use serde_json::{Value, json};
use std::path::Path;

/// Runs the binary where the test's own servers go on meanwhile.
pub(crate) async fn run_beside(flags: &[&str]) -> (i32, Value, String) {
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    let run = move || run(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// A run without `--verify` is proved by its summary, whatever its keys, loads and payloads.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_proved_by_its_summary() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/templates/trade.json");
    for flags in [
        &[][..],
        &["--aggregate", "--keys", "per-shard", "--market", "walk", "--tickers", "500"],
        &["--stamp", "body", "--keys", "zipf:1", "--payload-bytes", "300", "--local-time"],
        &["--template", template],
    ] {
        let (_, url) = serve_wrapped(4, 0, |app| app).await;
        let load =
            ["--rps", "500", "--records", "700", "--stream", STREAM, "--threshold", "achieved_rps > 1"];
        let (code, summary, stderr) = run_beside(&[&load[..], &at(&url), flags].concat()).await;
        assert_eq!(code, 0, "{flags:?}: {stderr}");
        let file = kept(&summary);
        let of = ["verify", "--summary-of", file.to_str().unwrap(), "--threshold", "verify.duplicated < 1"];
        let (code, report, stderr) = run_beside(&[&of[..], &at(&url)].concat()).await;
        let names = [
            "acked",
            "delivered",
            "lost",
            "duplicated",
            "corrupted",
            "foreign",
            "intended_to_arrived_ms.count",
        ];
        let counts = names.map(|name| count(&report, &format!("verify.{name}")));
        assert_eq!((code, counts), (0, [700, 700, 0, 0, 0, 0, 700]), "{flags:?}: {stderr}");
        assert!(stderr.contains("700 delivered = 700 acked - 0 lost"), "{stderr}");
        assert_eq!(report["thresholds"][0]["passed"], true);
        // It proves this run, and no other seed's.
        let mut other = summary.clone();
        other["manifest"]["loads"][0]["seed"] = (count(&summary, "seed") + 1).into();
        let file = kept(&other);
        let (code, report, _) = run_beside(
            &[&["verify", "--verify-wait", "2s", "--summary-of", file.to_str().unwrap()][..], &at(&url)]
                .concat(),
        )
        .await;
        assert_eq!((code, count(&report, "verify.lost")), (98, 700), "{flags:?}");
        assert_eq!(count(&report, "verify.corrupted"), 700, "{flags:?}");
        std::fs::remove_file(file).unwrap();
    }
}

/// Dropped, failed and expired records are not looked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acked_is_not_missed() {
    let (_, url) = serve_wrapped(2, 0, |app| app).await;
    let load = ["--rps", "4000", "--records", "8000", "--max-backlog", "500", "--record-ttl", "300ms"];
    let more = ["--shard-limit", "none", "--stream", STREAM];
    let (_, summary, _) = run_beside(&[&load[..], &more, &at(&url)].concat()).await;
    let not_acked = count(&summary, "dropped") + count(&summary, "expired") + count(&summary, "failed");
    assert!(not_acked > 500, "two shards take 2,000 records/s: {summary:#}");
    let file = kept(&summary);
    let (code, report, stderr) =
        run_beside(&[&["verify", "--summary-of", file.to_str().unwrap()][..], &at(&url)].concat()).await;
    let names = ["verify.acked", "verify.lost", "verify.delivered_unacked"];
    assert_eq!((code, names.map(|name| count(&report, name))), (0, [8_000 - not_acked, 0, 0]), "{stderr}");
}

/// Started before the run has ended, it waits for the summary.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_run_is_waited_for() {
    let (_, url) = serve_wrapped(4, 0, |app| app).await;
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("waited-for.json");
    let _ = std::fs::remove_file(&file);
    let name = file.to_str().unwrap();
    let verifying = start(&[&["verify", "--summary-of", name, "--summary", "-"][..], &at(&url)].concat());
    let load = ["--rps", "300", "--records", "600", "--stream", STREAM, "--summary", name];
    let running = start(&[&load[..], &at(&url)].concat());
    let ended = tokio::task::spawn_blocking(move || {
        (finished(&running.wait_with_output().unwrap()), finished(&verifying.wait_with_output().unwrap()))
    });
    let ((code, _, stderr), (code_verifying, report, stderr_verifying)) = ended.await.unwrap();
    assert_eq!((code, code_verifying), (0, 0), "{stderr}\n{stderr_verifying}");
    assert_eq!(count(&report, "verify.delivered"), 600);
    assert!(stderr_verifying.contains("waiting for the run to end"), "{stderr_verifying}");
    std::fs::remove_file(&file).unwrap();
}

/// Of a run that is known by its id alone what arrived is counted, and it is said what is not proved.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_known_by_its_id_is_counted() {
    let (_, url) = serve_wrapped(4, 0, |app| app).await;
    let mut ids = Vec::new();
    for own in [&["--run-id", "0badcafe"][..], &[]] {
        let load = ["--rps", "300", "--records", "300", "--aggregate", "--stream", STREAM];
        let (code, summary, stderr) = run_beside(&[&load[..], &at(&url), own].concat()).await;
        assert_eq!(code, 0, "{stderr}");
        ids.push(summary["run_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids[0], "0badcafe");
    let of = ["verify", "--run", &ids[0], "--stream", STREAM];
    let (code, report, stderr) = run_beside(&[&of[..], &at(&url)].concat()).await;
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(violations(&report_schema(), &report, ""), [] as [String; 0]);
    let counts = ["delivered", "duplicated", "foreign"].map(|name| count(&report, &format!("verify.{name}")));
    assert_eq!(counts, [300, 0, 300], "{report:#}");
    assert_eq!(
        report["verify"]["loads"],
        json!([{"place": "0", "delivered": 300, "numbers": 300, "gaps": 0}])
    );
    assert_eq!(report["verify"]["acked"], Value::Null);
    let of = ["verify", "--run", "0000000a", "--stream", STREAM];
    let (code, report, stderr) = run_beside(&[&of[..], &at(&url)].concat()).await;
    assert_eq!((code, count(&report, "verify.delivered")), (98, 0), "{stderr}");
    assert!(stderr.contains("nothing of this run is there: look at --run"), "{stderr}");
    assert!(stderr.contains("NOT PROVED  which records were acked, lost or corrupted"), "{stderr}");
}

#[test]
fn summaries_that_prove_nothing_are_refused() {
    let (_, embedded, _) = run(&["--records", "5"]);
    let (_, unstamped, _) = run(&["--records", "5", "--stamp", "none"]);
    let (_, stamped, _) = run(&["--records", "5", "--stamp", "body"]);
    let with = |summary: &Value, path: &str, value: Value| {
        let mut summary = summary.clone();
        *summary.pointer_mut(path).unwrap() = value;
        summary["run_id"] = format!("{:08x}", rand::random::<u32>()).into();
        summary
    };
    let load = "/manifest/loads/0";
    let named = with(&stamped, &format!("{load}/stream"), "s".into());
    for (summary, flags, why) in [
        (embedded.clone(), &[][..], "no stream that outlives it (embedded, or --to): name the --stream"),
        (unstamped, &[], "its records do not say which they are: run it with --stamp key or --stamp body"),
        (
            with(&named, &format!("{load}/numbers"), (1_u64 << 47).into()),
            &[],
            "140737488355328 records of load",
        ),
        (with(&named, "/tickgen_version", "9.9.9".into()), &[], "was written by tickgen 9.9.9; this is"),
        (
            with(&named, &format!("{load}/not_acked"), Value::Null),
            &[],
            "--run and its run_id count what arrived",
        ),
        (with(&named, &format!("{load}/settings/keys"), "hot".into()), &[], "--keys hot: expected"),
        (with(&named, &format!("{load}/local_utc_offset_s"), 4_321.into()), &[], "set TZ to it"),
        (embedded, &["--opensearch", "http://127.0.0.1:1", "--index", "i"], "run it with --stamp body"),
        (json!({"run_id": "00000000"}), &[], "not the summary of a run: missing field"),
    ] {
        let file = kept(&summary);
        let (code, _, stderr) =
            run(&[&["verify", "--summary-of", file.to_str().unwrap()][..], flags].concat());
        assert!(code == 2 && stderr.contains(why), "{why}\n{stderr}");
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn what_says_nothing_about_a_proof_is_refused() {
    for (flags, why) in [
        (&["verify"][..], "is needed: the summary that the run wrote to --summary FILE"),
        (&["verify", "--run", "12"], "--run 12: expected the run_id of a summary"),
        (&["verify", "--run", "0000000a"], "--run 0000000a: needs --stream, or --opensearch"),
        (
            &["verify", "--summary-of", "no/such/folder/run.json"],
            "--summary-of no/such/folder/run.json: No such file or directory",
        ),
        (
            &["verify", "--summary-of", "no-such-file.json", "--summary-wait", "0s"],
            "--summary-of no-such-file.json: no summary of the run came within 0ns (--summary-wait)",
        ),
        (&["--run-id", "12"], "--run-id 12: expected the run_id of a summary"),
        (
            &["verify", "--run", "0000000a", "--opensearch", "http://a"],
            "--opensearch http://a: needs --index",
        ),
        (&["verify", "--run", "0000000a", "--index", "a,b"], "--index a,b: expected the name of one index"),
        (
            &["verify", "--run", "0000000a", "--stream", "s", "--threshold", "lost == 0"],
            "lost == 0: is of a run; of a proof are verify.*",
        ),
        (
            &[
                "verify",
                "--run",
                "0000000a",
                "--opensearch",
                "http://a",
                "--index",
                "i",
                "--opensearch-user",
                "u",
            ],
            "--opensearch-user u: needs a password, in TICKGEN_OPENSEARCH_PASSWORD",
        ),
        (&["--summary-of", "x"], "--summary-of is for tickgen verify: tickgen verify --summary-of"),
        (&["--threshold", "verify.lost == 0"], "verify.lost == 0: needs --verify"),
    ] {
        let (code, _, stderr) = run(flags);
        assert!(code == 2 && stderr.contains(why), "{flags:?}\n{stderr}");
    }
}

/// Nor is a secret shown that is refused.
#[test]
fn addresses_of_an_index_hold_no_secrets() {
    for (url, shown, why) in [
        ("https://me:s3cret@h", "https://h:", "leave user and password out: --opensearch-user"),
        ("https://me:s3/cret@h/path", "https://h/path:", "leave user and password out"),
        ("http://h/?token=s3cret", "http://h/:", "expected an address without ? and #"),
        ("http://h#s3cret", "http://h:", "expected an address without ? and #"),
        ("ftp://me:s3cret@h", "ftp://h:", "expected a URL that begins with http"),
    ] {
        let of = ["verify", "--run", "0000000a", "--index", "i", "--opensearch", url];
        let (code, _, stderr) = run(&of);
        assert!(code == 2 && stderr.contains(why), "{url}: {stderr}");
        assert!(
            stderr.contains(shown) && !stderr.contains("s3") && !stderr.contains("me:"),
            "{url}: {stderr}"
        );
    }
    let (code, _, stderr) = run(&["--records", "1", "--endpoint-url", "ftp://me:s3cret@h"]);
    assert!(code == 2 && stderr.contains("ftp://h:") && !stderr.contains("s3cret"), "{stderr}");
}

/// A password that nobody would show is a user that was forgotten.
#[test]
fn a_password_needs_a_user() {
    let mut command =
        tickgen(&["verify", "--run", "0000000a", "--index", "i", "--opensearch", "http://127.0.0.1:1"]);
    command.env("TICKGEN_OPENSEARCH_PASSWORD", "open sesame");
    let (code, _, stderr) = finished(&command.output().unwrap());
    assert!(code == 2 && stderr.contains("TICKGEN_OPENSEARCH_PASSWORD: needs --opensearch-user"), "{stderr}");
    assert!(!stderr.contains("open sesame"), "{stderr}");
}

/// The threshold of a proof is judged when it is there.
#[test]
fn thresholds_look_at_the_proof() {
    for (threshold, expected) in [("verify.duplicated < 1", 0), ("verify.delivered > 500", 99)] {
        let load = ["--rps", "500", "--records", "500", "--verify", "--threshold", threshold];
        let (code, summary, stderr) = run(&load);
        assert_eq!(code, expected, "{stderr}");
        let results = summary["thresholds"].as_array().unwrap();
        let result = results.iter().find(|result| result["expr"] == threshold).unwrap();
        assert_eq!(result["passed"], expected == 0);
    }
}
