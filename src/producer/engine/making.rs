//! Records on their way into the backlog: new ones as they fall due, and failed ones again.

use super::Engine;
use crate::kinesis::md5::LANES;
use crate::load::Nanos;
use crate::producer::Record;

/// Records made at a time in a closed loop.
const CHUNK: u64 = 500;

impl Engine {
    /// Moves the failed records whose pause is over back to their shards.
    pub(super) fn resend(&mut self, now: Nanos) {
        while let Some(record) = self.retries.pop_due(now) {
            self.backlog.push_again(record, &self.source, now);
        }
    }

    /// Makes the records that are due, and drops those that the backlog has no room for.
    pub(super) fn issue(&mut self, now: Nanos) {
        if self.pacer.is_closed_loop() {
            return;
        }
        self.read_feed(now);
        let due = self.pacer.due(now);
        if due == 0 {
            return;
        }
        // What is in flight may come back, so it takes room too.
        let fitting = self.room.take_records(due - self.unkept());
        self.taken += fitting;
        self.make(fitting, now);
        let dropped = due - fitting;
        self.account.unkept += self.unkept();
        for n in self.pacer.skip(dropped).filter(|_| self.feeding.is_some()) {
            self.source.forget(n);
        }
        self.account.note(now, |ledger| ledger.drop(dropped));
    }

    /// Gives back the room of records that were settled.
    pub(super) fn return_room(&mut self) {
        let settled = self.taken.saturating_sub(self.unsettled());
        self.taken -= settled;
        self.room.return_records(settled);
    }

    fn make(&mut self, records: u64, now: Nanos) {
        let (mut due, mut made) = ([(0, 0); LANES], [Record::new(0, 0, 0, 0); LANES]);
        let mut left = records;
        while left > 0 {
            let count = usize::try_from(left).unwrap_or(LANES).min(LANES);
            left -= count as u64;
            for due in &mut due[..count] {
                *due = self.pacer.next(now);
            }
            self.source.ahead(due[..count].iter().map(|(n, _)| *n));
            for (record, &(n, intended)) in made.iter_mut().zip(&due[..count]) {
                let payload_len = self.source.payload_len(n, intended);
                *record = Record::new(n, intended, payload_len, self.source.key_len(n)).made_at(now);
                self.heat.count(&self.source, record);
            }
            self.account.generate(&made[..count], now, &mut self.tally);
            self.backlog.push(&made[..count], &self.source, now);
        }
    }

    /// In a closed loop: makes some records, if there is room to send more than what is made; tells whether.
    pub(super) fn make_more(&mut self, now: Nanos) -> bool {
        let wants_more = self.pacer.is_closed_loop()
            && self.batch.is_open()
            && !self.backlog.has_ready()
            && self.waiting() < self.pacer.most_waiting()
            && self.has_room();
        let due = if wants_more { self.pacer.due(now) } else { 0 };
        self.make(CHUNK.min(due), now);
        due > 0
    }
}
