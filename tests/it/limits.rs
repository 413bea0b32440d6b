//! What limited a load, as the binary tells it.
#![cfg(feature = "embedded")]

use crate::harness::{assert_balanced, finished, run, signal, start, tickgen};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

fn by(summary: &Value) -> Vec<&str> {
    summary["limit"]["by"].as_array().unwrap().iter().map(|reason| reason.as_str().unwrap()).collect()
}

/// A process that was stopped for a while makes its records late, whatever the stream does.
#[test]
fn a_stall_of_the_generator_is_told() {
    let flags = ["--rps", "500", "--duration", "3s", "--shards", "4", "--summary", "-"];
    let mut child = start(&[&flags[..], &["--threshold", "achieved_rps > 0"]].concat());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("1s of 3s") {
        assert!(stderr.read_line(&mut told).unwrap() > 0, "{told}");
    }
    signal(&child, "STOP");
    std::thread::sleep(std::time::Duration::from_secs(1));
    signal(&child, "CONT");
    stderr.read_to_string(&mut told).unwrap();
    let (code, summary, _) = finished(&child.wait_with_output().unwrap());
    assert_eq!(code, 0, "{told}");
    assert_balanced(&summary);
    assert_eq!(summary["acked"], 1_500, "{summary:#}");
    let limit = &summary["limit"];
    assert_eq!((&limit["fell_short"], &limit["generator"]), (&true.into(), &true.into()), "{limit:#}");
    assert_eq!(by(&summary)[0], "cpu", "{limit:#}");
    assert!(limit["processor_share"].as_f64().unwrap() > 0.0, "{limit:#}");
    assert!(told.contains("The generator was the limit: it was late itself (99 % of records were"), "{told}");
}

/// Records that wait for their shard when the drain ends are not the stream's.
#[test]
fn a_drain_that_ends_too_soon_does_not_blame_the_stream() {
    let flags = ["--rps", "4000", "--duration", "2s", "--shards", "2", "--drain-timeout", "500ms"];
    let (code, summary, stderr) = run(&flags);
    assert_eq!(code, 99, "{stderr}");
    assert_balanced(&summary);
    assert!(summary["lost_by_cause"]["never_sent"].as_u64().unwrap() > 500, "{summary:#}");
    // A machine that is busy with something else may be late as well.
    assert!(by(&summary).contains(&"shard_limit") && !by(&summary).contains(&"stream"), "{stderr}");
    assert_eq!(summary["limit"]["generator"], true);
    for part in ["pass to 2 open shards", "records were never sent when their time was over (--drain-timeout"]
    {
        assert!(stderr.contains(part), "{part}\n---\n{stderr}");
    }
}

#[test]
fn a_destination_of_lines_that_fails_is_named() {
    let (code, summary, stderr) = run(&["--rps", "2000", "--duration", "5s", "--to", "/dev/full"]);
    assert_eq!(code, 1, "{stderr}");
    assert_balanced(&summary);
    assert!(by(&summary).contains(&"stream") && !stderr.contains("The stream was"), "{stderr}");
    assert!(stderr.contains("was ended by an error: /dev/full: No space left on device"), "{stderr}");
}

/// What takes lines as fast as they are written is not what limits them.
#[test]
fn a_lack_of_processor_time_comes_first() {
    let flags = ["--rps", "9000000", "--duration", "1s", "--to", "/dev/null", "--max-backlog", "20000"];
    let (code, summary, stderr) = run(&flags);
    assert_eq!(code, 99, "{stderr}");
    assert_eq!(by(&summary)[0], "cpu", "{stderr}");
    assert!(by(&summary).contains(&"backlog_bound"), "{stderr}");
    assert!(stderr.contains("of its processors' time"), "{stderr}");
}

/// A small load to a stream has one thread, whatever the machine; the rest is what was asked for.
#[cfg(target_os = "linux")]
#[test]
fn threads_are_as_many_as_the_load_needs() {
    let workers = |flags: &[&str], least: usize| {
        // Nobody answers: it waits for the stream for as long as it is looked at.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", nobody.local_addr().unwrap());
        let stream = ["--stream", "s", "--region", "us-east-1", "--endpoint-url", &url];
        let mut child = start(&[&stream[..], flags].concat());
        let _connection = nobody.accept().unwrap();
        let tasks = format!("/proc/{}/task", child.id());
        // A thread that just began has its parent's name, one that just ended none.
        let mut workers = 0;
        for _ in 0..1_000 {
            let names = std::fs::read_dir(&tasks).unwrap().flatten();
            let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
            workers = names.filter(|name| name.trim() == "tokio-rt-worker").count();
            if workers >= least {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        workers
    };
    // Those that read files have the same name; there are a few of them at most.
    let [small, asked] = [(&["--rps", "1000"][..], 1), (&["--rps", "1000", "--threads", "40"], 40)]
        .map(|(flags, least)| workers(flags, least));
    assert!((1..20).contains(&small) && asked >= 40, "{small}, {asked}");
}

/// Who reads the lines may have enough of them.
#[test]
fn a_pipe_that_is_closed_ends_the_run() {
    let mut child = tickgen(&["--to", "stdout", "--rps", "1000", "--duration", "20s"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("TICKER"));
    drop(lines);
    let (code, _, stderr) = finished(&child.wait_with_output().unwrap());
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("stdout: Broken pipe") && !stderr.contains("The stream was"), "{stderr}");
}

#[test]
fn a_slow_reader_of_lines_is_named() {
    let flags = ["--to", "stdout", "--rps", "20000", "--duration", "2s", "--drain-timeout", "100ms"];
    let mut child = tickgen(&flags).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut some = [0; 8192];
        while stdout.read(&mut some).unwrap() > 0 {
            // Some 4,000 lines a second.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    let output = child.wait_with_output().unwrap();
    reading.join().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    // A busy machine may make the lines late as well; that is told first then.
    assert!(told.contains("ms for the lines of a request, in the mean"), "{told}");
    assert!(!told.contains("The stream was the limit"), "{told}");
}
