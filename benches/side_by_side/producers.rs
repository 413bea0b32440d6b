//! The table of producers: `cargo bench --bench side_by_side`.

use super::Result;
use super::measure::{Run, Server, measure, median};
use std::path::PathBuf;
use std::process::Command;

/// Makes the command of a producer for a server and a number of seconds; `None` if it is not installed.
type Make = Box<dyn Fn(&str, u64) -> Option<Command>>;

/// One producer of the table.
struct Producer {
    name: &'static str,
    command: Make,
}

const RUNS: usize = 3;

// Those that the others are compared with.
const OWN: &str = "tickgen";
const PLAIN: &str = "plain SDK loop";

/// Runs each producer for so many seconds, three times in turn, and prints the medians.
pub(crate) fn compare(seconds: u64) -> Result<()> {
    let server = Server::start(0, None)?;
    let producers = producers();
    let mut runs: Vec<Vec<Run>> = producers.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for (producer, runs) in producers.iter().zip(&mut runs) {
            match (producer.command)(&server.url, seconds) {
                Some(command) => runs.push(measure(command)?),
                None => eprintln!("skipped: {} is not installed (.ci/peers installs it)", producer.name),
            }
        }
    }
    table(&producers, &runs);
    Ok(())
}

/// tickgen at a null server, with what every measured run of it has.
pub(crate) fn tickgen(url: &str, seconds: u64, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tickgen"));
    add_flags(&mut command, url, seconds, flags);
    command
}

/// Adds to a command that is, or starts, tickgen what every measured run of it has, and `flags`.
pub(crate) fn add_flags(command: &mut Command, url: &str, seconds: u64, flags: &[&str]) {
    command.args(["--stream", "null", "--region", "us-east-1", "--endpoint-url", url]);
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
}

/// The plain loop over the SDK.
pub(crate) fn plain_loop(url: &str, seconds: u64) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["plain-loop", url, &seconds.to_string()]);
    Ok(command)
}

fn own(flags: &'static [&'static str]) -> Make {
    Box::new(move |url, seconds| {
        let mut command = tickgen(url, seconds, &["--rps", "max"]);
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
    vec![
        Producer { name: OWN, command: own(&["--stamp", "none"]) },
        Producer { name: "tickgen --aggregate", command: own(&["--stamp", "none", "--aggregate"]) },
        Producer { name: "tickgen --wire cbor", command: own(&["--stamp", "none", "--wire", "cbor"]) },
        Producer {
            name: "tickgen --aggregate --wire cbor",
            command: own(&["--stamp", "none", "--aggregate", "--wire", "cbor"]),
        },
        // As it is by default: keys are 41 bytes, those of all others 16.
        Producer { name: "tickgen, stamps", command: own(&[]) },
        Producer { name: "tickgen --aggregate, stamps", command: own(&["--aggregate"]) },
        Producer { name: PLAIN, command: Box::new(|url, seconds| plain_loop(url, seconds).ok()) },
        Producer { name: "boto3 PutRecords", command: python("venv", "put-records") },
        Producer { name: "aiokpl", command: python("kpl", "kpl") },
        Producer { name: "aiokpl, aggregated", command: python("kpl", "kpl-aggregate") },
        Producer { name: "the article's loop", command: python("venv", "article") },
    ]
}

fn table(producers: &[Producer], runs: &[Vec<Run>]) {
    let middle = |runs: &[Run], figure: fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let of = |name: &str| {
        let place = producers.iter().position(|producer| producer.name == name).unwrap_or_default();
        middle(&runs[place], Run::per_cpu)
    };
    let (plain, own) = (of(PLAIN), of(OWN));
    println!(
        "| Producer | records/s | records per CPU-second | MB/s | peak MiB | of the plain SDK loop | of tickgen |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (producer, runs) in producers.iter().zip(runs).filter(|(_, runs)| !runs.is_empty()) {
        let per_cpu = middle(runs, Run::per_cpu);
        println!(
            "| {} | {:.0} | {per_cpu:.0} | {:.1} | {:.0} | {:.2} | {:.4} |",
            producer.name,
            middle(runs, Run::rate),
            middle(runs, |run| run.megabytes / run.elapsed),
            middle(runs, |run| run.peak_mib),
            per_cpu / plain,
            per_cpu / own,
        );
    }
}
