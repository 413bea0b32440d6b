use serde::{Deserialize, Serialize};
use std::fmt;

/// What became of one drill. Times are seconds; they are as exact as the counts are fresh, 0.2 s.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct DrillSummary {
    /// The drill as it was given.
    pub drill: String,
    /// When it was to start, from the start of the run.
    pub at_s: f64,
    /// When it started; absent if it did not.
    pub started_s: Option<f64>,
    /// What was asked of the stream, with the shards that were chosen; absent if nothing was.
    pub change: Option<String>,
    /// From its start until the new shards were in use; absent if that did not come about.
    pub changed_after_s: Option<f64>,
    /// From its start until the load had settled; absent if it did not.
    pub settled_after_s: Option<f64>,
    /// Entries throttled from its start until the load had settled, or was watched no longer.
    pub throttled_entries: u64,
    /// Records misrouted in that time.
    pub misrouted: u64,
    /// Open shards before.
    pub shards_before: Option<u64>,
    /// Open shards after.
    pub shards_after: Option<u64>,
    /// Why it could not be done; the run then failed.
    pub error: Option<String>,
}

impl fmt::Display for DrillSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.drill)?;
        if let Some(error) = &self.error {
            return write!(f, "FAILED: {error}");
        }
        if let Some(change) = &self.change {
            write!(f, "{change}, ")?;
        }
        if let (Some(before), Some(after)) = (self.shards_before, self.shards_after) {
            write!(f, "{before} to {after} shards")?;
        }
        if let Some(seconds) = self.changed_after_s {
            write!(f, " after {seconds:.1} s, ")?;
        }
        match self.settled_after_s {
            Some(seconds) => write!(f, "settled after {seconds:.1} s")?,
            None => f.write_str("NOT SETTLED")?,
        }
        write!(f, "; {} entries throttled, {} misrouted", self.throttled_entries, self.misrouted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_became_of_it() {
        let mut drill = DrillSummary {
            drill: "at=20s split=hottest".into(),
            at_s: 20.0,
            started_s: Some(20.0),
            change: Some("SplitShard shardId-000000000003".into()),
            changed_after_s: Some(0.52),
            settled_after_s: Some(1.4),
            throttled_entries: 12,
            misrouted: 3,
            shards_before: Some(8),
            shards_after: Some(9),
            error: None,
        };
        assert_eq!(
            drill.to_string(),
            "at=20s split=hottest: SplitShard shardId-000000000003, 8 to 9 shards after 0.5 s, settled after \
             1.4 s; 12 entries throttled, 3 misrouted"
        );
        drill.settled_after_s = None;
        assert!(drill.to_string().contains("after 0.5 s, NOT SETTLED; 12 entries"), "{drill}");
        drill.error = Some("no".into());
        assert_eq!(drill.to_string(), "at=20s split=hottest: FAILED: no");
    }
}
