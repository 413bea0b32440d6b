//! What people and machines see: readers of one snapshot, never writers.

mod drill;
mod exposition;
mod logs;
mod metrics;
mod progress;
mod summary;
mod threshold;

pub use drill::DrillSummary;
pub use logs::init as init_logs;
pub use metrics::{METRICS, Metric, MetricKind, Metrics, RunGauges};
pub use progress::Progress;
pub use summary::{RunFacts, SCHEMA_VERSION, ShardSummary, StoppedBy, Summary, ThresholdResult, TimeSummary};
pub use threshold::{FIGURES, Threshold, ThresholdError};
