use crate::kinesis::ShardId;
use std::collections::BTreeMap;
use std::time::Duration;

/// A shard of one of the streams.
pub(super) type Place = (usize, ShardId);

/// How near to their tips shards were read since the load ended, and when they last came nearer. Times are
/// since the reading began.
#[derive(Debug, Default)]
pub(super) struct Tips {
    shards: BTreeMap<Place, Shard>,
    load_ended: Option<Duration>,
    progressed: Duration,
}

#[derive(Debug)]
struct Shard {
    // When the last read began that found nothing newer than what it gave.
    tip: Option<Duration>,
    behind_ms: u64,
}

/// What one read of a shard told of its tip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) began: Duration,
    pub(super) ended: Duration,
    pub(super) records: usize,
    pub(super) behind_ms: u64,
    pub(super) at_tip: bool,
}

impl Tips {
    /// Notes that nothing more will be acked: what is to be read is there.
    pub(super) fn load_ended(&mut self, at: Duration) {
        self.load_ended = Some(at);
        self.progressed_at(at);
    }

    /// Notes a read. Records of a shard that was read far enough are no progress, or whoever else writes to
    /// the stream would keep the reading up for ever.
    pub(super) fn read(&mut self, place: Place, told: Told) {
        let enough = self.is_read(place);
        let shard = self.shards.entry(place).or_insert(Shard { tip: None, behind_ms: u64::MAX });
        let nearer = told.records > 0 || told.behind_ms < shard.behind_ms;
        shard.behind_ms = told.behind_ms;
        if told.at_tip {
            shard.tip = Some(told.began);
        }
        if nearer && !enough {
            self.progressed_at(told.ended);
        }
    }

    /// Notes that something was gained by then.
    pub(super) fn progressed_at(&mut self, at: Duration) {
        self.progressed = self.progressed.max(at);
    }

    /// When the reading last came nearer to its end.
    pub(super) fn progressed(&self) -> Duration {
        self.progressed
    }

    /// Whether a read that began after the end of the load came to the shard's tip.
    pub(super) fn is_read(&self, place: Place) -> bool {
        let tip = self.shards.get(&place).and_then(|shard| shard.tip);
        tip.zip(self.load_ended).is_some_and(|(began, ended)| began > ended)
    }

    /// How far the shard that is furthest behind is, if that was told.
    pub(super) fn behind(&self) -> Option<Duration> {
        let told = self.shards.values().map(|shard| shard.behind_ms).filter(|&behind| behind < u64::MAX);
        told.max().map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: Place = (0, ShardId(0));

    fn told(second: u64, records: usize, behind_ms: u64, at_tip: bool) -> Told {
        let began = Duration::from_secs(second);
        Told { began, ended: began, records, behind_ms, at_tip }
    }

    #[test]
    fn only_what_was_read_after_the_load_counts() {
        let mut tips = Tips::default();
        tips.read(SHARD, told(1, 0, 0, true));
        assert!(!tips.is_read(SHARD));
        tips.load_ended(Duration::from_secs(2));
        assert!(!tips.is_read(SHARD));
        tips.read(SHARD, told(3, 7, 0, true));
        assert!(tips.is_read(SHARD));
    }

    #[test]
    fn progress_is_records_or_a_nearer_tip_until_a_shard_is_read() {
        let mut tips = Tips::default();
        tips.load_ended(Duration::from_secs(1));
        for (read, progressed) in [
            (told(2, 0, 9_000, false), 2),
            (told(3, 0, 9_000, false), 2),
            (told(4, 0, 8_000, false), 4),
            (told(5, 3, 8_500, false), 5),
            (told(6, 0, 8_500, false), 5),
            (told(7, 3, 0, true), 7),
            (told(8, 3, 0, true), 7),
        ] {
            tips.read(SHARD, read);
            assert_eq!(tips.progressed(), Duration::from_secs(progressed), "{read:?}");
        }
        assert_eq!(tips.behind(), Some(Duration::ZERO));
    }
}
