//! What people and machines see: readers of one snapshot, never writers.

mod ceiling;
mod drill;
mod environment;
mod exposition;
mod figures;
pub(crate) mod hdr_log;
mod heat;
mod judge;
mod logs;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod progress;
#[cfg(feature = "native-histograms")]
mod protobuf;
pub mod report;
mod seconds;
#[cfg(feature = "native-histograms")]
mod sparse;
mod status;
mod summary;
mod threshold;
mod verdict;
mod verify;

pub use ceiling::{Calibrated, Calibration, Capacity, Ceiling, CeilingSummary};
pub use drill::DrillSummary;
pub use environment::{Environment, StreamFacts};
pub use figures::{
    Figures, HotKey, Named, Percentiles, ShardSummary, SteeredSummary, TimeSummary, WindowSummary,
};
pub use hdr_log::{HdrLog, HdrLogError, Interval, read_hdr_log};
pub use heat::{ShardHeat, ShardHeatRow};
pub use judge::{About, Judge, LoadFacts, RunFacts};
pub use logs::{init as init_logs, set_level as set_log_level};
#[cfg(feature = "native-histograms")]
pub use metrics::Families;
pub use metrics::{METRICS, Metric, MetricKind, Metrics, ProcessFigures, RunGauges};
#[cfg(feature = "otlp")]
pub use otlp::Otlp;
pub use progress::Progress;
#[cfg(feature = "native-histograms")]
pub use protobuf::{PROTOBUF, Protobuf, prefers_protobuf};
pub use seconds::{Second, SecondCutter, Seconds};
pub use status::{LoadStatus, State, Status};
pub use summary::{LoadSummary, MergedRun, SCHEMA_VERSION, StoppedBy, Summary, ThresholdResult, Times};
pub use threshold::{Threshold, ThresholdError, figures};
pub use verdict::{Limit, LimitReason};
pub use verify::{
    ClockOffset, CountedLoad, CountedSummary, IndexSummary, LostRange, Settled, VERIFY_SCHEMA_VERSION,
    VerifyReport, VerifySummary, WaterfallSummary,
};
