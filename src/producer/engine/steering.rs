//! A running load is given another rate, or stands still for a while.

use super::Engine;
use crate::load::Nanos;
use crate::producer::{Limits, Offered, SteerAction, Steered};
use std::sync::Arc;

impl Engine {
    /// From `now` on something else is offered. What is due by then was due at the old rate. Tells whether it
    /// was changed: a replayed file keeps its times, and a load that drains has nothing to offer.
    pub fn offer(&mut self, offered: &Offered, now: Nanos) -> bool {
        self.issue(now);
        let changed = !self.draining && self.pacer.offer(offered, self.most_waiting, now);
        if changed {
            self.note_steered(offered.action(), now);
            self.take_room();
        }
        changed
    }

    /// From `now` on nothing falls due, and the schedule stands still. What was made is sent.
    pub fn pause(&mut self, now: Nanos) {
        self.issue(now);
        if !self.draining && self.pacer.pause(now) {
            self.note_pause(SteerAction::Pause, now);
        }
    }

    /// The schedule goes on where it stood still.
    pub fn resume(&mut self, now: Nanos) {
        if self.pacer.resume(now) {
            self.note_pause(SteerAction::Resume, now);
        }
    }

    /// From now on each shard may take so much.
    pub fn set_limits(&mut self, limits: Limits) {
        self.backlog.set_limits(limits);
    }

    /// Whether the schedule stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pacer.pauses().is_paused()
    }

    /// What a closed loop made takes the room of records once there is a schedule again.
    fn take_room(&mut self) {
        if !self.pacer.is_closed_loop() {
            let untaken = self.unsettled().saturating_sub(self.taken);
            self.taken += self.room.take_records(untaken);
        }
    }

    fn note_pause(&mut self, action: SteerAction, now: Nanos) {
        self.account.note_pauses(self.pacer.pauses());
        self.note_steered(action, now);
    }

    fn note_steered(&mut self, action: SteerAction, now: Nanos) {
        let rps = self.pacer.rate_of_schedule(now);
        let rps = if action == SteerAction::Pause { Some(0.0) } else { rps };
        Arc::make_mut(&mut self.steered).push(Steered { at: now, action, rps });
    }
}
