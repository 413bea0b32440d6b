//! What people and machines see: readers of one snapshot, never writers.

mod exposition;
mod figures;
mod logs;
mod metrics;
mod progress;
mod summary;
mod threshold;
mod verdict;

pub use figures::{Figures, ShardSummary, TimeSummary, WindowSummary, WindowTimes};
pub use logs::init as init_logs;
pub use metrics::{METRICS, Metric, MetricKind, Metrics, RunGauges};
pub use progress::Progress;
pub use summary::{
    Judge, LoadFacts, LoadSummary, RunFacts, SCHEMA_VERSION, StoppedBy, Summary, ThresholdResult,
};
pub use threshold::{Threshold, ThresholdError, figures};
pub use verdict::{Limit, LimitReason};
