use crate::producer::{ShardWindow, Window, Windows};
use serde::{Deserialize, Serialize};

/// What each shard took over time, in at most [`ShardHeat::COLUMNS`] spans of equal length.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ShardHeat {
    /// Seconds of one span; the last may be shorter.
    pub span_s: f64,
    /// The shards, in the order in which they were seen.
    pub shards: Vec<ShardHeatRow>,
    /// Shards that are left out, as there were so many.
    pub left_out: u64,
}

/// One shard's part of each span.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ShardHeatRow {
    /// The stream's name or ARN, where the run has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Its id.
    pub id: String,
    /// Kinesis records that it took, span by span.
    pub accepted: Vec<u64>,
    /// Kinesis records that it throttled, span by span.
    pub throttled: Vec<u64>,
}

impl ShardHeat {
    /// The most spans.
    pub const COLUMNS: usize = 60;

    /// Of these windows; `None` if no shard took or throttled anything. `streams`: their names; `all_shards`: how many
    /// shards the run saw.
    pub(super) fn new(windows: &Windows, streams: &[String], all_shards: usize) -> Option<Self> {
        let ends = windows.iter().map(|window| window.from + window.span).max()?;
        let widest = windows.iter().map(|window| window.span).max()?.max(1);
        let columns = ends.div_ceil(widest);
        // As many windows to a span as it takes.
        let span = widest * columns.div_ceil(Self::COLUMNS as u64).max(1);
        let columns = usize::try_from(ends.div_ceil(span)).ok()?;
        let mut shards: Vec<((usize, _), ShardHeatRow)> = Vec::new();
        let column = |window: &Window| usize::try_from(window.from / span).unwrap_or(0).min(columns - 1);
        for (column, shard) in windows.iter().flat_map(|w| w.shards.iter().map(move |s| (column(w), s))) {
            let ShardWindow { stream, id, accepted, throttled } = *shard;
            let place = shards.iter().position(|(known, _)| *known == (stream, id)).unwrap_or_else(|| {
                let name = if streams.len() > 1 { streams.get(stream).cloned() } else { None };
                let none = vec![0; columns];
                let row = ShardHeatRow {
                    stream: name,
                    id: id.to_string(),
                    accepted: none.clone(),
                    throttled: none,
                };
                shards.push(((stream, id), row));
                shards.len() - 1
            });
            let row = &mut shards[place].1;
            row.accepted[column] += accepted;
            row.throttled[column] += throttled;
        }
        shards.sort_by_key(|(key, _)| *key);
        let shards: Vec<ShardHeatRow> = shards.into_iter().map(|(_, row)| row).collect();
        let left_out = all_shards.saturating_sub(Windows::MOST_SHARDS.max(shards.len())) as u64;
        (!shards.is_empty()).then_some(Self { span_s: span as f64 / 1e9, shards, left_out })
    }
}
