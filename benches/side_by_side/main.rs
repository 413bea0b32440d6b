//! Producers side by side against the same null server: `cargo bench --bench side_by_side`.
//!
//! Every producer runs in a process of its own; its CPU time (user and system) is the system's own
//! account of that process. Runs are repeated in turn and the medians are shown.

#![allow(clippy::disallowed_methods, reason = "a bench starts processes and waits for them")]

mod plain_loop;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tickgen::kinesis::null::NullEndpoint;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("null-server") => {
            let millis = args.get(1).map_or(Ok(0), |text| text.parse())?;
            let shards = args.get(2).map_or(Ok(1), |text| text.parse())?;
            serve(Duration::from_millis(millis), shards)
        }
        Some("plain-loop") => plain_loop::run(&args[1], Duration::from_secs(args[2].parse()?)),
        _ => {
            let seconds = args.pop().and_then(|text| text.parse().ok()).unwrap_or(5);
            compare(seconds)
        }
    }
}

/// Answers at a port, which it prints, until the process is ended.
fn serve(delay: Duration, shards: u64) -> Result<()> {
    println!("{}", NullEndpoint::of_shards(shards, false, delay)?.port());
    loop {
        std::thread::park();
    }
}

/// Makes the command of a producer for a server and a number of seconds; `None` if it is not installed.
type Make = Box<dyn Fn(&str, u64) -> Option<Command>>;

/// One producer of the table.
struct Producer {
    name: &'static str,
    command: Make,
}

/// What one run of a producer came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    records: f64,
    megabytes: f64,
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

const RUNS: usize = 3;

// Those that the others are compared with.
const OWN: &str = "tickgen";
const PLAIN: &str = "plain SDK loop";

fn compare(seconds: u64) -> Result<()> {
    let (server, url) = start_server()?;
    let producers = producers();
    let mut runs: Vec<Vec<Run>> = producers.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for (producer, runs) in producers.iter().zip(&mut runs) {
            match (producer.command)(&url, seconds) {
                Some(command) => runs.push(measure(command)?),
                None => eprintln!("skipped: {} is not installed (.ci/peers installs it)", producer.name),
            }
        }
    }
    end(server);
    table(&producers, &runs);
    Ok(())
}

fn start_server() -> Result<(Child, String)> {
    let mut server =
        Command::new(std::env::current_exe()?).arg("null-server").stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    BufReader::new(server.stdout.take().ok_or("no stdout")?).read_line(&mut port)?;
    Ok((server, format!("http://127.0.0.1:{}", port.trim())))
}

fn end(mut server: Child) {
    // It may have ended by itself; then there is nothing to do.
    let _ = server.kill();
    let _ = server.wait();
}

fn tickgen(flags: &'static [&'static str]) -> Make {
    Box::new(move |url, seconds| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickgen"));
        command.args(["--stream", "null", "--region", "us-east-1", "--endpoint-url", url, "--rps", "max"]);
        command.args([
            "--duration",
            &format!("{seconds}s"),
            "--shard-limit",
            "none",
            "--quiet",
            "--summary",
            "-",
        ]);
        command.args(flags);
        Some(command)
    })
}

fn python(venv: &'static str, script: &'static str) -> Make {
    Box::new(move |url, seconds| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let interpreter = root.join(format!(".peers/{venv}/bin/python"));
        let mut command = Command::new(&interpreter);
        command.arg(root.join("benches/side_by_side/producers.py")).args([script, url, &seconds.to_string()]);
        interpreter.exists().then_some(command)
    })
}

fn producers() -> Vec<Producer> {
    let plain = |url: &str, seconds: u64| {
        let mut command = Command::new(std::env::current_exe().ok()?);
        command.args(["plain-loop", url, &seconds.to_string()]);
        Some(command)
    };
    vec![
        Producer { name: OWN, command: tickgen(&["--stamp", "none"]) },
        Producer { name: "tickgen --aggregate", command: tickgen(&["--stamp", "none", "--aggregate"]) },
        Producer { name: "tickgen --wire cbor", command: tickgen(&["--stamp", "none", "--wire", "cbor"]) },
        Producer {
            name: "tickgen --aggregate --wire cbor",
            command: tickgen(&["--stamp", "none", "--aggregate", "--wire", "cbor"]),
        },
        // As it is by default: keys are 41 bytes, those of all others 16.
        Producer { name: "tickgen, stamps", command: tickgen(&[]) },
        Producer { name: "tickgen --aggregate, stamps", command: tickgen(&["--aggregate"]) },
        Producer { name: PLAIN, command: Box::new(plain) },
        Producer { name: "boto3 PutRecords", command: python("venv", "put-records") },
        Producer { name: "aiokpl", command: python("kpl", "kpl") },
        Producer { name: "aiokpl, aggregated", command: python("kpl", "kpl-aggregate") },
        Producer { name: "the article's loop", command: python("venv", "article") },
    ]
}

fn measure(mut command: Command) -> Result<Run> {
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x").stdout(Stdio::piped());
    let cpu_before = children_cpu()?;
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("no stdout")?;
    let pid = child.id();
    let peak = std::thread::spawn(move || watch_memory(pid));
    let summary: serde_json::Value = serde_json::from_reader(output)?;
    child.wait()?;
    let cpu = children_cpu()? - cpu_before;
    let figure = |name: &str| summary[name].as_f64().ok_or_else(|| format!("no {name} in {summary}"));
    Ok(Run {
        records: figure("acked")?,
        megabytes: figure("bytes")? / 1e6,
        wall: figure("elapsed_s")?,
        cpu,
        peak_mib: peak.join().unwrap_or(0.0),
    })
}

/// Seconds of user and system time of the children that have ended: the fields cutime and cstime of
/// /proc/self/stat, in hundredths of a second (`USER_HZ` on Linux).
fn children_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may hold spaces; fields are counted after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let hundredths = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok());
    Ok((hundredths(13).ok_or("no cutime")? + hundredths(14).ok_or("no cstime")?) / 100.0)
}

/// The most memory that a process had until it ended, in MiB.
fn watch_memory(pid: u32) -> f64 {
    let mut peak = 0.0;
    while let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(kib) = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok()) else {
            break;
        };
        peak = kib / 1024.0;
        std::thread::sleep(Duration::from_millis(20));
    }
    peak
}

fn median(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(producers: &[Producer], runs: &[Vec<Run>]) {
    let per_cpu = |run: &Run| run.records / run.cpu;
    let of = |name: &str| {
        let place = producers.iter().position(|producer| producer.name == name).unwrap_or_default();
        median(&runs[place], per_cpu)
    };
    let (plain, own) = (of(PLAIN), of(OWN));
    println!(
        "| Producer | records/s | records per CPU-second | MB/s | peak MiB | of the plain SDK loop | of tickgen |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (producer, runs) in producers.iter().zip(runs).filter(|(_, runs)| !runs.is_empty()) {
        println!(
            "| {} | {:.0} | {:.0} | {:.1} | {:.0} | {:.2} | {:.4} |",
            producer.name,
            median(runs, |run| run.records / run.wall),
            median(runs, per_cpu),
            median(runs, |run| run.megabytes / run.wall),
            median(runs, |run| run.peak_mib),
            median(runs, per_cpu) / plain,
            median(runs, per_cpu) / own,
        );
    }
}
