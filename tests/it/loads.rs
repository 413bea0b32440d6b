//! What a load can be: shapes, arrivals, replayed files, lines, several loads in one run, and what is
//! told of it. Runs of the binary; counts and orders are judged, never durations.
#![cfg(feature = "embedded")]

use crate::harness::{assert_balanced, run, signal, start, tickgen};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

fn count(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value:#}"))
}

/// A file of this test's own.
fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tickgen-loads-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs with `--to stdout`; returns the exit code, the lines and stderr.
fn lines(flags: &[&str]) -> (i32, Vec<String>, String) {
    let output = tickgen(&[&["--to", "stdout"], flags].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text.lines().map(str::to_owned).collect(), errors)
}

/// The rate may fall short on a busy machine; what is judged here are counts.
const ANY_RATE: [&str; 2] = ["--threshold", "achieved_rps > 0"];

#[test]
fn shapes_offer_their_integral() {
    for (shape, records) in [
        ("stages:0,2000/1s,2000/1s,0/1s", 4_000),
        ("sine:mean=1000,amplitude=900,period=500ms", 3_000),
        ("spike:base=500,peak=2000,rise=200ms,hold=300ms,fall=200ms,period=1s", 3 * (150 + 500 + 600)),
        ("sawtooth:from=0,to=2000,period=500ms", 3_000),
    ] {
        let (code, summary, stderr) =
            run(&[&["--shape", shape, "--duration", "3s", "--shards", "8"][..], &ANY_RATE[..]].concat());
        assert_eq!(code, 0, "{shape}: {stderr}");
        assert_balanced(&summary);
        assert_eq!(count(&summary, "acked"), records, "{shape}");
        let target = summary["target_rps"].as_f64().unwrap();
        assert!((target - records as f64 / 3.0).abs() < 1.0, "{shape}: {target}");
    }
}

#[test]
fn random_arrivals_are_of_the_seed() {
    let scheduled = |arrivals: &str, seed: &str| {
        let flags = ["--rps", "2000", "--duration", "1s", "--arrivals", arrivals, "--seed", seed];
        let (code, summary, stderr) = run(&[&flags[..], &ANY_RATE[..]].concat());
        assert_eq!(code, 0, "{stderr}");
        assert_balanced(&summary);
        count(&summary, "acked")
    };
    for arrivals in ["poisson", "hawkes:excitation=0.5,decay=20ms"] {
        let of_seed_1 = scheduled(arrivals, "1");
        // 2,000 expected; Hawkes' standard deviation is twice Poisson's 45.
        assert!(of_seed_1.abs_diff(2_000) < 500 && of_seed_1 != 2_000, "{arrivals}: {of_seed_1}");
        assert_eq!(of_seed_1, scheduled(arrivals, "1"), "{arrivals}");
    }
}

#[test]
fn lines_are_the_records_in_order() {
    let flags = ["--rps", "2000", "--records", "500", "--seed", "7"];
    let (code, text, stderr) = lines(&[&flags[..], &ANY_RATE[..]].concat());
    assert_eq!((code, text.len()), (0, 500), "{stderr}");
    let times: Vec<String> = text
        .iter()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
            assert!(record["TICKER"].is_string() && record["PRICE"].is_f64(), "{line}");
            record["EVENT_TIME"].as_str().unwrap().to_owned()
        })
        .collect();
    // A whole second has no fraction, and would sort after the others of it.
    let padded = |time: &String| if time.len() == 19 { format!("{time}.000000") } else { time.clone() };
    assert!(times.iter().map(padded).is_sorted());
    assert!(stderr.contains("500 = 500 acked"), "{stderr}");
}

#[test]
fn lines_go_to_a_file_and_keep_the_ledger() {
    let to = file("lines.ndjson", "what was there before");
    let (code, summary, stderr) =
        run(&[&["--rps", "1000", "--records", "300", "--to", to.to_str().unwrap()][..], &ANY_RATE[..]]
            .concat());
    assert_eq!(code, 0, "{stderr}");
    assert_balanced(&summary);
    assert_eq!(count(&summary, "acked"), 300);
    assert_eq!(std::fs::read_to_string(&to).unwrap().lines().count(), 300);
    std::fs::remove_file(to).unwrap();
}

/// Each line is a JSON value, whatever the payload is.
#[test]
fn lines_tell_payloads_as_json() {
    let template = file("lines.txt", "record {{ n }},\n\"of {{ ticker }}\"");
    let flags =
        ["--records", "2", "--rps", "10", "--tickers", "AMZN", "--template", template.to_str().unwrap()];
    let (code, text, stderr) = lines(&[&flags[..], &ANY_RATE[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    let values: Vec<Value> = text.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values, ["record 0,\n\"of AMZN\"", "record 1,\n\"of AMZN\""]);
    std::fs::remove_file(template).unwrap();
}

/// A pipe that nobody reads does not keep a signal waiting.
#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    let pipe = std::env::temp_dir().join(format!("tickgen-loads-{}-pipe", std::process::id()));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for flag in ["--to", "--hdr-log"] {
        let mut child =
            start(&[flag, pipe.to_str().unwrap(), "--duration", "1s", "--admin-addr", "127.0.0.1:0"]);
        // It listens for signals before it says so of its port, and opens files after that.
        let (mut told, mut stderr) = (String::new(), BufReader::new(child.stderr.take().unwrap()));
        stderr.read_line(&mut told).unwrap();
        assert!(told.contains("admin server"), "{told}");
        signal(&child, "TERM");
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let (code, stderr) = (child.wait().unwrap().code(), rest);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("stopped before the load began; nothing was sent"), "{stderr}");
    }
    std::fs::remove_file(pipe).unwrap();
}

#[test]
fn lines_and_a_stream_exclude_each_other() {
    for other in [&["--stream", "s"][..], &["--aggregate"], &["--shards", "4"], &["--summary", "-"]] {
        let (code, text, stderr) = lines(other);
        assert_eq!((code, text.len()), (2, 0), "{other:?}: {stderr}");
        assert!(
            stderr.contains("with --to the records go to none") || stderr.contains("--to has stdout"),
            "{stderr}"
        );
    }
    let path = file("itself.ndjson", "{\"timestamp\": 5}\n");
    let (code, _, stderr) =
        run(&["--shape", &format!("replay:{}", path.display()), "--to", path.to_str().unwrap()]);
    assert_eq!(code, 2, "{stderr}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"timestamp\": 5}\n");
    std::fs::remove_file(path).unwrap();
    let (code, _, stderr) = run(&["--to", "/nowhere/at/all", "--records", "1"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--to cannot be written"), "{stderr}");
}

/// A recorded file of 1,000 records, a millisecond apart, of which `payload` makes the rest of a line.
fn recorded(name: &str, payload: impl Fn(u32) -> String) -> PathBuf {
    let line =
        |n: u32| format!("{{\"timestamp\": {}, {}}}\n", 1_795_373_640_000_u64 + u64::from(n), payload(n));
    file(name, &(0..1_000).map(line).collect::<String>())
}

#[test]
fn a_file_is_replayed_as_it_was() {
    let path = recorded("whole.ndjson", |n| format!("\"n\": {n}"));
    let shape = format!("replay:{}", path.display());
    let (code, text, stderr) = lines(&[&["--shape", &shape, "--speed", "2x"][..], &ANY_RATE[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    let recorded: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(text, recorded);
    assert!(stderr.contains("over 0.5 s"), "{stderr}");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_replayed_file_is_sent_with_its_own_payloads_and_keys() {
    let path = recorded("keys.ndjson", |n| format!("\"body\": {{\"n\": {n}}}, \"key\": \"k{}\"", n % 3));
    let shape = format!("replay:{}", path.display());
    let flags = [
        "--shape",
        &shape,
        "--replay-payload",
        "body",
        "--replay-key",
        "key",
        "--shards",
        "4",
        "--records",
        "900",
    ];
    for aggregate in ["--aggregate=false", "--aggregate=true"] {
        let (code, summary, stderr) = run(&[&flags[..], &[aggregate], &ANY_RATE[..]].concat());
        assert_eq!(code, 0, "{stderr}");
        assert_balanced(&summary);
        assert_eq!((count(&summary, "acked"), count(&summary, "misrouted")), (900, 0));
        let hot = summary["hot_keys"].as_array().unwrap();
        let hot: Vec<(&str, u64)> =
            hot.iter().map(|k| (k["key"].as_str().unwrap(), count(k, "records"))).collect();
        assert_eq!(hot, [("k0", 300), ("k1", 300), ("k2", 300)]);
    }
    std::fs::remove_file(path).unwrap();
}

/// What is out of order is counted, and a unit that is given counts.
#[test]
fn times_that_go_back_are_told() {
    let rows = [0, 40, 20, 30, 60].map(|ms| format!("{{\"timestamp\": {ms}}}\n")).concat();
    let path = file("back.ndjson", &rows);
    let shape = format!("replay:{}", path.display());
    let (code, text, stderr) =
        lines(&[&["--shape", &shape, "--replay-unit", "ms"][..], &ANY_RATE[..]].concat());
    assert_eq!((code, text.len()), (0, 5), "{stderr}");
    assert!(stderr.contains("times go back") && stderr.contains("records=2"), "{stderr}");
    // 60 ms and a mean gap; seconds, as so small numbers are by themselves, would take over a minute.
    assert!(stderr.contains("over 0.1 s"), "{stderr}");
    std::fs::remove_file(path).unwrap();
}

/// Keys of the load's own are known, whatever the file holds.
#[test]
fn a_replayed_file_without_keys_has_known_shares_and_no_hot_key() {
    let path = recorded("keyless.ndjson", |n| format!("\"n\": {n}"));
    let shape = format!("replay:{}", path.display());
    let (code, summary, stderr) = run(&[&["--shape", &shape, "--shards", "2"][..], &ANY_RATE[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    let expected = summary["shards"].as_array().unwrap().iter().map(|shard| shard["expected"].as_f64());
    assert_eq!(expected.collect::<Vec<_>>(), [Some(500.0), Some(500.0)], "{summary:#}");
    assert_eq!(summary["hot_keys"], serde_json::json!([]));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_csv_file_is_replayed_as_json_rows() {
    let rows: Vec<String> = (0..50).map(|n| format!("2026-11-22T18:54:00.{n:03}Z,\"a,{n}\"\n")).collect();
    let path = file("rows.csv", &format!("time,text\n{}", rows.concat()));
    let shape = format!("replay:{}", path.display());
    let (code, text, stderr) =
        lines(&[&["--shape", &shape, "--replay-time", "time"][..], &ANY_RATE[..]].concat());
    assert_eq!((code, text.len()), (0, 50), "{stderr}");
    let row: Value = serde_json::from_str(&text[7]).unwrap();
    assert_eq!(row, serde_json::json!({"time": "2026-11-22T18:54:00.007Z", "text": "a,7"}));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn what_cannot_be_replayed_is_told_with_its_place() {
    for (name, text, problem) in [
        ("empty.ndjson", "\n\n", "holds no record"),
        ("broken.ndjson", "{\"timestamp\": 5", "broken.ndjson:1: not JSON"),
        ("no-time.ndjson", "{\"time\": 5}\n", "no-time.ndjson:1: no field timestamp"),
        (
            "time.ndjson",
            "{\"timestamp\": \"soon\"}\n",
            "time.ndjson:1: timestamp \"soon\": expected RFC 3339",
        ),
        ("column.csv", "a,b\n1,2\n", "column.csv:1: no column timestamp; there are a, b"),
    ] {
        let path = file(name, text);
        let (code, _, stderr) = run(&["--shape", &format!("replay:{}", path.display())]);
        assert_eq!(code, 2, "{name}: {stderr}");
        assert!(stderr.contains(problem), "{name}: {stderr}");
        std::fs::remove_file(path).unwrap();
    }
    // A byte order mark and a line of any length.
    let path = file("mark.ndjson", "\u{feff}{\"timestamp\": 5}\n");
    assert_eq!(run(&["--shape", &format!("replay:{}", path.display())]).0, 0);
    std::fs::remove_file(path).unwrap();
    for name in ["long.ndjson", "long.csv"] {
        let path = file(name, &format!("timestamp,\"{}", "x".repeat(20 << 20)));
        let (code, _, stderr) = run(&["--shape", &format!("replay:{}", path.display())]);
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains("of over 8388608 bytes"), "{stderr}");
        std::fs::remove_file(path).unwrap();
    }
    // A mistake further on ends the run; what came before it is settled.
    let path = file("later.ndjson", &("{\"timestamp\": 1}\n".repeat(2_000) + "oops\n"));
    let (code, summary, stderr) = run(&["--shape", &format!("replay:{}", path.display())]);
    assert_eq!(code, 1, "{stderr}");
    assert_balanced(&summary);
    assert!(stderr.contains("later.ndjson:2001: not JSON"), "{stderr}");
    // Quiet is about progress and summary, not about what went wrong.
    let (code, _, stderr) = run(&["--shape", &format!("replay:{}", path.display()), "--quiet"]);
    let error = format!("error: {}:2001: not JSON", path.display());
    assert!(code == 1 && stderr.starts_with(&error), "{stderr}");
    std::fs::remove_file(path).unwrap();
}

/// A file of 200 MB through a process that keeps a few of them: it is not read into memory.
#[test]
fn a_large_file_is_streamed() {
    let path = std::env::temp_dir().join(format!("tickgen-loads-{}-large.ndjson", std::process::id()));
    let filler = "x".repeat(20_000);
    let mut text = std::io::BufWriter::new(std::fs::File::create(&path).unwrap());
    for n in 0..10_000_u64 {
        use std::io::Write as _;
        writeln!(text, "{{\"timestamp\": {}, \"filler\": \"{filler}\"}}", 1_795_373_640_000 + n).unwrap();
    }
    drop(text);
    let shape = format!("replay:{}", path.display());
    let flags = [
        "--shape",
        &shape,
        "--speed",
        "4x",
        "--to",
        "/dev/null",
        "--max-replay-bytes",
        "8MiB",
        "--summary",
        "-",
    ];
    let mut child = tickgen(&flags).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = high.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(peak);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let summary: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_balanced(&summary);
    assert_eq!(count(&summary, "scheduled"), 10_000);
    // 8 MiB kept, as much read ahead, and the process itself.
    assert!(peak < 80 * 1024, "{peak} KiB");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn several_loads_are_told_apart_and_summed() {
    let config = file(
        "loads.toml",
        "shards = 8\nrecords = 900\nquiet = true\nthreshold = [\"achieved_rps > 0\", \"loads.hot.lost == 0\"]\n\
         [[load]]\nname = \"steady\"\nrps = 1000\n\
         [[load]]\nname = \"hot\"\nrps = 300\nrecords = 300\nkeys = \"zipf:1:5\"\n\
         [[load]]\nname = \"packed\"\nshape = \"sawtooth:from=0,to=3000,period=100ms\"\naggregate = true\n",
    );
    let (code, summary, stderr) = run(&["--config", config.to_str().unwrap()]);
    assert_eq!(code, 0, "{stderr}");
    assert_balanced(&summary);
    let loads = summary["loads"].as_object().unwrap();
    let acked: Vec<(&str, u64)> =
        loads.iter().map(|(name, load)| (name.as_str(), count(load, "acked"))).collect();
    assert_eq!(acked, [("hot", 300), ("packed", 900), ("steady", 900)]);
    assert_eq!(count(&summary, "acked"), 2_100);
    for load in loads.values() {
        assert_balanced(load);
    }
    // Packed records share Kinesis records, the others do not.
    assert!(count(&loads["packed"], "kinesis_records") < 900);
    assert_eq!(count(&loads["steady"], "kinesis_records"), 900);
    // Of one stream the shards are counted once.
    assert_eq!(summary["shards"].as_array().unwrap().len(), 8);
    assert_eq!(loads["hot"]["hot_keys"][0]["key"], "key-1");
    let names: Vec<&str> =
        summary["thresholds"].as_array().unwrap().iter().map(|t| t["expr"].as_str().unwrap()).collect();
    assert_eq!(names, ["lost == 0", "achieved_rps > 0", "loads.hot.lost == 0"]);
    std::fs::remove_file(config).unwrap();
}

#[test]
fn loads_share_the_bounds() {
    let config = file(
        "bounds.toml",
        "shards = 1\nduration = \"2s\"\nmax-backlog = 300\ndrain-timeout = \"20s\"\nquiet = true\n\
         [[load]]\nrps = 2000\n[[load]]\nrps = 2000\n",
    );
    let (code, summary, _) = run(&["--config", config.to_str().unwrap()]);
    assert_eq!(code, 99, "{summary:#}");
    assert_balanced(&summary);
    // One shard takes 1,000/s of the 4,000/s offered, and 300 may wait, not 600.
    assert!(count(&summary, "dropped") > 4_500, "{summary:#}");
    let by: Vec<&str> =
        summary["limit"]["by"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    assert!(by.contains(&"backlog_bound") && by.contains(&"shard_limit"), "{by:?}");
    std::fs::remove_file(config).unwrap();
}

/// Loads of one stream keep within its capacity together.
#[test]
fn loads_share_the_limit_of_each_shard() {
    let config = file(
        "shares.toml",
        "shards = 2\nduration = \"4s\"\ndrain-timeout = \"100ms\"\nquiet = true\n\
         [[load]]\nname = \"a\"\nrps = 2000\n[[load]]\nname = \"b\"\nrps = 2000\n[[load]]\nname = \"small\"\nrps = 100\n",
    );
    let (code, summary, stderr) = run(&["--config", config.to_str().unwrap()]);
    assert_eq!(code, 99, "{stderr}");
    assert_balanced(&summary);
    for shard in summary["shards"].as_array().unwrap() {
        assert!((shard["limit_rps"].as_f64().unwrap() - 1_000.0).abs() < 0.1, "{shard}");
    }
    // A busy machine sends in bunches; adaptive limits, one for each load, had a tenth throttled.
    assert!(summary["throttled_ratio"].as_f64() < Some(0.03), "{summary:#}");
    let acked = |name: &str| count(&summary["loads"][name], "acked");
    assert!(acked("a").abs_diff(acked("b")) * 10 < acked("a"), "{} {}", acked("a"), acked("b"));
    assert!(acked("small") > 360, "{}", acked("small"));
    std::fs::remove_file(config).unwrap();
}

/// A small load beside a large one is judged by itself.
#[test]
fn each_load_has_to_hold_its_rate() {
    let config = file(
        "small.toml",
        "shards = 1\nduration = \"2s\"\ndrain-timeout = \"20s\"\nquiet = true\n\
         [[load]]\nname = \"large\"\nrps = 3000\n[[load]]\nname = \"small\"\nrps = 1\n",
    );
    let (code, summary, stderr) = run(&["--config", config.to_str().unwrap()]);
    assert_eq!(code, 99, "{stderr}");
    let passed = |expr: &str| {
        let thresholds = summary["thresholds"].as_array().unwrap();
        thresholds.iter().find(|t| t["expr"] == expr).unwrap_or_else(|| panic!("{expr}"))["passed"].clone()
    };
    assert_eq!(passed("loads.large.achieved_rps >= 99%"), false);
    assert!(passed("loads.small.achieved_rps >= 99%").is_boolean());
    std::fs::remove_file(config).unwrap();
}

/// A load that ends first does not end the run for what watches it, nor does one that is given up keep
/// the room of the others.
#[test]
fn a_load_that_ends_leaves_the_others_alone() {
    let config = file(
        "ends.toml",
        "shards = 4\nmax-requests = 1\ndrain-timeout = \"0s\"\nquiet = true\nallow-drill = true\ndrill = \"at=2s merge\"\n\
         threshold = \"achieved_rps > 0\"\n\
         [[load]]\nname = \"short\"\nrps = 500\nduration = \"1003ms\"\n\
         [[load]]\nname = \"long\"\nrps = 500\nduration = \"4s\"\n",
    );
    let (_, summary, stderr) = run(&["--config", config.to_str().unwrap()]);
    assert_balanced(&summary);
    assert_eq!(summary["drills"][0]["error"], Value::Null, "{stderr}");
    // Without a drain what is in the air at the end is given up, and no more than that.
    assert!(count(&summary["loads"]["long"], "acked") > 1_800, "{summary:#}");
    std::fs::remove_file(config).unwrap();
}

#[test]
fn a_slow_load_is_not_starved_by_a_fast_one() {
    let config = file(
        "fair.toml",
        "shards = 400\nmax-requests = 1\nduration = \"3s\"\nquiet = true\n\
         [[load]]\nname = \"slow\"\nrps = 100\nrecord-ttl = \"2s\"\n[[load]]\nname = \"fast\"\nrps = \"max\"\n",
    );
    let (_, summary, stderr) = run(&["--config", config.to_str().unwrap()]);
    assert_balanced(&summary);
    assert_eq!(
        (count(&summary["loads"]["slow"], "acked"), count(&summary["loads"]["slow"], "lost")),
        (300, 0),
        "{stderr}"
    );
    // A closed loop of one request in flight is limited by that.
    assert_eq!(summary["loads"]["fast"]["limit"]["by"][0], "in_flight_bound");
    std::fs::remove_file(config).unwrap();
}

#[test]
fn what_says_nothing_about_a_load_is_refused() {
    for (flags, problem) in [
        (&["--speed", "2x"][..], "--speed 2x: is for --shape replay:FILE"),
        (&["--shape", "replay:f", "--market", "walk"], "--market walk: a replayed file has its own"),
        (
            &["--shape", "replay:f", "--arrivals", "poisson"],
            "--arrivals poisson: a replayed file has its own",
        ),
        (&["--shape", "stages:1,1/1s", "--rps", "5"], "--rps 5: the --shape has its own rates"),
        (
            &["--shape", "stages:1,1/1s", "--allow-drill", "--drill", "at=5s merge"],
            "comes after the end of the load",
        ),
    ] {
        let (code, _, stderr) = run(flags);
        assert_eq!(code, 2, "{flags:?}: {stderr}");
        assert!(stderr.contains(problem), "{flags:?}: {stderr}");
    }
    // What the file says in general gives way to what a flag says in particular.
    let config = format!("{}/config.toml", env!("CARGO_MANIFEST_DIR"));
    let flags = ["--config", &config, "--shape", "stages:300,300/1s", "--shards", "1", "--quiet"];
    let (code, summary, stderr) = run(&[&flags[..], &ANY_RATE[..]].concat());
    assert_eq!((code, count(&summary, "acked")), (0, 300), "{stderr}");
}

/// Random arrivals are judged by what fell due, not by what comes to it in the long run.
#[test]
fn random_arrivals_hold_their_own_rate() {
    for seed in ["1", "2", "3", "4"] {
        let flags = [
            "--rps",
            "100",
            "--duration",
            "2s",
            "--arrivals",
            "hawkes:excitation=0.9,decay=1s",
            "--seed",
            seed,
        ];
        let (_, summary, _) = run(&flags);
        let target = summary["target_rps"].as_f64().unwrap();
        assert!((target - count(&summary, "scheduled") as f64 / 2.0).abs() < 0.01, "{summary:#}");
    }
}

#[test]
fn a_run_that_measured_nothing_says_so_and_fails() {
    let (code, summary, stderr) = run(&["--shape", "stages:0,0/3s,1000/0s,1000/1s", "--duration", "1s"]);
    assert_eq!((code, count(&summary, "scheduled")), (99, 0), "{stderr}");
    assert!(stderr.contains("Nothing was measured"), "{stderr}");
}

#[test]
fn a_load_that_is_not_there_is_refused() {
    let (code, _, stderr) = run(&["--threshold", "loads.nobody.lost == 0"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("no [[load]] has that name"), "{stderr}");
}

#[test]
fn the_warmup_is_offered_and_not_measured() {
    let (code, summary, stderr) =
        run(&[&["--rps", "1000", "--duration", "3s", "--warmup", "1s"][..], &ANY_RATE[..]].concat());
    assert_eq!(code, 0, "{stderr}");
    assert_balanced(&summary);
    assert_eq!(count(&summary, "acked"), 3_000);
    for time in
        ["response_time_ms", "schedule_lag_ms", "queue_time_ms", "service_time_ms", "start_lateness_ms"]
    {
        assert_eq!(count(&summary[time], "count"), 2_000, "{time}");
    }
    assert!(stderr.contains("after 1 s of warmup"), "{stderr}");
    let (code, _, stderr) = run(&["--rps", "1000", "--duration", "1s", "--warmup", "1s"]);
    assert_eq!(code, 2, "{stderr}");
}

#[test]
fn windows_add_up_to_the_run() {
    let (_, summary, _) = run(&["--rps", "1000", "--duration", "3s", "--quiet"]);
    let windows = summary["windows"].as_array().unwrap();
    assert!(windows.len() >= 3, "{windows:#?}");
    let sum: u64 = windows.iter().map(|window| count(window, "acked")).sum();
    assert_eq!(sum, count(&summary, "acked"));
    assert!(
        windows
            .iter()
            .all(|w| w["response_time_ms"]["p50"].as_f64() <= w["response_time_ms"]["p99"].as_f64())
    );
}

#[test]
fn a_missed_threshold_can_end_the_run() {
    let flags = ["--rps", "2000", "--duration", "60s", "--shards", "1", "--max-backlog", "100"];
    let abort = ["--threshold", "dropped < 50", "--abort-on-threshold", "after=1s", "--drain-timeout", "20s"];
    let (code, summary, stderr) = run(&[&flags[..], &abort[..]].concat());
    assert_eq!(code, 99, "{stderr}");
    assert_balanced(&summary);
    assert_eq!(summary["stopped_by"], "threshold");
    let missed =
        summary["thresholds"].as_array().unwrap().iter().find(|t| t["expr"] == "dropped < 50").unwrap();
    assert!(missed["passed"] == false && missed["value"].as_f64() >= Some(50.0), "{missed}");
    assert!(summary["schedule_s"].as_f64() < Some(30.0), "{summary:#}");
    let (code, _, stderr) = run(&["--abort-on-threshold", "30s"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("expected after=TIME"), "{stderr}");
}

/// The rate of a run under way is judged by what should be acked by now, and told as it is.
#[test]
fn a_rate_that_is_not_held_can_end_the_run() {
    let flags = ["--rps", "3000", "--duration", "60s", "--shards", "1", "--drain-timeout", "100ms"];
    let (code, summary, stderr) = run(&[&flags[..], &["--abort-on-threshold", "after=1s"]].concat());
    assert_eq!(code, 99, "{stderr}");
    assert_eq!(summary["stopped_by"], "threshold");
    let missed = &summary["thresholds"].as_array().unwrap().last().unwrap();
    assert_eq!((&missed["expr"], &missed["passed"]), (&"achieved_rps >= 99%".into(), &false.into()));
    // The shard takes 1,000 records a second; nothing is added for those on their way.
    assert!(missed["value"].as_f64() <= Some(1_050.0), "{missed}");
    assert!(summary["schedule_s"].as_f64() < Some(30.0), "{summary:#}");
}

#[test]
fn a_load_that_offers_nothing_yet_misses_no_rate() {
    let flags = ["--shape", "stages:0,0/2s,400/0s,400/1s", "--abort-on-threshold", "after=1s"];
    let (_, summary, stderr) = run(&flags);
    assert_eq!((&summary["stopped_by"], count(&summary, "acked")), (&"schedule".into(), 400), "{stderr}");
}

#[test]
fn shards_are_expected_to_take_what_they_take() {
    for keys in ["uniform", "zipf:1:50", "per-shard", "fixed:k"] {
        let flags =
            ["--rps", "1500", "--records", "3000", "--shards", "4", "--keys", keys, "--shard-limit", "none"];
        let (_, summary, _) = run(&[&flags[..], &["--drain-timeout", "20s"], &ANY_RATE[..]].concat());
        assert_balanced(&summary);
        let mut sum = 0.0;
        for shard in summary["shards"].as_array().unwrap() {
            let (acked, expected) = (count(shard, "acked") as f64, shard["expected"].as_f64().unwrap());
            // Five standard deviations of a binomial, and a record for rounding.
            assert!((acked - expected).abs() <= 5.0 * expected.sqrt() + 1.0, "{keys}: {shard}");
            sum += expected;
        }
        assert!((sum - 3_000.0).abs() < 0.1, "{keys}: {sum}");
    }
}

#[test]
fn a_failing_template_is_told() {
    let path = file("failing.json", "{\"a\": {{ 1 // (n - 1500) }}}");
    let flags = ["--template", path.to_str().unwrap(), "--rps", "2000", "--records", "2000"];
    let (code, summary, stderr) = run(&[&flags[..], &ANY_RATE[..]].concat());
    assert_eq!(
        (code, count(&summary, "acked"), count(&summary, "payload_failures")),
        (0, 2_000, 1),
        "{stderr}"
    );
    assert!(stderr.contains("1 payloads could not be made, the first:"), "{stderr}");
    std::fs::remove_file(path).unwrap();
}
