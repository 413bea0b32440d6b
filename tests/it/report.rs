//! What is left of a run to look at: the histogram log, read by a library by others, and the report, opened
//! in a browser. `.ci/peers` installs both.
#![cfg(feature = "embedded")]

use crate::harness::{assert_balanced, assert_picture, finished, peers, run, signal, tickgen};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A folder of its own for a test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// What a script prints as JSON; Node finds its modules in the peers' folder.
fn node(peers: &Path, script: &Path, args: &[&Path]) -> Value {
    let unpacked = peers.join("chromium");
    std::fs::create_dir_all(&unpacked).expect("a folder");
    let mut command = Command::new("node");
    command.arg(script).args(args).env("NODE_PATH", peers.join("node/node_modules")).env("TMPDIR", unpacked);
    let (code, printed, stderr) = finished(&command.output().expect("node runs"));
    assert_eq!(code, 0, "{}: {stderr}", script.display());
    printed
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The log of a run says what its summary says.
fn assert_log_is_of(peers: &Path, log: &Path, summary: &Value) {
    let found = node(peers, &script("read_hdr_log.cjs"), &[log]);
    for (tag, field) in [
        ("response", "response_time_ms"),
        ("service", "service_time_ms"),
        ("queue", "queue_time_ms"),
        ("schedule_lag", "schedule_lag_ms"),
        ("start_lateness", "start_lateness_ms"),
    ] {
        let (log, summary) = (&found[tag], &summary[field]);
        assert_eq!(log["count"], summary["count"], "{tag}: {found:#}");
        for percentile in ["p50", "p99", "max"] {
            let (log, summary) = (log[percentile].as_f64().unwrap(), summary[percentile].as_f64().unwrap());
            assert!((log / 1000.0 - summary).abs() < 1e-9, "{tag} {percentile}: {log} µs, {summary} ms");
        }
    }
}

#[test]
fn the_histogram_log_is_read_by_others() {
    let Some(peers) = peers(&["node/node_modules/hdr-histogram-js"]) else { return };
    let log = scratch("hdr-log").join("run.hlog");
    let flags =
        ["--rps", "2000", "--duration", "3s", "--warmup", "500ms", "--hdr-interval", "250ms", "--hdr-log"];
    let (code, summary, stderr) = run(&[&flags[..], &[text(&log)]].concat());
    assert_eq!(code, 0, "{stderr}");
    assert_log_is_of(&peers, &log, &summary);
    let found = node(&peers, &script("read_hdr_log.cjs"), &[&log]);
    assert!(found["response"]["intervals"].as_u64().unwrap() >= 8, "{found:#}");
}

#[test]
fn a_terminated_run_leaves_a_complete_log() {
    let Some(peers) = peers(&["node/node_modules/hdr-histogram-js"]) else { return };
    let log = scratch("hdr-log-terminated").join("run.hlog");
    let child =
        tickgen(&["--rps", "500", "--summary", "-", "--hdr-interval", "200ms", "--hdr-log", text(&log)])
            .spawn()
            .expect("the binary starts");
    // It is written as the run goes: lines come while it runs.
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.matches("Tag=response,").count());
    for _ in 0..600 {
        if lines() >= 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(lines() >= 3, "nothing is logged while the run lasts");
    signal(&child, "TERM");
    let (_, summary, stderr) = finished(&child.wait_with_output().expect("it ends"));
    assert_balanced(&summary);
    assert_eq!(summary["stopped_by"], "signal", "{stderr}");
    assert_log_is_of(&peers, &log, &summary);
}

#[test]
fn a_log_that_cannot_be_written_is_told() {
    let (code, _, stderr) = run(&["--records", "5", "--hdr-log", "/nowhere/run.hlog"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("error: --hdr-log /nowhere/run.hlog: No such file"), "{stderr}");
    let (code, _, stderr) = run(&["--records", "5", "--report", "/nowhere/run.html"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("error: --report /nowhere/run.html: No such file"), "{stderr}");
    // The disk is full.
    let (code, summary, stderr) = run(&["--records", "5", "--rps", "5", "--hdr-log", "/dev/full"]);
    assert_eq!((code, &summary["acked"]), (1, &5.into()), "{stderr}");
    assert!(summary["error"].as_str().unwrap().contains("--hdr-log /dev/full: "), "{summary:#}");
}

/// A run with all that a report can show: a shape, a warmup, throttles, and a hot shard that is split.
fn eventful(folder: &Path) -> Value {
    let flags = [
        "--shape",
        "sine:mean=2600,amplitude=1500,period=8s",
        "--arrivals",
        "poisson",
        "--keys",
        "zipf:1.1",
        "--shards",
        "4",
        "--shard-limit",
        "none",
        "--allow-drill",
        "--drill",
        "at=8s split=hottest",
        "--duration",
        "16s",
        "--warmup",
        "2s",
        "--threshold",
        "response_time_ms.p99 < 250",
        "--seed",
        "7",
        "--quiet",
        "--summary",
        "-",
        "--report",
        "report.html",
    ];
    let output = tickgen(&flags).current_dir(folder).output().expect("the binary runs");
    let (code, summary, stderr) = finished(&output);
    assert!([0, 99].contains(&code), "{stderr}");
    summary
}

#[test]
fn the_report_stands_by_itself_in_a_browser() {
    let Some(peers) = peers(&["node/node_modules/@sparticuz/chromium", "node/node_modules/puppeteer-core"])
    else {
        return;
    };
    let folder = scratch("report");
    let report = folder.join("report.html");
    let summary = eventful(&folder);
    // An import finds its modules beside the script alone.
    let beside = peers.join("node/look_at_report.mjs");
    std::fs::copy(script("look_at_report.mjs"), &beside).expect("a copy");
    let found = node(&peers, &beside, &[&report, &folder]);
    let nothing = serde_json::json!([]);
    for what in ["console", "errors", "requests"] {
        assert_eq!(found[what], nothing, "{what}: {found:#}");
    }
    for (name, background) in
        [("light", "rgb(255, 255, 255)"), ("dark", "rgb(16, 20, 24)"), ("phone", "rgb(255, 255, 255)")]
    {
        let view = &found["views"][name];
        assert_eq!(view["background"], background, "{name}");
        assert!(view["scrolls"].as_f64() <= view["width"].as_f64(), "{name} scrolls sideways: {view:#}");
        // Rate, response time, percentile curve, throttles, heat map.
        assert_eq!(
            (&view["charts"], &view["unnamed"], &view["scripts"]),
            (&5.into(), &0.into(), &0.into()),
            "{name}"
        );
        assert!(view["smallest"].as_f64().unwrap() > 9.0, "{name}: texts of {view:#}");
        let ids: Vec<&Value> = view["ids"].as_array().unwrap().iter().collect();
        let distinct: BTreeSet<&str> = ids.iter().filter_map(|id| id.as_str()).collect();
        assert_eq!(ids.len(), distinct.len(), "ids are given twice");
        assert_shows(view["text"].as_str().unwrap(), &summary);
        assert!(folder.join(format!("{name}.png")).exists());
        assert_eq!(view["clipped"], nothing, "{name} does not show these whole");
    }
    for (width, clipped) in found["print"].as_object().unwrap() {
        assert_eq!(clipped, &nothing, "paper {width} px wide does not show these whole");
    }
    let pdf = std::fs::read(folder.join("report.pdf")).expect("a print");
    assert!(pdf.starts_with(b"%PDF"));
    let labels: Vec<&str> = found["labels"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_picture("report", &folder.join("picture.png"), &labels.join("\n"), |text| {
        text.lines().map(str::to_owned).collect()
    });
}

/// Every part that a report is to have, with the figures of the summary.
fn assert_shows(text: &str, summary: &Value) {
    let text = text.to_lowercase();
    for part in [
        "thresholds",
        "rate",
        "response time",
        "percentile curve",
        "throttles, retries and losses",
        "shards",
        "ledger",
        "drills",
        "cost",
        "configuration",
        "environment",
        "zipf:1.1",
        "response_time_ms.p99 < 250",
        summary["run_id"].as_str().unwrap(),
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let acked = summary["acked"].as_u64().unwrap();
    assert!(text.contains(&format!("{},{:03}", acked / 1000, acked % 1000)), "{acked} in {text}");
}

#[test]
fn names_from_outside_do_not_break_the_page() {
    let folder = scratch("report-names");
    let (report, template) = (folder.join("r.html"), folder.join("<script>alert(1)<script>.json"));
    std::fs::write(&template, "{{ n }}").unwrap();
    let flags =
        ["--records", "20", "--template", text(&template), "--keys", "fixed:<img src=x onerror=alert(2)>"];
    let (code, _, stderr) = run(&[&flags[..], &["--report", text(&report)]].concat());
    assert_eq!(code, 0, "{stderr}");
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
    assert!(html.contains("&lt;script&gt;") && html.contains("fixed:&lt;img src=x onerror=alert(2)&gt;"));
}

#[test]
fn a_run_stays_within_its_budget() {
    // A second at 1000/s costs 0.000014 for its units, and 2 shards some 0.0000083.
    let flags = ["--rps", "1000", "--shards", "2", "--duration", "60s", "--max-cost", "0.00012"];
    let (code, summary, stderr) = run(&flags);
    assert_eq!((code, &summary["stopped_by"]), (99, &"cost".into()), "{stderr}");
    assert_balanced(&summary);
    let cost = &summary["cost"];
    let usd = cost["usd"].as_f64().unwrap();
    assert!(usd > 0.00006 && usd <= 0.00012, "{cost:#}");
    let budget =
        summary["thresholds"].as_array().unwrap().iter().find(|t| t["expr"] == "cost.usd <= 0.00012");
    assert_eq!(budget.unwrap()["passed"], false);
    assert!(stderr.contains("drained for --max-cost"), "{stderr}");
    // A budget that is enough is held.
    let (code, summary, stderr) = run(&["--records", "100", "--max-cost", "5"]);
    assert_eq!((code, &summary["stopped_by"]), (0, &"schedule".into()), "{stderr}");
}

#[test]
fn prices_are_of_the_list_that_is_given() {
    let folder = scratch("prices");
    let prices = folder.join("prices.json");
    let list = r#"{"as_of": "2031-05-01", "regions": {"mars-north-1": {"provisioned":
        {"shard_hour": 0, "million_put_payload_units": 100000, "source": "a test"}}}}"#;
    std::fs::write(&prices, list).unwrap();
    let given = ["--records", "7", "--rps", "70", "--prices", text(&prices)];
    let (code, summary, stderr) = run(&[&given[..], &["--price-region", "mars-north-1"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let cost = &summary["cost"];
    assert!((cost["usd"].as_f64().unwrap() - 0.7).abs() < 1e-9, "{cost:#}");
    assert_eq!((&cost["on_demand_usd"], &cost["prices_as_of"]), (&Value::Null, &"2031-05-01".into()));
    // The region of the embedded stream is not on Mars: its price is unknown, and so is what it may cost.
    let (code, summary, _) = run(&given);
    assert_eq!((code, &summary["cost"]["usd"]), (0, &Value::Null));
    let (code, _, stderr) = run(&[&given[..], &["--max-cost", "5"]].concat());
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("no price of such streams in us-east-1"), "{stderr}");
    // Mistakes are told all at once, nothing is sent.
    std::fs::write(&prices, "{\"as_of\": 5}").unwrap();
    let (code, _, stderr) = run(&["--prices", text(&prices), "--price-region", "moon", "--max-cost", "-1"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("--prices ")
            && stderr.contains("invalid type")
            && stderr.contains("--max-cost -1: expected"),
        "{stderr}"
    );
}

/// A run that leaves its summary and its log under this name.
fn leave(folder: &Path, name: &str, flags: &[&str]) -> (PathBuf, Value) {
    let (json, hlog) = (folder.join(format!("{name}.json")), folder.join(format!("{name}.hlog")));
    let files = ["--quiet", "--summary", text(&json), "--hdr-log", text(&hlog), "--hdr-interval", "100ms"];
    let (code, _, stderr) = finished(&tickgen(&[flags, &files].concat()).output().expect("the binary runs"));
    assert_eq!(code, 0, "{stderr}");
    let summary = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    (json, summary)
}

/// Runs `tickgen report`; returns its exit code, stdout and stderr.
fn report(args: &[&str]) -> (i32, String, String) {
    let output = tickgen(&[&["report"], args].concat()).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn runs_are_added_with_exact_percentiles() {
    let folder = scratch("merge");
    let (a, of_a) = leave(&folder, "a", &["--rps", "500", "--duration", "3s", "--seed", "1"]);
    let (b, of_b) = leave(&folder, "b", &["--rps", "1500", "--duration", "2s", "--linger", "40ms"]);
    let (json, html, log) = (folder.join("ab.json"), folder.join("ab.html"), folder.join("ab.hlog"));
    // One log is found by its name, the other is given.
    let moved = folder.join("moved.hlog");
    std::fs::rename(folder.join("b.hlog"), &moved).unwrap();
    let b = format!("{}+{}", text(&b), text(&moved));
    let to = ["--summary", text(&json), "--report", text(&html), "--hdr-log", text(&log)];
    let (code, stdout, stderr) = report(&[&["merge", text(&a), &b][..], &to].concat());
    assert_eq!((code, stdout.as_str()), (0, ""), "{stderr}");
    let merged: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_balanced(&merged);
    let violations = crate::docs::violations(&crate::docs::summary_schema(), &merged, "");
    assert_eq!(violations, [] as [String; 0]);
    assert_eq!((&merged["schema_version"], &merged["acked"]), (&2.into(), &4500.into()));
    assert_eq!(merged["response_time_ms"]["count"], 4500);
    // The median of all is the time that half of all records took, which the logs tell together.
    let within = |file: &Path, ms: f64| -> u64 {
        let log = tickgen::observe::read_hdr_log(&std::fs::read(file).unwrap()).unwrap();
        let own = log.iter().filter(|interval| interval.tag == "response");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "microseconds")]
        own.map(|interval| interval.times.count_between(0, (ms * 1000.0) as u64)).sum()
    };
    for (percentile, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let ms = merged["response_time_ms"][percentile].as_f64().unwrap();
        let (own, before) = ([ms + 1e-6, ms * 0.998], share * 4500.0);
        let [up_to, below] = own.map(|ms| within(&folder.join("a.hlog"), ms) + within(&moved, ms));
        assert!(
            up_to as f64 >= before && below as f64 <= before,
            "{percentile}: {below} to {up_to} for {before}"
        );
    }
    let parts: Vec<&str> =
        merged["merged_from"].as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap()).collect();
    assert_eq!(parts, [of_a["run_id"].as_str().unwrap(), of_b["run_id"].as_str().unwrap()]);
    assert!(std::fs::read_to_string(&html).unwrap().contains("Runs added"));
    // The sum is a run like any other: it can be shown and compared.
    let (code, _, stderr) = report(&["render", text(&json)]);
    assert_eq!((code, stderr.trim()), (0, text(&html)), "{stderr}");
    assert_eq!(report(&["compare", text(&json), text(&json)]).0, 0);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        tickgen(&["report", "compare", text(&json), text(&json)]).stdout(full).output().expect("it runs");
    let (code, _, stderr) = finished(&output);
    assert!(code == 1 && stderr.contains("error: the comparison could not be written"), "{stderr}");
}

#[test]
fn a_regression_is_told_from_noise() {
    let folder = scratch("compare");
    // Tenths of a second are the intervals: 40 of them are enough to tell noise.
    let same = ["--rps", "1000", "--duration", "4s", "--linger", "5ms"];
    let (base, _) = leave(&folder, "base", &same);
    let (slow, _) = leave(&folder, "slow", &["--rps", "1000", "--duration", "4s", "--linger", "60ms"]);
    let (base, slow) = (text(&base), text(&slow));
    let limit = ["--max-regression", "response_time_ms.p50 50%", "--max-regression", "lost 0"];
    let (code, stdout, stderr) = report(&[&["compare", base, slow][..], &limit].concat());
    assert_eq!(code, 99, "{stdout}{stderr}");
    assert!(stdout.contains("max regression response_time_ms.p50 50%: EXCEEDED"), "{stdout}");
    assert!(stdout.contains("max regression lost 0: kept"), "{stdout}");
    let line = stdout.lines().find(|line| line.starts_with("response_time_ms.p50")).unwrap();
    assert!(line.ends_with(": worse"), "{line}");
    // The other way round it is a gain.
    let (code, stdout, _) = report(&[&["compare", slow, base][..], &limit].concat());
    assert_eq!(code, 0, "{stdout}");
    let (code, stdout, _) = report(&["compare", base, slow, "--json", "-"]);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, json["changes"][1]["judgement"].as_str()), (0, Some("worse")), "{json:#}");
}

#[test]
fn files_that_no_run_left_are_refused() {
    let folder = scratch("refused");
    let (a, _) = leave(&folder, "a", &["--records", "100", "--rps", "500"]);
    let (b, _) = leave(&folder, "b", &["--records", "50", "--rps", "500"]);
    let write = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).unwrap();
        folder.join(name)
    };
    let whole = std::fs::read_to_string(&a).unwrap();
    let old = write("old.json", &whole.replace("\"schema_version\": 2", "\"schema_version\": 1"));
    let cut = write("cut.json", &whole[..whole.len() / 3]);
    let foreign = write("foreign.json", "{\"results\": []}");
    let logless = write("logless.json", &whole);
    let log = std::fs::read_to_string(folder.join("a.hlog")).unwrap();
    write("torn.json", &whole);
    let torn_log = write("torn.hlog", &log[..log.len() - 30]);
    let mixed = format!("{}+{}", text(&a), text(&folder.join("b.hlog")));
    for (first, problem) in [
        (text(&old), "old.json: schema version 1, this tickgen reads 2".to_owned()),
        (text(&cut), "cut.json: no JSON: EOF".to_owned()),
        (text(&foreign), "foreign.json: no summary of a tickgen run: it has no schema_version".to_owned()),
        (text(&logless), "logless.json: its histogram log (--hdr-log) is needed".to_owned()),
        (text(&folder.join("torn.json")), format!("{}: line ", text(&torn_log))),
        (&mixed, "b.hlog: not of the run of ".to_owned()),
        (text(&b), "are the same run".to_owned()),
        ("/nowhere/x.json", "error: /nowhere/x.json: No such file".to_owned()),
    ] {
        let (code, stdout, stderr) = report(&["merge", first, text(&b)]);
        assert_eq!((code, stdout.as_str()), (2, ""), "{first}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(&problem), "{first}: {stderr}");
    }
    assert_eq!(report(&["compare", text(&old), text(&b)]).0, 2);
    let (code, _, stderr) = report(&["compare", text(&a), text(&b), "--max-regression", "speed 5%"]);
    assert!(code == 2 && stderr.contains("unknown figure; known are achieved_rps"), "{stderr}");
    let (code, _, stderr) = report(&["render", text(&a), "--report", "/nowhere/r.html"]);
    assert!(code == 1 && stderr.contains("/nowhere/r.html: No such file"), "{stderr}");
    // Nothing that is read is written over, and no file is written twice.
    let (a, b) = (text(&a), text(&b));
    let log = text(&folder.join("a.hlog")).to_owned();
    for (flags, flag, other) in [
        (vec!["merge", a, b, "--summary", a], "--summary", a),
        (vec!["merge", a, b, "--hdr-log", &log], "--hdr-log", log.as_str()),
        (vec!["compare", a, b, "--json", b], "--json", b),
        (vec!["render", a, "--report", a], "--report", a),
    ] {
        let (code, _, stderr) = report(&flags);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(&format!("error: {flag} {other}: is the same file as {other}")), "{stderr}");
    }
    assert_eq!(std::fs::read_to_string(a).unwrap(), whole);
    assert_eq!(report(&["render", a, "--report", "-"]).0, 2);
}
