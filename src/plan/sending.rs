//! When the records of a load leave, and when they are sent again.

use super::reader::Reader;
use super::{Offer, parse};
use crate::kinesis::limits::{MAX_ENTRIES, MAX_RECORD_BYTES, MAX_REQUEST_BYTES};
use crate::load::{MILLISECOND, Nanos};
use crate::producer::{BatchBounds, RetryPolicy};
use crate::settings::Key;

/// `--linger` where it is not set.
const LINGER: Nanos = 10 * MILLISECOND;

/// The same with `--aggregate` at a rate. A record lingers for its aggregate and for its batch: for 100 ms at most, as
/// with the KPL's `RecordMaxBufferedTime`.
const AGGREGATE_LINGER: Nanos = 50 * MILLISECOND;

/// Records per second up to which they linger so: of more, a quarter of the default backlog would. Nor is that needed
/// for full aggregates then.
const MOST_LINGERING: f64 = 250_000.0;

impl Reader<'_> {
    pub(super) fn batch(
        &mut self,
        aggregates: bool,
        offer: Option<&Offer>,
        retry: Option<RetryPolicy>,
    ) -> Option<BatchBounds> {
        let entries = self.read(Key::BatchEntries, parse::between(1, MAX_ENTRIES as u64));
        let bytes = self.read(Key::BatchBytes, parse::size);
        let linger = self.read_if_set(Key::Linger, parse::time)?;
        let linger = linger.unwrap_or(match offer {
            Some(Offer::Open(shape, _)) if aggregates && shape.peak() <= MOST_LINGERING => {
                AGGREGATE_LINGER.min(retry.map_or(LINGER, |retry| retry.record_ttl / 4))
            }
            _ => LINGER,
        });
        Some(BatchBounds { entries: usize::try_from(entries?).ok()?, bytes: bytes?, linger })
    }

    pub(super) fn retry(&mut self) -> Option<RetryPolicy> {
        let record_ttl = self.read(Key::RecordTtl, parse::positive_time);
        let max_attempts = self.read(Key::MaxAttempts, parse::between(1, u64::from(u16::MAX)));
        let backoff = self.read(Key::Backoff, parse::time);
        let max_backoff = self.read(Key::MaxBackoff, parse::time);
        Some(RetryPolicy {
            record_ttl: record_ttl?,
            max_attempts: u16::try_from(max_attempts?).ok()?,
            backoff: backoff?,
            max_backoff: max_backoff?,
        })
    }

    pub(super) fn check_retry(
        &mut self,
        retry: Option<RetryPolicy>,
        batch: Option<BatchBounds>,
        aggregates: bool,
    ) {
        let Some(retry) = retry else { return };
        if retry.max_backoff < retry.backoff {
            self.refuse(Key::MaxBackoff, "must not be shorter than --backoff");
        }
        // A record lingers for its batch, and for its aggregate before it; then it has to get there.
        let lingers = if aggregates { 2 } else { 1 };
        if batch.is_some_and(|batch| retry.record_ttl < batch.linger.saturating_mul(2 * lingers)) {
            let why = if aggregates { "four times --linger with --aggregate" } else { "twice --linger" };
            self.refuse(
                Key::RecordTtl,
                format!("must be at least {why}, or records expire before they are sent"),
            );
        }
    }

    pub(super) fn check_load_sizes(&mut self, batch: Option<BatchBounds>, aggregate_bytes: Option<usize>) {
        if batch.is_some_and(|batch| batch.bytes == 0 || batch.bytes > MAX_REQUEST_BYTES) {
            self.refuse(
                Key::BatchBytes,
                format!("Kinesis takes 1 to {MAX_REQUEST_BYTES} bytes in a request"),
            );
        }
        if aggregate_bytes.is_some_and(|bytes| bytes > MAX_RECORD_BYTES) {
            self.refuse(
                Key::AggregateBytes,
                format!("over Kinesis' record limit of {MAX_RECORD_BYTES} bytes"),
            );
        } else if aggregate_bytes.is_some_and(|bytes| bytes < 64) {
            self.refuse(Key::AggregateBytes, "at least 64 bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::*;

    #[test]
    fn aggregates_linger_longer() {
        let linger = |file: &str| plan(file).unwrap().loads[0].batch.linger;
        assert_eq!(["", "aggregate = true"].map(linger), [10 * MILLISECOND, 50 * MILLISECOND]);
        for fast in ["rps = \"max\"", "rps = 250001"] {
            assert_eq!(linger(&format!("aggregate = true\n{fast}")), 10 * MILLISECOND, "{fast}");
        }
        // What was valid with 10 ms still is.
        assert_eq!(linger("aggregate = true\nrecord-ttl = \"150ms\""), 37_500_000);
        assert_eq!(linger("aggregate = true\nlinger = \"7ms\""), 7 * MILLISECOND);
    }
}
