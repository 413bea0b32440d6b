//! The summary as text.

use super::{Figures, Named, StoppedBy, Summary, ThresholdResult};
use std::fmt::{self, Write as _};

/// The most changes of the rate that the text names.
const STEERED_LINES: usize = 20;

impl fmt::Display for ThresholdResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed { "held  " } else { "MISSED" };
        write!(f, "threshold   {verdict} {} (is {})", self.expr, rounded(self.value))
    }
}

impl Summary {
    /// Why the run did not do what it was asked, if it did not, in a sentence each.
    pub(in crate::observe) fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let figures = &self.figures;
        if let Some(error) = &self.error {
            remarks.push(format!("The run was ended by an error: {error}"));
        }
        if figures.acked_late > 0 {
            remarks.push(format!(
                "{} records could not start on time and were acked after the schedule; the rate leaves them out.",
                figures.acked_late
            ));
        }
        if figures.dropped > 0 {
            remarks.push(format!(
                "{} records fell due and were not made, as {} were on their way already.",
                figures.dropped,
                if self.unkept > 0 { "--max-replay-bytes" } else { "--max-backlog records" }
            ));
        }
        if self.nothing_measured {
            remarks.push("Nothing was measured: no record was meant to start after the warmup.".to_owned());
        }
        if let Some(failure) = &self.payload_failure {
            remarks.push(format!(
                "{} payloads could not be made, the first: {failure}",
                figures.payload_failures
            ));
        }
        if let Some(cost) = &self.cost
            && self.stopped_by == StoppedBy::Cost
        {
            remarks.push(cost.drained());
        }
        if figures.limit.fell_short && !figures.limit.text.is_empty() {
            remarks.push(figures.limit.text.clone());
        }
        if !figures.balanced {
            remarks.push(
                "The counts do not add up; please report this as a bug with the JSON summary.".to_owned(),
            );
        }
        remarks
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run         {}, seed {}", self.run_id, self.seed)?;
        for (name, load) in &self.loads {
            writeln!(f, "load        {name}")?;
            writeln!(f, "stream      {}", load.stream)?;
            load.figures.fmt(f)?;
        }
        if !self.loads.is_empty() {
            writeln!(f, "load        all together")?;
        }
        writeln!(f, "stream      {}", self.stream)?;
        self.figures.fmt(f)?;
        // As many as one can read; the JSON summary has them all.
        for steered in self.steered.iter().take(STEERED_LINES) {
            writeln!(f, "steered     {steered}")?;
        }
        if self.steered.len() > STEERED_LINES {
            writeln!(f, "steered     and {} times more", self.steered.len() - STEERED_LINES)?;
        }
        for drill in &self.drills {
            writeln!(f, "drill       {drill}")?;
        }
        if let Some(verify) = &self.verify {
            verify.fmt(f)?;
        }
        if let Some(cost) = &self.cost {
            writeln!(f, "cost        {cost}")?;
        }
        self.ceiling.fmt(f)?;
        for threshold in &self.thresholds {
            writeln!(f, "{threshold}")?;
        }
        self.remarks().iter().try_for_each(|remark| writeln!(f, "{remark}"))
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target_rps.map_or_else(|| "max".to_owned(), |rate| format!("{}/s", rounded(rate)));
        let paused =
            if self.paused_s > 0.0 { format!(", paused for {:.1} s", self.paused_s) } else { String::new() };
        let warmup =
            if self.warmup_s > 0.0 { format!(" after {} s of warmup", self.warmup_s) } else { String::new() };
        writeln!(
            f,
            "rate        {:.1}/s acked of {target} offered, over {:.1} s{warmup}{paused}",
            self.achieved_rps,
            self.schedule_s - self.warmup_s.min(self.schedule_s)
        )?;
        writeln!(
            f,
            "scheduled   {:>12} = {} generated + {} dropped",
            self.scheduled, self.generated, self.dropped
        )?;
        writeln!(
            f,
            "generated   {:>12} = {} acked + {} failed + {} expired{}",
            self.generated,
            self.acked,
            self.failed,
            self.expired,
            if self.balanced { "" } else { "  (does not add up)" }
        )?;
        if self.lost > 0 {
            writeln!(f, "lost        {:>12}   {}", self.lost, listed(&self.lost_by_cause))?;
        }
        writeln!(
            f,
            "requests    {:>12}   {} Kinesis records, {} bytes, {} entries throttled, {} resent",
            self.requests, self.kinesis_records, self.bytes, self.throttled_entries, self.retried_entries
        )?;
        if self.possible_duplicates + self.misrouted > 0 {
            writeln!(
                f,
                "doubtful    {:>12} possible duplicates, {} misrouted",
                self.possible_duplicates, self.misrouted
            )?;
        }
        for (name, times) in [
            ("response", self.response_time_ms),
            ("= lag   ", self.schedule_lag_ms),
            ("+ queue ", self.queue_time_ms),
            ("+ service", self.service_time_ms),
        ] {
            writeln!(f, "{name:<9}   {}", times.percentiles)?;
        }
        self.hottest().map_or(Ok(()), |hottest| writeln!(f, "hottest     {hottest}"))
    }
}

impl Figures {
    /// Which shard took most and by which key, if the load was uneven: half as much again as an equal part, of
    /// enough records for that not to be chance.
    fn hottest(&self) -> Option<String> {
        let shards = self.shards.len() as u64;
        let shard = self.shards.iter().max_by_key(|shard| shard.acked)?;
        let uneven = shards > 1 && self.acked >= 100 * shards && shard.acked * shards * 2 > self.acked * 3;
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let key = self.hot_keys.first().map_or_else(String::new, |key| {
            format!("; key {:?} had {:.1} % of those made", key.key, percent(key.records, self.generated))
        });
        uneven.then(|| {
            format!(
                "{} took {:.1} % of the records, {} entries throttled{key}",
                shard.id,
                percent(shard.acked, self.acked),
                shard.throttled
            )
        })
    }
}

fn listed(counts: &Named) -> String {
    let mut text = String::new();
    for (name, count) in counts {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{name} {count}");
    }
    text
}

fn rounded(value: f64) -> f64 {
    let steps = if value.abs() < 0.01 { 1e6 } else { 1e3 };
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinesis::ShardId;
    use crate::observe::figures::{Circumstances, HotKey};
    use crate::producer::Snapshot;

    #[test]
    fn the_hottest_shard_and_key_of_an_uneven_load_are_told() {
        let hottest = |taken: [u64; 4]| {
            let mut snapshot = Snapshot::empty();
            (snapshot.account.ledger.generated, snapshot.account.ledger.acked) = (1_000, 1_000);
            for (id, acked) in (0..).zip(taken) {
                let place = snapshot.account.shard(0, ShardId(id));
                (snapshot.account.shards[place].acked, snapshot.account.shards[place].throttled) =
                    (acked, id);
            }
            let mut figures = Figures::new(&snapshot, Some(10.0), &Circumstances::default());
            figures.hot_keys = vec![HotKey { key: "k1".into(), records: 400 }];
            figures.to_string().lines().find_map(|line| line.strip_prefix("hottest     ").map(str::to_owned))
        };
        assert_eq!(hottest([250, 260, 240, 250]), None);
        assert_eq!(
            hottest([200, 100, 600, 100]).unwrap(),
            "shardId-000000000002 took 60.0 % of the records, 2 entries throttled; key \"k1\" had 40.0 % of those made"
        );
    }
}
