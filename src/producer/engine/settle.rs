//! What an answer means for each record of its request.

use super::{Engine, Request};
use crate::kinesis::{Answer, EntryAnswer, EntryError, RequestError, RequestErrorKind, ShardId};
use crate::load::Nanos;
use crate::producer::account::{EntryOutcome, RequestOutcome};
use crate::producer::retry::Verdict;
use crate::producer::{Cause, Entry, Record};

impl Engine {
    /// Settles the records of a request by its answer; gives the reason if it failed as a whole.
    pub fn settle(&mut self, request: Request, answer: Answer, now: Nanos) -> Option<RequestError> {
        self.room.return_requests(1, request.room);
        self.last_answer = now;
        self.account.writing += request.sent - request.left;
        self.account.answering += now.saturating_sub(request.sent);
        self.in_flight.requests -= 1;
        self.in_flight.bytes -= request.room;
        self.in_flight.records -= request.records.len() as u64;
        let failed = match answer {
            Answer::Entries(answers) if answers.len() == request.entries.len() => {
                self.settle_entries(&request, &answers, now);
                None
            }
            Answer::Entries(answers) => {
                let text = format!("{} results for {} entries", answers.len(), request.entries.len());
                Some(RequestError { kind: RequestErrorKind::Malformed, text })
            }
            Answer::Failed(error) => Some(error),
        };
        if let Some(error) = &failed {
            self.settle_failed(&request, error, now);
        }
        self.return_room();
        self.batch.reuse(request.records, request.entries);
        failed
    }

    fn settle_entries(&mut self, request: &Request, answers: &[EntryAnswer], now: Nanos) {
        let mut outcome = RequestOutcome::Ok;
        // Records that are acked one after another are noted together: they have their times in common.
        let (mut acked_from, mut at) = (0, 0);
        for (entry, answer) in request.entries.iter().zip(answers) {
            let own = &request.records[at..][..entry.records as usize];
            match answer {
                EntryAnswer::Accepted(shard) => self.accepted(*entry, own, *shard, now),
                EntryAnswer::Rejected(error) => {
                    self.ack(&request.records[acked_from..at], request.sent, now);
                    acked_from = at + own.len();
                    outcome = RequestOutcome::Partial;
                    self.account.entries.add(EntryOutcome::Rejected(*error), 1);
                    if *error == EntryError::Throttled {
                        self.throttled(*entry, now);
                    }
                    let resent = self.fail_attempt(own, Cause::Entry(*error), false, now);
                    self.account.retried_entries += u64::from(resent);
                }
            }
            at += own.len();
        }
        self.ack(&request.records[acked_from..at], request.sent, now);
        self.account.requests.add(outcome, 1);
    }

    /// Notes that `shard` took an entry of these records.
    fn accepted(&mut self, entry: Entry, records: &[Record], shard: ShardId, now: Nanos) {
        self.account.entries.add(EntryOutcome::Accepted, 1);
        self.account.accepted_bytes += u64::from(entry.bytes);
        self.account.billed.add(u64::from(entry.bytes));
        let mut place = self.accounts[entry.slot as usize];
        if self.backlog.shard(entry.slot).id != shard {
            for record in records {
                self.account.note(record.intended, |ledger| ledger.misrouted += 1);
            }
            self.map_is_stale = true;
            self.backlog.misrouted(shard, entry.bytes as usize, now);
            place = self.account.shard(self.stream, shard);
        }
        let shard = &mut self.account.shards[place];
        shard.accepted += 1;
        shard.acked += records.len() as u64;
    }

    fn throttled(&mut self, entry: Entry, now: Nanos) {
        self.account.throttled_entries += 1;
        self.account.shards[self.accounts[entry.slot as usize]].throttled += 1;
        self.backlog.throttled(entry.slot, entry.bytes as usize, now);
    }

    fn ack(&mut self, records: &[Record], sent: Nanos, now: Nanos) {
        if records.is_empty() {
            return;
        }
        self.pacer.acked(now);
        self.account.ack(records, sent, now, &mut self.tally);
        self.forget(records);
        if self.pacer.ended().is_some_and(|end| now > end) {
            let late = records.iter().filter(|record| sent > record.intended + self.on_time);
            self.account.acked_late +=
                late.filter(|record| self.account.measures(record.intended)).count() as u64;
        }
        if let Some(witness) = &mut self.witness {
            witness.acked(records.iter().map(|record| record.n).collect(), sent, now);
        }
    }

    fn settle_failed(&mut self, request: &Request, error: &RequestError, now: Nanos) {
        let entries = request.entries.len() as u64;
        self.account.requests.add(RequestOutcome::Failed(error.kind), 1);
        self.account.entries.add(EntryOutcome::RequestFailed, entries);
        if error.kind == RequestErrorKind::Throttled {
            for entry in &request.entries {
                self.throttled(*entry, now);
            }
        }
        let cause = Cause::Request(error.kind);
        if error.kind == RequestErrorKind::Fatal {
            for record in &request.records {
                self.account.note(record.intended, |ledger| ledger.fail_many(1, cause));
            }
            self.forget(&request.records);
            self.fatal.get_or_insert_with(|| error.clone());
            self.stop(now);
            self.give_up_waiting(cause);
            return;
        }
        let open = error.kind.leaves_fate_open();
        let mut rest = request.records.as_slice();
        for entry in &request.entries {
            let (own, others) = rest.split_at(entry.records as usize);
            rest = others;
            let resent = self.fail_attempt(own, cause, open, now);
            self.account.retried_entries += u64::from(resent);
        }
    }

    /// Each record of a failed entry by the retry policy; tells whether any will be sent again.
    fn fail_attempt(&mut self, records: &[Record], cause: Cause, fate_open: bool, now: Nanos) -> bool {
        let mut resent = false;
        for record in records {
            let mut record = *record;
            record.last_failure = Some(cause);
            record.fate_open |= fate_open;
            let draw = self.jitter.unit(record.n ^ u64::from(record.attempts) << 48);
            let verdict = self.retry.verdict(&record, now, draw);
            match verdict {
                Verdict::Resend(_) if self.fatal.is_some() => {
                    self.account.note(record.intended, |ledger| ledger.fail(&record, cause));
                }
                Verdict::Resend(at) => {
                    self.retries.push(record, at);
                    resent = true;
                    continue;
                }
                Verdict::Expired => self.account.note(record.intended, |ledger| ledger.expire(&record)),
                Verdict::Exhausted => {
                    self.account.note(record.intended, |ledger| ledger.fail(&record, cause));
                }
            }
            self.source.forget(record.n);
        }
        resent
    }
}
