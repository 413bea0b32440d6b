use super::ShardId;
use std::fmt;

/// What came back for one `PutRecords` attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream answered for each entry, in the order of the request.
    Entries(Vec<EntryAnswer>),
    /// The request as a whole failed; no entry is known to be accepted.
    Failed(RequestError),
}

/// What became of one entry of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryAnswer {
    /// Stored, on this shard.
    Accepted(ShardId),
    /// Not stored, for this reason.
    Rejected(EntryError),
}

/// The error code of a rejected entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// `ProvisionedThroughputExceededException`: the shard is over its limit.
    Throttled,
    /// `InternalFailure`.
    InternalFailure,
    /// A code that the API reference does not name.
    Other,
}

impl EntryError {
    /// All codes, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Throttled, Self::InternalFailure, Self::Other];

    /// Reads the `ErrorCode` of an entry.
    #[must_use]
    pub fn from_code(code: &str) -> Self {
        match code {
            "ProvisionedThroughputExceededException" => Self::Throttled,
            "InternalFailure" => Self::InternalFailure,
            _ => Self::Other,
        }
    }

    /// The code as Kinesis writes it, for labels.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Throttled => "ProvisionedThroughputExceededException",
            Self::InternalFailure => "InternalFailure",
            Self::Other => "Other",
        }
    }
}

/// Why a request as a whole failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// What follows from it.
    pub kind: RequestErrorKind,
    /// What was said, for people.
    pub text: String,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The kinds of failed requests, by what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestErrorKind {
    /// The stream refused the whole request for its rate: nothing was stored.
    Throttled,
    /// No connection came about: nothing was sent.
    NotSent,
    /// HTTP 5xx: stored or not, nobody knows.
    ServerError,
    /// The connection ended before a whole answer came.
    ConnectionCut,
    /// No answer in time.
    TimedOut,
    /// An answer that says nothing certain: not JSON, or not one result per entry.
    Malformed,
    /// No retry mends it: the stream is gone, access is denied, the request is invalid.
    Fatal,
}

impl RequestErrorKind {
    /// All kinds, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Throttled,
        Self::NotSent,
        Self::ServerError,
        Self::ConnectionCut,
        Self::TimedOut,
        Self::Malformed,
        Self::Fatal,
    ];

    /// Whether the stream may have stored the records all the same, so that a resend may duplicate
    /// them.
    #[must_use]
    pub fn leaves_fate_open(self) -> bool {
        matches!(self, Self::ServerError | Self::ConnectionCut | Self::TimedOut | Self::Malformed)
    }

    /// The name in metrics and summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::NotSent => "not_sent",
            Self::ServerError => "server_error",
            Self::ConnectionCut => "connection_cut",
            Self::TimedOut => "timed_out",
            Self::Malformed => "malformed",
            Self::Fatal => "fatal",
        }
    }
}
