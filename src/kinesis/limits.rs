//! What Kinesis takes, as data.
//!
//! Sources: the API reference of `PutRecords` and the quotas page of the developer guide, as of
//! aws-sdk-kinesis 1.130 (2026-11); sizes count data before base64 plus partition keys.

/// One mebibyte in bytes.
pub const MIB: usize = 1024 * 1024;

/// Records in one `PutRecords` request.
pub const MAX_ENTRIES: usize = 500;

/// Bytes of one `PutRecords` request (10 MiB; 5 MiB before October 2025).
pub const MAX_REQUEST_BYTES: usize = 10 * MIB;

/// Bytes of one record on any stream (10 MiB).
pub const MAX_RECORD_BYTES: usize = 10 * MIB;

/// Bytes of one record on a stream that was not raised with `UpdateMaxRecordSize` (1 MiB).
pub const DEFAULT_RECORD_BYTES: usize = MIB;

/// Records that a shard takes in a second.
pub const SHARD_RECORDS_PER_SECOND: u32 = 1_000;

/// Bytes that a shard takes in a second.
pub const SHARD_BYTES_PER_SECOND: u32 = 1024 * 1024;

/// What one stream takes: the constants above, narrowed by what the stream says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamLimits {
    /// Bytes of one record, data plus partition key.
    pub record_bytes: usize,
    /// Bytes of one request.
    pub request_bytes: usize,
    /// Records of one request.
    pub request_entries: usize,
}

impl StreamLimits {
    /// The limits of a stream whose `MaxRecordSizeInKiB` is given, if it says one.
    #[must_use]
    pub fn new(max_record_size_kib: Option<i32>) -> Self {
        let record_bytes = max_record_size_kib
            .and_then(|kib| usize::try_from(kib).ok())
            .filter(|&kib| kib > 0)
            .map_or(DEFAULT_RECORD_BYTES, |kib| kib * 1024);
        Self {
            record_bytes: record_bytes.min(MAX_RECORD_BYTES),
            request_bytes: MAX_REQUEST_BYTES,
            request_entries: MAX_ENTRIES,
        }
    }
}
