use crate::load::{Nanos, Schedule, Stride};

/// What drives the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Open loop: records fall due by a schedule, whatever becomes of them.
    Open(Schedule),
    /// Closed loop (`--rps max`): a record is due as soon as there is room to send it.
    Closed {
        /// Records of the run; `u64::MAX` without an end.
        total: u64,
        /// When generating ends.
        until: Nanos,
    },
}

/// Hands out record numbers with their intended starts, each exactly once.
#[derive(Clone, Debug)]
pub struct Pacer {
    pace: Pace,
    stride: Stride,
    // This engine's records that were handed out or dropped.
    issued: u64,
    ended: Option<Nanos>,
}

impl Pacer {
    /// The share `stride` of `pace`.
    #[must_use]
    pub fn new(pace: Pace, stride: Stride) -> Self {
        Self { pace, stride, issued: 0, ended: None }
    }

    /// Whether records are due by room, not by schedule.
    #[must_use]
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.pace, Pace::Closed { .. })
    }

    /// How many records are due and not handed out; in a closed loop, how many may be.
    #[must_use]
    pub fn due(&self, now: Nanos) -> u64 {
        match self.pace {
            Pace::Open(schedule) => self.stride.share(schedule.due(now)) - self.issued,
            Pace::Closed { total, until } if now < until => self.stride.share(total) - self.issued,
            Pace::Closed { .. } => 0,
        }
    }

    /// How many of this engine's records the schedule made due by `now`.
    #[must_use]
    pub fn scheduled(&self, now: Nanos) -> u64 {
        match self.pace {
            Pace::Open(schedule) => self.stride.share(schedule.due(now)),
            Pace::Closed { .. } => self.issued,
        }
    }

    /// The next record: its number in the run and its intended start.
    pub fn next(&mut self, now: Nanos) -> (u64, Nanos) {
        let n = self.stride.record(self.issued);
        self.issued += 1;
        match self.pace {
            Pace::Open(schedule) => (n, schedule.start(n)),
            Pace::Closed { .. } => (n, now),
        }
    }

    /// Passes over `records` due records: they are dropped.
    pub fn skip(&mut self, records: u64) {
        self.issued += records;
    }

    /// When the next record falls due; `None` in a closed loop and after the last.
    #[must_use]
    pub fn next_due(&self) -> Option<Nanos> {
        match self.pace {
            _ if self.ended.is_some() => None,
            Pace::Open(schedule) => {
                let next = schedule.start(self.stride.record(self.issued));
                Some(schedule.ends().map_or(next, |ends| next.min(ends)))
            }
            Pace::Closed { until, .. } => Some(until),
        }
    }

    /// Ends generating at `now`: what is due by then stays due.
    pub fn stop(&mut self, now: Nanos) {
        if self.ended.is_some() {
            return;
        }
        match &mut self.pace {
            Pace::Open(schedule) => schedule.stop(now),
            Pace::Closed { until, .. } => *until = now,
        }
        self.ended = Some(now);
    }

    /// Notes the end of the schedule once every record was handed out; tells whether it was.
    pub fn check_end(&mut self, now: Nanos) -> bool {
        if self.ended.is_none() {
            self.ended = match self.pace {
                Pace::Open(schedule) => schedule
                    .total()
                    .filter(|&total| self.issued >= self.stride.share(total))
                    .filter(|_| schedule.ends().is_none_or(|ends| now >= ends))
                    .and_then(|_| schedule.span()),
                Pace::Closed { total, until } => {
                    (now >= until || self.issued >= self.stride.share(total)).then_some(now.min(until))
                }
            };
        }
        self.ended.is_some() && self.due(now) == 0
    }

    /// Notes that records were acked at `now`: a closed loop of so many records lasts until the last
    /// answer.
    pub fn acked(&mut self, now: Nanos) {
        if let (Pace::Closed { until, .. }, Some(ended)) = (self.pace, &mut self.ended)
            && now < until
        {
            *ended = now;
        }
    }

    /// When the schedule ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Nanos> {
        self.ended
    }

    /// How long the schedule lasted: to its end, or so far. The drain is not part of it.
    #[must_use]
    pub fn span(&self, now: Nanos) -> Nanos {
        self.ended.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Rate, SECOND};

    fn schedule(total: u64) -> Schedule {
        Schedule::constant(Rate::from_thousandths(1_000_000).unwrap(), total)
    }

    #[test]
    fn an_open_loop_hands_out_what_is_due() {
        let mut pacer = Pacer::new(Pace::Open(schedule(1_500)), Stride { index: 1, of: 2 });
        assert_eq!(pacer.due(SECOND), 500);
        assert_eq!(pacer.next(SECOND), (1, SECOND / 1000));
        pacer.skip(499);
        assert!(!pacer.check_end(SECOND));
        assert_eq!(pacer.due(10 * SECOND), 250);
        pacer.skip(250);
        assert!(pacer.check_end(10 * SECOND));
        assert_eq!(pacer.span(10 * SECOND), SECOND + SECOND / 2);
        assert_eq!(pacer.next_due(), None);
    }

    #[test]
    fn a_stop_keeps_what_is_due() {
        let mut pacer = Pacer::new(Pace::Open(schedule(u64::MAX)), Stride::WHOLE);
        pacer.skip(400);
        pacer.stop(SECOND / 2);
        assert!(!pacer.check_end(SECOND / 2));
        assert_eq!(pacer.due(9 * SECOND), 101);
        pacer.skip(101);
        assert!(pacer.check_end(9 * SECOND));
        assert_eq!(pacer.span(9 * SECOND), SECOND / 2);
    }

    #[test]
    fn a_closed_loop_ends_by_time_or_count() {
        let mut pacer = Pacer::new(Pace::Closed { total: u64::MAX, until: SECOND }, Stride::WHOLE);
        assert_eq!(pacer.next(5), (0, 5));
        assert!(!pacer.check_end(SECOND - 1));
        assert!(pacer.check_end(SECOND + 7));
        assert_eq!((pacer.scheduled(SECOND + 7), pacer.span(SECOND + 7)), (1, SECOND));
        let mut pacer = Pacer::new(Pace::Closed { total: 2, until: u64::MAX }, Stride::WHOLE);
        pacer.skip(2);
        assert!(pacer.check_end(3));
        pacer.acked(9);
        assert_eq!(pacer.span(20), 9);
    }
}
