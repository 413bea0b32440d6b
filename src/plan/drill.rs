//! The grammar of `--drill`: `at=TIME` and one change of the stream, in words parted by spaces.

use super::parse;
use crate::kinesis::ShardId;
use crate::load::{Nanos, SECOND};
use std::fmt;

/// A change that the run makes to its stream, while the load is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// When, from the start of the run; at least [`Drill::LOOK`].
    pub at: Nanos,
    /// What is changed.
    pub task: DrillTask,
    text: String,
}

/// What a drill changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrillTask {
    /// Splits the open shard that took most Kinesis records in the second before.
    SplitHottest,
    /// Splits this shard.
    Split(ShardId),
    /// Merges the two neighbours that together took fewest Kinesis records in the second before.
    MergeColdest,
    /// Merges these two, which must be neighbours.
    Merge(ShardId, ShardId),
    /// `UpdateShardCount` to this many open shards.
    ShardCount(u32),
    /// `UpdateStreamWarmThroughput` to this many MiB/s; of on-demand streams.
    WarmThroughput(u32),
}

const FORM: &str = "at=TIME and one of split=hottest, split=SHARD, merge, merge=SHARD+SHARD, \
                    update-shard-count=N, warm-throughput=N";

/// Open shards of one stream, at most.
const MOST_SHARDS: u64 = 10_000;

/// MiB/s of one stream, at most (10 GiB/s).
const MOST_MIB_PER_SECOND: u64 = 10 * 1024;

impl Drill {
    /// How long the load is looked at before a drill, to know what is usual and which shard is hot.
    pub const LOOK: Nanos = SECOND;

    /// Reads a drill such as `at=20s split=hottest`; the words may come in any order.
    ///
    /// # Errors
    /// A sentence that names the word that is wrong, or what is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut at, mut task) = (None, None);
        for word in text.split_whitespace() {
            let (name, value) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
            let fault = |problem: String| format!("{word}: {problem}");
            let twice = if name == "at" {
                at.replace(read_at(value).map_err(fault)?).is_some()
            } else {
                task.replace(read_task(name, value).map_err(fault)?).is_some()
            };
            if twice {
                let what =
                    if name == "at" { "a second time" } else { "a second change; give each its own --drill" };
                return Err(format!("{word}: {what}"));
            }
        }
        match (at, task) {
            (Some(at), Some(task)) => Ok(Self { at, task, text: text.to_owned() }),
            (None, Some(_)) => Err("says no time, such as at=20s".to_owned()),
            (_, None) => Err(format!("says no change; expected {FORM}")),
        }
    }
}

impl fmt::Display for Drill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read_at(value: Option<&str>) -> Result<Nanos, String> {
    match parse::time(value.unwrap_or_default())? {
        at if at < Drill::LOOK => {
            Err("at least 1s, as a drill is judged against the second before it".to_owned())
        }
        at => Ok(at),
    }
}

fn read_task(name: &str, value: Option<&str>) -> Result<DrillTask, String> {
    match (name, value) {
        ("split", Some("hottest")) => Ok(DrillTask::SplitHottest),
        ("split", Some(id)) => shard(id).map(DrillTask::Split),
        ("split", None) => Err("which? split=hottest or split=shardId-000000000000".to_owned()),
        ("merge", None | Some("coldest")) => Ok(DrillTask::MergeColdest),
        ("merge", Some(pair)) => merge(pair),
        ("update-shard-count", value) => number(value, MOST_SHARDS).map(DrillTask::ShardCount),
        ("warm-throughput", value) => number(value, MOST_MIB_PER_SECOND).map(DrillTask::WarmThroughput),
        _ => Err(format!("unknown; expected {FORM}")),
    }
}

fn merge(pair: &str) -> Result<DrillTask, String> {
    let wrong = "expected merge, merge=coldest or two neighbours as merge=SHARD+SHARD";
    let (one, other) = pair.split_once('+').ok_or_else(|| wrong.to_owned())?;
    match (shard(one)?, shard(other)?) {
        (one, other) if one == other => Err("two shards, not the same one".to_owned()),
        (one, other) => Ok(DrillTask::Merge(one, other)),
    }
}

fn shard(text: &str) -> Result<ShardId, String> {
    ShardId::parse(text).ok_or_else(|| format!("{text} is not a shard such as shardId-000000000000"))
}

fn number(value: Option<&str>, most: u64) -> Result<u32, String> {
    let number = parse::between(1, most)(value.unwrap_or_default())?;
    u32::try_from(number).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_read() {
        for (text, at, task) in [
            ("at=20s split=hottest", 20, DrillTask::SplitHottest),
            ("split=shardId-000000000003  at=1m", 60, DrillTask::Split(ShardId(3))),
            ("at=1s merge", 1, DrillTask::MergeColdest),
            ("at=1s merge=coldest", 1, DrillTask::MergeColdest),
            (
                "at=5s merge=shardId-000000000002+shardId-000000000001",
                5,
                DrillTask::Merge(ShardId(2), ShardId(1)),
            ),
            ("at=1.5s update-shard-count=10000", 0, DrillTask::ShardCount(10_000)),
            ("at=2s warm-throughput=1", 2, DrillTask::WarmThroughput(1)),
        ] {
            let drill = Drill::parse(text).unwrap();
            let at = if at == 0 { SECOND * 3 / 2 } else { at * SECOND };
            assert_eq!((drill.at, drill.task, drill.to_string().as_str()), (at, task, text));
        }
    }

    #[test]
    fn mistakes_name_the_word() {
        for (text, start) in [
            ("split=hottest", "says no time, such as at=20s"),
            ("", "says no change; expected at=TIME and one of"),
            ("at=20s", "says no change; expected at=TIME and one of"),
            ("at=20 merge", "at=20: expected a time with its unit"),
            ("at merge", "at: expected a time with its unit"),
            ("at=500ms merge", "at=500ms: at least 1s"),
            ("at=1s at=2s merge", "at=2s: a second time"),
            ("at=1s merge split=hottest", "split=hottest: a second change"),
            ("at=1s splitt=hottest", "splitt=hottest: unknown; expected at=TIME and one of"),
            ("at=1s split", "split: which? split=hottest or"),
            ("at=1s split=coldest", "split=coldest: coldest is not a shard such as"),
            ("at=1s merge=hottest", "merge=hottest: expected merge, merge=coldest or two"),
            ("at=1s merge=shardId-000000000001+x", "merge=shardId-000000000001+x: x is not a shard"),
            ("at=1s merge=shardId-1+shardId-1", "merge=shardId-1+shardId-1: two shards"),
            ("at=1s update-shard-count=0", "update-shard-count=0: expected a whole number from 1 to 10000"),
            ("at=1s update-shard-count", "update-shard-count: expected a whole number from 1 to 10000"),
            ("at=1s warm-throughput=10241", "warm-throughput=10241: expected a whole number from 1 to 10240"),
        ] {
            let error = Drill::parse(text).unwrap_err();
            assert!(error.starts_with(start), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,40}") {
            let _ = Drill::parse(&text);
        }

        /// Texts near the grammar reach further into it than any text does.
        #[test]
        fn any_words_are_read_without_panic(words in prop::collection::vec(
            "(at|split|merge|update-shard-count|warm-throughput)(=(hottest|coldest|[0-9]{1,22}(s|ms|h)?|(shardId-[0-9]{0,22}\\+?){1,3}))?",
            0..4,
        )) {
            if let Ok(drill) = Drill::parse(&words.join(" ")) {
                prop_assert!(drill.at >= Drill::LOOK);
                prop_assert_eq!(Drill::parse(&drill.to_string()), Ok(drill));
            }
        }
    }
}
