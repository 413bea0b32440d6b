//! A limit that follows what the shard throttles.
//!
//! It is a share of a provisioned shard: 0.5 admits 500 records and 512 KiB a second. Both limits of a
//! shard scale with it, so whichever of them this producer's entries use up first is the one that binds.
//!
//! - **Increase**, while entries wait for this limit and only then: by [`STEP`] a second, and faster the
//!   longer the shard took everything ([`HASTE`]). The step is the same for all producers of a shard.
//! - **Decrease** on throttles: at most once an [`EPOCH`], by a fraction that grows with the share
//!   ([`give_way`]); and by each throttled entry's own part of a second's limit. What a shard throttles
//!   in a second is what it was offered too much in that second, so the latter takes the excess away.
//!
//! Equal steps up and larger steps down for those who have more make the shares equal in time.

use super::ShardQuota;
use crate::load::{MILLISECOND, Nanos, SECOND};

/// Increase of the share in a second during which entries wait.
const STEP: f64 = 0.008;

/// After this many seconds of waiting without a throttle the step is doubled, after twice as many it is
/// five times as large: the step grows with the square of the time, so that a capacity far above the
/// share is found in seconds, not in minutes.
const HASTE: f64 = 5.0;

/// Throttles within this time of a decrease belong to the same overload: Kinesis counts by the second,
/// so the next that is news comes about a second after the first.
const EPOCH: Nanos = 500 * MILLISECOND;

/// What may be admitted at once after a pause, as time at the current rate.
const BURST: Nanos = 20 * MILLISECOND;

/// The least share: 10 records a second, which is enough to see whether the shard takes them.
const FLOOR: f64 = 0.01;

/// The most that a producer may use of a provisioned shard: a little under its limit, as what is sent
/// evenly does not arrive evenly.
const PROVISIONED: f64 = 0.98;

/// The share that is taken as no limit at all.
const UNBOUNDED: f64 = 1000.0;

/// Time between being admitted late and being told when that counts as waiting: the engine's timer.
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
    // When all that was admitted will have been paid for, at the rates of its time.
    records_paid: Nanos,
    bytes_paid: Nanos,
    // Since when the entry at the head waits, and until when it was told to.
    waits: Option<(Nanos, Nanos)>,
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
        if let Some((since, until)) = self.waits.take() {
            self.increase(now.min(until + LATE).saturating_sub(since));
        }
        self.records_paid = self.records_paid.max(now) + self.time_of(1.0 / self.quota.records_per_second);
        self.bytes_paid =
            self.bytes_paid.max(now) + self.time_of(bytes as f64 / self.quota.bytes_per_second);
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
        self.share = (self.share + STEP * haste * seconds).min(self.ceiling);
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
            while self.waiting >= 1.0 && self.limit.admit(self.bytes, now).is_ok() {
                self.waiting -= 1.0;
                if self.batch == 0 {
                    self.batch_leaves = now + 10 * MILLISECOND;
                }
                self.batch += 1;
            }
            if now < self.batch_leaves { 0 } else { std::mem::take(&mut self.batch) }
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
                let (place, throttled) = answer.remove();
                let producer = &mut producers[place];
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

    #[test]
    fn tune() {
        let show = |name: &str, make: &dyn Fn() -> Vec<Offering>, cap: &dyn Fn(u64) -> u32, spans: &[(usize, usize)]| {
            println!("{name}");
            for seed in [1, 250, 777] {
                let mut p = make();
                share_out(&mut p, spans.last().unwrap().1 as u64, seed, cap);
                for &(from, to) in spans {
                    let c: u32 = (from..to).map(|s| cap(s as u64)).sum();
                    let sums: Vec<_> = p.iter().map(|p| p.sum(from, to)).collect();
                    let acc: u32 = sums.iter().map(|s| s.0).sum();
                    let thr: u32 = sums.iter().map(|s| s.1).sum();
                    let shares: Vec<String> = sums.iter().map(|s| format!("{:.2}", f64::from(s.0) / f64::from(acc))).collect();
                    println!("  seed {seed} {from}..{to}: goodput {:.3} throttled {:.4} shares {}", f64::from(acc) / f64::from(c), f64::from(thr) / f64::from(acc + thr), shares.join(" "));
                }
            }
        };
        show("three, 150%", &|| (0..3).map(|_| Offering::new(500.0, false)).collect(), &|_| 1000, &[(0, 60), (20, 60), (60, 300)]);
        show("one", &|| vec![Offering::new(2000.0, false)], &|_| 1000, &[(0, 60), (60, 120)]);
        show("two", &|| (0..2).map(|_| Offering::new(2000.0, false)).collect(), &|_| 1000, &[(0, 60), (60, 300)]);
        show("five", &|| (0..5).map(|_| Offering::new(2000.0, false)).collect(), &|_| 1000, &[(0, 60), (60, 300)]);
        show("late third", &|| vec![Offering::new(2000.0, false), Offering::new(2000.0, false), Offering::new(2000.0, false).begins(60)], &|_| 1000, &[(0, 60), (60, 70), (70, 90), (90, 120), (120, 180), (180, 300)]);
        show("unequal", &|| vec![Offering::new(2000.0, false).with_share(0.9), Offering::new(2000.0, false).with_share(0.05)], &|_| 1000, &[(0, 10), (10, 30), (30, 60), (60, 90), (90, 120), (120, 180), (180, 300)]);
        show("unequal 5", &|| [0.5, 0.2, 0.1, 0.1, 0.02].map(|s| Offering::new(2000.0, false).with_share(s)).into_iter().collect(), &|_| 1000, &[(0, 10), (10, 30), (30, 60), (60, 90), (90, 120), (120, 180), (180, 300)]);
        show("on demand 4000, one", &|| vec![Offering::new(20000.0, true)], &|_| 4000, &[(0, 10), (10, 20), (20, 30), (30, 60), (60, 300)]);
        show("on demand 4000, three", &|| (0..3).map(|_| Offering::new(20000.0, true)).collect(), &|_| 4000, &[(0, 10), (10, 20), (20, 30), (30, 60), (60, 300)]);
        show("on demand up and down, two", &|| (0..2).map(|_| Offering::new(20000.0, true)).collect(), &|s| if (60..120).contains(&s) { 8000 } else { 2000 }, &[(0, 10), (10, 60), (60, 70), (70, 90), (90, 120), (120, 125), (125, 140), (140, 200)]);
    }
}
