use super::Offered;
use crate::load::{Arrivals, Nanos, Pauses, Schedule, Starts, Stride};
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
///
/// Times that are passed in and given are the run's; the schedule, its end and the times of a replayed file
/// have a time of their own, which stands still in a pause.
#[derive(Debug)]
pub struct Pacer {
    drive: Drive,
    stride: Stride,
    pauses: Pauses,
    // This engine's records that were made due, and of them those that were handed out or dropped.
    scheduled: u64,
    issued: u64,
    ended: Option<End>,
}

/// The end of a schedule, in the time of the run and in its own.
#[derive(Clone, Copy, Debug)]
struct End {
    at: Nanos,
    span: Nanos,
}

#[derive(Debug)]
enum Drive {
    Open(Box<Starts>),
    Arriving {
        starts: VecDeque<Nanos>,
        last: Option<Nanos>,
    },
    Closed {
        total: u64,
        until: Nanos,
        waiting: u64,
        // How records arrive once there is a rate again.
        arrivals: (Arrivals, u64),
    },
}

impl Pacer {
    /// The share `stride` of `pace`.
    #[must_use]
    pub fn new(pace: Pace, stride: Stride) -> Self {
        let drive = match pace {
            Pace::Open(schedule) => Drive::Open(Box::new(Starts::new(schedule))),
            Pace::Arriving => Drive::Arriving { starts: VecDeque::new(), last: None },
            Pace::Closed { total, until, waiting } => {
                Drive::Closed { total, until, waiting, arrivals: (Arrivals::Even, 0) }
            }
        };
        Self { drive, stride, pauses: Pauses::default(), scheduled: 0, issued: 0, ended: None }
    }

    /// Whether records are due by room, not by schedule.
    #[must_use]
    pub fn is_closed_loop(&self) -> bool {
        matches!(self.drive, Drive::Closed { .. })
    }

    /// Whether records come from a file, at its times.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        matches!(self.drive, Drive::Arriving { .. })
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
        let at = self.pauses.schedule_time(now);
        match &mut self.drive {
            Drive::Open(starts) => {
                self.scheduled = self.stride.share(starts.due(at)).max(self.scheduled);
                self.scheduled - self.issued
            }
            Drive::Arriving { starts, .. } => starts.len() as u64,
            Drive::Closed { total, until, .. } if at < *until && !self.pauses.is_paused() => {
                self.stride.share(*total) - self.issued
            }
            Drive::Closed { .. } => 0,
        }
    }

    /// A record arrives that was meant to start at `start`, in the time of the schedule, which is past.
    pub fn arrive(&mut self, start: Nanos) {
        if let Drive::Arriving { starts, .. } = &mut self.drive {
            starts.push_back(self.pauses.run_time(start).unwrap_or(start));
            self.scheduled += 1;
        }
    }

    /// The last record has arrived; the load lasts until `span`, in the time of the schedule.
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
        let start = match &mut self.drive {
            Drive::Open(starts) => starts.start(n).and_then(|start| self.pauses.run_time(start)),
            Drive::Arriving { starts, .. } => starts.pop_front(),
            Drive::Closed { .. } => None,
        };
        (n, start.unwrap_or(now))
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

    /// When the next record falls due; `None` in a closed loop, where they arrive, in a pause, and after
    /// the last.
    pub fn next_due(&mut self) -> Option<Nanos> {
        let next = match &mut self.drive {
            _ if self.ended.is_some() => None,
            Drive::Open(starts) => {
                let next = starts.start(self.stride.record(self.issued));
                next.into_iter().chain(starts.schedule().ends()).min()
            }
            Drive::Arriving { last, .. } => *last,
            Drive::Closed { until, .. } => Some(*until),
        };
        next.and_then(|next| self.pauses.run_time(next))
    }

    /// The schedule stands still from `now` on; tells whether it went on before. What is due by then stays
    /// due, and is to be handed out first.
    pub fn pause(&mut self, now: Nanos) -> bool {
        self.ended.is_none() && self.pauses.begin(now)
    }

    /// The schedule goes on at `now`, where it stood still; tells whether it did.
    pub fn resume(&mut self, now: Nanos) -> bool {
        self.pauses.end(now)
    }

    /// The pauses so far.
    #[must_use]
    pub fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// From `now` on something else is offered; what is due by then stays due, and is to be handed out
    /// first. The end stays where it is. `waiting`: as in [`Pace::Closed`]. Tells whether it was changed: a
    /// replayed file has its own times, and what has ended is over.
    pub fn offer(&mut self, offered: &Offered, waiting: u64, now: Nanos) -> bool {
        let at = self.pauses.schedule_time(now);
        if self.ended.is_some() {
            return false;
        }
        let first = self.stride.record(self.issued);
        match (&mut self.drive, offered.shape()) {
            (Drive::Open(starts), Some(shape)) => {
                if starts.schedule().ends().is_some_and(|ends| at >= ends) {
                    return false;
                }
                starts.turn(at, shape);
            }
            (Drive::Open(starts), None) => {
                let schedule = starts.schedule();
                let until = schedule.ends().unwrap_or(Nanos::MAX);
                let (total, arrivals) = (schedule.total(), schedule.arrivals());
                self.drive = Drive::Closed { total, until, waiting, arrivals };
            }
            (Drive::Closed { total, until, arrivals: (arrivals, seed), .. }, Some(shape)) => {
                let schedule = Schedule::new(shape, *arrivals, *seed).records(*total);
                let schedule = if *until == Nanos::MAX { schedule } else { schedule.until(*until) };
                self.drive = Drive::Open(Box::new(Starts::new(schedule.beginning(at, first))));
                self.scheduled = self.issued;
            }
            (Drive::Closed { .. }, None) | (Drive::Arriving { .. }, _) => return false,
        }
        true
    }

    /// Ends generating at `now`: what is due by then stays due. So does a pause.
    pub fn stop(&mut self, now: Nanos) {
        if self.ended.is_some() {
            return;
        }
        let at = self.pauses.schedule_time(now);
        match &mut self.drive {
            Drive::Open(starts) => starts.stop(at),
            Drive::Arriving { last, .. } => *last = Some(at),
            Drive::Closed { until, .. } => *until = at,
        }
        self.pauses.end(now);
        self.ended = Some(End { at: now, span: at });
    }

    /// Notes the end of the schedule once every record was handed out; tells whether it was.
    pub fn check_end(&mut self, now: Nanos) -> bool {
        let due = self.due(now);
        if self.ended.is_none() && (due == 0 || self.is_closed_loop()) {
            let next = self.stride.record(self.issued);
            let at = self.pauses.schedule_time(now);
            let span = match &mut self.drive {
                Drive::Open(starts) => starts.ended(next, at),
                Drive::Arriving { last, .. } => last.filter(|&last| at >= last),
                Drive::Closed { total, until, .. } => {
                    (at >= *until || self.issued >= self.stride.share(*total)).then_some(at.min(*until))
                }
            };
            if let Some(span) = span {
                let at = self.pauses.run_time(span).unwrap_or(now);
                self.pauses.end(now);
                self.ended = Some(End { at, span });
            }
        }
        self.ended.is_some() && due == 0
    }

    /// Notes that records were acked at `now`: a closed loop of so many records lasts until the last
    /// answer.
    pub fn acked(&mut self, now: Nanos) {
        if let (Drive::Closed { until, .. }, Some(ended)) = (&self.drive, &mut self.ended) {
            let span = self.pauses.schedule_time(now);
            if span < *until {
                *ended = End { at: now, span };
            }
        }
    }

    /// When the schedule ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Nanos> {
        self.ended.map(|end| end.at)
    }

    /// How long the schedule lasted: to its end, or so far. Pauses and the drain are not part of it.
    #[must_use]
    pub fn span(&self, now: Nanos) -> Nanos {
        self.ended.map_or_else(|| self.pauses.schedule_time(now), |end| end.span)
    }

    /// How much of the schedule is left at `now`, where that is known.
    #[must_use]
    pub fn left(&self, now: Nanos) -> Option<Nanos> {
        let whole = match &self.drive {
            _ if self.ended.is_some() => return Some(0),
            Drive::Open(starts) => starts.schedule().span(),
            Drive::Arriving { last, .. } => *last,
            Drive::Closed { until, .. } => Some(*until).filter(|until| *until != Nanos::MAX),
        };
        whole.map(|whole| whole.saturating_sub(self.pauses.schedule_time(now)))
    }

    /// The rate that is offered at `now`, in records per second: none in a pause; `None` where no schedule
    /// says.
    #[must_use]
    pub fn rate_at(&self, now: Nanos) -> Option<f64> {
        self.rate_of_schedule(now).map(|rate| if self.pauses.is_paused() { 0.0 } else { rate })
    }

    /// The rate that the schedule offers at `now`, or would but for a pause.
    #[must_use]
    pub fn rate_of_schedule(&self, now: Nanos) -> Option<f64> {
        let at = self.pauses.schedule_time(now);
        match &self.drive {
            Drive::Open(starts) if self.ended.is_none() => Some(starts.schedule().course().rate_at(at)),
            Drive::Open(_) => Some(0.0),
            // Of a file what has come so far says.
            Drive::Arriving { .. } => Some(self.scheduled as f64 * 1e9 / at.max(1) as f64),
            Drive::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Rate, SECOND, Shape};
    use proptest::prelude::*;

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

    #[test]
    fn a_pause_puts_everything_off() {
        let mut pacer = Pacer::new(Pace::Open(schedule(1_500)), Stride::WHOLE);
        assert_eq!(pacer.due(SECOND), 1001);
        let _ = pacer.skip(1001);
        assert!(pacer.pause(SECOND) && !pacer.pause(SECOND));
        assert_eq!((pacer.due(5 * SECOND), pacer.next_due(), pacer.rate_at(SECOND)), (0, None, Some(0.0)));
        assert_eq!((pacer.left(5 * SECOND), pacer.span(5 * SECOND)), (Some(SECOND / 2), SECOND));
        assert!(pacer.resume(9 * SECOND) && !pacer.resume(9 * SECOND));
        assert_eq!((pacer.next_due(), pacer.due(9 * SECOND)), (Some(9 * SECOND + SECOND / 1000), 0));
        assert_eq!(pacer.due(20 * SECOND), 499);
        assert_eq!(pacer.next(20 * SECOND), (1001, 9 * SECOND + SECOND / 1000));
        let _ = pacer.skip(498);
        assert!(pacer.check_end(20 * SECOND));
        assert_eq!(
            (pacer.span(20 * SECOND), pacer.ended()),
            (SECOND + SECOND / 2, Some(9 * SECOND + SECOND / 2))
        );
    }

    #[test]
    fn a_stop_ends_a_pause() {
        let mut pacer = Pacer::new(Pace::Open(schedule(u64::MAX)), Stride::WHOLE);
        let _ = pacer.due(SECOND);
        let _ = pacer.skip(1001);
        pacer.pause(SECOND);
        pacer.stop(4 * SECOND);
        assert!(pacer.check_end(4 * SECOND));
        assert_eq!((pacer.span(9 * SECOND), pacer.pauses().total(9 * SECOND)), (SECOND, 3 * SECOND));
        assert!(!pacer.pause(5 * SECOND) && !pacer.offer(&Offered::Max, 1, 5 * SECOND));
    }

    #[test]
    fn a_rate_changes_to_max_and_back() {
        let mut pacer = Pacer::new(Pace::Open(schedule(3_000).until(9 * SECOND)), Stride::WHOLE);
        let _ = pacer.due(SECOND);
        let _ = pacer.skip(1001);
        assert!(pacer.offer(&Offered::Max, 70, SECOND) && pacer.is_closed_loop());
        assert_eq!((pacer.most_waiting(), pacer.due(SECOND), pacer.next_due()), (70, 1999, Some(9 * SECOND)));
        assert_eq!(pacer.next(SECOND + 5), (1001, SECOND + 5));
        let _ = pacer.skip(998);
        let rate = |per_second: u64| Offered::Rate(Rate::from_thousandths(per_second * 1000).unwrap());
        assert!(pacer.offer(&rate(10), 70, 2 * SECOND) && !pacer.is_closed_loop());
        // The next number is due at once, and then ten a second; the ends stay where they were.
        assert_eq!((pacer.due(2 * SECOND), pacer.next(2 * SECOND)), (1, (2000, 2 * SECOND)));
        assert_eq!((pacer.due(3 * SECOND), pacer.next(3 * SECOND).1), (10, 2 * SECOND + SECOND / 10));
        assert_eq!(pacer.left(3 * SECOND), Some(6 * SECOND));
        assert!(pacer.offer(&rate(1_000_000), 70, 3 * SECOND));
        assert_eq!((pacer.due(9 * SECOND), pacer.scheduled()), (998, 3_000));
        let mut endless = Pacer::new(Pace::Open(schedule(u64::MAX)), Stride::WHOLE);
        assert!(endless.offer(&Offered::Max, 1, 0) && endless.left(0).is_none());
        assert!(endless.offer(&rate(1), 1, 0) && endless.left(0).is_none());
        let mut replay = Pacer::new(Pace::Arriving, Stride::WHOLE);
        assert!(!replay.offer(&rate(5), 1, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Across any sequence of rates and pauses, what fell due is within a record of the rate's integral
        /// over the time that was not paused, every number is handed out once in order, and no record starts
        /// in a pause, nor after it was due.
        #[test]
        fn due_is_the_integral_across_rates_and_pauses(
            turns in prop::collection::vec((0_u64..20 * SECOND, prop::option::of(1_u64..100_000)), 1..12),
            random: bool,
        ) {
            let first = Shape::constant(Rate::from_thousandths(50_000).unwrap());
            let arrivals = if random { Arrivals::Poisson } else { Arrivals::Even };
            let mut pacer = Pacer::new(Pace::Open(Schedule::new(first, arrivals, 7)), Stride::WHOLE);
            let (mut now, mut rate, mut paused, mut integral) = (0, 50_000_u64, false, 0_u128);
            let (mut issued, mut pauses, mut last) = (0, Vec::new(), 0);
            for (wait, turn) in turns {
                if !paused {
                    integral += u128::from(rate) * u128::from(wait);
                }
                now += wait;
                for _ in 0..pacer.due(now) {
                    let (n, start) = pacer.next(now);
                    prop_assert_eq!(n, issued);
                    prop_assert!(start >= last && start <= now);
                    prop_assert!(pauses.iter().all(|(from, to)| start <= *from || start >= *to), "{start} {pauses:?}");
                    (issued, last) = (n + 1, start);
                }
                let expected = integral as f64 / 1e12;
                // Random arrivals come to it in the long run: 6 standard deviations.
                let within = if random { 6.0 * expected.sqrt() + 6.0 } else { 1.001 };
                prop_assert!((issued as f64 - expected).abs() <= within, "{issued} for {expected}");
                match turn {
                    Some(thousandths) => {
                        rate = thousandths;
                        pacer.offer(&Offered::Rate(Rate::from_thousandths(rate).unwrap()), 1, now);
                    }
                    None if paused => {
                        pacer.resume(now);
                        pauses.last_mut().unwrap().1 = now;
                        paused = false;
                    }
                    None => {
                        pacer.pause(now);
                        pauses.push((now, Nanos::MAX));
                        paused = true;
                    }
                }
                let offered = if paused { 0.0 } else { rate as f64 / 1000.0 };
                prop_assert!((pacer.rate_at(now).unwrap() - offered).abs() < 1e-9);
            }
        }
    }
}
