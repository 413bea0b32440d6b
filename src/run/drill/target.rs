use crate::kinesis::{Change, Shard, ShardId, ShardMap};
use crate::plan::DrillTask;
use crate::producer::Snapshot;

/// Kinesis records that each shard took between two snapshots.
#[derive(Clone, Debug, Default)]
pub(super) struct Heat(Vec<(ShardId, u64)>);

impl Heat {
    pub(super) fn between(first: &Snapshot, last: &Snapshot) -> Self {
        let accepted = |snapshot: &Snapshot, id: ShardId| {
            snapshot.account.shards.iter().find(|shard| shard.id == id).map_or(0, |shard| shard.accepted)
        };
        let shards = last.account.shards.iter();
        Self(shards.map(|shard| (shard.id, shard.accepted - accepted(first, shard.id))).collect())
    }

    fn of(&self, shard: &Shard) -> u64 {
        self.0.iter().find(|(id, _)| *id == shard.id).map_or(0, |(_, records)| *records)
    }
}

/// What a drill asks of a stream with these open shards; of shards that are equally hot, the one of the
/// lowest hash keys.
pub(super) fn change(task: DrillTask, map: &ShardMap, heat: &Heat) -> Result<Change, String> {
    let shards = map.shards();
    match task {
        DrillTask::SplitHottest => {
            let hottest = shards.iter().rev().max_by_key(|shard| heat.of(shard));
            split(hottest.ok_or("the stream has no open shard")?)
        }
        DrillTask::Split(id) => split(&shards[open(map, id)?]),
        DrillTask::MergeColdest => {
            let coldest = shards.windows(2).min_by_key(|pair| heat.of(&pair[0]) + heat.of(&pair[1]));
            let pair = coldest.ok_or("the stream has one open shard, and merging takes two")?;
            Ok(Change::Merge { lower: pair[0].id, upper: pair[1].id })
        }
        DrillTask::Merge(one, other) => {
            let (one, other) = (open(map, one)?, open(map, other)?);
            let (lower, upper) = (one.min(other), one.max(other));
            if lower + 1 != upper {
                return Err(format!(
                    "{} and {} are not neighbours: {} lies between them",
                    shards[lower].id,
                    shards[upper].id,
                    shards[lower + 1].id
                ));
            }
            Ok(Change::Merge { lower: shards[lower].id, upper: shards[upper].id })
        }
        DrillTask::ShardCount(count) => Ok(Change::ShardCount(count)),
        DrillTask::WarmThroughput(mib) => Ok(Change::WarmThroughput(mib)),
    }
}

/// The place of an open shard.
fn open(map: &ShardMap, id: ShardId) -> Result<usize, String> {
    let place = map.shards().iter().position(|shard| shard.id == id);
    place.ok_or_else(|| format!("{id} is not an open shard of the stream"))
}

/// A split in the middle of the shard's hash keys.
fn split(shard: &Shard) -> Result<Change, String> {
    if shard.first == shard.last {
        return Err(format!("{} takes a single hash key and cannot be split", shard.id));
    }
    Ok(Change::Split { shard: shard.id, at: shard.first + (shard.last - shard.first) / 2 + 1 })
}

/// Whether the shards after a change show that it came about; its warm throughput shows in no shard.
pub(super) fn shows(change: Change, before: &ShardMap, after: &ShardMap) -> bool {
    let closed = |id| open(after, id).is_err();
    match change {
        Change::Split { shard, .. } => closed(shard),
        Change::Merge { lower, upper } => closed(lower) && closed(upper),
        Change::ShardCount(count) => after != before && after.shards().len() == count as usize,
        Change::WarmThroughput(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heat(records: &[u64]) -> Heat {
        Heat((0..).map(ShardId).zip(records.iter().copied()).collect())
    }

    fn four() -> ShardMap {
        ShardMap::even(4)
    }

    #[test]
    fn the_hottest_is_split() {
        let split = |heat: &Heat| match change(DrillTask::SplitHottest, &four(), heat) {
            Ok(Change::Split { shard, .. }) => shard.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(split(&heat(&[1, 5, 7, 2])), 2);
        // A shard that took nothing is not in the account; among equals the first is taken.
        assert_eq!(split(&heat(&[])), 0);
        // A shard that is closed is not split, however hot it was.
        assert_eq!(split(&Heat(vec![(ShardId(9), 100), (ShardId(1), 1)])), 1);
    }

    #[test]
    fn the_coldest_neighbours_are_merged() {
        let merge = |heat: &[u64]| change(DrillTask::MergeColdest, &four(), &self::heat(heat)).unwrap();
        assert_eq!(merge(&[1, 9, 3, 2]), Change::Merge { lower: ShardId(2), upper: ShardId(3) });
        assert_eq!(merge(&[5, 5, 5, 5]), Change::Merge { lower: ShardId(0), upper: ShardId(1) });
    }

    #[test]
    fn named_shards_must_be_open_and_neighbours() {
        let of = |task| change(task, &four(), &Heat::default());
        let pair = Change::Merge { lower: ShardId(1), upper: ShardId(2) };
        assert_eq!(of(DrillTask::Merge(ShardId(2), ShardId(1))), Ok(pair));
        for (task, error) in [
            (
                DrillTask::Merge(ShardId(0), ShardId(2)),
                "shardId-000000000000 and shardId-000000000002 are not neighbours: shardId-000000000001 lies \
                 between them",
            ),
            (DrillTask::Split(ShardId(4)), "shardId-000000000004 is not an open shard of the stream"),
        ] {
            assert_eq!(of(task), Err(error.to_owned()));
        }
        let one = change(DrillTask::MergeColdest, &ShardMap::even(1), &Heat::default());
        assert!(one.unwrap_err().contains("merging takes two"));
    }

    #[test]
    fn the_shards_show_what_came_about() {
        let split = Change::Split { shard: ShardId(0), at: 1 };
        let after = |shards: &[(u64, u128, u128)]| {
            let shards = shards.iter().map(|&(id, first, last)| Shard { id: ShardId(id), first, last });
            ShardMap::new(shards.collect()).unwrap()
        };
        let (one, two) = (ShardMap::even(1), after(&[(1, 0, 0), (2, 1, u128::MAX)]));
        assert!(shows(split, &one, &two) && !shows(split, &one, &one));
        assert!(shows(Change::ShardCount(2), &one, &two) && !shows(Change::ShardCount(2), &two, &two));
        let merge = Change::Merge { lower: ShardId(1), upper: ShardId(2) };
        assert!(shows(merge, &two, &after(&[(3, 0, u128::MAX)])) && !shows(merge, &two, &two));
    }

    proptest! {
        /// Both children take at least one hash key, and none is larger than the other by more than one.
        #[test]
        fn a_split_halves(a: u128, b: u128) {
            let (first, last) = (a.min(b), a.max(b));
            match split(&Shard { id: ShardId(1), first, last }) {
                Ok(Change::Split { at, .. }) => {
                    prop_assert!(first < at && at <= last);
                    let (lower, upper) = (at - 1 - first, last - at);
                    prop_assert!(lower - upper <= 1);
                }
                other => prop_assert!(first == last && other.is_err()),
            }
        }
    }
}
