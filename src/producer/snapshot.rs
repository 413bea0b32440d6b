use super::Account;
use crate::load::Nanos;

/// All that is counted, at one moment: what every observer reads.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub elapsed: Nanos,
    /// How long the schedule has lasted; the drain is not part of it.
    pub span: Nanos,
    /// Records that the schedule made due.
    pub scheduled: u64,
    /// Whether only the drain is left.
    pub draining: bool,
    /// Records made and not settled, counted where they are.
    pub unsettled: u64,
    /// Records that wait to be sent, or sent again.
    pub backlog_records: u64,
    /// Requests that wait for their answer.
    pub in_flight_requests: u64,
    /// Bytes of request bodies that wait for their answer.
    pub in_flight_bytes: u64,
    /// The counts.
    pub account: Account,
}

impl Snapshot {
    /// A snapshot of a run that has not begun.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            elapsed: 0,
            span: 0,
            scheduled: 0,
            draining: false,
            unsettled: 0,
            backlog_records: 0,
            in_flight_requests: 0,
            in_flight_bytes: 0,
            account: Account::new(),
        }
    }

    /// Adds another engine's snapshot of the same run.
    pub fn merge(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.span = self.span.max(other.span);
        self.scheduled += other.scheduled;
        self.draining |= other.draining;
        self.unsettled += other.unsettled;
        self.backlog_records += other.backlog_records;
        self.in_flight_requests += other.in_flight_requests;
        self.in_flight_bytes += other.in_flight_bytes;
        self.account.merge(&other.account);
    }

    /// Whether every record is accounted for and none is left on its way:
    /// `scheduled = generated + dropped`, `generated = acked + failed + expired`, and no record was
    /// found anywhere else.
    #[must_use]
    pub fn balances(&self) -> bool {
        let ledger = &self.account.ledger;
        self.scheduled == ledger.generated + ledger.dropped && ledger.in_flight() == 0 && self.unsettled == 0
    }

    /// Acked records per second of the schedule. What the drain made up for is left out: a record that
    /// started on time counts whenever its answer comes, one that had to wait only if it was acked
    /// before the schedule ended.
    #[must_use]
    pub fn achieved_rps(&self) -> f64 {
        if self.span == 0 {
            return 0.0;
        }
        let timely = self.account.ledger.acked - self.account.acked_late;
        timely as f64 * 1e9 / self.span as f64
    }
}
