//! What the kernel counts for this process.

use crate::observe::{Environment, ProcessFigures};

/// Processor time is told in hundredths of a second, whatever the machine (Linux' `USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the figures; `None` on a system without Linux' `/proc`.
#[must_use]
pub fn figures() -> Option<ProcessFigures> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(ProcessFigures {
        cpu_seconds: cpu_seconds(&stat)?,
        resident_bytes: resident_bytes(&status)?,
        processors: std::thread::available_parallelism().ok()?.get(),
    })
}

/// The system that this process runs on.
#[must_use]
pub fn system() -> Environment {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| kib_of(&text, "MemTotal:"));
    // The limit of a container, by either version of control groups; "max" and absurd numbers are none.
    let limit = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let limit =
        limit("/sys/fs/cgroup/memory.max").or_else(|| limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    Environment {
        os: std::env::consts::OS.to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()),
        arch: std::env::consts::ARCH.to_owned(),
        processors: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        memory_bytes: machine.into_iter().chain(limit).min(),
        streams: Vec::new(),
    }
}

/// The model of the processor, of the first of several; where it is not told, its kind.
#[must_use]
pub fn cpu_model() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| model(&text));
    told.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The first line `model name : ...`.
fn model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned()).filter(|model| !model.is_empty())
}

/// User and system time, fields 14 and 15; the name before them is in brackets and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// The line `VmRSS:  5120 kB`; its kB are KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    kib_of(status, "VmRSS:")
}

/// The bytes in the line of this name.
fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 99 1000 200";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t1\n"), Some(5_242_880));
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU: 2.0GHz\nmodel name\t: B\n";
        assert_eq!((model(cpuinfo).as_deref(), model("processor: 0")), (Some("A CPU: 2.0GHz"), None));
        assert_eq!((cpu_seconds("7 (x) S 1"), resident_bytes("VmRSS: many kB")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_figures() {
        let figures = figures().unwrap();
        assert!(figures.resident_bytes > 100_000 && figures.processors > 0, "{figures:?}");
    }
}
