//! What changes the stream itself: splits, merges and new sizes, as a drill asks for them.

use super::protocol::StreamRef;
use super::{Client, RequestErrorKind, ShardId, errors};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::ScalingType;
use std::fmt;

/// A change of a stream. The service begins it and answers; it is done when the stream is active again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// `SplitShard`.
    Split {
        /// The open shard that is split.
        shard: ShardId,
        /// The lowest hash key of the upper child.
        at: u128,
    },
    /// `MergeShards` of two neighbours.
    Merge {
        /// The one of lower hash keys.
        lower: ShardId,
        /// The one of higher hash keys.
        upper: ShardId,
    },
    /// `UpdateShardCount` to so many open shards of equal size; not on on-demand streams.
    ShardCount(u32),
    /// `UpdateStreamWarmThroughput` to so many MiB/s; only on on-demand streams.
    WarmThroughput(u32),
}

impl Change {
    /// The operation of the API, which is also the action of IAM.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Split { .. } => "SplitShard",
            Self::Merge { .. } => "MergeShards",
            Self::ShardCount(_) => "UpdateShardCount",
            Self::WarmThroughput(_) => "UpdateStreamWarmThroughput",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation())?;
        match self {
            Self::Split { shard, .. } => write!(f, " {shard}"),
            Self::Merge { lower, upper } => write!(f, " {lower} {upper}"),
            Self::ShardCount(count) => write!(f, " {count}"),
            Self::WarmThroughput(mib) => write!(f, " {mib}"),
        }
    }
}

/// Why the stream did not begin a change.
#[derive(Debug, thiserror::Error)]
#[error("{operation} of stream {stream}: {text}")]
pub struct ChangeError {
    operation: &'static str,
    stream: String,
    text: String,
    /// Whether asking again may help: another change is under way, or the answer is lost. The change may
    /// have begun all the same, so look at the shards before asking again.
    pub transient: bool,
}

impl Client {
    /// Asks for a change, once.
    ///
    /// # Errors
    /// If the service refuses it or does not answer.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let (name, arn) = match &self.stream {
            StreamRef::Name(name) => (Some(name.clone()), None),
            StreamRef::Arn(arn) => (None, Some(arn.clone())),
        };
        match change {
            Change::Split { shard, at } => {
                let request = self.sdk.split_shard().set_stream_name(name).set_stream_arn(arn);
                let request = request.shard_to_split(shard.to_string()).new_starting_hash_key(at.to_string());
                request.send().await.map(drop).map_err(|error| self.refused(change, &error))
            }
            Change::Merge { lower, upper } => {
                let request = self.sdk.merge_shards().set_stream_name(name).set_stream_arn(arn);
                let request = request.shard_to_merge(lower.to_string());
                let request = request.adjacent_shard_to_merge(upper.to_string());
                request.send().await.map(drop).map_err(|error| self.refused(change, &error))
            }
            Change::ShardCount(count) => {
                let request = self.sdk.update_shard_count().set_stream_name(name).set_stream_arn(arn);
                let request = request.target_shard_count(signed(count));
                let request = request.scaling_type(ScalingType::UniformScaling);
                request.send().await.map(drop).map_err(|error| self.refused(change, &error))
            }
            Change::WarmThroughput(mib) => {
                let request = self.sdk.update_stream_warm_throughput();
                let request = request.set_stream_name(name).set_stream_arn(arn);
                let request = request.warm_throughput_mibps(signed(mib));
                request.send().await.map(drop).map_err(|error| self.refused(change, &error))
            }
        }
    }

    fn refused<E>(&self, change: Change, error: &SdkError<E>) -> ChangeError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let said = errors::classify_change(error, change.operation());
        ChangeError {
            operation: change.operation(),
            stream: self.stream.as_str().to_owned(),
            transient: is_transient(error.code(), said.kind),
            text: said.text,
        }
    }
}

/// The API's counts are signed.
fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// `LimitExceededException` speaks of shards and streams more often than of calls, so it is final.
fn is_transient(code: Option<&str>, kind: RequestErrorKind) -> bool {
    match code {
        Some("ResourceInUseException") => true,
        Some("LimitExceededException") => false,
        _ => kind != RequestErrorKind::Fatal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_asked_again() {
        for (code, kind, again) in [
            (Some("ResourceInUseException"), RequestErrorKind::Fatal, true),
            (Some("LimitExceededException"), RequestErrorKind::Throttled, false),
            (Some("ThrottlingException"), RequestErrorKind::Throttled, true),
            (None, RequestErrorKind::ConnectionCut, true),
            (Some("AccessDeniedException"), RequestErrorKind::Fatal, false),
        ] {
            assert_eq!(is_transient(code, kind), again, "{code:?}");
        }
    }
}
