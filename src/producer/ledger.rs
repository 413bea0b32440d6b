use super::Record;
use crate::kinesis::{EntryError, RequestErrorKind};

/// Where every user record of the run stands.
///
/// `scheduled = generated + dropped` and `generated = acked + failed + expired + in_flight`. Records
/// enter by `generate` or `drop` and leave by exactly one of `ack`, `fail` and `expire`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Records that were made.
    pub generated: u64,
    /// Records that were due but never made, because the backlog was full.
    pub dropped: u64,
    /// Records that the stream said it stored.
    pub acked: u64,
    /// Records given up: attempts exhausted, a fatal error, or the end of the drain.
    pub failed: u64,
    /// Records given up because their time to live passed.
    pub expired: u64,
    /// Records sent again after an answer that left their fate open.
    pub possible_duplicates: u64,
    /// Acked records that a shard other than the expected one took.
    pub misrouted: u64,
    /// Failed and expired records by their last cause, in the order of [`Cause::ALL`].
    lost_for: [u64; Cause::ALL.len()],
}

impl Ledger {
    pub(super) fn generate(&mut self, records: u64) {
        self.generated += records;
    }

    pub(super) fn drop(&mut self, records: u64) {
        self.dropped += records;
    }

    pub(super) fn ack(&mut self, records: u64) {
        self.acked += records;
    }

    pub(super) fn fail(&mut self, record: &Record, otherwise: Cause) {
        self.fail_many(1, record.last_failure.unwrap_or(otherwise));
    }

    pub(crate) fn fail_many(&mut self, records: u64, cause: Cause) {
        self.failed += records;
        self.lost_for[cause.place()] += records;
    }

    pub(super) fn expire(&mut self, record: &Record) {
        self.expired += 1;
        self.lost_for[record.last_failure.unwrap_or(Cause::NeverSent).place()] += 1;
    }

    /// Records made but not settled.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.generated - self.acked - self.failed - self.expired
    }

    /// Records that were made and not acked: failed plus expired.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.failed + self.expired
    }

    /// The lost records of one cause.
    #[must_use]
    pub fn lost_by(&self, cause: Cause) -> u64 {
        self.lost_for[cause.place()]
    }

    /// The lost records by their last cause; causes without a record are left out.
    pub fn lost_by_cause(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        let counts = Cause::ALL.iter().zip(self.lost_for);
        counts.filter(|(_, n)| *n > 0).map(|(cause, n)| (*cause, n))
    }

    /// Adds another engine's ledger.
    pub fn merge(&mut self, other: &Self) {
        self.generated += other.generated;
        self.dropped += other.dropped;
        self.acked += other.acked;
        self.failed += other.failed;
        self.expired += other.expired;
        self.possible_duplicates += other.possible_duplicates;
        self.misrouted += other.misrouted;
        for (mine, theirs) in self.lost_for.iter_mut().zip(other.lost_for) {
            *mine += theirs;
        }
    }
}

/// Why a record was not acked: the failure of its last attempt, or where it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its entry was rejected.
    Entry(EntryError),
    /// The request that held it failed.
    Request(RequestErrorKind),
    /// It waited for its shard or for room, and was never sent.
    NeverSent,
    /// It was sent, and the drain ended before an answer came.
    Unanswered,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 12] = [
        Self::Entry(EntryError::Throttled),
        Self::Entry(EntryError::InternalFailure),
        Self::Entry(EntryError::Other),
        Self::Request(RequestErrorKind::Throttled),
        Self::Request(RequestErrorKind::NotSent),
        Self::Request(RequestErrorKind::ServerError),
        Self::Request(RequestErrorKind::ConnectionCut),
        Self::Request(RequestErrorKind::TimedOut),
        Self::Request(RequestErrorKind::Malformed),
        Self::Request(RequestErrorKind::Fatal),
        Self::NeverSent,
        Self::Unanswered,
    ];

    /// The name in metrics and summaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Entry(EntryError::Throttled) => "entry_throttled",
            Self::Entry(EntryError::InternalFailure) => "entry_internal_failure",
            Self::Entry(EntryError::Other) => "entry_other",
            Self::Request(RequestErrorKind::Throttled) => "request_throttled",
            Self::Request(RequestErrorKind::NotSent) => "request_not_sent",
            Self::Request(RequestErrorKind::ServerError) => "request_server_error",
            Self::Request(RequestErrorKind::ConnectionCut) => "request_connection_cut",
            Self::Request(RequestErrorKind::TimedOut) => "request_timed_out",
            Self::Request(RequestErrorKind::Malformed) => "request_malformed",
            Self::Request(RequestErrorKind::Fatal) => "request_fatal",
            Self::NeverSent => "never_sent",
            Self::Unanswered => "unanswered",
        }
    }

    fn place(self) -> usize {
        Self::ALL.iter().position(|&c| c == self).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_place_and_name() {
        for (place, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause.place(), place);
        }
        let mut names: Vec<_> = Cause::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Cause::ALL.len());
        let kinds = RequestErrorKind::ALL.map(Cause::Request);
        let codes = EntryError::ALL.map(Cause::Entry);
        assert!(kinds.iter().chain(&codes).all(|c| Cause::ALL.contains(c)));
    }
}
