//! A limit that follows what the shard throttles.
//!
//! It is a share of a provisioned shard: 0.5 admits 500 records and 512 KiB a second. Both limits of a
//! shard scale with it, so whichever of them this producer's entries use up first is the one that binds.
//!
//! - **Increase**, while entries wait for this limit and only then: by a [`step`] a second, and faster the
//!   longer the shard took everything ([`HASTE`]).
//! - **Decrease** on throttles: once an [`EPOCH`], by a fraction of the share ([`give_way`]); and by each
//!   throttled entry's own part of a second's limit. What a shard throttles in a second is what it was
//!   offered too much in that second, so the latter takes the excess away.
//!
//! A small share grows by more of itself than a large one and gives way by less, and all producers of a
//! shard are throttled at the same times, so their shares become equal: a difference is halved in some
//! 20 to 30 seconds. In between the sum rises and falls by some 6 %, below the capacity most of the time.

use super::ShardQuota;
use crate::load::{MILLISECOND, Nanos, SECOND};

/// Increase of the share in a second during which entries wait: most of it the same for all producers of
/// a provisioned shard, and in proportion where a share is many provisioned shards' worth.
fn step(share: f64) -> f64 {
    0.004 + 0.008 * share
}

/// After this many seconds of waiting without a throttle the step is twice as large, after twice as many
/// five times: it grows with the square of the time, so that a capacity far above the share is found
/// in half a minute.
const HASTE: f64 = 5.0;

/// Throttles within this time of a decrease are of the same overload: Kinesis counts by the second, so
/// those of the next second come about a second later.
const EPOCH: Nanos = 500 * MILLISECOND;

/// What may be admitted at once after a pause, as time at the current rate.
const BURST: Nanos = 20 * MILLISECOND;

/// The least share: 10 records a second, which is enough to see whether the shard takes them.
const FLOOR: f64 = 0.01;

/// The most that a producer may use of a provisioned shard: a little under its limit, as what is sent
/// evenly does not arrive evenly.
const PROVISIONED: f64 = 0.98;

/// The most of an on-demand shard: a million records a second, more than one producer sends.
const UNBOUNDED: f64 = 1000.0;

/// How much longer than it was told an entry may have waited for the limit and be made up for; the rest
/// it waited for something else, such as room in flight.
const LATE: Nanos = 100 * MILLISECOND;

/// The fraction of its share that a producer gives up on the first throttle of an epoch.
fn give_way(share: f64) -> f64 {
    0.02 + 0.1 * share.min(0.5)
}

/// An adaptive limit; the time is passed in.
#[derive(Debug)]
pub(super) struct Adaptive {
    quota: ShardQuota,
    ceiling: f64,
    share: f64,
    // When all that was admitted will have been paid for, at the share of its time.
    records_paid: Nanos,
    bytes_paid: Nanos,
    // Since when the entry at the head waits, and until when it was told to.
    waits: Option<(Nanos, Nanos)>,
    // When the last entry was admitted.
    admitted: Nanos,
    // Seconds of waiting since the last decrease.
    unthrottled: f64,
    epoch_ends: Nanos,
    usage: Usage,
}

impl Adaptive {
    /// A limit that begins at the quota: that of a provisioned shard is its ceiling as well.
    pub(super) fn new(quota: ShardQuota, on_demand: bool) -> Self {
        Self {
            quota,
            ceiling: if on_demand { UNBOUNDED } else { PROVISIONED },
            share: PROVISIONED,
            records_paid: 0,
            bytes_paid: 0,
            waits: None,
            admitted: 0,
            unthrottled: 0.0,
            epoch_ends: 0,
            usage: Usage::default(),
        }
    }

    /// Admits an entry, or tells when to ask again.
    pub(super) fn admit(&mut self, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        let paid = self.records_paid.max(self.bytes_paid);
        if paid > now + BURST {
            let until = paid - BURST;
            self.waits.get_or_insert((now, until)).1 = until;
            return Err(until);
        }
        // Time in which nothing waited is lost; what was asked late after a wait is made up for.
        let from = match self.waits.take() {
            Some((since, until)) => {
                self.increase(now.min(until + LATE).saturating_sub(since));
                now.saturating_sub(LATE)
            }
            None if now > self.admitted => now,
            None => 0,
        };
        self.admitted = now;
        self.records_paid = self.records_paid.max(from) + self.time_of(1.0 / self.quota.records_per_second);
        self.bytes_paid =
            self.bytes_paid.max(from) + self.time_of(bytes as f64 / self.quota.bytes_per_second);
        self.usage.note(self.part(bytes), now);
        Ok(())
    }

    /// The time that `part` of a second's limit takes at this share.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, at most hours
    fn time_of(&self, part: f64) -> Nanos {
        (part / self.share * 1e9).ceil() as Nanos
    }

    /// An entry's part of what a provisioned shard takes in a second.
    fn part(&self, bytes: usize) -> f64 {
        (1.0 / self.quota.records_per_second).max(bytes as f64 / self.quota.bytes_per_second)
    }

    fn increase(&mut self, waited: Nanos) {
        let seconds = waited as f64 / 1e9;
        self.unthrottled += seconds;
        let haste = 1.0 + (self.unthrottled / HASTE).powi(2);
        self.share = (self.share + step(self.share) * haste * seconds).min(self.ceiling);
    }

    /// Notes that the shard throttled an entry of `bytes`.
    pub(super) fn throttled(&mut self, bytes: usize, now: Nanos) {
        if now >= self.epoch_ends {
            self.epoch_ends = now + EPOCH;
            self.unthrottled = 0.0;
            // A share that was not used says nothing of what the shard takes.
            self.share = self.share.min(self.usage.measure(now).max(self.share / 2.0));
            self.share *= 1.0 - give_way(self.share);
        }
        self.share = (self.share - self.part(bytes)).max(FLOOR);
    }

    /// The records that are admitted in a second.
    pub(super) fn records_per_second(&self) -> f64 {
        self.share * self.quota.records_per_second
    }
}

/// The share that was used lately, by the second.
#[derive(Debug, Default)]
struct Usage {
    since: Nanos,
    admitted: f64,
    before: Option<f64>,
}

impl Usage {
    /// The least time that gives a measure.
    const LEAST: Nanos = 200 * MILLISECOND;

    fn note(&mut self, part: f64, now: Nanos) {
        if now >= self.since + SECOND {
            self.before = Some(self.current(now));
            (self.since, self.admitted) = (now, 0.0);
        }
        self.admitted += part;
    }

    fn current(&self, now: Nanos) -> f64 {
        self.admitted * 1e9 / (now - self.since) as f64
    }

    /// The share used in this second or the one before, whichever is more.
    fn measure(&self, now: Nanos) -> f64 {
        let current = (now >= self.since + Self::LEAST).then(|| self.current(now));
        current.into_iter().chain(self.before).reduce(f64::max).unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::Draws;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A producer of one shard: entries of `bytes` that fall due by the second, sent in batches.
    struct Offering {
        limit: Adaptive,
        per_second: f64,
        begins: Nanos,
        bytes: usize,
        waiting: f64,
        batch: u32,
        batch_leaves: Nanos,
        /// How many of a hundred milliseconds it does not run, in the mean.
        stalls: u64,
        draws: Draws,
        /// Accepted and throttled entries by second.
        seconds: Vec<(u32, u32)>,
    }

    fn quota(on_demand: bool) -> ShardQuota {
        ShardQuota::adaptive(on_demand, 1024)
    }

    impl Offering {
        fn new(per_second: f64, on_demand: bool) -> Self {
            Self {
                limit: Adaptive::new(quota(on_demand), on_demand),
                per_second,
                begins: 0,
                bytes: 100,
                waiting: 0.0,
                batch: 0,
                batch_leaves: 0,
                stalls: 0,
                draws: Draws::new(0, 0),
                seconds: Vec::new(),
            }
        }

        fn begins(self, second: u64) -> Self {
            Self { begins: second * SECOND, ..self }
        }

        fn with_share(mut self, share: f64) -> Self {
            self.limit.share = share;
            self
        }

        /// The entries of the batch that leaves now, if one does.
        fn step(&mut self, now: Nanos) -> u32 {
            if now < self.begins {
                return 0;
            }
            self.waiting += self.per_second / 1000.0;
            if self.is_stalled(now) {
                return 0;
            }
            while self.waiting >= 1.0 && self.limit.admit(self.bytes, now).is_ok() {
                self.waiting -= 1.0;
                if self.batch == 0 {
                    self.batch_leaves = now + 10 * MILLISECOND;
                }
                self.batch += 1;
            }
            if now < self.batch_leaves { 0 } else { std::mem::take(&mut self.batch) }
        }

        /// Whether its machine is busy with something else: in `stalls` of a hundred milliseconds.
        fn is_stalled(&self, now: Nanos) -> bool {
            let tenth = now / (100 * MILLISECOND);
            let stall = self.draws.bits(tenth) % (2 * self.stalls + 1);
            now % (100 * MILLISECOND) < stall * MILLISECOND
        }

        fn count(&mut self, now: Nanos, throttled: bool) {
            let second = usize::try_from(now / SECOND).unwrap();
            self.seconds.resize(self.seconds.len().max(second + 1), (0, 0));
            let counts = &mut self.seconds[second];
            if throttled { counts.1 += 1 } else { counts.0 += 1 }
        }

        fn sum(&self, from: usize, to: usize) -> (u32, u32) {
            let seconds = self.seconds.iter().take(to).skip(from);
            seconds.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        }
    }

    /// Offers to a shard that takes `capacity(second)` entries in each second of its clock, which is
    /// `seed` milliseconds ahead; answers take 2 to 40 ms.
    fn share_out(producers: &mut [Offering], seconds: u64, seed: u64, capacity: impl Fn(u64) -> u32) {
        let draws = Draws::new(seed, 9);
        let mut sent = 0;
        let mut arrivals: BTreeMap<(Nanos, u64), (usize, Nanos)> = BTreeMap::new();
        let mut answers: BTreeMap<(Nanos, u64), (usize, bool)> = BTreeMap::new();
        let (mut window, mut taken) = (0, 0);
        for now in (0..seconds * 1000).map(|millis| millis * MILLISECOND) {
            while let Some(answer) = answers.first_entry().filter(|answer| answer.key().0 <= now) {
                let number = answer.key().1;
                let (place, throttled) = answer.remove();
                let producer = &mut producers[place];
                if producer.is_stalled(now) {
                    // It reads the answer when it runs again.
                    answers.insert((now + MILLISECOND, number), (place, throttled));
                    continue;
                }
                producer.count(now, throttled);
                if throttled {
                    producer.waiting += 1.0;
                    producer.limit.throttled(producer.bytes, now);
                }
            }
            for (place, producer) in producers.iter_mut().enumerate() {
                let entries = producer.step(now);
                let way = MILLISECOND + draws.bits(sent) % (19 * MILLISECOND);
                for _ in 0..entries {
                    sent += 1;
                    arrivals.insert((now + way, sent), (place, now + 2 * way));
                }
            }
            let clock = (now + seed % 1000 * MILLISECOND) / SECOND;
            if clock > window {
                (window, taken) = (clock, 0);
            }
            while let Some(arrival) = arrivals.first_entry().filter(|arrival| arrival.key().0 <= now) {
                let number = arrival.key().1;
                let (place, answered) = arrival.remove();
                let throttled = taken >= capacity(now / SECOND);
                taken += u32::from(!throttled);
                answers.insert((answered, number), (place, throttled));
            }
        }
    }

    /// What the producers of a shard got from one second to another.
    #[derive(Debug)]
    struct Got {
        /// Accepted entries over those that the shard could take.
        goodput: f64,
        /// Throttled entries over those answered.
        throttled: f64,
        /// The least part that a producer had, over an equal one.
        fairness: f64,
    }

    fn got(producers: &[Offering], from: usize, to: usize, capacity: impl Fn(u64) -> u32) -> Got {
        let sums: Vec<(u32, u32)> = producers.iter().map(|producer| producer.sum(from, to)).collect();
        let accepted: u32 = sums.iter().map(|sum| sum.0).sum();
        let throttled: u32 = sums.iter().map(|sum| sum.1).sum();
        let least = sums.iter().map(|sum| sum.0).min().unwrap();
        Got {
            goodput: f64::from(accepted) / f64::from((from..to).map(|s| capacity(s as u64)).sum::<u32>()),
            throttled: f64::from(throttled) / f64::from(accepted + throttled),
            fairness: f64::from(least) * producers.len() as f64 / f64::from(accepted),
        }
    }

    /// Settled: near the capacity, hardly throttled, and nobody much below an equal part.
    fn assert_settled(got: &Got, told: &str) {
        assert!(got.goodput > 0.95 && got.throttled < 0.02 && got.fairness > 0.7, "{told}: {got:?}");
    }

    fn many(count: usize, per_second: f64, on_demand: bool) -> Vec<Offering> {
        (0..count).map(|_| Offering::new(per_second, on_demand)).collect()
    }

    const SEEDS: std::ops::Range<u64> = 0..12;

    #[test]
    fn producers_of_a_provisioned_shard_share_it() {
        for (seed, count) in SEEDS.flat_map(|seed| (2..=5).map(move |count| (seed * 97, count))) {
            let mut producers = many(count, 1500.0 / count as f64, false);
            share_out(&mut producers, 120, seed, |_| 1000);
            assert_settled(&got(&producers, 0, 120, |_| 1000), &format!("{count}, seed {seed}"));
        }
    }

    /// A producer that does not run for a while makes up for what it could not send.
    #[test]
    fn producers_on_busy_machines_share_a_shard() {
        for (seed, stalls) in SEEDS.flat_map(|seed| [(seed, 5), (seed, 20), (seed, 35)]) {
            let mut producers = many(3, 500.0, false);
            for (place, producer) in (0..).zip(&mut producers) {
                (producer.stalls, producer.draws) = (stalls, Draws::new(seed, place));
            }
            share_out(&mut producers, 60, seed * 7, |_| 1000);
            assert_settled(&got(&producers, 0, 60, |_| 1000), &format!("{stalls} ms, seed {seed}"));
        }
    }

    #[test]
    fn a_lone_producer_of_a_provisioned_shard_is_not_throttled() {
        let mut producers = many(1, 2000.0, false);
        share_out(&mut producers, 60, 3, |_| 1000);
        let got = got(&producers, 0, 60, |_| 1000);
        assert!(got.goodput > 0.97 && got.throttled == 0.0, "{got:?}");
    }

    #[test]
    fn unequal_shares_become_equal_in_a_minute_or_two() {
        for seed in SEEDS {
            for shares in [&[0.9, 0.05][..], &[0.5, 0.2, 0.1, 0.1, 0.02], &[0.6, 0.3, 0.01]] {
                let mut producers: Vec<_> =
                    shares.iter().map(|&share| Offering::new(2000.0, false).with_share(share)).collect();
                share_out(&mut producers, 180, seed * 31, |_| 1000);
                assert_settled(&got(&producers, 90, 180, |_| 1000), &format!("{shares:?}, seed {seed}"));
            }
        }
    }

    #[test]
    fn a_late_joiner_and_those_before_it_come_to_equal_shares() {
        for seed in SEEDS {
            let mut producers = many(4, 2000.0, false);
            producers[3] = Offering::new(2000.0, false).begins(60);
            share_out(&mut producers, 180, seed * 53, |_| 1000);
            let at_once = got(&producers, 60, 70, |_| 1000);
            assert!(at_once.goodput > 0.95 && at_once.throttled < 0.15, "seed {seed}: {at_once:?}");
            assert_settled(&got(&producers, 100, 180, |_| 1000), &format!("seed {seed}"));
        }
    }

    #[test]
    fn the_capacity_of_an_on_demand_shard_is_found_and_followed() {
        // 4,000/s, then 8,000/s, then 2,000/s.
        let capacity = |second| [4000, 8000, 2000][usize::try_from(second / 100).unwrap().min(2)];
        for (seed, count) in SEEDS.step_by(2).flat_map(|seed| [(seed, 1), (seed, 3)]) {
            let mut producers = many(count, 20_000.0, true);
            share_out(&mut producers, 300, seed * 71, capacity);
            for (from, to) in [(40, 100), (140, 200), (210, 300)] {
                let got = got(&producers, from, to, capacity);
                let told = format!("{count}, seed {seed}, {from}..{to}: {got:?}");
                assert!(got.goodput > 0.94 && got.throttled < 0.02 && got.fairness > 0.5, "{told}");
            }
            // A fall to a quarter costs seconds, not a minute.
            assert!(got(&producers, 205, 210, capacity).throttled < 0.1, "seed {seed}");
        }
    }

    #[test]
    fn what_a_producer_leaves_is_taken_by_the_others() {
        for seed in SEEDS {
            // One offers 100/s only.
            let mut producers = many(3, 2000.0, false);
            producers[0].per_second = 100.0;
            share_out(&mut producers, 120, seed * 13, |_| 1000);
            let got = got(&producers, 30, 120, |_| 1000);
            assert!(got.goodput > 0.95 && got.throttled < 0.02, "seed {seed}: {got:?}");
            let modest = producers[0].sum(30, 120).0;
            assert!((8900..=9100).contains(&modest), "seed {seed}: {modest} of 9000");
        }
    }

    fn records(limit: &Adaptive) -> String {
        format!("{:.0}", limit.records_per_second())
    }

    /// Offers `per_second` entries of `bytes` for some seconds; tells how many were admitted.
    fn offer(limit: &mut Adaptive, bytes: usize, per_second: u64, from: Nanos, seconds: u64) -> u64 {
        let (mut waiting, mut admitted) = (0, 0);
        for millis in 0..seconds * 1000 {
            waiting += (millis + 1) * per_second / 1000 - millis * per_second / 1000;
            while waiting > 0 && limit.admit(bytes, from + millis * MILLISECOND).is_ok() {
                (waiting, admitted) = (waiting - 1, admitted + 1);
            }
        }
        admitted
    }

    #[test]
    fn a_limit_that_is_not_used_does_not_grow() {
        let mut limit = Adaptive::new(quota(true), true);
        assert_eq!(records(&limit), "980");
        offer(&mut limit, 100, 900, 0, 100);
        assert_eq!(records(&limit), "980");
        // An hour of silence is not used either.
        offer(&mut limit, 100, 2000, 3_600 * SECOND, 1);
        assert!((980.0..995.0).contains(&limit.records_per_second()), "{}", limit.records_per_second());
        offer(&mut limit, 100, 20_000, 3_601 * SECOND, 30);
        assert!(limit.records_per_second() > 3_000.0, "{}", limit.records_per_second());
    }

    #[test]
    fn records_or_bytes_bind_whichever_are_used_up_first() {
        for (bytes, expected) in [(100, 980), (1000, 980), (2048, 502), (262_144, 4)] {
            let mut limit = Adaptive::new(quota(false), false);
            let admitted = offer(&mut limit, bytes, 2000, 0, 20);
            let most = expected * 20 + expected / 40 + 2;
            assert!((expected * 19..=most).contains(&admitted), "{bytes}: {admitted}");
        }
    }

    #[test]
    fn one_overload_is_one_decrease_and_the_excess() {
        let mut limit = Adaptive::new(quota(false), false);
        offer(&mut limit, 100, 2000, 0, 2);
        for millis in 0..10 {
            limit.throttled(100, 2 * SECOND + millis * MILLISECOND);
        }
        // 980 less 7 %, less the ten.
        assert_eq!(records(&limit), "901");
        limit.throttled(100, 3 * SECOND);
        assert_eq!(records(&limit), "837");
    }

    #[test]
    fn a_share_that_was_not_used_falls_to_what_was() {
        let mut limit = Adaptive::new(quota(false), false);
        offer(&mut limit, 100, 600, 0, 5);
        limit.throttled(100, 5 * SECOND);
        assert!((550.0..562.0).contains(&limit.records_per_second()), "{}", limit.records_per_second());
        // By half at most: a producer that only began is not held down for good.
        let mut limit = Adaptive::new(quota(false), false);
        offer(&mut limit, 100, 10, 0, 5);
        limit.throttled(100, 5 * SECOND);
        assert!((450.0..490.0).contains(&limit.records_per_second()), "{}", limit.records_per_second());
    }

    #[test]
    fn a_shard_that_takes_nothing_is_still_tried() {
        let mut limit = Adaptive::new(quota(false), false);
        for millis in 0..100_000 {
            limit.throttled(100, millis * MILLISECOND);
        }
        assert_eq!(records(&limit), "10");
        let admitted = offer(&mut limit, 100, 2000, 100 * SECOND, 60);
        assert!(admitted > 10_000, "{admitted}");
    }

    proptest! {
        /// Whatever is admitted and throttled: whoever is told to wait is admitted then, and no second
        /// has more than the limit of its time, a burst and an entry.
        #[test]
        fn waits_end_when_they_said(
            steps in prop::collection::vec((1_usize..300_000, 0_u64..40, any::<bool>()), 1..400),
        ) {
            let mut limit = Adaptive::new(quota(false), false);
            let (mut now, mut admitted) = (0, Vec::new());
            for (bytes, pause, throttled) in steps {
                now += pause * MILLISECOND;
                if let Err(at) = limit.admit(bytes, now) {
                    prop_assert!(at > now);
                    now = at;
                    prop_assert_eq!(limit.admit(bytes, now), Ok(()));
                }
                admitted.push((now, bytes));
                if throttled {
                    limit.throttled(bytes, now);
                }
                prop_assert!((9.99..=980.01).contains(&limit.records_per_second()));
            }
            for (i, &(from, _)) in admitted.iter().enumerate() {
                let second: Vec<usize> =
                    admitted[i..].iter().take_while(|(at, _)| at - from < SECOND).map(|(_, b)| *b).collect();
                prop_assert!(second.len() <= 1_001, "{}", second.len());
                let last = second.last().copied().unwrap_or(0);
                prop_assert!(second.iter().sum::<usize>() - last <= 1_048_577, "{second:?}");
            }
        }
    }
}
