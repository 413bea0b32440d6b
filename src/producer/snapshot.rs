use super::{Account, EntryOutcome, Holdup, SteerAction, Steered};
use crate::load::{Nanos, SECOND};
use std::sync::Arc;

/// All that is counted, at one moment: what every observer reads.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken.
    pub elapsed: Nanos,
    /// How long the schedule has lasted; pauses and the drain are not part of it.
    pub span: Nanos,
    /// How long it stood still.
    pub paused_for: Nanos,
    /// Whether it stands still.
    pub paused: bool,
    /// How much of the schedule is left, where that is known.
    pub left: Option<Nanos>,
    /// Records that the schedule made due.
    pub scheduled: u64,
    /// The rate that is offered now, in records per second: none in a pause; `None` where none is set.
    pub target_rps: Option<f64>,
    /// The same, as it would be but for a pause.
    pub schedule_rps: Option<f64>,
    /// How what is offered was changed while it ran.
    pub steered: Arc<Vec<Steered>>,
    /// How many orders of its [`Steering`](super::Steering) the load has obeyed.
    pub orders: u64,
    /// Whether only the drain is left.
    pub draining: bool,
    /// Records made and not settled, counted where they are.
    pub unsettled: u64,
    /// Records that wait to be sent, or sent again.
    pub backlog_records: u64,
    /// Requests that wait for their answer.
    pub in_flight_requests: u64,
    /// Bytes that their bodies were expected to take.
    pub in_flight_bytes: u64,
    /// Payloads that could not be made and say why instead.
    pub payload_failures: u64,
    /// Why the first could not.
    pub payload_failure: Option<String>,
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
            paused_for: 0,
            paused: false,
            left: Some(0),
            target_rps: Some(0.0),
            schedule_rps: Some(0.0),
            steered: Arc::default(),
            orders: 0,
            draining: false,
            unsettled: 0,
            backlog_records: 0,
            in_flight_requests: 0,
            in_flight_bytes: 0,
            payload_failures: 0,
            payload_failure: None,
            account: Account::new(0),
        }
    }

    /// The sum of the loads of a run. It drains once all of them do.
    pub fn sum<'a>(loads: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::empty();
        let mut running = 0;
        for load in loads {
            sum.merge(load);
            running += u32::from(!load.draining);
        }
        sum.draining &= running == 0;
        sum
    }

    /// Adds another engine's snapshot of the same run.
    fn merge(&mut self, other: &Self) {
        self.elapsed = self.elapsed.max(other.elapsed);
        self.span = self.span.max(other.span);
        self.scheduled += other.scheduled;
        // A closed loop has no rate, so all together have none.
        self.target_rps = self.target_rps.zip(other.target_rps).map(|(mine, theirs)| mine + theirs);
        self.schedule_rps = self.schedule_rps.zip(other.schedule_rps).map(|(mine, theirs)| mine + theirs);
        self.paused_for = self.paused_for.max(other.paused_for);
        self.paused |= other.paused;
        self.left = self.left.zip(other.left).map(|(mine, theirs)| mine.max(theirs));
        self.merge_steered(other);
        self.draining |= other.draining;
        self.unsettled += other.unsettled;
        self.backlog_records += other.backlog_records;
        self.in_flight_requests += other.in_flight_requests;
        self.in_flight_bytes += other.in_flight_bytes;
        self.payload_failures += other.payload_failures;
        self.payload_failure = self.payload_failure.take().or_else(|| other.payload_failure.clone());
        self.account.merge(&other.account);
    }

    fn merge_steered(&mut self, other: &Self) {
        if !other.steered.is_empty() {
            let steered = Arc::make_mut(&mut self.steered);
            steered.extend(other.steered.iter());
            steered.sort_by_key(|change| change.at);
        }
    }

    /// Whether it was given another rate or shape while it ran.
    #[must_use]
    pub fn was_steered(&self) -> bool {
        let action = |steered: &Steered| matches!(steered.action, SteerAction::Rate | SteerAction::Shape);
        self.steered.iter().any(action)
    }

    /// The best that can still come of a run under way that makes `scheduled` records due in `span`: every
    /// record that is not acked or lost so far is acked, in no time.
    #[must_use]
    pub fn at_best(&self, scheduled: u64, span: Nanos) -> Self {
        let mut best = self.clone();
        (best.scheduled, best.span) = (self.scheduled.max(scheduled), self.span.max(span));
        (best.unsettled, best.backlog_records) = (0, 0);
        (best.in_flight_requests, best.in_flight_bytes) = (0, 0);
        let account = &mut best.account;
        account.ledger.generated = best.scheduled.saturating_sub(account.ledger.dropped);
        let rest = account.ledger.in_flight();
        account.ledger.ack(rest);
        account.entries.add(EntryOutcome::Accepted, rest);
        for times in [
            &mut account.response_time,
            &mut account.schedule_lag,
            &mut account.queue_time,
            &mut account.service_time,
            &mut account.start_lateness,
        ] {
            times.record(0, rest);
        }
        best
    }

    /// Whether every record is accounted for and none is left on its way:
    /// `scheduled = generated + dropped`, `generated = acked + failed + expired`, and no record was
    /// found anywhere else.
    #[must_use]
    pub fn balances(&self) -> bool {
        let ledger = &self.account.ledger;
        self.scheduled == ledger.generated + ledger.dropped && ledger.in_flight() == 0 && self.unsettled == 0
    }

    /// Acked records per second of the schedule, the warmup left out. So is what the drain made up for: a
    /// record that started on time counts whenever its answer comes, one that had to wait only if it was
    /// acked before the schedule ended.
    #[must_use]
    pub fn achieved_rps(&self) -> f64 {
        let span = self.measured_length();
        let account = &self.account;
        let timely = account.ledger.acked - account.warmup.acked - account.acked_late;
        timely as f64 * 1e9 / span as f64
    }

    /// Records per second of the schedule that fell due, the warmup left out.
    #[must_use]
    pub fn scheduled_rps(&self) -> f64 {
        let span = self.measured_length();
        let warmup = self.account.warmup.generated + self.account.warmup.dropped;
        self.scheduled.saturating_sub(warmup) as f64 * 1e9 / span as f64
    }

    /// The share of the measured records that fell due `grace` ago or earlier; 1 once none is on its way, 0
    /// while none fell due. Within a second records count as having come evenly.
    #[must_use]
    pub fn share_due_before(&self, grace: Nanos) -> f64 {
        let measured = self.measured();
        if measured == 0 || self.unsettled == 0 {
            return if measured == 0 { 0.0 } else { 1.0 };
        }
        let from = self.elapsed.saturating_sub(grace);
        let windows = &self.account.windows;
        let closed = windows.iter().map(|window| (window.from, window.span, window.scheduled));
        let ends = windows.iter().map(|window| window.from + window.span).max().unwrap_or(0);
        let counted: u64 = windows.iter().map(|window| window.scheduled).sum();
        let open = (ends, self.elapsed.saturating_sub(ends), self.scheduled.saturating_sub(counted));
        let recent: f64 = closed
            .chain([open])
            .map(|(at, span, scheduled)| {
                let within = (at + span).saturating_sub(at.max(from));
                scheduled as f64 * within as f64 / span.max(1) as f64
            })
            .sum();
        (1.0 - recent / measured as f64).max(0.0)
    }

    /// The share of the run in which something held records back.
    #[must_use]
    pub fn held_share(&self, holdup: Holdup) -> f64 {
        let measured = self.elapsed.saturating_sub(self.paused_for).saturating_sub(self.account.warmup_span);
        // In a pause, too, records may wait.
        if measured == 0 { 0.0 } else { (self.account.held.of(holdup) as f64 / measured as f64).min(1.0) }
    }

    /// How long the schedule has lasted after the warmup.
    #[must_use]
    pub fn measured_span(&self) -> Nanos {
        self.span.saturating_sub(self.account.warmup_span)
    }

    /// The same, to divide by: a schedule of no length, all of it due at once, counts as a second.
    fn measured_length(&self) -> Nanos {
        match self.measured_span() {
            0 => SECOND,
            span => span,
        }
    }

    /// How many records of the schedule fell due after the warmup.
    #[must_use]
    pub fn measured(&self) -> u64 {
        let warmup = &self.account.warmup;
        self.scheduled.saturating_sub(warmup.generated + warmup.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;

    #[test]
    fn at_best_all_that_is_open_is_acked_at_once() {
        // After 1 of 4 s 20 of 1000 records were acked, 5 lost, 3 dropped; the rest is open.
        let mut now = Snapshot::empty();
        (now.span, now.scheduled, now.unsettled) = (SECOND, 250, 222);
        let ledger = &mut now.account.ledger;
        (ledger.generated, ledger.dropped, ledger.acked, ledger.failed) = (247, 3, 20, 5);
        now.account.response_time.record(SECOND, 20);
        let best = now.at_best(1000, 4 * SECOND);
        assert!(best.balances());
        assert_eq!((best.account.ledger.acked, best.account.ledger.lost()), (992, 5));
        assert!((best.achieved_rps() - 248.0).abs() < 1e-9, "{}", best.achieved_rps());
        // 20 of 992 took a second: 2.0 %.
        let slow_from =
            |quantile| best.account.response_time.histogram().value_at_quantile(quantile) > 900_000;
        assert!(!slow_from(0.979) && slow_from(0.981));
        // A run that is over cannot come to anything else.
        assert_eq!(best.at_best(1000, 4 * SECOND).account.ledger, best.account.ledger);
    }
}
