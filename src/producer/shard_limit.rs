mod adaptive;
mod limits;
mod shards;
mod shared;
mod window;

pub use limits::Limits;
pub(super) use shards::LimitedShards;
pub use shared::SharedLimits;

use crate::kinesis::limits::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};
use crate::load::Nanos;
use adaptive::Adaptive;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use window::Window;

/// The share of a shard's bytes per second that is admitted steadily, and the share that may come at once.
/// Together with what gathers while a batch lingers (1 % of a second at most) they stay within
/// the limit in any window of one second, which is how Kinesis counts.
const STEADY: f64 = 0.98;
const BURST: f64 = 0.01;

/// What limits an engine on each shard, as the user chose it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ShardLimiting {
    /// The whole of each shard of a provisioned stream, of an on-demand one adaptive.
    Auto,
    /// This share (1 = 100 %) of a provisioned shard.
    Share(f64),
    /// What the shard takes, found by what it throttles.
    Adaptive,
    /// Nothing.
    Unlimited,
}

impl ShardLimiting {
    /// The quota of each shard of a stream, which is on-demand or not; `alone`: whether no load of the run that
    /// is limited otherwise goes there. `None`: no limit. `largest_entry` is in bytes.
    #[must_use]
    pub fn quota(self, on_demand: bool, alone: bool, largest_entry: usize) -> Option<ShardQuota> {
        match self {
            Self::Auto if !on_demand && alone => Some(ShardQuota::of_shard(1.0, largest_entry)),
            Self::Auto | Self::Adaptive => Some(ShardQuota::adaptive(on_demand, largest_entry)),
            Self::Share(share) => Some(ShardQuota::of_shard(share, largest_entry)),
            Self::Unlimited => None,
        }
    }
}

/// How much of a shard's capacity may be used, by one engine or those that share it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardQuota {
    /// Kinesis records per second.
    pub records_per_second: f64,
    /// Bytes per second, as Kinesis counts them.
    pub bytes_per_second: f64,
    /// The largest entry that must pass, in bytes.
    pub largest_entry: u32,
    /// Whether it changes with what the shard throttles.
    pub adapts: Adapts,
}

/// Whether a limit changes with what its shard throttles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adapts {
    /// It stays the quota.
    Never,
    /// It falls below the quota and rises to it again: a provisioned shard.
    UpToQuota,
    /// It begins at the quota and falls or rises as far as the shard goes along: an on-demand one.
    Freely,
}

impl ShardQuota {
    /// `share` (1 = 100 %) of a provisioned shard.
    #[must_use]
    pub fn of_shard(share: f64, largest_entry: usize) -> Self {
        Self {
            records_per_second: f64::from(SHARD_RECORDS_PER_SECOND) * share,
            bytes_per_second: f64::from(SHARD_BYTES_PER_SECOND) * share,
            largest_entry: u32::try_from(largest_entry).unwrap_or(u32::MAX),
            adapts: Adapts::Never,
        }
    }

    /// A share of the shard that is found by what it throttles, beginning with the whole.
    #[must_use]
    pub fn adaptive(on_demand: bool, largest_entry: usize) -> Self {
        let adapts = if on_demand { Adapts::Freely } else { Adapts::UpToQuota };
        Self { adapts, ..Self::of_shard(1.0, largest_entry) }
    }
}

/// Decides whether a shard may take an entry now, and if not, when to ask again.
#[derive(Debug)]
pub struct ShardLimit(Kind);

#[derive(Debug)]
enum Kind {
    Fixed(Fixed),
    Adaptive(Adaptive),
}

impl ShardLimit {
    /// A shard of this quota, not used so far.
    #[must_use]
    pub fn new(quota: ShardQuota) -> Self {
        Self(match quota.adapts {
            Adapts::Never => Kind::Fixed(Fixed::new(quota)),
            Adapts::UpToQuota => Kind::Adaptive(Adaptive::new(quota, false)),
            Adapts::Freely => Kind::Adaptive(Adaptive::new(quota, true)),
        })
    }

    /// Admits the entry at the head of the shard's queue, of `bytes`.
    ///
    /// # Errors
    /// The time at which to ask for the same entry again, later than `now`.
    pub fn admit(&mut self, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        match &mut self.0 {
            Kind::Fixed(limit) => limit.admit(bytes, now),
            Kind::Adaptive(limit) => limit.admit(bytes, now),
        }
    }

    /// Notes that the shard took entries of so many bytes in all which it was not asked for: they were sent to a shard
    /// that was split or merged meanwhile. A limit that adapts is told by what the shard throttles.
    pub fn took(&mut self, entries: usize, bytes: usize, now: Nanos) {
        if let Kind::Fixed(limit) = &mut self.0 {
            limit.took(entries, bytes, now);
        }
    }

    /// Notes that the shard throttled an entry of `bytes`; `now` is when the answer came.
    pub fn throttled(&mut self, bytes: usize, now: Nanos) {
        if let Kind::Adaptive(limit) = &mut self.0 {
            limit.throttled(bytes, now);
        }
    }

    /// The Kinesis records that it admits in a second at present.
    #[must_use]
    pub fn records_per_second(&self) -> f64 {
        match &self.0 {
            Kind::Fixed(limit) => limit.quota.records_per_second,
            Kind::Adaptive(limit) => limit.records_per_second(),
        }
    }
}

/// A limit that stays what it is.
#[derive(Debug)]
struct Fixed {
    quota: ShardQuota,
    clock: FineClock,
    records: RecordLimit,
    bytes: ByteLimit,
    // Bytes taken for the entry at the head, which still waits for its record: governor gives no
    // refund, so they are kept for it.
    paid_for_head: usize,
}

#[derive(Debug)]
enum ByteLimit {
    /// Entries are small beside the limit: a steady rate with a small burst.
    Steady(Limiter),
    /// Entries are large: a burst that admits one would admit twice the limit in a second, so the
    /// bytes of the last second are summed.
    Window(Window),
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, FineClock, NoOpMiddleware<Fine>>;

impl Fixed {
    fn new(quota: ShardQuota) -> Self {
        let clock = FineClock::default();
        let records = RecordLimit::new(quota.records_per_second, &clock);
        let steady = quota.bytes_per_second * STEADY;
        let bytes = if f64::from(quota.largest_entry) <= quota.bytes_per_second * BURST * 2.0 {
            let burst = (quota.bytes_per_second * BURST).max(f64::from(quota.largest_entry));
            ByteLimit::Steady(limiter(steady, burst, &clock))
        } else {
            ByteLimit::Window(Window::of_bytes(quota.bytes_per_second))
        };
        Self { quota, clock, records, bytes, paid_for_head: 0 }
    }

    fn admit(&mut self, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        self.clock.set(now);
        match &mut self.bytes {
            ByteLimit::Steady(limiter) => {
                take(limiter, bytes.saturating_sub(self.paid_for_head), now)?;
                self.paid_for_head = self.paid_for_head.max(bytes);
                self.records.admit(now)?;
                self.paid_for_head = 0;
            }
            ByteLimit::Window(window) => {
                window.check(bytes, now)?;
                self.records.admit(now)?;
                window.note(bytes, now);
            }
        }
        Ok(())
    }

    fn took(&mut self, entries: usize, bytes: usize, now: Nanos) {
        self.clock.set(now);
        self.records.window.note(entries, now);
        match &mut self.bytes {
            // What the burst does not hold is not taken from it: a few entries of one request.
            ByteLimit::Steady(limiter) => _ = take(limiter, bytes, now),
            ByteLimit::Window(window) => window.note(bytes, now),
        }
    }
}

/// Entries at the limit's own pace, and never more than a second's in a second and 12 ms: 10 ms, in which a batch
/// lingers at most where a shard is at its limit, and 2 ms in which requests differ on their way. What a stall of this process
/// left unused is made up for, as the window remembers it; a pace below the limit would lose it.
#[derive(Debug)]
struct RecordLimit {
    pace: Limiter,
    window: Window,
}

impl RecordLimit {
    /// What may be made up for at once, as a share of a second's records.
    const BURST: f64 = 0.05;

    fn new(per_second: f64, clock: &FineClock) -> Self {
        let burst = per_second * Self::BURST;
        Self { pace: limiter(per_second, burst, clock), window: Window::of_records(per_second) }
    }

    fn admit(&mut self, now: Nanos) -> Result<(), Nanos> {
        self.window.check(1, now)?;
        take(&self.pace, 1, now)?;
        self.window.note(1, now);
        Ok(())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // positive, and far below u64::MAX
fn limiter(per_second: f64, burst: f64, clock: &FineClock) -> Limiter {
    let period = Duration::from_nanos((Fine::PER_SECOND / per_second.max(f64::MIN_POSITIVE)).ceil() as u64);
    let burst = NonZeroU32::new(burst as u32).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(period.max(Duration::from_nanos(1)))
        .unwrap_or(Quota::per_second(NonZeroU32::MIN))
        .allow_burst(burst);
    RateLimiter::direct_with_clock(quota, clock.clone())
}

fn take(limiter: &Limiter, amount: usize, now: Nanos) -> Result<(), Nanos> {
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    let Some(amount) = NonZeroU32::new(amount) else {
        return Ok(());
    };
    match limiter.check_n(amount) {
        Ok(Err(not_until)) => Err(not_until.earliest_possible().in_nanos().max(now + 1)),
        // Larger than the quota's largest entry: the plan refuses such records, so this is one that
        // grew by a key; it passes alone.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Time for governor, sixteen times as fine as [`Nanos`]: governor cuts the interval between two
/// bytes (954 ns at 1 MiB/s) to whole units, an error of 0.005 % instead of 0.07 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Fine(u64);

impl Fine {
    const PER_NANO: u64 = 16;
    const PER_SECOND: f64 = 16e9;

    fn in_nanos(self) -> Nanos {
        self.0.div_ceil(Self::PER_NANO)
    }
}

impl std::ops::Add<governor::nanos::Nanos> for Fine {
    type Output = Self;

    fn add(self, other: governor::nanos::Nanos) -> Self {
        Self(self.0.saturating_add(other.as_u64()))
    }
}

impl Reference for Fine {
    fn duration_since(&self, earlier: Self) -> governor::nanos::Nanos {
        governor::nanos::Nanos::new(self.0.saturating_sub(earlier.0))
    }

    fn saturating_sub(&self, duration: governor::nanos::Nanos) -> Self {
        Self(self.0.checked_sub(duration.as_u64()).unwrap_or(self.0))
    }
}

/// A clock that the engine sets to the `now` it was given.
#[derive(Clone, Debug, Default)]
struct FineClock(Arc<AtomicU64>);

impl FineClock {
    fn set(&self, now: Nanos) {
        self.0.store(now.saturating_mul(Fine::PER_NANO), Ordering::Relaxed);
    }
}

impl Clock for FineClock {
    type Instant = Fine;

    fn now(&self) -> Fine {
        Fine(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{MILLISECOND, SECOND};
    use proptest::prelude::*;

    /// Admits entries of `bytes` as soon as may be; returns their times.
    fn saturate(limit: &mut ShardLimit, bytes: usize, until: Nanos) -> Vec<Nanos> {
        let (mut now, mut admitted) = (0, Vec::new());
        while now < until {
            match limit.admit(bytes, now) {
                Ok(()) => admitted.push(now),
                Err(at) => {
                    assert!(at > now);
                    now = at;
                }
            }
        }
        admitted
    }

    fn most_in_a_second(times: &[Nanos]) -> usize {
        most_within(times, SECOND)
    }

    fn most_within(times: &[Nanos], span: Nanos) -> usize {
        let mut first = 0;
        let mut most = 0;
        for (last, &at) in times.iter().enumerate() {
            while at - times[first] >= span {
                first += 1;
            }
            most = most.max(last - first + 1);
        }
        most
    }

    #[test]
    fn auto_is_the_whole_of_a_provisioned_shard_and_adaptive_on_demand() {
        let whole = ShardQuota::of_shard(1.0, 500);
        assert_eq!(ShardLimiting::Auto.quota(false, true, 500), Some(whole));
        let adaptive = Some(ShardQuota { adapts: Adapts::Freely, ..whole });
        assert_eq!(ShardLimiting::Auto.quota(true, true, 500), adaptive);
        let provisioned = Some(ShardQuota { adapts: Adapts::UpToQuota, ..whole });
        assert_eq!(ShardLimiting::Adaptive.quota(false, true, 500), provisioned);
        assert_eq!(ShardLimiting::Auto.quota(false, false, 500), provisioned);
        // What the user says wins.
        assert_eq!(ShardLimiting::Share(1.0).quota(true, true, 500), Some(whole));
        assert_eq!(ShardLimiting::Unlimited.quota(true, false, 500), None);
    }

    #[test]
    fn records_keep_within_1000_in_any_second() {
        let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, 1024));
        let times = saturate(&mut limit, 100, 20 * SECOND);
        assert!(most_within(&times, SECOND + 12 * MILLISECOND) <= 1000);
        // A second's records in 1.012 s, and up to 4 ms for the grain: 984 to 988 a second; and a burst.
        assert!((19_684..=19_830).contains(&times.len()), "{}", times.len());
    }

    #[test]
    fn stalls_cost_no_records() {
        // Nothing is asked for 40 of every 200 ms.
        let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, 1024));
        let mut times = Vec::new();
        for now in
            (0..20 * SECOND).step_by(1_000_000).filter(|now| now % (200 * MILLISECOND) >= 40 * MILLISECOND)
        {
            while limit.admit(100, now).is_ok() {
                times.push(now);
            }
        }
        assert!(most_within(&times, SECOND + 12 * MILLISECOND) <= 1000);
        assert!(times.len() >= 19_600, "{}", times.len());
    }

    #[test]
    fn bytes_keep_within_a_mebibyte_in_any_second() {
        let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, 8192));
        let times = saturate(&mut limit, 8192, 20 * SECOND);
        assert!(most_in_a_second(&times) <= 128, "{}", most_in_a_second(&times));
        assert!(times.len() >= 20 * 125, "{}", times.len());
        // Entries of half a mebibyte and more: never two mebibytes in a second.
        let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, 500_000));
        assert_eq!(most_in_a_second(&saturate(&mut limit, 500_000, 20 * SECOND)), 2);
        let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, 900_000));
        assert_eq!(most_in_a_second(&saturate(&mut limit, 900_000, 20 * SECOND)), 1);
    }

    #[test]
    fn the_largest_entry_passes() {
        let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, 1024 * 1024));
        assert_eq!(limit.admit(1024 * 1024, 0), Ok(()));
        let again = limit.admit(1024 * 1024, 0).unwrap_err();
        assert_eq!(again, SECOND + 30 * MILLISECOND);
        assert_eq!(limit.admit(1024 * 1024, again), Ok(()));
    }

    #[test]
    fn a_wait_for_the_record_does_not_pay_the_bytes_twice() {
        for largest_entry in [10_000, 500_000] {
            let adapts = Adapts::Never;
            let quota = ShardQuota { records_per_second: 1.0, bytes_per_second: 1e6, largest_entry, adapts };
            let mut limit = ShardLimit::new(quota);
            let bytes = largest_entry as usize / 10 * 8;
            assert_eq!(limit.admit(1, 0), Ok(()));
            let mut at = 0;
            for _ in 0..10 {
                at = limit.admit(bytes, at / 2).unwrap_err();
            }
            assert_eq!(limit.admit(bytes, at), Ok(()));
        }
    }

    proptest! {
        /// Whatever the sizes, no window of a second holds more than the limit.
        #[test]
        fn mixed_sizes_keep_within_the_limit(sizes in prop::collection::vec(1_usize..60_000, 50..400), small in any::<bool>()) {
            let largest = if small { 10_000 } else { 60_000 };
            let sizes: Vec<usize> = sizes.into_iter().map(|size| size % largest + 1).collect();
            let mut limit = ShardLimit::new(ShardQuota::of_shard(1.0, largest));
            let (mut now, mut admitted) = (0, Vec::new());
            for size in sizes {
                while let Err(at) = limit.admit(size, now) {
                    now = at;
                }
                admitted.push((now, size));
            }
            for (i, &(from, _)) in admitted.iter().enumerate() {
                let sum: usize = admitted[i..].iter().take_while(|(at, _)| at - from < SECOND).map(|(_, s)| s).sum();
                prop_assert!(sum <= 1024 * 1024, "{sum}");
            }
        }
    }
}
