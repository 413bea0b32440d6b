use super::arrivals::{Arrivals, RandomStarts};
use super::walk::Walk;
use super::{Course, Nanos, Shape};

/// Which records of the run one engine offers: every `of`-th, beginning with `index`.
///
/// Record numbers are shared out, not ranges of time, so that the run as a whole offers the same
/// records at the same intended starts whatever the number of engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stride {
    /// This engine's place, from 0 to `of` - 1.
    pub index: u64,
    /// How many engines share the run; at least 1.
    pub of: u64,
}

impl Stride {
    /// One engine that offers every record.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// How many of the run's first `count` records are this engine's.
    #[must_use]
    pub fn share(self, count: u64) -> u64 {
        count.saturating_sub(self.index).div_ceil(self.of)
    }

    /// The run's number of this engine's `k`-th record.
    #[must_use]
    pub fn record(self, k: u64) -> u64 {
        self.index + k * self.of
    }
}

/// When records are due: a shape, how records arrive around it, and an end.
///
/// Of even arrivals, record *n* (from 0) starts when the shape's integral passes *n*; of a constant
/// rate that is `n / rate`. Those of random arrivals are drawn one after another, from the seed.
#[derive(Clone, Debug)]
pub struct Schedule {
    course: Course,
    arrivals: Arrivals,
    seed: u64,
    // The number of its first record, and of the first after its end.
    first: u64,
    total: u64,
    // When it was asked to end; the shape may end before.
    limit: Option<Nanos>,
    ends: Option<Nanos>,
    // The latest start that is part of it: before its end, or at the time of a stop.
    last: Nanos,
}

impl Schedule {
    /// The schedule of a shape, to its end.
    #[must_use]
    pub fn new(shape: Shape, arrivals: Arrivals, seed: u64) -> Self {
        let schedule = Self {
            course: Course::new(shape),
            arrivals,
            seed,
            first: 0,
            total: u64::MAX,
            limit: None,
            ends: None,
            last: Nanos::MAX,
        };
        schedule.ended_by_time()
    }

    /// The same schedule, ended after `total` records if it has not ended by then.
    #[must_use]
    pub fn records(self, total: u64) -> Self {
        Self { total: total.min(self.total), ..self }
    }

    /// The same schedule, ended after `span` if it has not ended by then: what would start at its end
    /// is no part of it.
    #[must_use]
    pub fn until(self, span: Nanos) -> Self {
        let limit = self.limit.map_or(span, |limit| limit.min(span));
        Self { limit: Some(limit), ..self }.ended_by_time()
    }

    /// Its end by what was asked and by its shape.
    fn ended_by_time(mut self) -> Self {
        self.ends = self.limit.into_iter().chain(self.course.ends()).min();
        self.last = self.ends.map_or(Nanos::MAX, |ends| ends.saturating_sub(1));
        if self.ends == Some(0) {
            // An end at the very start leaves nothing; it is asked for by nobody, and has no last start.
            self.total = 0;
        }
        self
    }

    /// The same schedule, begun at `at` with the record of this number. Its end stays where it is.
    #[must_use]
    pub fn beginning(self, at: Nanos, first: u64) -> Self {
        Self { course: self.course.beginning(at), first, ..self }.ended_by_time()
    }

    /// The rate over time.
    #[must_use]
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// When it ends by time; by its number of records it may end earlier.
    #[must_use]
    pub fn ends(&self) -> Option<Nanos> {
        self.ends
    }

    /// The number of the first record that is not part of it; `u64::MAX` without an end.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How records arrive, and the seed of that.
    #[must_use]
    pub fn arrivals(&self) -> (Arrivals, u64) {
        (self.arrivals, self.seed)
    }

    /// How long it lasts, where that is known beforehand.
    #[must_use]
    pub fn span(&self) -> Option<Nanos> {
        let by_count = match self.arrivals {
            Arrivals::Even if self.total != u64::MAX => self.course.start(self.own(self.total)),
            _ => None,
        };
        by_count.into_iter().chain(self.ends).min()
    }

    /// The place in this schedule of a number of the run.
    fn own(&self, n: u64) -> u64 {
        n.saturating_sub(self.first)
    }
}

/// Goes through a schedule: counts what is due, and gives the start of one record after another.
#[derive(Clone, Debug)]
pub struct Starts {
    schedule: Schedule,
    // Random arrivals are drawn twice: where they are counted, and where they are handed out.
    counted: Option<Drawn>,
    issued: Option<Drawn>,
    // Of even arrivals: the record asked for last, and the way from there on.
    asked: u64,
    walk: Option<Walk>,
}

/// Random starts, and the place of the next in the schedule.
#[derive(Clone, Debug)]
struct Drawn {
    starts: RandomStarts,
    n: u64,
}

impl Starts {
    /// At the start of `schedule`.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        let seed = schedule.seed.wrapping_add(schedule.first);
        let starts = RandomStarts::new(schedule.arrivals, seed, &schedule.course);
        let drawn = starts.map(|starts| Drawn { starts, n: 0 });
        Self { schedule, counted: drawn.clone(), issued: drawn, asked: 0, walk: None }
    }

    /// How many records are due by `now`, which must not go back; those before its first are.
    pub fn due(&mut self, now: Nanos) -> u64 {
        let schedule = &self.schedule;
        let until = now.min(schedule.last);
        let most = schedule.own(schedule.total);
        let due = match &mut self.counted {
            None => schedule.course.due(until),
            Some(drawn) => {
                while drawn.starts.peek().is_some_and(|start| start <= until) && drawn.n < most {
                    drawn.step(&schedule.course);
                }
                drawn.n
            }
        };
        schedule.first + due.min(most)
    }

    /// The intended start of record `n`, which must not go back; `None` if the schedule ends before.
    pub fn start(&mut self, n: u64) -> Option<Nanos> {
        self.start_of(n).filter(|&start| start <= self.schedule.last && n < self.schedule.total)
    }

    fn start_of(&mut self, n: u64) -> Option<Nanos> {
        let n = self.schedule.own(n);
        match &mut self.issued {
            None => {
                let next = self.walk.as_mut().and_then(|walk| walk.to(n));
                let start = next.or_else(|| {
                    self.walk = self.schedule.course.walk(n, n.saturating_sub(self.asked).max(1));
                    self.schedule.course.start(n)
                });
                self.asked = n;
                start
            }
            Some(drawn) => {
                while drawn.n < n && drawn.starts.peek().is_some() {
                    drawn.step(&self.schedule.course);
                }
                drawn.starts.peek()
            }
        }
    }

    /// When the schedule ended, once its records up to `n` were handed out and it is `now`; `None` if
    /// it goes on.
    pub fn ended(&mut self, n: u64, now: Nanos) -> Option<Nanos> {
        let by_time = self.schedule.ends.filter(|&ends| now >= ends);
        if n < self.schedule.total {
            return by_time;
        }
        // After its last record it lasts until the one after would start.
        let by_count = self.start_of(self.schedule.total).unwrap_or(now);
        Some(self.schedule.ends.map_or(by_count, |ends| ends.min(by_count)))
    }

    /// The schedule.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// From `now` on another shape holds. What was due by then stays due. The schedule ends when it was
    /// asked to; one that was to end with its shape ends with the new one, or when it was to end if that
    /// one never does.
    pub fn turn(&mut self, now: Nanos, shape: Shape) {
        self.due(now);
        let schedule = &mut self.schedule;
        let ended = schedule.ends;
        schedule.course.turn(now, shape);
        self.walk = None;
        let ends = schedule.limit.into_iter().chain(schedule.course.ends()).min();
        schedule.ends = ends.or(ended);
        schedule.last = schedule.ends.map_or(Nanos::MAX, |ends| ends.saturating_sub(1));
        for drawn in self.counted.iter_mut().chain(&mut self.issued) {
            drawn.starts.plan(&schedule.course);
        }
    }

    /// Ends the schedule at `now`: what is due by then stays due, nothing after it.
    pub fn stop(&mut self, now: Nanos) {
        self.schedule.last = self.schedule.last.min(now);
        self.schedule.ends = Some(self.schedule.ends.map_or(now, |ends| ends.min(now)));
    }
}

impl Drawn {
    fn step(&mut self, course: &Course) {
        self.starts.advance(course);
        self.n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Curve, Piece, Rate, SECOND};
    use proptest::prelude::*;

    fn constant(thousandths: u64) -> Schedule {
        Schedule::new(Shape::constant(Rate::from_thousandths(thousandths).unwrap()), Arrivals::Even, 0)
    }

    /// Shapes of holds and ramps, most of them short.
    fn shapes() -> impl Strategy<Value = Shape> {
        let rate = || prop_oneof![Just(0), 1_u64..5_000, 1_000_000_u64..9_000_000, Just(10_000_000_000)];
        let curve = prop_oneof![
            4 => rate().prop_map(Curve::Hold),
            1 => (rate(), rate()).prop_map(|(from, to)| Curve::Ramp(from, to)),
        ];
        let span = prop_oneof![1..1000_u64, 1..SECOND / 100, 1..3 * SECOND];
        let piece = (curve, span).prop_map(|(curve, span)| Piece { curve, span });
        prop_oneof![
            rate().prop_filter_map("a rate", Rate::from_thousandths).prop_map(Shape::constant),
            prop::collection::vec(piece.clone(), 1..5).prop_map(Shape::once),
            prop::collection::vec(piece, 1..5).prop_map(Shape::repeating),
        ]
    }

    fn due(schedule: &Schedule, now: Nanos) -> u64 {
        Starts::new(schedule.clone()).due(now)
    }

    #[test]
    fn thirty_seconds_at_5000_are_150000_records() {
        let schedule = constant(5_000_000).until(30 * SECOND);
        assert_eq!(due(&schedule, 30 * SECOND), 150_000);
        assert_eq!(due(&schedule, u64::MAX), 150_000);
        assert_eq!(schedule.span(), Some(30 * SECOND));
        assert_eq!(Starts::new(schedule).start(1), Some(200_000));
    }

    #[test]
    fn the_earlier_of_two_ends_counts() {
        let schedule = constant(1_000_000).records(500);
        assert_eq!(schedule.span(), Some(SECOND / 2));
        assert_eq!(schedule.clone().until(SECOND).span(), Some(SECOND / 2));
        assert_eq!(due(&schedule.clone().until(SECOND / 10), SECOND), 100);
        assert_eq!(schedule.until(SECOND / 10).span(), Some(SECOND / 10));
        // A record in twenty seconds: the first is due at once, and three seconds are three seconds.
        let slow = constant(50).until(3 * SECOND);
        assert_eq!((due(&slow, 9 * SECOND), slow.span()), (1, Some(3 * SECOND)));
    }

    #[test]
    fn stop_keeps_what_was_due() {
        let mut starts = Starts::new(constant(1_000_000));
        starts.stop(SECOND / 2);
        assert_eq!((starts.due(10 * SECOND), starts.ended(501, 10 * SECOND)), (501, Some(SECOND / 2)));
        assert_eq!(starts.start(501), None);
    }

    #[test]
    fn random_arrivals_end_by_time_or_count() {
        let rate = Rate::from_thousandths(1_000_000).unwrap();
        let schedule = Schedule::new(Shape::constant(rate), Arrivals::Poisson, 5);
        let mut starts = Starts::new(schedule.clone().until(SECOND));
        let due = starts.due(SECOND);
        // 1,000 expected; 5 standard deviations are 158.
        assert!(due.abs_diff(1000) < 158 && due == starts.due(2 * SECOND), "{due}");
        assert_eq!((starts.ended(due, SECOND - 1), starts.ended(due, SECOND)), (None, Some(SECOND)));
        let mut starts = Starts::new(schedule.records(100));
        let last = starts.start(99).unwrap();
        assert_eq!((starts.due(last - 1), starts.due(last), starts.due(u64::MAX)), (99, 100, 100));
        assert!(starts.ended(100, last).unwrap() > last);
    }

    proptest! {
        /// due(t) counts exactly the records whose start is not after t, for a year of schedule.
        #[test]
        fn due_counts_the_starts(thousandths in 1_u64..10_000_000_000, elapsed in 0_u64..31_536_000 * SECOND) {
            let shape = Shape::constant(Rate::from_thousandths(thousandths).unwrap());
            let due = shape.due(elapsed);
            prop_assert!(shape.start(due - 1).unwrap() <= elapsed);
            prop_assert!(shape.start(due).unwrap() > elapsed);
        }

        /// Whatever the rate does, whatever is left out and however often one is asked for.
        #[test]
        fn starts_one_after_another_are_those_by_themselves(
            shapes in prop::collection::vec((0_u64..2 * SECOND, shapes()), 1..5),
            first in 0_u64..1000,
            steps in prop::collection::vec((0_u64..4, 1_u64..40), 1..30),
        ) {
            let mut shapes = shapes.into_iter();
            let (_, shape) = shapes.next().unwrap();
            let mut starts = Starts::new(Schedule::new(shape, Arrivals::Even, 0).beginning(7, first / 2));
            let (mut n, mut now) = (first, 0);
            for (stride, times) in steps {
                for _ in 0..times {
                    let alone = starts.schedule.course.start(starts.schedule.own(n));
                    prop_assert_eq!(starts.start_of(n), alone, "{}", n);
                    n += stride;
                }
                if let Some((after, shape)) = shapes.next() {
                    now += after;
                    starts.turn(now, shape);
                }
            }
        }

        /// Random arrivals are counted as they are handed out.
        #[test]
        fn random_arrivals_are_counted_as_handed_out(seed: u64, hawkes: bool, times in prop::collection::vec(0_u64..3 * SECOND, 1..9)) {
            let arrivals =
                if hawkes { Arrivals::Hawkes { excitation: 0.5, decay: Arrivals::DECAY } } else { Arrivals::Poisson };
            let shape = Shape::constant(Rate::from_thousandths(300_000).unwrap());
            let mut starts = Starts::new(Schedule::new(shape, arrivals, seed));
            let mut times = times;
            times.sort_unstable();
            let mut n = 0;
            for now in times {
                let due = starts.due(now);
                while starts.start(n).unwrap() <= now {
                    n += 1;
                }
                prop_assert_eq!(n, due);
            }
        }

        /// Strides share every record out exactly once.
        #[test]
        fn strides_partition_the_records(of in 1_u64..9, count in 0_u64..1_000) {
            let mut seen = vec![0; usize::try_from(count).unwrap()];
            for index in 0..of {
                let stride = Stride { index, of };
                for k in 0..stride.share(count) {
                    seen[usize::try_from(stride.record(k)).unwrap()] += 1;
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
