//! What holds records back: room in flight, or the limits of their shards.

use super::Engine;
use crate::load::{Nanos, SECOND};
use crate::producer::{Encoder, Holdup};

/// After so long without an answer it is the stream that keeps requests in flight, not their bound.
const SILENCE: Nanos = SECOND;

impl Engine {
    /// Notes what is waited for when no batch is due to leave.
    pub(super) fn note_wait(&mut self) {
        // A closed loop makes nothing that there is no room to send.
        if self.pacer.is_closed_loop() && !self.draining && !self.is_paused() && !self.has_room() {
            self.holdup = Some(Holdup::InFlight);
            self.room.queue(self.member);
        } else {
            self.holdup = self.backlog.is_blocked().then_some(Holdup::ShardLimit);
            self.room.leave_queue(self.member);
        }
    }

    /// Adds the time since the last poll to what held records back.
    pub(super) fn note_holdup(&mut self, now: Nanos) {
        if let Some(mut holdup) = self.holdup.take() {
            if holdup == Holdup::InFlight && now.saturating_sub(self.last_answer) > SILENCE {
                holdup = Holdup::NoAnswer;
            }
            self.account.hold(holdup, now - self.last_poll);
        }
        self.last_poll = now;
        if self.account.warmup_ends(now) {
            self.account.end_warmup();
        }
    }

    /// Whether there is room in flight for the batch, as it is.
    ///
    /// In a closed loop, for two: there they are made two at a time, as two bodies are hashed in the time of
    /// one. Each answer makes room for one alone; without waiting for a second, half of the bodies were
    /// hashed by themselves.
    pub(super) fn has_room(&self) -> bool {
        let bytes = self.body_len();
        if self.pacer.is_closed_loop() && !self.draining && !self.half_pair {
            self.room.fits_two(bytes.max(self.last_room), self.member)
        } else {
            self.room.fits(bytes, self.member)
        }
    }

    /// About how long the body of the batch will be.
    pub(super) fn body_len(&self) -> usize {
        Encoder::body_len(self.batch.entry_count(), self.batch.bytes())
    }

    /// Whether a batch waits for room in flight, which another engine may free.
    #[must_use]
    pub fn waits_for_room(&self) -> bool {
        self.holdup == Some(Holdup::InFlight)
    }

    /// Whether another engine waits for room in flight.
    #[must_use]
    pub fn others_wait(&self) -> bool {
        self.room.is_waited_for() && !self.waits_for_room()
    }
}
