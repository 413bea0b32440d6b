//! Times as they are counted record by record, before they are in a histogram.

use super::account::Account;
use super::measures::Durations;
use crate::load::Nanos;

/// Times of single records since they were last poured into an account. To count one here is an addition to a place of a
/// small table, half as large as a histogram's; there it took a call for nearly every record, 5 % of what one costs at
/// 100,000/s.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) response: Fresh,
    pub(super) lag: Fresh,
    pub(super) queue: Fresh,
    pub(super) lateness: Fresh,
}

impl Tally {
    /// Adds all to `account`.
    pub(super) fn add_to(&self, account: &mut Account) {
        self.response.add_to(&mut account.response_time);
        self.lag.add_to(&mut account.schedule_lag);
        self.queue.add_to(&mut account.queue_time);
        self.lateness.add_to(&mut account.start_lateness);
    }

    /// Adds all to `account`, and begins anew.
    pub(super) fn pour_into(&mut self, account: &mut Account) {
        self.add_to(account);
        for fresh in [&mut self.response, &mut self.lag, &mut self.queue, &mut self.lateness] {
            fresh.clear();
        }
    }
}

/// Times up to 131 ms by the buckets of their histogram: 1,024 to each doubling, of whole microseconds below 2,048.
#[derive(Debug)]
pub(super) struct Fresh {
    counts: Box<[u32]>,
    // The places that count something are from the first to before the second.
    from: usize,
    to: usize,
    sum: u128,
}

/// Buckets of a doubling.
const DOUBLING: usize = 1024;

/// Places of the times below 2^17 µs.
const PLACES: usize = 8 * DOUBLING;

impl Default for Fresh {
    fn default() -> Self {
        Self { counts: vec![0; PLACES].into_boxed_slice(), from: PLACES, to: 0, sum: 0 }
    }
}

impl Fresh {
    /// Adds this time for so many records: here, or to `durations` if there is no place for it.
    #[inline]
    pub(super) fn record(&mut self, durations: &mut Durations, duration: Nanos, records: u64) {
        let count = place_of(duration / 1000).and_then(|place| {
            let count = self.counts.get_mut(place)?;
            *count = count.checked_add(u32::try_from(records).ok()?)?;
            (self.from, self.to) = (self.from.min(place), self.to.max(place + 1));
            Some(())
        });
        match count {
            Some(()) => self.sum += u128::from(duration) * u128::from(records),
            None => durations.record(duration, records),
        }
    }

    fn add_to(&self, durations: &mut Durations) {
        for place in self.from..self.to {
            if self.counts[place] > 0 {
                durations.count(micros_of(place), u64::from(self.counts[place]));
            }
        }
        durations.add_sum(self.sum);
    }

    fn clear(&mut self) {
        if self.from < self.to {
            self.counts[self.from..self.to].fill(0);
        }
        (self.from, self.to, self.sum) = (PLACES, 0, 0);
    }
}

/// The place of a time, if it has one.
#[inline]
fn place_of(micros: u64) -> Option<usize> {
    let micros = usize::try_from(micros).ok().filter(|&micros| micros < DOUBLING << 7)?;
    // How often it is halved until eleven bits are left, of which the first tells nothing then.
    let halved = (micros | DOUBLING).ilog2() as usize - 10;
    Some(halved * DOUBLING + (micros >> halved))
}

/// The shortest time of a place, in microseconds.
fn micros_of(place: usize) -> u64 {
    let halved = (place / DOUBLING).saturating_sub(1);
    ((place - halved * DOUBLING) << halved) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_place_is_that_of_its_shortest_time() {
        let mut next = 0;
        for place in 0..PLACES {
            let micros = micros_of(place);
            assert_eq!((micros, place_of(micros)), (next, Some(place)));
            next = micros + (1 << (place / DOUBLING).saturating_sub(1));
            assert_eq!(place_of(next - 1), Some(place), "{place}");
        }
        assert_eq!((next, place_of(next)), (1 << 17, None));
    }

    proptest! {
        #[test]
        fn times_that_are_poured_count_as_one_by_one(
            times in prop::collection::vec((prop_oneof![0..10_000_u64, 0..200_000_000_u64, 0..9_000_000_000_u64, any::<u64>()], prop_oneof![1..9_u64, Just(3 << 30)]), 0..200),
            pours in 1..50_usize,
        ) {
            let (mut fresh, mut all, mut single) = (Fresh::default(), Durations::new(), Durations::new());
            for (number, (time, records)) in times.into_iter().enumerate() {
                fresh.record(&mut all, time, records);
                single.record(time, records);
                if number % pours == 0 {
                    fresh.add_to(&mut all);
                    fresh.clear();
                }
            }
            fresh.add_to(&mut all);
            prop_assert_eq!(all.sum_seconds().to_bits(), single.sum_seconds().to_bits());
            let (all, single) = (all.histogram(), single.histogram());
            prop_assert_eq!((all.len(), all.min(), all.max()), (single.len(), single.min(), single.max()));
            prop_assert!(all.iter_recorded().eq(single.iter_recorded()));
        }
    }
}
