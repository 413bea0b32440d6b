//! Limits that the loads of a run share on the shards of one stream.
//!
//! A shard's capacity is one, so its limit is: loads that each kept a part of it would have to guess what the
//! others use. Those that wait for the same shard are served to the same amount, in the time that the shard
//! takes for what they send; one that asks for less than its part gets all of it.

use super::{ShardLimit, ShardQuota};
use crate::kinesis::ShardId;
use crate::kinesis::limits::{SHARD_BYTES_PER_SECOND, SHARD_RECORDS_PER_SECOND};
use crate::load::{MILLISECOND, Nanos};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How much more of a shard's time one may have had than another that waits. Engines wake every millisecond, and
/// on a busy machine less often: what one leaves until then the others may take.
const SLACK: Nanos = 10 * MILLISECOND;

/// How much later than it was told to one may ask again and still be waited for.
const PATIENCE: Nanos = 20 * MILLISECOND;

/// The limits of one stream's shards, which several engines share.
#[derive(Debug)]
pub struct SharedLimits {
    quota: ShardQuota,
    members: AtomicUsize,
    shards: Mutex<HashMap<ShardId, Arc<Mutex<SharedShard>>>>,
}

impl SharedLimits {
    /// Of shards that all engines together may use to this quota each.
    #[must_use]
    pub fn new(quota: ShardQuota) -> Self {
        Self { quota, members: AtomicUsize::new(0), shards: Mutex::default() }
    }

    /// A new engine's place.
    pub(super) fn join(&self) -> usize {
        self.members.fetch_add(1, Ordering::Relaxed)
    }

    /// The limit of a shard, as the engine at a place sees it.
    pub(super) fn of(self: &Arc<Self>, shard: ShardId, place: usize) -> Sharer {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = shards.entry(shard).or_insert_with(|| Arc::new(Mutex::new(SharedShard::new(self.quota))));
        Sharer { all: Arc::clone(self), shard: Arc::clone(shard), place }
    }
}

/// One engine's part in a shard's limit.
#[derive(Debug)]
pub(in crate::producer) struct Sharer {
    all: Arc<SharedLimits>,
    shard: Arc<Mutex<SharedShard>>,
    place: usize,
}

impl Sharer {
    pub(super) fn admit(&mut self, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        self.shard.lock().unwrap_or_else(PoisonError::into_inner).admit(self.place, bytes, now)
    }

    pub(super) fn took(&mut self, entries: usize, bytes: usize, now: Nanos) {
        let mut shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = shard.monotone(now);
        shard.limit.took(entries, bytes, now);
    }

    pub(super) fn throttled(&mut self, bytes: usize, now: Nanos) {
        let mut shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = shard.monotone(now);
        shard.limit.throttled(bytes, now);
    }

    /// An equal part of what the limit admits, so that the parts of all add up to it.
    pub(super) fn records_per_second(&self) -> f64 {
        let all = self.shard.lock().unwrap_or_else(PoisonError::into_inner).limit.records_per_second();
        all / self.all.members.load(Ordering::Relaxed).max(1) as f64
    }
}

#[derive(Debug)]
struct SharedShard {
    limit: ShardLimit,
    // Engines on other threads may bring a time that is a little earlier.
    latest: Nanos,
    // By the engines' places.
    turns: Vec<Turn>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    // The time that the shard takes for what was admitted.
    served: Nanos,
    // When it was told to ask again, if it was and has not been served since.
    asks_again: Option<Nanos>,
}

impl Turn {
    fn waits(&self, now: Nanos) -> bool {
        self.asks_again.is_some_and(|at| now < at.saturating_add(PATIENCE))
    }
}

impl SharedShard {
    fn new(quota: ShardQuota) -> Self {
        Self { limit: ShardLimit::new(quota), latest: 0, turns: Vec::new() }
    }

    fn monotone(&mut self, now: Nanos) -> Nanos {
        self.latest = self.latest.max(now);
        self.latest
    }

    fn admit(&mut self, place: usize, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        let now = self.monotone(now);
        self.turns.resize(self.turns.len().max(place + 1), Turn::default());
        let waiting = (0..).zip(&self.turns).filter(|(other, turn)| *other != place && turn.waits(now));
        let least = waiting.map(|(_, turn)| turn.served).min();
        let own = &mut self.turns[place];
        if let Some(least) = least {
            if !own.waits(now) {
                // Time in which it asked for nothing is no claim on more than the next turn.
                own.served = own.served.max(least.saturating_sub(SLACK));
            }
            if own.served > least + SLACK {
                own.asks_again = Some(now + MILLISECOND);
                return Err(now + MILLISECOND);
            }
        }
        match self.limit.admit(bytes, now) {
            Ok(()) => {
                own.served += time_of(bytes);
                own.asks_again = None;
                Ok(())
            }
            Err(at) => {
                own.asks_again = Some(at);
                Err(at)
            }
        }
    }
}

/// The time that a provisioned shard takes for an entry. One on demand may take less: what counts is the
/// proportion.
fn time_of(bytes: usize) -> Nanos {
    const SECOND: u64 = crate::load::SECOND;
    let of_bytes = (bytes as u64).saturating_mul(SECOND) / u64::from(SHARD_BYTES_PER_SECOND);
    of_bytes.max(SECOND / u64::from(SHARD_RECORDS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::SECOND;

    /// Lets engines ask every `wake`th millisecond, each for so many records a second; tells how many each got
    /// in ten seconds, and the longest that a record of each waited.
    fn share(quota: ShardQuota, loads: &[(u64, u64)]) -> Vec<(u64, Nanos)> {
        let limits = Arc::new(SharedLimits::new(quota));
        let mut engines: Vec<Sharer> = loads.iter().map(|_| limits.of(ShardId(7), limits.join())).collect();
        let mut got = vec![(0, 0); loads.len()];
        for millis in 0..10_000 {
            let now = millis * MILLISECOND;
            for ((engine, got), (per_second, wake)) in engines.iter_mut().zip(&mut got).zip(loads) {
                while millis % wake == 0
                    && got.0 < per_second * millis / 1000
                    && engine.admit(100, now).is_ok()
                {
                    let due = got.0 * SECOND / per_second;
                    *got = (got.0 + 1, got.1.max(now - due));
                }
            }
        }
        got
    }

    #[test]
    fn those_that_ask_for_too_much_get_the_same_and_one_that_asks_for_little_all_of_it() {
        for wakes in [[1, 1, 1], [1, 3, 2], [5, 5, 5], [1, 10, 1]] {
            let loads = [(2_000, wakes[0]), (2_000, wakes[1]), (100, wakes[2])];
            let got = share(ShardQuota::of_shard(1.0, 500), &loads);
            let all: u64 = got.iter().map(|(records, _)| records).sum();
            assert!((9_700..=10_000).contains(&all), "{wakes:?}: {got:?}");
            assert!(got[0].0.abs_diff(got[1].0) * 50 <= got[0].0, "{wakes:?}: {got:?}");
            // It has no queue: it waits for its turn alone, and once for a second's records to be over.
            assert!(got[2].0 >= 985 && got[2].1 <= 100 * MILLISECOND, "{wakes:?}: {got:?}");
        }
    }

    #[test]
    fn what_one_does_not_ask_for_the_others_get() {
        let got = share(ShardQuota::of_shard(1.0, 500), &[(2_000, 1), (0, 1), (300, 1)]);
        assert!(got[0].0 >= 6_700 && got[2].0 >= 2_990, "{got:?}");
        // One that was refused and never comes back is waited for only for a while.
        let limits = Arc::new(SharedLimits::new(ShardQuota::of_shard(1.0, 500)));
        let mut engines = [0, 1].map(|_| limits.of(ShardId(7), limits.join()));
        while engines[0].admit(100, 0).is_ok() {}
        assert!(engines[1].admit(100, 0).is_err());
        let admitted =
            (0..1_000).filter(|millis| engines[0].admit(100, millis * MILLISECOND).is_ok()).count();
        assert!(admitted > 850, "{admitted}");
    }

    #[test]
    fn the_limit_is_one_whoever_asks() {
        let limits = Arc::new(SharedLimits::new(ShardQuota::of_shard(1.0, 500)));
        let engines = [0, 1, 2].map(|_| limits.of(ShardId(7), limits.join()));
        let parts: f64 = engines.iter().map(Sharer::records_per_second).sum();
        assert!((parts - 1000.0).abs() < 1e-6, "{parts}");
        // What one sees throttled slows all.
        let limits = Arc::new(SharedLimits::new(ShardQuota::adaptive(false, 500)));
        let mut engines = [0, 1].map(|_| limits.of(ShardId(7), limits.join()));
        let before = engines[1].records_per_second();
        engines[0].throttled(100, SECOND);
        assert!(engines[1].records_per_second() < before);
    }
}
