//! What the live view shows, as plain data: made by [`Model`](super::Model), drawn by `frame`.

use crate::observe::Percentiles;
use tracing::Level;

/// One frame's worth.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The run's id.
    pub run_id: String,
    /// Where the loads go: the stream's name, or how many streams.
    pub to: String,
    /// What the run is doing.
    pub phase: Phase,
    /// Seconds since it began.
    pub elapsed: f64,
    /// Seconds until it ends, or until the drain does at the latest, where that is known.
    pub left: Option<f64>,
    /// Acked and due records per second, in the last second.
    pub rate: Second,
    /// The seconds so far, the last one last.
    pub history: Vec<Second>,
    /// Times of the records acked lately.
    pub recent: Times,
    /// Over how many seconds that is.
    pub recent_s: f64,
    /// Times of all measured records.
    pub whole: Times,
    /// What became of the records.
    pub records: Records,
    /// What is on its way.
    pub way: Way,
    /// The shards in use, by stream and number.
    pub shards: Vec<Shard>,
    /// The loads, if there are several.
    pub loads: Vec<Load>,
    /// The last log lines, the latest last.
    pub log: Vec<LogLine>,
    /// Whether it has been told to quit, so that to tell it again ends it at once.
    pub quitting: bool,
    /// Whether the keys are being explained.
    pub help: bool,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It offers its loads, and does not measure them yet.
    Warmup,
    /// It offers its loads.
    #[default]
    Running,
    /// It offers nothing until it is told to go on.
    Paused,
    /// It waits for what is on its way.
    Draining,
    /// All records are settled.
    Settled,
    /// All records are settled and are being read back.
    ReadingBack,
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warmup => "warmup",
            Self::Running => "running",
            Self::Paused => "PAUSED",
            Self::Draining => "draining",
            Self::Settled => "settled",
            Self::ReadingBack => "reading back",
        }
    }
}

/// What happened in a second (or a little more: what counts is what the rates are divided by).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// When it ended, in seconds since the run began.
    pub at: f64,
    /// Acked records per second.
    pub acked: f64,
    /// Records per second to be offered; `None`: as many as answers allow.
    pub target: Option<f64>,
    /// Throttled entries per second.
    pub throttled: f64,
    /// Records given up or dropped per second.
    pub lost: f64,
}

/// Percentiles of the two times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// From the intended start to the answer; `None` without a record.
    pub response: Option<Percentiles>,
    /// From the send to the answer.
    pub service: Option<Percentiles>,
}

/// What became of the records, in user records but for the last two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in the summary
pub struct Records {
    pub scheduled: u64,
    pub acked: u64,
    pub failed: u64,
    pub expired: u64,
    pub dropped: u64,
    pub possible_duplicates: u64,
    pub payload_failures: u64,
    pub throttled_entries: u64,
    pub retried_entries: u64,
}

/// What is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in the snapshot
pub struct Way {
    pub backlog_records: u64,
    pub in_flight_requests: u64,
    pub in_flight_bytes: u64,
}

/// A shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shard {
    /// The stream's name, where there are several.
    pub stream: Option<String>,
    /// Its number.
    pub id: u64,
    /// Kinesis records per second that it stored, in the last second.
    pub accepted: f64,
    /// Kinesis records per second that it throttled.
    pub throttled: f64,
    /// Kinesis records per second that its limit admits; `None` without one.
    pub limit: Option<f64>,
}

/// A load among several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Its last second.
    pub rate: Second,
    /// The 99th percentile of its response times so far, in milliseconds.
    pub p99: Option<f64>,
    /// Its records that were given up or dropped so far.
    pub lost: u64,
}

/// A log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How severe.
    pub level: Level,
    /// The time of day and what it says.
    pub text: String,
}
