use crate::load::{Nanos, Schedule, Starts, Stride};
use std::collections::VecDeque;

/// What drives the load.
#[derive(Clone, Debug)]
pub enum Pace {
    /// Open loop: records fall due by a schedule, whatever becomes of them.
    Open(Schedule),
    /// Open loop: records fall due as they come, each with its intended start (a replayed file).
    Arriving,
    /// Closed loop (`--rps max`): a record is due as soon as there is room to send it.
    Closed {
        /// Records of the run; `u64::MAX` without an end.
        total: u64,
        /// When generating ends.
        until: Nanos,
        /// Records that wait to be sent, at most.
        waiting: u64,
    },
}

/// Hands out record numbers with their intended starts, each exactly once.
#[derive(Debug)]
pub struct Pacer {
    drive: Drive,
    stride: Stride,
    // This engine's records that were made due, and of them those that were handed out or dropped.
    scheduled: u64,
    issued: u64,
    ended: Option<Nanos>,
}

#[derive(Debug)]
enum Drive {
    Open(Box<Starts>),
    Arriving { starts: VecDeque<Nanos>, last: Option<Nanos> },
    Closed { total: u64, until: Nanos, waiting: u64 },
}

impl Pacer {
    /// The share `stride` of `pace`.
    #[must_use]
    pub fn new(pace: Pace, stride: Stride) -> Self {
        let drive = match pace {
            Pace::Open(schedule) => Drive::Open(Box::new(Starts::new(schedule))),
            Pace::Arriving => Drive::Arriving { starts: VecDeque::new(), last: None },
            Pace::Closed { total, until, waiting } => Drive::Closed { total, until, waiting },
        };
        Self { drive, stride, scheduled: 0, issued: 0, ended: None }
    }

    /// Whether records are due by room, not by schedule.
    #[must_use]
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.drive, Drive::Closed { .. })
    }

    /// How many records may wait to be sent in a closed loop; none in an open one, where the schedule
    /// says.
    #[must_use]
    pub fn most_waiting(&self) -> u64 {
        match self.drive {
            Drive::Closed { waiting, .. } => waiting,
            _ => 0,
        }
    }

    /// How many records are due and not handed out; in a closed loop, how many may be.
    pub fn due(&mut self, now: Nanos) -> u64 {
        match &mut self.drive {
            Drive::Open(starts) => {
                self.scheduled = self.stride.share(starts.due(now)).max(self.scheduled);
                self.scheduled - self.issued
            }
            Drive::Arriving { starts, .. } => starts.len() as u64,
            Drive::Closed { total, until, .. } if now < *until => self.stride.share(*total) - self.issued,
            Drive::Closed { .. } => 0,
        }
    }

    /// A record arrives that was meant to start at `start`.
    pub fn arrive(&mut self, start: Nanos) {
        if let Drive::Arriving { starts, .. } = &mut self.drive {
            starts.push_back(start);
            self.scheduled += 1;
        }
    }

    /// The last record has arrived; the load lasts until `span`.
    pub fn arrived_all(&mut self, span: Nanos) {
        if let Drive::Arriving { last, .. } = &mut self.drive {
            last.get_or_insert(span);
        }
    }

    /// How many of this engine's records fell due, as of the last [`Pacer::due`].
    #[must_use]
    pub fn scheduled(&self) -> u64 {
        if self.is_closed_loop() { self.issued } else { self.scheduled }
    }

    /// The next record: its number in the run and its intended start.
    pub fn next(&mut self, now: Nanos) -> (u64, Nanos) {
        let n = self.stride.record(self.issued);
        self.issued += 1;
        match &mut self.drive {
            Drive::Open(starts) => (n, starts.start(n).unwrap_or(now)),
            Drive::Arriving { starts, .. } => (n, starts.pop_front().unwrap_or(now)),
            Drive::Closed { .. } => (n, now),
        }
    }

    /// Passes over `records` due records: they are dropped. Their numbers are those returned.
    pub fn skip(&mut self, records: u64) -> impl Iterator<Item = u64> + use<> {
        let (first, stride) = (self.issued, self.stride);
        self.issued += records;
        if let Drive::Arriving { starts, .. } = &mut self.drive {
            starts.drain(..usize::try_from(records).map_or(starts.len(), |n| n.min(starts.len())));
        }
        (first..first + records).map(move |k| stride.record(k))
    }

    /// When the next record falls due; `None` in a closed loop, where they arrive, and after the last.
    pub fn next_due(&mut self) -> Option<Nanos> {
        match &mut self.drive {
            _ if self.ended.is_some() => None,
            Drive::Open(starts) => {
                let next = starts.start(self.stride.record(self.issued));
                next.into_iter().chain(starts.schedule().ends()).min()
            }
            Drive::Arriving { last, .. } => *last,
            Drive::Closed { until, .. } => Some(*until),
        }
    }

    /// Ends generating at `now`: what is due by then stays due.
    pub fn stop(&mut self, now: Nanos) {
        if self.ended.is_some() {
            return;
        }
        match &mut self.drive {
            Drive::Open(starts) => starts.stop(now),
            Drive::Arriving { last, .. } => *last = Some(now),
            Drive::Closed { until, .. } => *until = now,
        }
        self.ended = Some(now);
    }

    /// Notes the end of the schedule once every record was handed out; tells whether it was.
    pub fn check_end(&mut self, now: Nanos) -> bool {
        let due = self.due(now);
        if self.ended.is_none() && (due == 0 || self.is_closed_loop()) {
            let next = self.stride.record(self.issued);
            self.ended = match &mut self.drive {
                Drive::Open(starts) => starts.ended(next, now),
                Drive::Arriving { last, .. } => last.filter(|&last| now >= last),
                Drive::Closed { total, until, .. } => {
                    (now >= *until || self.issued >= self.stride.share(*total)).then_some(now.min(*until))
                }
            };
        }
        self.ended.is_some() && due == 0
    }

    /// Notes that records were acked at `now`: a closed loop of so many records lasts until the last
    /// answer.
    pub fn acked(&mut self, now: Nanos) {
        if let (Drive::Closed { until, .. }, Some(ended)) = (&self.drive, &mut self.ended)
            && now < *until
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

    /// The rate that is offered at `now`, in records per second; `None` where no schedule says.
    #[must_use]
    pub fn rate_at(&self, now: Nanos) -> Option<f64> {
        match &self.drive {
            Drive::Open(starts) if self.ended.is_none() => Some(starts.schedule().shape().rate_at(now)),
            Drive::Open(_) => Some(0.0),
            // Of a file what has come so far says.
            Drive::Arriving { .. } => Some(self.scheduled as f64 * 1e9 / now.max(1) as f64),
            Drive::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Arrivals, Rate, SECOND, Shape};

    fn schedule(total: u64) -> Schedule {
        let shape = Shape::constant(Rate::from_thousandths(1_000_000).unwrap());
        Schedule::new(shape, Arrivals::Even, 0).records(total)
    }

    #[test]
    fn an_open_loop_hands_out_what_is_due() {
        let mut pacer = Pacer::new(Pace::Open(schedule(1_500)), Stride { index: 1, of: 2 });
        assert_eq!(pacer.due(SECOND), 500);
        assert_eq!(pacer.next(SECOND), (1, SECOND / 1000));
        assert_eq!(pacer.skip(499).collect::<Vec<_>>()[0], 3);
        assert!(!pacer.check_end(SECOND));
        assert_eq!(pacer.due(10 * SECOND), 250);
        let _ = pacer.skip(250);
        assert!(pacer.check_end(10 * SECOND));
        assert_eq!(pacer.span(10 * SECOND), SECOND + SECOND / 2);
        assert_eq!(pacer.next_due(), None);
    }

    #[test]
    fn a_stop_keeps_what_is_due() {
        let mut pacer = Pacer::new(Pace::Open(schedule(u64::MAX)), Stride::WHOLE);
        let _ = pacer.skip(400);
        pacer.stop(SECOND / 2);
        assert!(!pacer.check_end(SECOND / 2));
        assert_eq!(pacer.due(9 * SECOND), 101);
        let _ = pacer.skip(101);
        assert!(pacer.check_end(9 * SECOND));
        assert_eq!(pacer.span(9 * SECOND), SECOND / 2);
    }

    #[test]
    fn arriving_records_keep_their_starts() {
        let mut pacer = Pacer::new(Pace::Arriving, Stride::WHOLE);
        for start in [5, 6, 9] {
            pacer.arrive(start);
        }
        assert_eq!((pacer.due(9), pacer.scheduled(), pacer.next(9)), (3, 3, (0, 5)));
        assert_eq!(pacer.skip(1).collect::<Vec<_>>(), [1]);
        assert_eq!(pacer.next(9), (2, 9));
        assert!(!pacer.check_end(10));
        pacer.arrived_all(12);
        assert!(!pacer.check_end(11) && pacer.next_due() == Some(12) && pacer.check_end(12));
        assert_eq!(pacer.span(20), 12);
    }

    #[test]
    fn a_closed_loop_ends_by_time_or_count() {
        let mut pacer =
            Pacer::new(Pace::Closed { total: u64::MAX, until: SECOND, waiting: 9 }, Stride::WHOLE);
        assert_eq!(pacer.next(5), (0, 5));
        assert!(!pacer.check_end(SECOND - 1));
        assert!(pacer.check_end(SECOND + 7));
        assert_eq!((pacer.scheduled(), pacer.span(SECOND + 7)), (1, SECOND));
        let mut pacer = Pacer::new(Pace::Closed { total: 2, until: u64::MAX, waiting: 9 }, Stride::WHOLE);
        let _ = pacer.skip(2);
        assert!(pacer.check_end(3));
        pacer.acked(9);
        assert_eq!(pacer.span(20), 9);
    }
}
