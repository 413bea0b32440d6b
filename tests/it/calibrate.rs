//! `tickgen calibrate`, and what later summaries make of it.

use crate::docs::{calibration_schema, violations};
use crate::harness::{finished, tickgen};
use serde_json::Value;
use std::path::Path;
use tickgen::kinesis::null::NullEndpoint;

/// Runs the binary with this folder for what it keeps.
fn run(cache: &Path, flags: &[&str]) -> (i32, Value, String) {
    let mut command = tickgen(flags);
    finished(&command.env("XDG_CACHE_HOME", cache).args(["--summary", "-"]).output().unwrap())
}

#[test]
fn a_summary_says_which_share_of_the_ceiling_was_used() {
    let cache = std::env::temp_dir().join(format!("tickgen-calibrate-{}", std::process::id()));
    let calibrate = ["calibrate", "--duration", "300ms", "--payload-bytes", "200"];
    let (code, calibration, stderr) = run(&cache, &calibrate);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(violations(&calibration_schema(), &calibration, ""), [] as [String; 0]);
    for way in ["plain", "tls"] {
        assert!(calibration[way]["records_per_cpu_second"].as_f64().unwrap() > 0.0, "{calibration:#}");
    }
    assert!(stderr.contains("with TLS") && stderr.contains("--payload-bytes 200"), "{stderr}");
    let kept = calibration["kept_in"].as_str().unwrap();
    assert_eq!(Path::new(kept), cache.join("tickgen/ceiling.json"));

    let url = NullEndpoint::start(false, std::time::Duration::ZERO).unwrap().url();
    let to = ["--stream", "null", "--endpoint-url", &url, "--region", "us-east-1"];
    let load = ["--rps", "1000", "--duration", "200ms"];
    let (code, summary, stderr) = run(&cache, &[&to[..], &load, &["--payload-bytes", "200"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let ceiling = &summary["ceiling"];
    assert_eq!(ceiling["records_per_cpu_second"], calibration["plain"]["records_per_cpu_second"]);
    let share = ceiling["share"].as_f64().unwrap();
    assert!(share > 0.0 && share < 1.0, "{share}");
    assert!(stderr.contains("% of what this machine can send"), "{stderr}");

    // Of other settings nothing is known.
    let (_, other, _) = run(&cache, &[&to[..], &load, &["--payload-bytes", "201"]].concat());
    assert_eq!(other["ceiling"]["share"], Value::Null, "{other:#}");
    std::fs::remove_dir_all(cache).unwrap();
}
