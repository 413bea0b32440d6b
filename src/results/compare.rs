use super::EndedRun;
use super::limits::{MaxRegression, RegressionResult};
use crate::draw::Draws;
use crate::observe::Summary;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// What a figure changed by from one run to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The figure's path in a summary.
    pub figure: String,
    /// Its value in the base.
    pub base: f64,
    /// Its value in the new run.
    pub new: f64,
    /// Where the difference lies with 95 % confidence, lower and upper; absent where the runs do not tell.
    pub interval: Option<(f64, f64)>,
    /// What follows from it.
    pub judgement: Judgement,
}

/// What a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// It is for the better, and more than the noise within the runs.
    Better,
    /// It is for the worse, and more than the noise within the runs.
    Worse,
    /// The noise within the runs explains it.
    NoDifference,
    /// The runs do not tell what noise is: a count of the whole run, or too few intervals.
    Unknown,
}

/// One run compared with another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The base's run id.
    pub base: String,
    /// The new run's id.
    pub new: String,
    /// The figures.
    pub changes: Vec<Change>,
    /// The stated limits.
    pub regressions: Vec<RegressionResult>,
}

/// The figures that are compared: where more is better, and those of the intervals of a log.
const FIGURES: [(&str, Source); 18] = [
    ("achieved_rps", Source::Rate),
    ("response_time_ms.p50", Source::Times("response", 0.5)),
    ("response_time_ms.p90", Source::Times("response", 0.9)),
    ("response_time_ms.p99", Source::Times("response", 0.99)),
    ("response_time_ms.p999", Source::Times("response", 0.999)),
    ("response_time_ms.max", Source::Whole),
    ("response_time_ms.mean", Source::Whole),
    ("service_time_ms.p50", Source::Times("service", 0.5)),
    ("service_time_ms.p90", Source::Times("service", 0.9)),
    ("service_time_ms.p99", Source::Times("service", 0.99)),
    ("service_time_ms.p999", Source::Times("service", 0.999)),
    ("service_time_ms.max", Source::Whole),
    ("lost", Source::Whole),
    ("dropped", Source::Whole),
    ("error_ratio", Source::Whole),
    ("throttled_ratio", Source::Whole),
    ("retried_entries", Source::Whole),
    ("possible_duplicates", Source::Whole),
];

/// Where the noise of a figure is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    /// In the windows of the summary.
    Rate,
    /// In the intervals of this tag; the quantile.
    Times(&'static str, f64),
    /// Nowhere: it is one number of the run.
    Whole,
}

/// How often the intervals are drawn anew.
const DRAWS: usize = 1000;

/// With fewer intervals than this the noise within a run is not known.
const LEAST_INTERVALS: usize = 20;

impl Change {
    /// The figures that are compared.
    #[must_use]
    pub fn known() -> Vec<&'static str> {
        FIGURES.iter().map(|(figure, _)| *figure).collect()
    }

    pub(super) fn is_known(figure: &str) -> bool {
        FIGURES.iter().any(|(known, _)| *known == figure)
    }

    fn less_is_worse(&self) -> bool {
        self.figure == "achieved_rps"
    }

    /// By how much the new run is worse; below 0 if it is better.
    #[must_use]
    pub fn worse_by(&self) -> f64 {
        let difference = self.new - self.base;
        if self.less_is_worse() { -difference } else { difference }
    }

    fn judge(&self) -> Judgement {
        match self.interval {
            None => Judgement::Unknown,
            Some((lower, upper)) if lower <= 0.0 && upper >= 0.0 => Judgement::NoDifference,
            Some((lower, _)) if (lower > 0.0) == self.less_is_worse() => Judgement::Better,
            Some(_) => Judgement::Worse,
        }
    }
}

impl Comparison {
    /// Of these runs, with these limits.
    #[must_use]
    pub fn new(base: &EndedRun, new: &EndedRun, limits: &[MaxRegression]) -> Self {
        let changes: Vec<Change> =
            FIGURES.iter().filter_map(|(figure, source)| change(figure, *source, base, new)).collect();
        let judged = limits.iter().filter_map(|limit| {
            Some(limit.judge(changes.iter().find(|change| change.figure == limit.figure)?))
        });
        Self {
            base: base.summary.run_id.clone(),
            new: new.summary.run_id.clone(),
            regressions: judged.collect(),
            changes,
        }
    }

    /// Whether a stated limit is exceeded.
    #[must_use]
    pub fn regressed(&self) -> bool {
        self.regressions.iter().any(|regression| regression.exceeded)
    }
}

fn change(figure: &str, source: Source, base: &EndedRun, new: &EndedRun) -> Option<Change> {
    let mut change = Change {
        figure: figure.to_owned(),
        base: base.summary.figure(figure)?,
        new: new.summary.figure(figure)?,
        interval: None,
        judgement: Judgement::Unknown,
    };
    change.interval = match source {
        Source::Whole => None,
        Source::Rate => {
            rates(&base.summary).zip(rates(&new.summary)).and_then(|(base, new)| difference(&base, &new))
        }
        Source::Times(tag, quantile) => {
            difference(&Quantile::new(base, tag, quantile), &Quantile::new(new, tag, quantile))
        }
    };
    change.judgement = change.judge();
    Some(change)
}

/// A figure that intervals make, and that any choice of them makes again.
trait Resampled {
    /// How many intervals there are.
    fn len(&self) -> usize;
    /// The figure of these intervals; one may occur more than once.
    fn figure(&self, chosen: &[usize]) -> f64;
}

/// The 95 % interval of the difference of two figures by a moving-block bootstrap: of each run, blocks of
/// consecutive intervals are drawn with replacement until there are as many as it has, and the figure is
/// made of them anew; the differences of a thousand such pairs are sorted. Blocks, as what happens in one
/// second goes on in the next: drawn one by one, the seconds of a slow spell would pass for independent ones.
fn difference(base: &impl Resampled, new: &impl Resampled) -> Option<(f64, f64)> {
    if base.len() < LEAST_INTERVALS || new.len() < LEAST_INTERVALS {
        return None;
    }
    // The draws are fixed, so that two files always compare alike.
    let (of_base, of_new) = (Draws::new(0, 0), Draws::new(0, 1));
    let mut differences: Vec<f64> = (0..DRAWS)
        .map(|draw| {
            new.figure(&blocks(new.len(), of_new, draw)) - base.figure(&blocks(base.len(), of_base, draw))
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    Some((differences[DRAWS / 40], differences[DRAWS - 1 - DRAWS / 40]))
}

/// How long blocks are for so many intervals: twice their cube root.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
fn block_length(intervals: usize) -> usize {
    ((2.0 * (intervals as f64).cbrt()).round() as usize).clamp(1, intervals)
}

/// The intervals of the drawn blocks; the first follows the last.
fn blocks(intervals: usize, draws: Draws, draw: usize) -> Vec<usize> {
    let length = block_length(intervals);
    let start = |block: usize| draws.index((draw * intervals + block) as u64, intervals);
    let blocks = (0..intervals.div_ceil(length)).map(start);
    let mut chosen: Vec<usize> =
        blocks.flat_map(|start| (start..start + length).map(|place| place % intervals)).collect();
    chosen.truncate(intervals);
    chosen
}

/// Counts over spans.
struct Rates(Vec<(f64, f64)>);

/// The acked records of the windows after the warmup.
fn rates(summary: &Summary) -> Option<Rates> {
    let figures = &summary.figures;
    let measured = |at: f64| at >= figures.warmup_s && at < figures.schedule_s;
    let windows = summary.windows.iter().filter(|window| measured(window.at_s + window.span_s / 2.0));
    let rates: Vec<(f64, f64)> = windows.map(|window| (window.acked as f64, window.span_s)).collect();
    (!rates.is_empty()).then_some(Rates(rates))
}

impl Resampled for Rates {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn figure(&self, chosen: &[usize]) -> f64 {
        let (count, span) = chosen.iter().fold((0.0, 0.0), |(count, span), place| {
            let (more, longer) = self.0[*place];
            (count + more, span + longer)
        });
        if span > 0.0 { count / span } else { 0.0 }
    }
}

/// A percentile of the times in intervals.
struct Quantile {
    share: f64,
    /// Every time that occurs, in microseconds.
    times: Vec<u64>,
    /// Of each interval, the places of its times with their counts.
    intervals: Vec<Vec<(usize, u64)>>,
}

impl Quantile {
    fn new(run: &EndedRun, tag: &str, quantile: f64) -> Self {
        let own =
            || run.intervals.iter().filter(|interval| interval.tag == tag && !interval.times.is_empty());
        let mut places: BTreeMap<u64, usize> = own()
            .flat_map(|one| one.times.iter_recorded().map(|step| (step.value_iterated_to(), 0)))
            .collect();
        for (place, at) in places.values_mut().enumerate() {
            *at = place;
        }
        let counts = |one: &crate::observe::Interval| -> Vec<(usize, u64)> {
            let steps = one.times.iter_recorded();
            steps.map(|step| (places[&step.value_iterated_to()], step.count_at_value())).collect()
        };
        let intervals = own().map(counts).collect();
        Self { share: quantile, intervals, times: places.into_keys().collect() }
    }
}

impl Resampled for Quantile {
    fn len(&self) -> usize {
        self.intervals.len()
    }

    fn figure(&self, chosen: &[usize]) -> f64 {
        let mut counts = vec![0_u64; self.times.len()];
        for (place, count) in chosen.iter().flat_map(|interval| &self.intervals[*interval]) {
            counts[*place] += count;
        }
        let whole: u64 = counts.iter().sum();
        let rank = (self.share * whole as f64).ceil().max(1.0);
        let mut seen = 0;
        for (time, count) in self.times.iter().zip(counts) {
            seen += count;
            if seen as f64 >= rank {
                return *time as f64 / 1000.0;
            }
        }
        0.0
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24} {:>12} {:>12} {:>10}  95 % interval, and what follows",
            "figure", "base", "new", "change"
        )?;
        for change in &self.changes {
            let relative = (change.new - change.base) / change.base.abs();
            let relative =
                if relative.is_finite() { format!("{:+.1} %", relative * 100.0) } else { "-".to_owned() };
            write!(
                f,
                "{:<24} {:>12} {:>12} {relative:>10}  ",
                change.figure,
                rounded(change.base),
                rounded(change.new)
            )?;
            if let Some((lower, upper)) = change.interval {
                write!(f, "{:+} to {:+}: ", rounded(lower), rounded(upper))?;
            }
            f.write_str(match change.judgement {
                Judgement::Better => "better\n",
                Judgement::Worse => "worse\n",
                Judgement::NoDifference => "no difference shown\n",
                Judgement::Unknown => "noise unknown\n",
            })?;
        }
        for limit in &self.regressions {
            let verdict = match (limit.exceeded, limit.uncertain) {
                (true, _) => "EXCEEDED",
                (false, true) => "over, but within the noise: longer runs would tell",
                (false, false) => "kept",
            };
            writeln!(f, "max regression {}: {verdict}", limit.expr)?;
        }
        Ok(())
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::super::read::tests::run;
    use super::*;

    /// Seconds whose times are 50 ms and noise that lasts: each takes on a part of the one before.
    fn noisy(seed: u64, seconds: u64, lasting: f64, slower: f64) -> Vec<u64> {
        let draws = Draws::new(seed, 7);
        let mut state = 0.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds")]
        let next = |n: u64| {
            state = lasting * state + draws.unit(n) - 0.5;
            (50.0 * slower + 20.0 * state).max(1.0) as u64
        };
        (0..seconds).map(next).collect()
    }

    fn medians(base: &[u64], new: &[u64]) -> Judgement {
        let comparison = Comparison::new(&run(0, "a", base), &run(1, "b", new), &[]);
        comparison.changes.iter().find(|change| change.figure == "response_time_ms.p50").unwrap().judgement
    }

    #[test]
    fn a_run_does_not_differ_from_its_like() {
        for lasting in [0.0, 0.6] {
            let differs = (0..40)
                .filter(|seed| {
                    let (a, b) = (noisy(2 * seed, 120, lasting, 1.0), noisy(2 * seed + 1, 120, lasting, 1.0));
                    medians(&a, &b) != Judgement::NoDifference
                })
                .count();
            // 2 of 40 are expected of an exact interval.
            assert!(differs <= 6, "{differs} of 40 with noise that lasts {lasting}");
        }
    }

    #[test]
    fn a_tenth_more_is_seen() {
        for seed in 0..10 {
            let (a, b) = (noisy(seed, 120, 0.3, 1.0), noisy(seed + 100, 120, 0.3, 1.2));
            assert_eq!(medians(&a, &b), Judgement::Worse, "{seed}");
            assert_eq!(medians(&b, &a), Judgement::Better, "{seed}");
        }
    }

    #[test]
    fn too_few_intervals_tell_no_noise() {
        assert_eq!(medians(&noisy(1, 10, 0.0, 1.0), &noisy(2, 10, 0.0, 2.0)), Judgement::Unknown);
    }

    #[test]
    fn figures_of_the_same_intervals_are_those_of_the_summary() {
        let run = run(0, "a", &noisy(3, 60, 0.3, 1.0));
        for (figure, source) in FIGURES {
            let all: Vec<usize> = (0..60).collect();
            let again = match source {
                Source::Times(tag, quantile) => Quantile::new(&run, tag, quantile).figure(&all),
                _ => continue,
            };
            let summed = run.summary.figure(figure).unwrap();
            assert!((again - summed).abs() < 1e-9, "{figure}: {again} and {summed}");
        }
    }

    #[test]
    fn every_figure_is_in_the_summary() {
        let run = run(0, "a", &[10]);
        assert!(FIGURES.iter().all(|(figure, _)| run.summary.figure(figure).is_some()));
        let comparison = Comparison::new(&run, &run, &[MaxRegression::parse("lost 0").unwrap()]);
        assert_eq!((comparison.changes.len(), comparison.regressed()), (FIGURES.len(), false));
        assert!(comparison.to_string().contains("max regression lost 0: kept"), "{comparison}");
    }
}
