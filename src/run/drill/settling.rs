use crate::load::{MILLISECOND, Nanos, SECOND};
use crate::producer::Snapshot;

/// How long the load must be calm to count as settled.
const CALM: Nanos = SECOND;

/// How much load more than before may wait, by the time that it takes to offer it.
const SLACK: Nanos = 100 * MILLISECOND;

/// What is watched of a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) elapsed: Nanos,
    pub(super) draining: bool,
    pub(super) throttled: u64,
    pub(super) misrouted: u64,
    scheduled: u64,
    unsettled: u64,
}

impl Moment {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self {
            elapsed: snapshot.elapsed,
            draining: snapshot.draining,
            throttled: snapshot.account.throttled_entries,
            misrouted: snapshot.account.ledger.misrouted,
            scheduled: snapshot.scheduled,
            unsettled: snapshot.unsettled,
        }
    }

    /// What waits or is in flight, as the time that it takes to offer so much at the rate since `last`.
    fn backlog_since(&self, last: &Self) -> Nanos {
        let offered = self.scheduled.saturating_sub(last.scheduled).max(1);
        let time = self.elapsed.saturating_sub(last.elapsed);
        let backlog = u128::from(self.unsettled) * u128::from(time) / u128::from(offered);
        Nanos::try_from(backlog).unwrap_or(Nanos::MAX)
    }
}

/// What is usual: seen in the second before a drill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    first: Moment,
    last: Moment,
    backlog: Nanos,
}

impl Usual {
    pub(super) fn new(first: Moment) -> Self {
        Self { first, last: first, backlog: 0 }
    }

    pub(super) fn see(&mut self, now: Moment) {
        if now.elapsed > self.last.elapsed {
            self.backlog = self.backlog.max(now.backlog_since(&self.last));
            self.last = now;
        }
    }

    pub(super) fn last(&self) -> Moment {
        self.last
    }

    fn throttled(&self) -> u64 {
        self.last.throttled - self.first.throttled
    }
}

/// Watches for the load to settle: the new shards are in use, and for one whole second no record is
/// misrouted, no more entries are throttled than in the second before the drill, and the backlog (waiting
/// and in flight) is at most [`SLACK`] of load above its highest of that second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settling {
    usual: Usual,
    last: Moment,
    // When the calm began, and the entries throttled by then.
    calm: Option<(Nanos, u64)>,
}

impl Settling {
    /// A watch that begins at `changed`, when the new shards came into use; `last` was seen just before.
    pub(super) fn new(usual: Usual, changed: Nanos, last: Moment) -> Self {
        Self { usual, last, calm: Some((changed, last.throttled)) }
    }

    /// Takes what is seen now. Tells when the load had settled, which was a second ago, once it has.
    pub(super) fn see(&mut self, now: Moment) -> Option<Nanos> {
        if now.elapsed <= self.last.elapsed {
            return None;
        }
        let last = std::mem::replace(&mut self.last, now);
        let waits = now.backlog_since(&last) > self.usual.backlog.saturating_add(SLACK);
        let misrouted = now.misrouted > last.misrouted;
        match self.calm {
            Some((since, throttled))
                if !waits && !misrouted && now.throttled - throttled <= self.usual.throttled() =>
            {
                (now.elapsed >= since.saturating_add(CALM)).then_some(since)
            }
            _ => {
                self.calm = (!waits).then_some((now.elapsed, now.throttled));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Nanos = 200 * MILLISECOND;

    /// 1,000 records/s, of which 10 are under way.
    fn moment(step: u64, throttled: u64, misrouted: u64, unsettled: u64) -> Moment {
        let (elapsed, scheduled) = (step * STEP, step * 200);
        Moment { elapsed, draining: false, throttled, misrouted, scheduled, unsettled }
    }

    fn usual(throttled: u64) -> Usual {
        let mut usual = Usual::new(moment(0, 0, 0, 10));
        (1..=5).for_each(|step| usual.see(moment(step, throttled, 0, 10)));
        usual
    }

    /// Sees these moments one after another, from step 6; tells at which step it found what.
    fn settled(usual: Usual, seen: impl IntoIterator<Item = (u64, u64, u64)>) -> Option<(u64, Nanos)> {
        let mut settling = Settling::new(usual, 5 * STEP + 1, usual.last());
        (6..).zip(seen).find_map(|(step, (throttled, misrouted, unsettled))| {
            settling.see(moment(step, throttled, misrouted, unsettled)).map(|at| (step, at))
        })
    }

    #[test]
    fn a_calm_load_settles_with_the_change() {
        // A whole second after step 5 and a nanosecond is first seen at step 11.
        assert_eq!(settled(usual(0), [(0, 0, 10); 9]), Some((11, 5 * STEP + 1)));
        assert_eq!(settled(usual(0), [(0, 0, 10); 5]), None);
    }

    #[test]
    fn what_is_misrouted_throttled_or_waits_begins_the_second_anew() {
        for disturbed in [(0, 1, 10), (1, 0, 10), (0, 0, 111)] {
            let (throttled, misrouted, _) = disturbed;
            let seen = [(0, 0, 10), disturbed].into_iter().chain([(throttled, misrouted, 10); 9]);
            // What waits is calm when it is first seen not to wait, a step later.
            let from = if disturbed.2 > 10 { 8 } else { 7 };
            assert_eq!(settled(usual(0), seen), Some((from + 5, from * STEP)), "{disturbed:?}");
        }
        // 100 ms of load above what it was is not more than usual.
        assert_eq!(settled(usual(0), [(0, 0, 110); 9]), Some((11, 5 * STEP + 1)));
    }

    #[test]
    fn a_stream_that_always_throttles_settles_at_as_much_as_before() {
        let throttling = |each: u64| (1..40).map(move |step| (50 + step * each, 0, 10));
        assert!(settled(usual(50), throttling(8)).is_some());
        assert_eq!(settled(usual(50), throttling(20)), None);
        assert_eq!(settled(usual(0), (1..40).map(|step| (step, 0, 10))), None);
    }

    #[test]
    fn a_stream_that_stalls_is_not_calm() {
        let mut settling = Settling::new(usual(0), 5 * STEP, moment(5, 0, 0, 10));
        // A closed loop offers nothing while nothing is answered.
        for step in 6..40 {
            let stalled = Moment { scheduled: 1000, unsettled: 64, ..moment(step, 0, 0, 0) };
            assert_eq!(settling.see(stalled), None);
        }
    }

    proptest! {
        /// Whatever is seen: the second that counts as calm is free of what must not be in it.
        #[test]
        fn the_calm_second_is_calm(
            seen in prop::collection::vec((0_u64..3, 0_u64..2, prop_oneof![3 => Just(10_u64), 1 => Just(500)]), 0..60),
        ) {
            let mut sums = (0, 0);
            let seen: Vec<_> = seen.into_iter().map(|(throttled, misrouted, unsettled)| {
                let quiet = unsettled == 10 && throttled < 2;
                if !quiet { sums = (sums.0 + throttled, sums.1 + misrouted); }
                (sums.0, sums.1, unsettled)
            }).collect();
            if let Some((step, at)) = settled(usual(0), seen.clone()) {
                prop_assert!(step * STEP >= at + SECOND);
                let calm = |step: u64| step * STEP > at;
                let in_calm: Vec<_> = (6..=step).zip(&seen).filter(|(step, _)| calm(*step)).map(|(_, s)| s).collect();
                prop_assert!(in_calm.len() >= 5);
                for pair in in_calm.windows(2) {
                    prop_assert_eq!((pair[0].0, pair[0].1), (pair[1].0, pair[1].1));
                }
                prop_assert!(in_calm.iter().all(|s| s.2 == 10));
            }
        }
    }
}
