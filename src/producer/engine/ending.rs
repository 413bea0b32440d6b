//! How a run ends before its records do.

use super::Engine;
use crate::load::Nanos;
use crate::producer::account::RequestOutcome;
use crate::producer::{Cause, FlushReason};

impl Engine {
    /// Closes the account of a run that is done.
    pub fn finish(&mut self, now: Nanos) {
        self.room.leave_queue(self.member);
        self.tally.pour_into(&mut self.account);
        self.windows.close(&mut self.account, self.pacer.scheduled(), now);
    }

    /// Ends generating: what is due by `now` is still sent, nothing after it.
    pub fn stop(&mut self, now: Nanos) {
        self.issue(now);
        self.pacer.stop(now);
        // A pause ends with it.
        self.account.note_pauses(self.pacer.pauses());
    }

    /// Gives up every record that is not settled, in flight or waiting.
    pub fn abandon(&mut self, now: Nanos) {
        self.stop(now);
        self.draining = true;
        self.give_up_waiting(Cause::NeverSent);
        let unanswered = std::mem::take(&mut self.in_flight);
        self.room.return_requests(unanswered.requests, unanswered.bytes);
        self.room.leave_queue(self.member);
        self.account.requests.add(RequestOutcome::Unanswered, unanswered.requests as u64);
        self.account.ledger.fail_many(unanswered.records, Cause::Unanswered);
        let warmup = self.account.warmup.in_flight();
        self.account.warmup.fail_many(warmup, Cause::Unanswered);
        self.return_room();
    }

    pub(super) fn give_up_waiting(&mut self, otherwise: Cause) {
        let mut waiting = self.backlog.drain();
        waiting.extend(std::iter::from_fn(|| self.retries.pop()));
        waiting.extend(self.batch.seal(FlushReason::Drain).records);
        for record in waiting {
            self.account.note(record.intended, |ledger| ledger.fail(&record, otherwise));
        }
    }
}
