//! Runs a producer in a process of its own and reads what it came to from the outside.

use super::Result;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What one run of a producer came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) records: f64,
    pub(crate) megabytes: f64,
    /// Seconds by the producer's own summary.
    pub(crate) elapsed: f64,
    /// Seconds from the start of the process to its end.
    pub(crate) process: f64,
    /// Seconds of user and system time.
    pub(crate) cpu: f64,
    pub(crate) peak_mib: f64,
}

impl Run {
    pub(crate) fn per_cpu(&self) -> f64 {
        self.records / self.cpu
    }

    pub(crate) fn rate(&self) -> f64 {
        self.records / self.elapsed
    }

    pub(crate) fn share_of_a_core(&self) -> f64 {
        self.cpu / self.elapsed
    }
}

/// A null server in a process of its own, so that its time is not counted; ended when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) url: String,
}

impl Server {
    /// With canned answers, or by so many shards.
    pub(crate) fn start(delay_millis: u64, shards: Option<u64>) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["null-server", &delay_millis.to_string()])
            .args(shards.map(|shards| shards.to_string()))
            .stdout(Stdio::piped())
            .spawn()?;
        let mut port = String::new();
        BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut port)?;
        Ok(Self { process, url: format!("http://127.0.0.1:{}", port.trim()) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn measure(mut command: Command) -> Result<Run> {
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x").stdout(Stdio::piped());
    let cpu_before = children_cpu()?;
    let begun = Instant::now();
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("no stdout")?;
    let pid = child.id();
    let peak = std::thread::spawn(move || watch_memory(pid));
    let summary: serde_json::Value = serde_json::from_reader(output)?;
    let status = child.wait()?;
    let process = begun.elapsed().as_secs_f64();
    let cpu = children_cpu()? - cpu_before;
    if !status.success() || ["dropped", "lost"].iter().any(|name| summary[name].as_u64() > Some(0)) {
        return Err(format!("{status}: {summary}").into());
    }
    let figure = |name: &str| summary[name].as_f64().ok_or_else(|| format!("no {name} in {summary}"));
    Ok(Run {
        records: figure("acked")?,
        megabytes: figure("bytes")? / 1e6,
        elapsed: figure("elapsed_s")?,
        process,
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

/// The middle of what there is; not a number where there is nothing.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
