use serde::{Deserialize, Serialize};

/// Where a run was made, and against what.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Environment {
    /// The operating system.
    pub os: String,
    /// Its kernel's release; absent if it does not tell.
    pub kernel: Option<String>,
    /// The kind of processor.
    pub arch: String,
    /// Processors that the process may use.
    pub processors: u64,
    /// Bytes of memory that the process may use: the machine's, or the container's limit if that is less;
    /// absent if neither is told.
    pub memory_bytes: Option<u64>,
    /// The streams as they were at the start.
    pub streams: Vec<StreamFacts>,
}

impl Environment {
    /// Whether records are written as lines (`--to`) in place of being sent.
    pub(super) fn is_lines(&self) -> bool {
        self.streams.iter().any(|stream| stream.mode == StreamFacts::LINES)
    }
}

/// A stream as it was at the start of a run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct StreamFacts {
    /// Its name or ARN; with `--to`, where the records went.
    pub stream: String,
    /// Its open shards.
    pub shards: u64,
    /// `provisioned`, `on_demand`, `embedded` or `file`.
    pub mode: String,
    /// Its AWS region; absent where there is none.
    pub region: Option<String>,
    /// The address asked in place of AWS's own, without credentials.
    pub endpoint: Option<String>,
}

impl StreamFacts {
    /// The mode of what takes lines (`--to`).
    pub const LINES: &str = "file";
}
