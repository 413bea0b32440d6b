mod over_time;

use super::EndedRun;
use super::read::sum;
use crate::cost::CostSummary;
use crate::observe::{
    CeilingSummary, Figures, HotKey, Interval, Limit, MergedRun, Named, Percentiles, Seconds, StoppedBy,
    Summary, Threshold, ThresholdResult, TimeSummary, Times, VerifySummary,
};
use crate::verify::Manifest;
use over_time::{drills, heat, intervals, steered, windows};
use std::collections::{BTreeMap, BTreeSet};

/// Why runs cannot be added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// One run is no sum.
    #[error("at least two runs are needed")]
    TooFew,
    /// A run has no histogram log.
    #[error("{0}: its histogram log (--hdr-log) is needed: percentiles cannot be added")]
    NoLog(String),
    /// A run is given twice.
    #[error("{0} and {1} are the same run")]
    Twice(String, String),
    /// A run does not tell when it began.
    #[error("{0}: started_at is no time")]
    NoStart(String),
}

/// The run that these are together, with its log. Counts and histograms are added, so percentiles are those
/// of all records. Rates are added if there was a time at which all ran; otherwise they are averaged over the
/// time that each was measured.
///
/// # Errors
/// If there are fewer than two, one lacks its log, or two are the same.
pub fn merge(runs: &[EndedRun]) -> Result<EndedRun, MergeError> {
    let Clocks { began, together } = check(runs)?;
    let first = began.iter().copied().fold(f64::INFINITY, f64::min);
    let earliest = began.iter().position(|at| *at <= first).unwrap_or(0);
    let shifted: Vec<(&EndedRun, f64)> = runs.iter().zip(began.iter().map(|at| at - first)).collect();
    let intervals = intervals(&shifted);
    let mut summary = runs[earliest].summary.clone();
    let figures = |times: &dyn Fn(&str) -> String, of: &dyn Fn(&EndedRun) -> Option<Figures>| {
        let parts: Vec<(Figures, f64)> =
            shifted.iter().filter_map(|(run, shift)| Some((of(run)?, *shift))).collect();
        add_figures(&parts, together, |tag| sum_times(&intervals, &times(tag)))
    };
    let all = figures(&ToOwned::to_owned, &|run| Some(run.summary.figures.clone()));
    if let Some(all) = all {
        summary.figures = all;
    }
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.summary.loads.keys()).collect();
    for name in names {
        let of = |run: &EndedRun| run.summary.loads.get(name).map(|load| load.figures.clone());
        let added = figures(&|tag: &str| format!("{name}.{tag}"), &of);
        let load = runs.iter().find_map(|run| run.summary.loads.get(name)).cloned();
        if let Some((mut load, figures)) = load.zip(added) {
            load.figures = figures;
            summary.loads.insert(name.clone(), load);
        }
    }
    summary.run_id = joined(runs, "+", |run| run.summary.run_id.clone());
    summary.stream = joined(runs, ",", |run| run.summary.stream.clone());
    summary.error = Some(joined(runs, "; ", |run| run.summary.error.clone().unwrap_or_default()))
        .filter(|error| !error.is_empty());
    let stopped = runs.iter().map(|run| run.summary.stopped_by).find(|by| *by != StoppedBy::Schedule);
    summary.stopped_by = stopped.unwrap_or(StoppedBy::Schedule);
    summary.windows = windows(&shifted, &intervals);
    summary.drills = drills(&shifted);
    summary.steered = steered(&shifted);
    summary.manifest = Manifest {
        cannot: Some("it is of several runs added up: verify each by its own summary".to_owned()),
        ..Manifest::default()
    };
    summary.verify = verify(runs);
    summary.cost = cost(runs, together);
    // Machines may differ.
    summary.ceiling = CeilingSummary::default();
    summary.configuration = configuration(runs);
    summary.shard_heat = heat(&shifted);
    if let Some(environment) = &mut summary.environment {
        let streams = runs.iter().filter_map(|run| run.summary.environment.as_ref()).flat_map(|e| &e.streams);
        for stream in streams {
            if !environment.streams.iter().any(|known| known.stream == stream.stream) {
                environment.streams.push(stream.clone());
            }
        }
    }
    summary.times =
        Some(Times { response: sum(&intervals, "response"), service: sum(&intervals, "service") });
    summary.seconds = Seconds::of_log(&intervals);
    summary.merged_from = runs.iter().map(part).collect();
    summary.thresholds = thresholds(runs, &summary);
    Ok(EndedRun { file: String::new(), summary, intervals })
}

/// When the runs began, in seconds since 1970, and whether there was a time at which all ran.
struct Clocks {
    began: Vec<f64>,
    together: bool,
}

fn check(runs: &[EndedRun]) -> Result<Clocks, MergeError> {
    if runs.len() < 2 {
        return Err(MergeError::TooFew);
    }
    for (place, run) in runs.iter().enumerate() {
        if run.intervals.is_empty() {
            return Err(MergeError::NoLog(run.file.clone()));
        }
        let same = |other: &&EndedRun| {
            other.summary.run_id == run.summary.run_id && other.summary.started_at == run.summary.started_at
        };
        if let Some(other) = runs[..place].iter().find(same) {
            return Err(MergeError::Twice(other.file.clone(), run.file.clone()));
        }
    }
    let began: Result<Vec<f64>, _> =
        runs.iter().map(|run| run.began_s().ok_or_else(|| MergeError::NoStart(run.file.clone()))).collect();
    let began = began?;
    let last_start = began.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let ends = began.iter().zip(runs).map(|(at, run)| at + run.summary.figures.schedule_s);
    Ok(Clocks { together: last_start < ends.fold(f64::INFINITY, f64::min), began })
}

fn part(run: &EndedRun) -> MergedRun {
    MergedRun {
        run_id: run.summary.run_id.clone(),
        started_at: run.summary.started_at.clone(),
        file: run.file.clone(),
        acked: run.summary.figures.acked,
        achieved_rps: run.summary.figures.achieved_rps,
    }
}

/// Texts of the runs, each once.
fn joined(runs: &[EndedRun], by: &str, of: impl Fn(&EndedRun) -> String) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in runs.iter().map(of).filter(|text| !text.is_empty()) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.join(by)
}

fn sum_times(intervals: &[Interval], tag: &str) -> Percentiles {
    let times = sum(intervals, tag);
    Percentiles::new(|quantile| times.value_at_quantile(quantile))
}

fn add_named(sum: &mut Named, other: &Named) {
    for (name, n) in other {
        *sum.entry(name.clone()).or_default() += n;
    }
}

/// What kept either from going faster; of shares the larger counts.
fn add_limit(sum: &mut Limit, other: &Limit) {
    sum.fell_short |= other.fell_short;
    sum.generator |= other.generator;
    for reason in &other.by {
        if !sum.by.contains(reason) {
            sum.by.push(*reason);
        }
    }
    sum.in_flight_share = sum.in_flight_share.max(other.in_flight_share);
    sum.shard_limit_share = sum.shard_limit_share.max(other.shard_limit_share);
    sum.no_answer_share = sum.no_answer_share.max(other.no_answer_share);
    let shares = [sum.processor_share, other.processor_share];
    sum.processor_share = shares.into_iter().flatten().reduce(f64::max);
    if sum.text.is_empty() {
        sum.text.clone_from(&other.text);
    }
}

/// Adds what was counted; `times` gives the percentiles of a tag.
fn add_figures(
    parts: &[(Figures, f64)],
    together: bool,
    times: impl Fn(&str) -> Percentiles,
) -> Option<Figures> {
    let ((first, _), rest) = parts.split_first()?;
    let mut sum = first.clone();
    for (other, _) in rest {
        add_counts(&mut sum, other);
        add_shards(&mut sum, other);
        add_limit(&mut sum.limit, &other.limit);
    }
    let weighted = |value: &dyn Fn(&Figures) -> f64, weight: &dyn Fn(&Figures) -> f64| {
        let whole: f64 = parts.iter().map(|(part, _)| weight(part)).sum();
        let sum: f64 = parts.iter().map(|(part, _)| value(part) * weight(part)).sum();
        if whole > 0.0 { sum / whole } else { 0.0 }
    };
    // What the ratios are shares of: measured records made, or due, and answered entries.
    let made = |part: &Figures| part.start_lateness_ms.count as f64;
    let due = |part: &Figures| made(part) / (1.0 - part.dropped_ratio).max(1e-9);
    let entries = |part: &Figures| part.entries_by_code.values().sum::<u64>() as f64;
    sum.error_ratio = weighted(&|part| part.error_ratio, &made);
    sum.dropped_ratio = weighted(&|part| part.dropped_ratio, &due);
    sum.throttled_ratio = weighted(&|part| part.throttled_ratio, &entries);
    let measured = |part: &Figures| (part.schedule_s - part.warmup_s).max(0.0);
    let rate = |of: &dyn Fn(&Figures) -> f64| {
        if together { parts.iter().map(|(part, _)| of(part)).sum() } else { weighted(of, &measured) }
    };
    sum.achieved_rps = rate(&|part| part.achieved_rps);
    let has_target = parts.iter().all(|(part, _)| part.target_rps.is_some());
    sum.target_rps = has_target.then(|| rate(&|part| part.target_rps.unwrap_or(0.0)));
    let latest =
        |of: &dyn Fn(&Figures) -> f64| parts.iter().map(|(part, shift)| shift + of(part)).fold(0.0, f64::max);
    sum.elapsed_s = latest(&|part| part.elapsed_s);
    let paused = parts.iter().map(|(part, _)| part.paused_s);
    sum.paused_s = if together { paused.fold(0.0, f64::max) } else { paused.sum() };
    sum.schedule_s = latest(&|part| part.schedule_s);
    let all: Vec<&Figures> = parts.iter().map(|(part, _)| part).collect();
    let time = |tag: &str, of: fn(&Figures) -> &TimeSummary| add_times(&all, times(tag), of);
    sum.response_time_ms = time("response", |part| &part.response_time_ms);
    sum.schedule_lag_ms = time("schedule_lag", |part| &part.schedule_lag_ms);
    sum.queue_time_ms = time("queue", |part| &part.queue_time_ms);
    sum.service_time_ms = time("service", |part| &part.service_time_ms);
    sum.start_lateness_ms = time("start_lateness", |part| &part.start_lateness_ms);
    let acked: u64 = sum.shards.iter().map(|shard| shard.acked).sum();
    let hottest = sum.shards.iter().map(|shard| shard.acked).max().unwrap_or(0);
    sum.max_share = hottest as f64 / acked.max(1) as f64;
    Some(sum)
}

fn add_times(parts: &[&Figures], percentiles: Percentiles, of: fn(&Figures) -> &TimeSummary) -> TimeSummary {
    let count: u64 = parts.iter().map(|part| of(part).count).sum();
    let sum: f64 = parts.iter().map(|part| of(part).mean * of(part).count as f64).sum();
    TimeSummary { percentiles, mean: sum / count.max(1) as f64, count }
}

fn add_counts(sum: &mut Figures, other: &Figures) {
    sum.acked_late += other.acked_late;
    sum.warmup_s = sum.warmup_s.max(other.warmup_s);
    sum.scheduled += other.scheduled;
    sum.generated += other.generated;
    sum.dropped += other.dropped;
    sum.acked += other.acked;
    sum.failed += other.failed;
    sum.expired += other.expired;
    sum.lost += other.lost;
    add_named(&mut sum.lost_by_cause, &other.lost_by_cause);
    sum.possible_duplicates += other.possible_duplicates;
    sum.misrouted += other.misrouted;
    sum.balanced &= other.balanced;
    sum.requests += other.requests;
    add_named(&mut sum.requests_by_outcome, &other.requests_by_outcome);
    sum.kinesis_records += other.kinesis_records;
    sum.bytes += other.bytes;
    add_named(&mut sum.entries_by_code, &other.entries_by_code);
    sum.retried_entries += other.retried_entries;
    sum.throttled_entries += other.throttled_entries;
    add_named(&mut sum.flushes, &other.flushes);
    sum.payload_failures += other.payload_failures;
}

fn add_shards(sum: &mut Figures, other: &Figures) {
    for theirs in &other.shards {
        let mine = sum.shards.iter_mut().find(|mine| mine.stream == theirs.stream && mine.id == theirs.id);
        let Some(mine) = mine else {
            sum.shards.push(theirs.clone());
            continue;
        };
        mine.acked += theirs.acked;
        mine.accepted += theirs.accepted;
        mine.throttled += theirs.throttled;
        mine.limit_rps = mine.limit_rps.into_iter().chain(theirs.limit_rps).reduce(|a, b| a + b);
        mine.expected = mine.expected.zip(theirs.expected).map(|(a, b)| a + b);
    }
    for theirs in &other.hot_keys {
        match sum.hot_keys.iter_mut().find(|mine| mine.key == theirs.key) {
            Some(mine) => mine.records += theirs.records,
            None => sum.hot_keys.push(HotKey { key: theirs.key.clone(), records: theirs.records }),
        }
    }
    sum.hot_keys.sort_by(|a, b| b.records.cmp(&a.records).then_with(|| a.key.cmp(&b.key)));
    sum.hot_keys.truncate(10);
}

/// Counts are added; the times of reading back have no histogram in the log, and are left out.
fn verify(runs: &[EndedRun]) -> Option<VerifySummary> {
    let mut parts = runs.iter().filter_map(|run| run.summary.verify.as_ref());
    let mut sum = parts.next()?.clone();
    sum.waterfall = crate::observe::WaterfallSummary::default();
    for other in parts {
        sum.acked += other.acked;
        sum.delivered += other.delivered;
        sum.delivered_unacked += other.delivered_unacked;
        sum.lost += other.lost;
        sum.unread += other.unread;
        sum.untimed += other.untimed;
        sum.lost_ranges.extend(other.lost_ranges.iter().cloned());
        sum.duplicated += other.duplicated;
        sum.duplicated_records += other.duplicated_records;
        sum.out_of_order += other.out_of_order;
        sum.corrupted += other.corrupted;
        // What one of them did not know may be another's.
        sum.foreign += other.foreign;
        sum.error = sum.error.take().or_else(|| other.error.clone());
    }
    Some(sum)
}

/// What was written is added. Shards and streams that several runs used at once are paid for once.
fn cost(runs: &[EndedRun], together: bool) -> Option<CostSummary> {
    let parts: Option<Vec<&CostSummary>> = runs.iter().map(|run| run.summary.cost.as_ref()).collect();
    let parts = parts?;
    let same = runs.iter().all(|run| run.summary.stream == runs[0].summary.stream);
    CostSummary::sum(&parts, together && same)
}

fn configuration(runs: &[EndedRun]) -> BTreeMap<String, String> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.summary.configuration.keys()).collect();
    let value = |name: &String| {
        joined(runs, " | ", |run| run.summary.configuration.get(name).cloned().unwrap_or_default())
    };
    names.into_iter().map(|name| (name.clone(), value(name))).collect()
}

/// Every threshold of any run, judged anew; one that cannot be is held if every run held it.
fn thresholds(runs: &[EndedRun], summary: &Summary) -> Vec<ThresholdResult> {
    let mut results: Vec<ThresholdResult> = Vec::new();
    for given in runs.iter().flat_map(|run| &run.summary.thresholds) {
        if results.iter().any(|known| known.expr == given.expr) {
            continue;
        }
        results.push(Threshold::parse(&given.expr).map_or_else(
            |_| {
                let same = |other: &&ThresholdResult| other.expr == given.expr;
                let mut all = runs
                    .iter()
                    .flat_map(|run| run.summary.thresholds.iter().filter(same))
                    .map(|one| one.passed);
                ThresholdResult { passed: all.all(|held| held), ..given.clone() }
            },
            |threshold| threshold.judge(summary),
        ));
    }
    results
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::run;
    use super::*;
    use crate::observe::SteeredSummary;
    use crate::observe::report::page;

    #[test]
    fn percentiles_are_those_of_all_records() {
        // 300 records of 10 ms and 100 of 400 ms: no average of 10 and 400 is the median 10.
        let merged = merge(&[run(10, "a", &[10, 10, 10]), run(11, "b", &[400])]).unwrap();
        let figures = &merged.summary.figures;
        assert_eq!((figures.acked, figures.response_time_ms.count), (400, 400));
        let response = figures.response_time_ms;
        assert!((response.percentiles.p50 - 10.0).abs() < 0.02, "{response:?}");
        assert!(
            (response.percentiles.p90 - 400.0).abs() < 0.5 && (response.mean - 107.5).abs() < 0.01,
            "{response:?}"
        );
        // They ran at once, so their rates add up.
        assert_eq!((figures.target_rps, figures.elapsed_s.to_string().as_str()), (Some(200.0), "3"));
        assert!(!merged.summary.thresholds[0].passed, "{:?}", merged.summary.thresholds);
        assert_eq!((merged.summary.run_id.as_str(), merged.summary.merged_from.len()), ("a+b", 2));
        assert!(page(&merged.summary).contains("Runs added"));
    }

    #[test]
    fn rates_of_runs_one_after_another_are_averaged() {
        let merged = merge(&[run(10, "a", &[10, 10, 10]), run(40, "b", &[20])]).unwrap();
        let figures = &merged.summary.figures;
        assert_eq!(figures.target_rps, Some(100.0));
        assert!((figures.achieved_rps - 100.0).abs() < 1e-6 && (figures.elapsed_s - 31.0).abs() < 1e-6);
    }

    #[test]
    fn a_sum_can_be_read_and_added_again() {
        let mut second = run(11, "b", &[20]);
        let (load, action, rps) = (None, "rate".into(), Some(5.0));
        second.summary.steered.push(SteeredSummary { at_s: 1.0, load, action, rps });
        let merged = merge(&[run(10, "a", &[10, 10]), second]).unwrap();
        // It counts from the first start, and no one run's manifest stands for all.
        assert!((merged.summary.steered[0].at_s - 2.0).abs() < 1e-9);
        assert!(merged.summary.manifest.cannot.is_some() && merged.summary.manifest.loads.is_empty());
        let text = serde_json::to_vec(&merged.summary).unwrap();
        let mut log = Vec::new();
        crate::observe::hdr_log::write_intervals(
            &mut log,
            std::time::Duration::from_secs(10),
            &merged.intervals,
        )
        .unwrap();
        let again = EndedRun::read("ab.json", &text, Some(("ab.hlog", &log))).unwrap();
        let all = merge(&[again, run(12, "c", &[30, 30])]).unwrap();
        assert_eq!(all.summary.figures.response_time_ms.count, 500);
        assert!((all.summary.figures.response_time_ms.percentiles.p50 - 20.0).abs() < 0.05);
    }

    #[test]
    fn what_cannot_be_added_is_refused() {
        let a = run(10, "a", &[10]);
        let mut without = run(11, "b", &[10]);
        without.intervals.clear();
        assert_eq!(merge(std::slice::from_ref(&a)).unwrap_err(), MergeError::TooFew);
        assert_eq!(merge(&[a.clone(), without]).unwrap_err(), MergeError::NoLog("b.json".into()));
        assert_eq!(
            merge(&[a.clone(), a.clone()]).unwrap_err(),
            MergeError::Twice("a.json".into(), "a.json".into())
        );
        let mut timeless = run(11, "c", &[10]);
        timeless.summary.started_at = "yesterday".into();
        assert_eq!(merge(&[a, timeless]).unwrap_err(), MergeError::NoStart("c.json".into()));
    }
}
