//! The command line: exit codes, refusals, and what goes where.
#![cfg(feature = "embedded")]

use crate::docs::{summary_schema, violations};
use crate::harness::{assert_balanced, finished, run, signal, start, tickgen};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[test]
fn refusals_come_all_at_once_and_nothing_is_sent() {
    let output = tickgen(&["--rps", "0", "--record-ttl", "5", "--keys", "hot"])
        .env("TICKGEN_LINGR", "1ms")
        .env("TICKGEN_MAX_ATTEMPTS", "4294967296")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty());
    for line in [
        "error: --rps 0: outside 0.001 to 10000000 records per second, or max",
        "error: --record-ttl 5: expected a time with its unit, such as 500ms, 30s, 5m or 1h",
        "error: --keys hot: expected uniform, ticker, fixed:KEY, zipf:S, zipf:S:KEYS or per-shard",
        "error: TICKGEN_LINGR: unknown setting; did you mean TICKGEN_LINGER?",
        "error: TICKGEN_MAX_ATTEMPTS=4294967296: expected a whole number from 1 to 65535",
        "Nothing was sent.",
    ] {
        assert!(stderr.contains(line), "{line}\n---\n{stderr}");
    }
}

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_without_a_feature_says_which_it_needs() {
    let (code, _, stderr) = run(&["--otlp", "http://127.0.0.1:4318"]);
    assert_eq!(code, 2, "{stderr}");
    let expected = "--otlp http://127.0.0.1:4318: is not in this build: build it with cargo feature `otlp`";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn mistakes_in_a_file_name_its_line() {
    let file = std::env::temp_dir().join(format!("tickgen-{}.toml", std::process::id()));
    std::fs::write(&file, "# mine\nrps = 10\n\nlinger = \"long\"\nrsp = 1\n").unwrap();
    let output = tickgen(&["--config", file.to_str().unwrap()]).output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(".toml:4: linger = long: expected a time"), "{stderr}");
    assert!(stderr.contains(".toml:5: unknown key rsp; did you mean rps?"), "{stderr}");
}

#[test]
fn a_wrong_template_is_refused_with_its_place() {
    let file = std::env::temp_dir().join(format!("tickgen-{}.jinja", std::process::id()));
    let file = file.to_str().unwrap();
    for (text, place) in [
        ("{\"a\":\n {{ n + }}}", ":2:"),
        ("{\"a\":\n {{ nn }}}", ":2:5: unknown name nn"),
        ("{{ n }}\n{% if n > 90 %}{{ 1 / 0 }}{% endif %}", ":2:19: "),
    ] {
        std::fs::write(file, text).unwrap();
        let (code, _, stderr) = run(&["--template", file, "--records", "100"]);
        assert_eq!(code, 2, "{stderr}");
        let expected = format!("error: --template {file}: {file}{place}");
        assert!(stderr.contains(&expected) && stderr.contains("Nothing was sent."), "{expected}: {stderr}");
    }
    // A payload size is for the ticker record.
    std::fs::write(file, "{{ n }}").unwrap();
    let (code, _, stderr) = run(&["--template", file, "--payload-bytes", "500"]);
    assert!(code == 2 && stderr.contains("error: --payload-bytes 500: is for the ticker record"), "{stderr}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_template_larger_than_the_streams_records_is_refused() {
    let file = std::env::temp_dir().join(format!("tickgen-{}-large.jinja", std::process::id()));
    let file = file.to_str().unwrap();
    std::fs::write(file, "{{ pad(1048577) }}").unwrap();
    let (code, _, stderr) = run(&["--template", file, "--records", "1"]);
    std::fs::remove_file(file).unwrap();
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("make the payloads of --template shorter"), "{stderr}");
}

#[test]
fn templates_and_the_market_make_loads() {
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/templates/trade.json");
    let common = ["--rps", "500", "--records", "500", "--market", "walk", "--tickers", "1000"];
    for own in
        [&["--keys", "ticker"][..], &["--template", template], &["--template", template, "--aggregate"]]
    {
        let (code, summary, stderr) = run(&[&common, own].concat());
        assert_eq!((code, &summary["acked"]), (0, &500.into()), "{own:?}: {stderr}");
    }
}

#[test]
fn unknown_flags_and_missing_files_are_bad_usage() {
    assert_eq!(run(&["--rsp", "5"]).0, 2);
    let (code, _, stderr) = run(&["--config", "/nowhere.toml"]);
    assert!(code == 2 && stderr.contains("error: --config /nowhere.toml: No such file"), "{stderr}");
}

#[test]
fn help_and_version_go_to_stdout() {
    let output = tickgen(&["--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("--max-in-flight-bytes <SIZE>") && help.contains("Exit codes"), "{help}");
    assert_eq!(tickgen(&["--version"]).output().unwrap().status.code(), Some(0));
}

#[test]
fn an_endpoint_that_is_not_there_fails_the_run() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let (code, _, stderr) = run(&["--stream", "s", "--region", "us-east-1", "--endpoint-url", &url]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("error: DescribeStreamSummary of stream s: "), "{stderr}");
}

#[test]
fn missing_credentials_are_told_with_what_to_do() {
    let mut command = tickgen(&[
        "--stream",
        "s",
        "--region",
        "us-east-1",
        "--endpoint-url",
        "http://127.0.0.1:9",
        "--log-level",
        "error",
    ]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("HOME", "/nowhere");
    let (code, _, stderr) = finished(&command.output().unwrap());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("no credentials: "), "{stderr}");
    assert!(stderr.contains(". Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{stderr}");
}

#[test]
fn a_missed_threshold_is_exit_99_and_a_held_one_0() {
    let run_with = |threshold| {
        run(&[
            "--rps",
            "200",
            "--records",
            "100",
            "--quiet",
            "--threshold",
            "achieved_rps > 1",
            "--threshold",
            threshold,
        ])
    };
    let (code, summary, _) = run_with("acked == 100");
    assert_eq!(code, 0, "{summary:#}");
    let (code, summary, _) = run_with("acked > 100");
    assert_eq!(code, 99, "{summary:#}");
    assert_eq!(summary["thresholds"][2]["passed"], false);
}

#[test]
fn the_summary_of_a_run_fits_its_schema() {
    let (code, summary, stderr) = run(&["--rps", "1000", "--records", "1000", "--seed", "7"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(violations(&summary_schema(), &summary, ""), [] as [String; 0]);
    assert_balanced(&summary);
    assert_eq!(
        (&summary["seed"], &summary["acked"], &summary["stopped_by"]),
        (&7.into(), &1000.into(), &"schedule".into())
    );
    assert!(stderr.contains("= 1000 acked + 0 failed + 0 expired"), "{stderr}");
}

#[test]
fn quiet_leaves_stderr_empty() {
    let (code, _, stderr) = run(&["--rps", "1000", "--records", "10", "--quiet"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    // But for what went wrong.
    let (code, _, stderr) = run(&[
        "--rps",
        "1000",
        "--records",
        "10",
        "--quiet",
        "--threshold",
        "acked > 10",
        "--threshold",
        "acked > 9",
    ]);
    assert_eq!((code, stderr.as_str()), (99, "threshold   MISSED acked > 10 (is 10)\n"));
}

#[test]
fn logs_are_json_when_asked_and_hold_no_credential() {
    let output =
        tickgen(&["--rps", "1000", "--records", "100", "--log-format", "json", "--log-level", "debug"])
            .env("AWS_SECRET_ACCESS_KEY", "do-not-tell-me")
            .output()
            .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let first: serde_json::Value = serde_json::from_str(stderr.lines().next().unwrap()).unwrap();
    assert_eq!(first["fields"]["message"], "offering the load");
    assert!(!stderr.contains("do-not-tell-me") && !stderr.contains("AWS4-HMAC"), "{stderr}");
}

#[test]
fn a_signal_drains_a_daemon_and_its_summary_balances() {
    for name in ["TERM", "INT"] {
        let mut child = start(&["--rps", "2000", "--summary", "-"]);
        // The second progress line: the load is on.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("acked")));
        signal(&child, name);
        std::thread::spawn(move || lines.for_each(drop));
        let (code, summary, _) = finished(&child.wait_with_output().unwrap());
        assert_balanced(&summary);
        assert_eq!(
            (code, &summary["stopped_by"], &summary["lost"]),
            (0, &"signal".into(), &0.into()),
            "{summary:#}"
        );
    }
}

#[test]
fn a_hangup_without_a_terminal_ends_nothing_and_quit_ends_at_once() {
    // One shard takes less than this, so that a drain would take for ever.
    let slow = "--rps 4000 --shards 1 --record-ttl 1h --drain-timeout 1h --max-backlog 1000000 --summary -";
    // Nobody writes that summary.
    let nowhere = concat!("verify --stream s --summary-of ", env!("CARGO_TARGET_TMPDIR"), "/nobody.json");
    for (flags, begun, code) in [
        (slow, " acked ", 99),
        ("search --slo lost==0 --from 100 --summary -", "offered/s ", 1),
        (nowhere, "waiting for the run to end", 1),
    ] {
        let mut child = start(&flags.split(' ').collect::<Vec<_>>());
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains(begun)), "{flags}");
        signal(&child, "HUP");
        assert!(lines.any(|line| line.contains("no config file is read again here")), "{flags}");
        signal(&child, "QUIT");
        std::thread::spawn(move || lines.for_each(drop));
        let (ended, summary, _) = finished(&child.wait_with_output().unwrap());
        assert_eq!(ended, code, "{flags}");
        if flags == slow {
            assert_balanced(&summary);
            assert_eq!(summary["stopped_by"], "signal", "{summary:#}");
            assert!(summary["failed"].as_u64() > Some(0), "{summary:#}");
        }
    }
}

/// A server that is asked what it is and then never answers again.
fn silent_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for socket in listener.incoming().map_while(Result::ok) {
            held.push(std::thread::spawn(move || serve_control_plane(socket)));
        }
    });
    port
}

fn serve_control_plane(mut socket: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut request = String::new();
        while !request.ends_with('}') {
            let Ok(read @ 1..) = socket.read(&mut buffer) else { return };
            request.push_str(&String::from_utf8_lossy(&buffer[..read]));
            if request.contains("Kinesis_20131202.PutRecords") {
                // Read on, answer never: the producer's bounds are what stops it.
                while matches!(socket.read(&mut buffer), Ok(1..)) {}
                return;
            }
        }
        let body = if request.contains("ListShards") {
            r#"{"Shards":[{"ShardId":"shardId-000000000000","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"340282366920938463463374607431768211455"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}]}"#
        } else {
            r#"{"StreamDescriptionSummary":{"StreamName":"s","StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s","StreamStatus":"ACTIVE","RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],"OpenShardCount":1}}"#
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if socket.write_all((head + body).as_bytes()).is_err() {
            return;
        }
    }
}

/// The most memory that a process has had, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

#[test]
fn at_an_endpoint_that_never_answers_memory_is_bounded_and_the_drain_ends() {
    let url = format!("http://127.0.0.1:{}", silent_server());
    for (payload, aggregate) in [("200", false), ("50KB", false), ("200", true)] {
        let aggregate = format!("--aggregate={aggregate}");
        let child = start(&[
            &aggregate,
            "--attempt-timeout",
            "1s",
            "--stream",
            "s",
            "--region",
            "us-east-1",
            "--endpoint-url",
            &url,
            "--rps",
            "50000",
            "--shard-limit",
            "none",
            "--duration",
            "6s",
            "--drain-timeout",
            "500ms",
            "--payload-bytes",
            payload,
            "--quiet",
            "--summary",
            "-",
        ]);
        let pid = child.id();
        let peak = std::thread::spawn(move || {
            let mut peak = 0;
            while let now @ 1.. = peak_memory(pid) {
                peak = peak.max(now);
                std::thread::sleep(Duration::from_millis(50));
            }
            peak
        });
        let (code, summary, _) = finished(&child.wait_with_output().unwrap());
        assert_balanced(&summary);
        assert_eq!((code, &summary["acked"]), (99, &0.into()), "{summary:#}");
        let peak = peak.join().unwrap();
        assert!((1..128 * 1024).contains(&peak), "payload {payload}: {peak} KiB");
    }
}

#[test]
fn the_admin_server_shows_metrics_and_readiness() {
    let mut child = start(&["--rps", "1000", "--admin-addr", "0"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("admin server"))).unwrap();
    let address =
        line.split("address=").nth(1).unwrap().trim_matches('"').trim_matches(['\\', '"']).to_owned();
    let get = |path: &str| {
        let mut socket = TcpStream::connect(&address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get("/livez").starts_with("HTTP/1.1 200"));
    // Live before it is ready, ready once the load is on.
    while !get("/readyz").starts_with("HTTP/1.1 200") {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    assert!(lines.any(|line| line.unwrap().contains("acked")));
    let metrics = get("/metrics");
    assert!(metrics.contains("tickgen_target_records_per_second 1000"), "{metrics}");
    assert!(metrics.contains("tickgen_response_time_seconds_bucket{le=\"+Inf\"}"), "{metrics}");
    assert!(!metrics.contains("tickgen_records_total{outcome=\"acked\"} 0\n"), "{metrics}");
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    signal(&child, "TERM");
    std::thread::spawn(move || lines.for_each(drop));
    child.wait().unwrap();
}

#[test]
fn an_admin_port_in_use_is_told() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, stderr) = run(&["--records", "1", "--admin-addr", &address]);
    assert_eq!(code, 1);
    assert!(stderr.contains(&format!("error: --admin-addr {address}: Address already in use")), "{stderr}");
}

#[test]
fn a_run_that_drains_is_not_ready() {
    let flags =
        ["--rps", "3000", "--duration", "1s", "--shards", "1", "--keys", "fixed:k", "--drain-timeout", "60s"];
    let mut child = start(&[&flags[..], &["--admin-addr", "0"]].concat());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("admin server"))).unwrap();
    let address = line.split("address=").nth(1).unwrap().trim_matches('"').to_owned();
    let mut seen = Vec::new();
    while let Ok(mut socket) = TcpStream::connect(&address) {
        write!(socket, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        let _ = socket.read_to_string(&mut text);
        seen.extend(text.split("\r\n\r\n").nth(1).map(str::to_owned));
        std::thread::sleep(Duration::from_millis(20));
    }
    seen.dedup();
    assert!(
        seen.ends_with(&["ok\n".into(), "draining\n".into()])
            || seen.ends_with(&["draining\n".into(), String::new()]),
        "{seen:?}"
    );
    child.wait().unwrap();
}

#[test]
fn a_signal_before_the_load_begins_ends_the_run() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let flags = ["--stream", "s", "--region", "us-east-1", "--endpoint-url", &url, "--attempt-timeout", "1h"];
    let child = start(&flags);
    // It has asked for the stream, and waits for an answer that does not come.
    let (mut socket, _) = listener.accept().unwrap();
    assert!(socket.read(&mut [0; 100]).unwrap() > 0);
    signal(&child, "TERM");
    let (code, _, stderr) = finished(&child.wait_with_output().unwrap());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("stopped before the load began; nothing was sent"), "{stderr}");
}

#[test]
fn the_embedded_run_does_not_depend_on_the_environment() {
    let output = tickgen(&["--records", "10", "--quiet"])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("HTTP_PROXY", "http://127.0.0.1:9")
        .env("http_proxy", "http://127.0.0.1:9")
        .env("AWS_USE_FIPS_ENDPOINT", "true")
        .env("AWS_REGION", "nowhere")
        .output()
        .unwrap();
    let (code, _, stderr) = finished(&output);
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_profile_that_is_named_wins_over_the_variables() {
    let file = std::env::temp_dir().join(format!("tickgen-profile-{}", std::process::id()));
    std::fs::write(&file, "[prod]\naws_access_key_id = PROFKEY\naws_secret_access_key = x\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let flags = ["--stream", "s", "--region", "us-east-1", "--endpoint-url", &url, "--profile", "prod"];
    let mut child = tickgen(&flags).env("AWS_SHARED_CREDENTIALS_FILE", &file).spawn().unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let mut request = vec![0; 4096];
    let read = socket.read(&mut request).unwrap();
    let request = String::from_utf8_lossy(&request[..read]).into_owned();
    signal(&child, "TERM");
    child.wait().unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(request.contains("Credential=PROFKEY/"), "{request}");
}

#[test]
fn a_variable_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let value = std::ffi::OsStr::from_bytes(b"\xff");
    let output = tickgen(&["--records", "1"]).env("TICKGEN_STREAM", value).output().unwrap();
    let (code, _, stderr) = finished(&output);
    assert!(code == 2 && stderr.contains("TICKGEN_STREAM: ") && stderr.contains("is not UTF-8"), "{stderr}");
}

#[test]
fn a_summary_that_cannot_be_written_is_told_before_anything_is_sent() {
    let output = tickgen(&["--records", "1", "--summary", "/nowhere/x.json"]).output().unwrap();
    let (code, _, stderr) = finished(&output);
    assert!(code == 2 && stderr.contains("error: --summary /nowhere/x.json: No such file"), "{stderr}");
}

#[test]
fn results_do_not_overwrite_each_other_or_what_is_read() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("same-files");
    std::fs::create_dir_all(folder.join("in")).unwrap();
    for name in ["c.toml", "t.json", "r.ndjson", "proved.json"] {
        std::fs::write(folder.join(name), if name == "t.json" { "{{ n }}" } else { "" }).unwrap();
    }
    let refused = |flags: &str, problems: &[&str]| {
        let output = tickgen(&flags.split(' ').collect::<Vec<_>>()).current_dir(&folder).output().unwrap();
        let (code, _, stderr) = finished(&output);
        assert_eq!(code, 2, "{flags}: {stderr}");
        for problem in problems {
            assert!(stderr.contains(&format!("error: {problem}")), "{problem}\n{stderr}");
        }
    };
    refused(
        "--records 1 --report x --summary in/../x --hdr-log ./x",
        &[
            "--report x: is the same file as --summary in/../x",
            "--hdr-log ./x: is the same file as --report x",
        ],
    );
    refused("--records 1 --to t.x --summary t.x", &["--to t.x: is the same file as --summary t.x"]);
    refused("--config c.toml --report c.toml", &["--report c.toml: is the same file as the config file"]);
    refused("--template t.json --to t.json", &["--to t.json: is the same file as --template t.json"]);
    refused(
        "--shape replay:r.ndjson --to r.ndjson",
        &["--to r.ndjson: is the same file as --shape replay:r.ndjson"],
    );
    refused(
        "verify --summary-of proved.json --summary proved.json",
        &["--summary proved.json: is the same file as --summary-of proved.json"],
    );
    refused(
        "--records 1 --report - --hdr-log - --to -",
        &[
            "--report -: name a file",
            "--hdr-log -: name a file",
            "--to -: name a file, or stdout by this word",
        ],
    );
    let mut left: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["c.toml", "in", "proved.json", "r.ndjson", "t.json"]);
    // What is no file takes them all.
    let flags = "--records 1 --rps 10 --report /dev/null --summary /dev/null --hdr-log /dev/null";
    assert_eq!(tickgen(&flags.split(' ').collect::<Vec<_>>()).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_run_that_is_killed_leaves_no_empty_results() {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("killed");
    std::fs::create_dir_all(&folder).unwrap();
    let [summary, report] = ["run.json", "run.html"].map(|name| folder.join(name));
    std::fs::write(&report, "of a run before").unwrap();
    let mut child = start(&["--summary", summary.to_str().unwrap(), "--report", report.to_str().unwrap()]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("acked")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!summary.exists());
    assert_eq!(std::fs::read_to_string(report).unwrap(), "of a run before");
}

#[test]
fn a_reader_that_leaves_does_not_cost_the_summary() {
    let file = std::env::temp_dir().join(format!("tickgen-summary-{}.json", std::process::id()));
    let mut child = start(&["--rps", "100", "--duration", "2s", "--summary", file.to_str().unwrap()]);
    drop(child.stderr.take());
    let status = child.wait().unwrap();
    let summary: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!((status.code(), &summary["acked"]), (Some(0), &200.into()));
}

#[test]
fn a_schedule_lasts_as_long_as_its_duration() {
    let (code, summary, stderr) =
        run(&["--rps", "0.5", "--duration", "1s", "--threshold", "achieved_rps > 0.1"]);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!((&summary["schedule_s"], &summary["acked"]), (&1.0.into(), &1.into()));
    assert!(summary["elapsed_s"].as_f64() >= Some(1.0), "{summary:#}");
}
