//! `tickgen search`: the knee of an embedded stream, the ends of a search, and what is refused.
#![cfg(feature = "embedded")]

use crate::docs::{search_schema, violations};
use crate::harness::{finished, run, signal, start};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};

/// The objective of the issue that asked for the search.
const SLO: &str = "response_time_ms.p99 < 200 and error_ratio < 0.01%";

fn search(flags: &[&str]) -> (i32, Value, String) {
    run(&[&["search"], flags].concat())
}

/// Searches the knee of a stream of `shards` shards.
fn knee(shards: u32) -> Value {
    let [shards, from, to] = [shards, shards * 700, shards * 4_000].map(|n| n.to_string());
    let (code, summary, stderr) = search(&[
        "--slo",
        SLO,
        "--shards",
        &shards,
        "--from",
        &from,
        "--to",
        &to,
        "--step-duration",
        "3s",
        "--step-warmup",
        "1s",
        "--precision",
        "1%",
    ]);
    assert_eq!((code, &summary["verdict"]), (0, &"found".into()), "{stderr}");
    assert_eq!(violations(&search_schema(), &summary, ""), [] as [String; 0]);
    // The table, the curve and the answer.
    for part in ["offered/s", "response: = to p50", "holds the objective", "limited by  At "] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    check_points(&summary);
    summary
}

/// Every rate that became an end of the bracket was tried twice with that result, and the search went where its
/// results led.
fn check_points(summary: &Value) {
    let points = summary["points"].as_array().unwrap();
    let rate = |point: &Value| point["target_rps"].as_f64().unwrap();
    let times = |rate: f64, held: bool| {
        let same = |point: &&Value| {
            point["held"] == held && (point["target_rps"].as_f64().unwrap() - rate).abs() < 1e-9
        };
        points.iter().filter(same).count()
    };
    let (knee, fails) = (summary["knee_rps"].as_f64().unwrap(), summary["fails_at_rps"].as_f64().unwrap());
    assert!(fails <= knee * 1.0101, "{summary:#}");
    let first_miss = points.iter().position(|point| point["held"] == false).unwrap();
    for (place, point) in points.iter().enumerate() {
        let (held, missed) = (times(rate(point), true), times(rate(point), false));
        // While the rate is doubled the higher one that holds confirms the one below it.
        let confirmed_by_higher = place + 1 < first_miss && rate(&points[place + 1]) > rate(point);
        assert!(held.max(missed) == 2 || confirmed_by_higher, "{point:#}");
        assert!(held + missed <= 3, "{point:#}");
        // What it came to is what most tries said.
        assert!(if held > missed { rate(point) <= knee } else { rate(point) >= fails }, "{point:#}");
    }
    for point in points {
        let missed = point["objective"].as_array().unwrap().iter().any(|one| one["passed"] == false);
        assert_eq!(missed, point["held"] == false, "{point:#}");
    }
}

/// What keeps an embedded stream from more is its shards: not the processors, and nothing throttles.
fn check_cause(summary: &Value) {
    let limited_by = summary["limited_by"].as_str().unwrap();
    assert!(
        limited_by.contains("their shard's limit") || limited_by.contains("its shard's limit"),
        "{limited_by}"
    );
    assert!(!limited_by.contains("The stream was the limit"), "{limited_by}");
    assert_eq!(summary["doubt"], Value::Null, "{summary:#}");
}

#[test]
fn the_knee_of_n_shards_is_n_times_a_thousand() {
    let off = |shards: u32| {
        // A machine that is busy with something else can only make it less: it is asked again then.
        let share = |summary: &Value| summary["knee_rps"].as_f64().unwrap() / f64::from(shards) / 1000.0;
        let found = take_until((0..3).map(|_| knee(shards)), |summary| share(summary) >= 0.97);
        let knees: Vec<f64> = found.iter().map(share).collect();
        eprintln!("{shards} shards: {knees:?} of 1000/s each");
        let last = found.last().unwrap();
        check_cause(last);
        share(last)
    };
    std::thread::scope(|scope| {
        let searches = [2, 4].map(|shards| scope.spawn(move || off(shards)));
        for search in searches {
            let share = search.join().unwrap();
            assert!((0.97..=1.03).contains(&share), "{share}");
        }
    });
}

fn take_until<T>(items: impl Iterator<Item = T>, done: impl Fn(&T) -> bool) -> Vec<T> {
    let mut taken = Vec::new();
    for item in items {
        taken.push(item);
        if taken.last().is_some_and(&done) {
            break;
        }
    }
    taken
}

#[test]
fn an_objective_that_the_lowest_rate_misses_is_exit_99() {
    // A record takes longer than a microsecond to be acked.
    let (code, summary, stderr) = search(&["--slo", "response_time_ms.p50 < 0.001", "--from", "200"]);
    assert_eq!((code, &summary["verdict"], &summary["knee_rps"]), (99, &"never_held".into(), &Value::Null));
    let points = summary["points"].as_array().unwrap();
    assert_eq!(points.len(), 2, "{summary:#}");
    // Half of a step of 15 s is needed to know for sure.
    assert!(points.iter().all(|point| point["ended_early"] == true), "{summary:#}");
    assert!(points.iter().all(|point| point["measured_s"].as_f64().unwrap() > 5.0), "{summary:#}");
    assert!(stderr.contains("200/s (--from) does not hold the objective"), "{stderr}");
}

#[test]
fn a_limit_that_is_not_met_is_told() {
    let flags = ["--from", "100", "--to", "200", "--step-duration", "1s", "--step-warmup", "0s"];
    let (code, summary, stderr) = search(&[&["--slo", "lost == 0"], &flags[..]].concat());
    assert_eq!((code, &summary["verdict"]), (0, &"held_throughout".into()), "{stderr}");
    assert_eq!((&summary["knee_rps"], &summary["limited_by"]), (&200.0.into(), &Value::Null));
    let rates: Vec<_> =
        summary["points"].as_array().unwrap().iter().map(|p| p["target_rps"].clone()).collect();
    assert_eq!(rates, [100.0, 200.0, 200.0]);
    assert_eq!(violations(&search_schema(), &summary, ""), [] as [String; 0]);
    assert!(stderr.contains("not met: 200/s (--to) holds the objective"), "{stderr}");
    // Quiet is quiet.
    let (code, _, stderr) = search(&[&["--slo", "lost == 0", "--quiet"], &flags[..]].concat());
    assert_eq!((code, stderr.as_str()), (0, ""));
    let (code, _, stderr) = search(&[&["--slo", "acked > 1000000", "--quiet"], &flags[..]].concat());
    assert_eq!((code, stderr.as_str()), (99, "error: 100/s (--from) does not hold the objective\n"));
}

#[test]
fn a_signal_ends_a_search_without_an_answer() {
    let mut child = start(&["search", "--slo", "lost == 0", "--summary", "-"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("offered/s")));
    signal(&child, "INT");
    std::thread::spawn(move || lines.for_each(drop));
    let (code, summary, _) = finished(&child.wait_with_output().unwrap());
    assert_eq!(
        (code, &summary["verdict"], &summary["points"]),
        (1, &"stopped".into(), &serde_json::json!([]))
    );
}

#[test]
fn what_a_search_has_not_is_refused() {
    let (code, _, stderr) = search(&[
        "--slo",
        "lost == 0 and p99 < 5",
        "--rps",
        "5",
        "--shape",
        "spike:base=1,peak=5,every=60s,rise=1s,hold=1s,fall=1s",
        "--threshold",
        "lost == 0",
        "--drill",
        "at=5s merge",
    ]);
    assert_eq!(code, 2, "{stderr}");
    for expected in [
        "    lost == 0 and p99 < 5\n                  ^",
        "error: --rps 5: is set by tickgen search itself: --from and --to",
        "error: --threshold lost == 0: is set by tickgen search itself: --slo",
        "tickgen search offers constant rates",
        "tickgen search needs a stream that stays as it is",
        "Nothing was sent.",
    ] {
        assert!(stderr.contains(expected), "{expected}\n---\n{stderr}");
    }
    // A run has no objective, and a search no duration of its own.
    let (code, _, stderr) = run(&["--slo", "lost == 0"]);
    assert!(code == 2 && stderr.contains("--slo is for tickgen search: tickgen search --slo"), "{stderr}");
    let (code, _, stderr) = run(&["--rps", "5", "search", "--slo", "lost == 0"]);
    assert!(code == 2 && stderr.contains("search"), "{stderr}");
}
