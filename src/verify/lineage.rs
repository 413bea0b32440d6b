use crate::kinesis::{ListedShard, ShardId};
use std::collections::BTreeMap;

/// Which shards may be read: children after all that their parents hold, so that records of one
/// partition key come in the order in which they were stored.
#[derive(Clone, Debug, Default)]
pub struct Lineage {
    shards: BTreeMap<ShardId, Reading>,
}

#[derive(Clone, Debug)]
struct Reading {
    parents: Vec<ShardId>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Ended,
}

impl Lineage {
    /// Takes a list of shards; those that it knows stay as they are.
    pub fn learn(&mut self, listed: &[ListedShard]) {
        for shard in listed {
            let reading = Reading { parents: shard.parents.clone(), state: State::Waiting };
            self.shards.entry(shard.id).or_insert(reading);
        }
    }

    /// Notes that a shard need not be read (any more).
    pub fn end(&mut self, shard: ShardId) {
        if let Some(reading) = self.shards.get_mut(&shard) {
            reading.state = State::Ended;
        }
    }

    /// The shards whose reading begins now: they were not begun, and their parents, as far as they are
    /// listed (the stream forgets shards whose records it has forgotten), were read to their end.
    pub fn begin(&mut self) -> Vec<ShardId> {
        let ended = |id: &ShardId| self.shards.get(id).is_none_or(|shard| shard.state == State::Ended);
        let ready = |shard: &Reading| shard.state == State::Waiting && shard.parents.iter().all(ended);
        let begun: Vec<ShardId> =
            self.shards.iter().filter(|(_, shard)| ready(shard)).map(|(id, _)| *id).collect();
        for id in &begun {
            if let Some(shard) = self.shards.get_mut(id) {
                shard.state = State::Begun;
            }
        }
        begun
    }

    /// How many shards wait for their parents.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shards.values().filter(|shard| shard.state == State::Waiting).count()
    }

    /// The shards that are being read.
    pub fn begun(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shards.iter().filter(|(_, shard)| shard.state == State::Begun).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: u64, parents: &[u64]) -> ListedShard {
        ListedShard { id: ShardId(id), parents: parents.iter().copied().map(ShardId).collect(), open: true }
    }

    fn ids(ids: &[u64]) -> Vec<ShardId> {
        ids.iter().copied().map(ShardId).collect()
    }

    #[test]
    fn children_wait_for_all_their_parents() {
        let mut lineage = Lineage::default();
        lineage.learn(&[shard(0, &[]), shard(1, &[])]);
        assert_eq!(lineage.begin(), ids(&[0, 1]));
        // 0 is split into 2 and 3, then 3 and 1 are merged into 4.
        lineage.learn(&[shard(0, &[]), shard(1, &[]), shard(2, &[0]), shard(3, &[0]), shard(4, &[3, 1])]);
        assert_eq!(lineage.begin(), ids(&[]));
        assert_eq!(lineage.waiting(), 3);
        lineage.end(ShardId(0));
        assert_eq!(lineage.begin(), ids(&[2, 3]));
        lineage.end(ShardId(3));
        assert_eq!(lineage.begin(), ids(&[]));
        lineage.end(ShardId(1));
        assert_eq!(lineage.begin(), ids(&[4]));
        assert_eq!(lineage.begun().collect::<Vec<_>>(), ids(&[2, 4]));
        assert_eq!(lineage.waiting(), 0);
    }

    #[test]
    fn parents_that_are_not_listed_are_not_waited_for() {
        let mut lineage = Lineage::default();
        lineage.learn(&[shard(7, &[1, 2])]);
        assert_eq!(lineage.begin(), ids(&[7]));
    }
}
