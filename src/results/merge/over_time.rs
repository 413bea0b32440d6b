//! What happened over time, of several runs by the clock of the first. Each second counts where its middle is.

use crate::observe::{
    DrillSummary, Interval, Percentiles, ShardHeat, ShardHeatRow, SteeredSummary, WindowSummary,
};
use crate::results::EndedRun;
use crate::results::read::sum_of;
use std::collections::BTreeMap;

/// The lines of all logs, with times since the first run began, each second and tag once.
pub(super) fn intervals(runs: &[(&EndedRun, f64)]) -> Vec<Interval> {
    let all = || runs.iter().flat_map(|(run, shift)| run.intervals.iter().map(move |one| (one, *shift)));
    let width = all().map(|(one, _)| one.span_s).fold(1.0, f64::max).ceil();
    let mut bins: BTreeMap<(u64, &str), Vec<&Interval>> = BTreeMap::new();
    for (one, shift) in all() {
        bins.entry((bin(one.at_s + one.span_s / 2.0 + shift, width), one.tag.as_str()))
            .or_default()
            .push(one);
    }
    let add = |((bin, tag), parts): ((u64, &str), Vec<&Interval>)| Interval {
        tag: tag.to_owned(),
        at_s: bin as f64 * width,
        span_s: width,
        times: sum_of(parts.into_iter()),
    };
    bins.into_iter().map(add).collect()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run, not below 0")]
fn bin(at_s: f64, width: f64) -> u64 {
    (at_s.max(0.0) / width) as u64
}

/// The windows by the first run's clock; each counts where its middle is. Their percentiles are of the log.
pub(super) fn windows(runs: &[(&EndedRun, f64)], intervals: &[Interval]) -> Vec<WindowSummary> {
    let of_all = || runs.iter().flat_map(|(run, shift)| run.summary.windows.iter().map(move |w| (w, *shift)));
    let log = intervals.first().map_or(1.0, |interval| interval.span_s);
    let width = of_all().map(|(window, _)| window.span_s).fold(log, f64::max).ceil();
    let mut bins: BTreeMap<u64, WindowSummary> = BTreeMap::new();
    for (window, shift) in of_all() {
        let place = bin(window.at_s + window.span_s / 2.0 + shift, width);
        let sum = bins.entry(place).or_insert_with(|| WindowSummary {
            at_s: place as f64 * width,
            span_s: width,
            ..WindowSummary::default()
        });
        sum.scheduled += window.scheduled;
        sum.generated += window.generated;
        sum.acked += window.acked;
        sum.lost += window.lost;
        sum.dropped += window.dropped;
        sum.throttled_entries += window.throttled_entries;
        sum.retried_entries += window.retried_entries;
    }
    for (place, window) in &mut bins {
        let own = intervals.iter().filter(|one| one.tag == "response");
        let times = sum_of(own.filter(|one| bin(one.at_s + one.span_s / 2.0, width) == *place));
        window.response_time_ms = Percentiles::new(|quantile| times.value_at_quantile(quantile));
    }
    bins.into_values().collect()
}

pub(super) fn drills(runs: &[(&EndedRun, f64)]) -> Vec<DrillSummary> {
    let shifted = runs.iter().flat_map(|(run, shift)| run.summary.drills.iter().map(move |d| (d, shift)));
    let mut drills: Vec<_> = shifted
        .map(|(drill, shift)| {
            let mut drill = drill.clone();
            drill.at_s += shift;
            drill.started_s = drill.started_s.map(|at| at + shift);
            drill
        })
        .collect();
    drills.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    drills
}

pub(super) fn steered(runs: &[(&EndedRun, f64)]) -> Vec<SteeredSummary> {
    let shifted = runs.iter().flat_map(|(run, shift)| run.summary.steered.iter().map(move |s| (s, shift)));
    let mut steered: Vec<_> = shifted
        .map(|(change, shift)| SteeredSummary { at_s: change.at_s + shift, ..change.clone() })
        .collect();
    steered.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    steered
}

pub(super) fn heat(runs: &[(&EndedRun, f64)]) -> Option<ShardHeat> {
    let heats = || runs.iter().filter_map(|(run, shift)| Some((run.summary.shard_heat.as_ref()?, *shift)));
    let ends = |(heat, shift): (&ShardHeat, f64)| {
        shift + heat.span_s * heat.shards.iter().map(|row| row.accepted.len()).max().unwrap_or(0) as f64
    };
    let end = heats().map(ends).fold(0.0, f64::max);
    let widest = heats().map(|(heat, _)| heat.span_s).fold(1.0, f64::max);
    let span_s = (end / ShardHeat::COLUMNS as f64).max(widest).ceil();
    let columns = usize::try_from(bin((end - 1e-9).max(0.0), span_s) + 1).ok()?;
    let mut rows: BTreeMap<(Option<String>, String), ShardHeatRow> = BTreeMap::new();
    for (heat, shift) in heats() {
        for row in &heat.shards {
            let sum = rows.entry((row.stream.clone(), row.id.clone())).or_insert_with(|| ShardHeatRow {
                stream: row.stream.clone(),
                id: row.id.clone(),
                accepted: vec![0; columns],
                throttled: vec![0; columns],
            });
            for (column, (accepted, throttled)) in row.accepted.iter().zip(&row.throttled).enumerate() {
                let middle = (column as f64 + 0.5) * heat.span_s + shift;
                let place = usize::try_from(bin(middle, span_s)).unwrap_or(0).min(columns - 1);
                sum.accepted[place] += accepted;
                sum.throttled[place] += throttled;
            }
        }
    }
    let left_out = heats().map(|(heat, _)| heat.left_out).max()?;
    (!rows.is_empty()).then(|| ShardHeat { span_s, shards: rows.into_values().collect(), left_out })
}
