//! What a machine can send at most, and which share of it a run used.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What a machine can send with certain settings, as `tickgen calibrate` measured it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Calibration {
    /// What it is of.
    #[serde(flatten)]
    pub of: Calibrated,
    /// When it was measured, RFC 3339.
    pub measured_at: String,
    /// How long each of the two was measured, in seconds.
    pub duration_s: f64,
    /// What can be sent without TLS.
    pub plain: Capacity,
    /// What can be sent with TLS.
    pub tls: Capacity,
    /// The file that it is kept in; absent if it could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in: Option<PathBuf>,
}

/// What a ceiling is of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Calibrated {
    /// The version of tickgen.
    pub tickgen_version: String,
    /// The model of the processor.
    pub cpu: String,
    /// Processors that the process may use.
    pub processors: u64,
    /// The settings that it depends on and that were not left at their defaults, by name.
    pub settings: BTreeMap<String, String>,
}

/// What was measured on one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Capacity {
    /// Records that were acked.
    pub records: u64,
    /// Processor time of everything but the endpoint, in seconds.
    pub cpu_s: f64,
    /// Records for each second of processor time: what one processor can send in a second.
    pub records_per_cpu_second: f64,
    /// Data plus partition keys, in MB (10^6 bytes), likewise.
    pub mb_per_cpu_second: f64,
    /// Records per second that all processors can send at most.
    pub records_per_second: f64,
}

impl Capacity {
    /// Of what was sent in so many seconds of processor time.
    #[must_use]
    pub fn new(records: u64, bytes: u64, cpu_s: f64, processors: u64) -> Self {
        let per_second = |amount: f64| if cpu_s > 0.0 { amount / cpu_s } else { 0.0 };
        let records_per_cpu_second = per_second(records as f64);
        Self {
            records,
            cpu_s,
            records_per_cpu_second,
            mb_per_cpu_second: per_second(bytes as f64 / 1e6),
            records_per_second: records_per_cpu_second * processors as f64,
        }
    }
}

impl fmt::Display for Calibration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Calibrated { cpu, processors, settings, .. } = &self.of;
        let settings: Vec<String> =
            settings.iter().map(|(name, value)| format!("--{name} {value}")).collect();
        let settings = if settings.is_empty() { "defaults".to_owned() } else { settings.join(" ") };
        writeln!(f, "machine     {cpu}, processors {processors}")?;
        writeln!(f, "settings    {settings}")?;
        writeln!(f, "            records per CPU-second  MB per CPU-second  records/s of all processors")?;
        for (name, way) in [("without TLS", self.plain), ("with TLS", self.tls)] {
            let Capacity { records_per_cpu_second, mb_per_cpu_second, records_per_second, .. } = way;
            writeln!(
                f,
                "{name:<11} {records_per_cpu_second:>22.0} {mb_per_cpu_second:>18.1} {records_per_second:>28.0}"
            )?;
        }
        match &self.kept_in {
            Some(file) => writeln!(f, "kept in     {}", file.display()),
            None => writeln!(f, "kept        nowhere: summaries will not have a share of it"),
        }
    }
}

/// The ceiling that a run has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// Records that one processor can send in a second.
    pub records_per_cpu_second: f64,
    /// The processors.
    pub processors: u64,
}

impl Ceiling {
    /// Records that all of them can send in a second.
    #[must_use]
    pub fn records_per_second(&self) -> f64 {
        self.records_per_cpu_second * self.processors as f64
    }
}

/// The ceiling in a summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct CeilingSummary {
    /// Records that one processor can send in a second; absent if this machine was not calibrated with these
    /// settings.
    pub records_per_cpu_second: Option<f64>,
    /// The share of all processors' time that the run's acked records take at that rate (1 = all of it).
    pub share: Option<f64>,
}

impl CeilingSummary {
    /// Of a run of so many seconds in which so many records were acked.
    #[must_use]
    pub fn new(ceiling: Option<Ceiling>, acked: u64, elapsed_s: f64) -> Self {
        let Some(ceiling) = ceiling else { return Self::default() };
        let at_most = ceiling.records_per_second() * elapsed_s;
        let share = (at_most > 0.0).then(|| acked as f64 / at_most);
        Self { records_per_cpu_second: Some(ceiling.records_per_cpu_second), share }
    }
}

impl fmt::Display for CeilingSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(ceiling), Some(share)) = (self.records_per_cpu_second, self.share) else { return Ok(()) };
        writeln!(
            f,
            "ceiling     {:.1} % of what this machine can send, {ceiling:.0} records per CPU-second",
            share * 100.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_all_processors_time() {
        let ceiling = Ceiling { records_per_cpu_second: 1_000.0, processors: 2 };
        // 10 s of two processors take 20,000 records.
        let used = CeilingSummary::new(Some(ceiling), 5_000, 10.0);
        assert_eq!(used, CeilingSummary { records_per_cpu_second: Some(1_000.0), share: Some(0.25) });
        let line = "ceiling     25.0 % of what this machine can send, 1000 records per CPU-second\n";
        assert_eq!(used.to_string(), line);
    }

    #[test]
    fn what_is_not_known_has_no_share() {
        let unknown = CeilingSummary::new(None, 5_000, 10.0);
        assert_eq!((unknown, unknown.to_string().as_str()), (CeilingSummary::default(), ""));
        let ceiling = Ceiling { records_per_cpu_second: 1_000.0, processors: 2 };
        assert_eq!(CeilingSummary::new(Some(ceiling), 0, 0.0).share, None);
    }

    #[test]
    fn a_capacity_is_per_second_of_processor_time() {
        let capacity = Capacity::new(3_000, 6_000_000, 1.5, 4);
        let Capacity { records_per_cpu_second, mb_per_cpu_second, records_per_second, .. } = capacity;
        assert_eq!((records_per_cpu_second, mb_per_cpu_second, records_per_second), (2_000.0, 4.0, 8_000.0));
        assert_eq!(Capacity::new(0, 0, 0.0, 4), Capacity::default());
    }
}
