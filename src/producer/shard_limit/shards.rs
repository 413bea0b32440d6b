use super::Limits;
use super::limits::{LimitInUse, LimitsInUse};
use crate::kinesis::{Shard, ShardId};
use crate::load::{Nanos, SECOND};
use std::collections::HashMap;

/// Every shard seen in the run, by its slot, with what limits an engine on it.
#[derive(Debug)]
pub(in crate::producer) struct LimitedShards {
    limits: LimitsInUse,
    shards: Vec<(Shard, Option<LimitInUse>)>,
    slot_of: HashMap<ShardId, u32>,
    // What shards took within a second before they were known.
    early: HashMap<ShardId, Early>,
}

/// Entries, their bytes, and when the last was answered.
#[derive(Debug, Default)]
struct Early {
    entries: usize,
    bytes: usize,
    last: Nanos,
}

impl LimitedShards {
    pub(in crate::producer) fn new(limits: Limits) -> Self {
        Self {
            limits: LimitsInUse::new(limits),
            shards: Vec::new(),
            slot_of: HashMap::new(),
            early: HashMap::new(),
        }
    }

    /// The slot of a shard, a new one if it was not seen yet.
    pub(in crate::producer) fn slot(&mut self, shard: &Shard) -> u32 {
        *self.slot_of.entry(shard.id).or_insert_with(|| {
            let mut limit = self.limits.of(shard.id);
            if let (Some(limit), Some(early)) = (&mut limit, self.early.remove(&shard.id)) {
                limit.took(early.entries, early.bytes, early.last);
            }
            self.shards.push((*shard, limit));
            u32::try_from(self.shards.len() - 1).unwrap_or(u32::MAX)
        })
    }

    pub(in crate::producer) fn shard(&self, slot: u32) -> &Shard {
        &self.shards[slot as usize].0
    }

    pub(in crate::producer) fn iter(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(|(shard, _)| shard)
    }

    /// See [`super::ShardLimit::admit`].
    #[inline]
    pub(in crate::producer) fn admit(&mut self, slot: u32, bytes: usize, now: Nanos) -> Result<(), Nanos> {
        self.shards[slot as usize].1.as_mut().map_or(Ok(()), |limit| limit.admit(bytes, now))
    }

    /// Notes that a shard took an entry of `bytes` that was sent to another, which was split or merged meanwhile: it is
    /// part of what the shard takes in a second.
    pub(in crate::producer) fn took(&mut self, shard: ShardId, bytes: usize, now: Nanos) {
        if let Some(slot) = self.slot_of.get(&shard) {
            if let Some(limit) = &mut self.shards[*slot as usize].1 {
                limit.took(1, bytes, now);
            }
            return;
        }
        let early = self.early.entry(shard).or_default();
        if now > early.last + SECOND {
            *early = Early::default();
        }
        *early = Early { entries: early.entries + 1, bytes: early.bytes + bytes, last: now };
    }

    pub(in crate::producer) fn throttled(&mut self, slot: u32, bytes: usize, now: Nanos) {
        if let Some(limit) = &mut self.shards[slot as usize].1 {
            limit.throttled(bytes, now);
        }
    }

    /// The Kinesis records that the limit of a shard admits in a second at present, if there is one.
    pub(in crate::producer) fn records_per_second(&self, slot: u32) -> Option<f64> {
        self.shards[slot as usize].1.as_ref().map(LimitInUse::records_per_second)
    }

    /// From now on each shard is limited so.
    pub(in crate::producer) fn set_limits(&mut self, limits: Limits) {
        self.limits = LimitsInUse::new(limits);
        for (shard, limit) in &mut self.shards {
            *limit = self.limits.of(shard.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::ShardMap;
    use crate::load::MILLISECOND;
    use crate::producer::ShardQuota;

    fn admitted(shards: &mut LimitedShards, slot: u32) -> usize {
        (0..1_000).filter(|millis| shards.admit(slot, 10, millis * MILLISECOND).is_ok()).count()
    }

    #[test]
    fn what_a_shard_took_unasked_is_part_of_its_second() {
        let limits = || Limits::Own(ShardQuota::of_shard(1.0, 100));
        let shard = ShardMap::even(1).shards()[0];
        let mut fresh = LimitedShards::new(limits());
        let slot = fresh.slot(&shard);
        let most = admitted(&mut fresh, slot);
        for known in [true, false] {
            let mut shards = LimitedShards::new(limits());
            if known {
                shards.slot(&shard);
            }
            (0..300).for_each(|_| shards.took(shard.id, 10, 0));
            let slot = shards.slot(&shard);
            assert_eq!(admitted(&mut shards, slot), most - 300, "{known}");
        }
    }
}
