//! Producers side by side against the same null server: `cargo bench --bench side_by_side`, and with
//! `-- bars` what tickgen is to reach on one machine.
//!
//! Every producer runs in a process of its own; its CPU time (user and system) is the system's own
//! account of that process. Runs are repeated in turn and the medians are shown.

#![allow(clippy::disallowed_methods, reason = "a bench starts processes and waits for them")]

mod bars;
mod measure;
mod plain_loop;
mod producers;

use std::time::Duration;
use tickgen::kinesis::null::NullEndpoint;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |place: usize, otherwise: u64| args.get(place).map_or(Ok(otherwise), |text| text.parse());
    match args.first().map(String::as_str) {
        Some("null-server") => {
            let shards = args.get(2).map(|text| text.parse()).transpose()?;
            serve(Duration::from_millis(number(1, 0)?), shards)
        }
        Some("plain-loop") => {
            let url = args.get(1).ok_or("plain-loop URL SECONDS")?;
            plain_loop::run(url, Duration::from_secs(number(2, 5)?))
        }
        Some("bars") => bars::measure_all(number(1, 5)?),
        _ => producers::compare(number(0, 5)?),
    }
}

/// Answers at a port, which it prints, until the process is ended: from canned answers, or by so many shards.
fn serve(delay: Duration, shards: Option<u64>) -> Result<()> {
    let endpoint = match shards {
        Some(shards) => NullEndpoint::of_shards(shards, delay)?,
        None => NullEndpoint::start(false, delay)?,
    };
    println!("{}", endpoint.port());
    loop {
        std::thread::park();
    }
}
