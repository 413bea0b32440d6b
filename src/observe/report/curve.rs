//! The percentile curve: the time that a share of the records did not exceed, with one nine of the share
//! after another at equal distances.

use super::chart::{LineChart, Scale, Series};
use super::text::millis;
use crate::observe::{Percentiles, Summary, TimeSummary, Times};
use hdrhistogram::Histogram;

/// Points of the curve for each nine.
const POINTS: u32 = 24;

/// The most nines that are shown.
const NINES: f64 = 7.0;

pub(super) fn chart(summary: &Summary, times: Option<&Times>) -> Option<LineChart> {
    let figures = &summary.figures;
    let records = figures.response_time_ms.count;
    if records == 0 {
        return None;
    }
    // Beyond as many nines as there are records the curve is only the longest time.
    let end = (records as f64).log10().clamp(1.0, NINES);
    let curve = |times: Option<&Histogram<u64>>, summed: TimeSummary| match times {
        Some(times) => exact(times, end),
        None => coarse(summed.percentiles, end),
    };
    let series = vec![
        Series {
            name: "response time",
            class: "c1",
            points: curve(times.map(|t| &t.response), figures.response_time_ms),
        },
        Series {
            name: "service time",
            class: "c2",
            points: curve(times.map(|t| &t.service), figures.service_time_ms),
        },
    ];
    let values = series.iter().flat_map(|series| series.points.iter().filter_map(|(_, value)| *value));
    let scale = Scale::of(&values);
    let Percentiles { p50, p99, p999, max, .. } = figures.response_time_ms.percentiles;
    Some(LineChart {
        id: "curve",
        title: "Times by percentile".into(),
        description: format!(
            "Response time: half of the records within {}, 99 % within {}, 99.9 % within {}, all within {}.",
            millis(p50),
            millis(p99),
            millis(p999),
            millis(max)
        ),
        unit: "ms",
        x_name: "share of the records that took no longer".into(),
        x_end: end,
        x_ticks: nine_ticks,
        scale,
        series,
        band: None,
        marks: Vec::new(),
        named: false,
    })
}

/// The share at so many nines: 0.9 at 1, 0.99 at 2.
fn share(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}

fn exact(times: &Histogram<u64>, end: f64) -> Vec<(f64, Option<f64>)> {
    let last = (end * f64::from(POINTS)).ceil();
    let at = |point: u32| (f64::from(point) / f64::from(POINTS)).min(end);
    let mut points = Vec::new();
    for point in (0_u32..).take_while(|point| f64::from(*point) <= last) {
        points.push((at(point), Some(times.value_at_quantile(share(at(point))) as f64 / 1000.0)));
    }
    // The longest of all is the end of the curve.
    points.push((end, Some(times.max() as f64 / 1000.0)));
    points
}

/// Without a histogram the five percentiles of a summary have to do.
fn coarse(percentiles: Percentiles, end: f64) -> Vec<(f64, Option<f64>)> {
    let Percentiles { p50, p90, p99, p999, max } = percentiles;
    let known = [(2_f64.log10(), p50), (1.0, p90), (2.0, p99), (3.0, p999)];
    let within = known.into_iter().filter(|(at, _)| *at < end);
    within.chain([(end, max)]).map(|(at, value)| (at, Some(value))).collect()
}

fn nine_ticks(end: f64, most: usize) -> Vec<(f64, String)> {
    let labels = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let mut ticks: Vec<(f64, String)> =
        (0..).zip(labels).map(|(nines, label)| (f64::from(nines), label.to_owned())).collect();
    ticks.retain(|(at, _)| *at <= end);
    if most > 4 {
        ticks.insert(1, (2_f64.log10(), "50 %".to_owned()));
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_that_of_the_histogram() {
        let mut times = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        (1..=10_000).for_each(|micros| times.record(micros * 10).unwrap());
        let points = exact(&times, 4.0);
        let near = |nines: f64, ms: f64| {
            let (_, value) = points.iter().find(|(at, _)| (at - nines).abs() < 1e-9).unwrap();
            assert!((value.unwrap() - ms).abs() < ms * 0.002, "{value:?} for {ms}");
        };
        near(1.0, 90.0);
        near(2.0, 99.0);
        near(3.0, 99.9);
        assert!((points.last().unwrap().1.unwrap() - 100.0).abs() < 0.2);
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }
}
