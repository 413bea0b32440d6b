//! What people and machines see: readers of one snapshot, never writers.

mod drill;
mod exposition;
mod figures;
mod judge;
mod logs;
mod metrics;
mod progress;
mod summary;
mod threshold;
mod verdict;
mod verify;

pub use drill::DrillSummary;
pub use figures::{Figures, HotKey, Percentiles, ShardSummary, TimeSummary, WindowSummary};
pub use judge::{Judge, LoadFacts, RunFacts};
pub use logs::init as init_logs;
pub use metrics::{METRICS, Metric, MetricKind, Metrics, ProcessFigures, RunGauges};
pub use progress::Progress;
pub use summary::{LoadSummary, SCHEMA_VERSION, StoppedBy, Summary, ThresholdResult};
pub use threshold::{Threshold, ThresholdError, figures};
pub use verdict::{Limit, LimitReason};
pub use verify::{ClockOffset, LostRange, VerifySummary, WaterfallSummary};
