use super::Nanos;

/// The pauses of a run, which part the time of its schedule from the time of the run: while it is paused
/// the schedule stands still.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// Those that are over: where the schedule stood, and how long all of them so far took.
    over: Vec<(Nanos, Nanos)>,
    /// When the one under way began, in the time of the run.
    since: Option<Nanos>,
}

impl Pauses {
    /// The schedule stands still from `now` on. Tells whether it did not before.
    pub fn begin(&mut self, now: Nanos) -> bool {
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// The schedule goes on at `now`. Tells whether it stood still.
    pub fn end(&mut self, now: Nanos) -> bool {
        let Some(since) = self.since.take() else { return false };
        let before = self.over();
        self.over.push((since - before, before + now.saturating_sub(since)));
        true
    }

    /// Whether the schedule stands still.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.since.is_some()
    }

    /// How long all pauses took until `now`.
    #[must_use]
    pub fn total(&self, now: Nanos) -> Nanos {
        self.over() + self.since.map_or(0, |since| now.saturating_sub(since))
    }

    /// The time of the schedule at `now`; `now` must not lie before the last change.
    #[must_use]
    pub fn schedule_time(&self, now: Nanos) -> Nanos {
        self.since.unwrap_or(now) - self.over()
    }

    /// When the schedule comes to `at`, in the time of the run; `None` while it stands still before that.
    #[must_use]
    pub fn run_time(&self, at: Nanos) -> Option<Nanos> {
        if self.since.is_some_and(|since| at > since - self.over()) {
            return None;
        }
        // What was due when a pause began was due before it.
        let pauses = self.over.partition_point(|(stood_at, _)| *stood_at < at);
        let before = self.over[..pauses].last().map_or(0, |(_, total)| *total);
        Some(at.saturating_add(before))
    }

    fn over(&self) -> Nanos {
        self.over.last().map_or(0, |(_, total)| *total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_schedule_stands_still_while_it_is_paused() {
        let mut pauses = Pauses::default();
        assert!(pauses.begin(10) && !pauses.begin(12) && pauses.is_paused());
        assert_eq!((pauses.schedule_time(25), pauses.total(25)), (10, 15));
        assert_eq!((pauses.run_time(10), pauses.run_time(11)), (Some(10), None));
        assert!(pauses.end(30) && !pauses.end(31) && !pauses.is_paused());
        assert_eq!((pauses.schedule_time(30), pauses.schedule_time(35), pauses.total(35)), (10, 15, 20));
        assert_eq!((pauses.run_time(10), pauses.run_time(11)), (Some(10), Some(31)));
        assert_eq!(pauses.run_time(Nanos::MAX), Some(Nanos::MAX));
    }

    proptest! {
        /// Run time is schedule time plus pauses, and each is found from the other.
        #[test]
        fn times_are_found_from_each_other(waits in prop::collection::vec((0_u64..50, 0_u64..50), 0..6), after in 1_u64..50) {
            let (mut pauses, mut now, mut paused) = (Pauses::default(), 0, 0);
            for (run, pause) in waits {
                now += run;
                pauses.begin(now);
                now += pause;
                pauses.end(now);
                paused += pause;
            }
            now += after;
            prop_assert_eq!((pauses.schedule_time(now), pauses.total(now)), (now - paused, paused));
            prop_assert_eq!(pauses.run_time(now - paused), Some(now));
            let times: Vec<_> = (0..=now - paused).map(|at| pauses.run_time(at).unwrap()).collect();
            prop_assert!(times.is_sorted_by(|a, b| a < b));
        }
    }
}
