//! Prometheus text form of the histograms.
//!
//! The exporter's own histograms keep every sample until upkeep: 24 bytes and some 40 ns for each
//! record, which at a million records a second is more than making the record costs. These are
//! rendered from the HDR histograms that are kept anyway, when they are asked for.

use hdrhistogram::Histogram;
use std::fmt::Write as _;

/// A histogram to be rendered.
#[derive(Debug)]
pub(super) struct Exposed<'a> {
    pub name: &'a str,
    /// The load that it is of, if it is not of all together.
    pub load: Option<&'a str>,
    pub histogram: &'a Histogram<u64>,
    /// The sum of all samples, in the unit of the buckets.
    pub sum: f64,
    /// The upper bounds of the buckets, rising, in the unit of the metric.
    pub buckets: &'a [f64],
    /// How many of the histogram's units make one of the metric's.
    pub units: f64,
}

impl Exposed<'_> {
    /// Appends what comes before the first histogram of a name.
    pub(super) fn render_head(name: &str, help: &str, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    }

    /// Appends the histogram: cumulative buckets, sum and count, which can be summed over producers.
    pub(super) fn render(&self, out: &mut String) {
        let Self { name, load, histogram, sum, buckets, units: _ } = self;
        let load = load.map_or_else(String::new, |load| format!("load=\"{}\",", escaped(load)));
        let own = load.trim_end_matches(',');
        let own = if own.is_empty() { String::new() } else { format!("{{{own}}}") };
        // Writing to a String cannot fail.
        for (bound, below) in buckets.iter().zip(self.cumulative()) {
            let _ = writeln!(out, "{name}_bucket{{{load}le=\"{bound}\"}} {below}");
        }
        let count = histogram.len();
        let _ = writeln!(
            out,
            "{name}_bucket{{{load}le=\"+Inf\"}} {count}\n{name}_sum{own} {sum}\n{name}_count{own} {count}"
        );
    }

    /// How many samples are at most at each of the bounds.
    pub(super) fn cumulative(&self) -> Vec<u64> {
        let mut counts = vec![0_u64; self.buckets.len()];
        for (value, count) in self.steps() {
            if let Some(place) = self.buckets.iter().position(|&bound| value <= bound) {
                counts[place] += count;
            }
        }
        let mut below = 0;
        for count in &mut counts {
            below += *count;
            *count = below;
        }
        counts
    }

    /// Every value of the histogram, in the unit of the metric, with how often it was: the middle of each of
    /// the histogram's own steps (0.1 % wide).
    pub(super) fn steps(&self) -> impl Iterator<Item = (f64, u64)> {
        let Self { histogram, units, .. } = self;
        histogram.iter_recorded().map(move |step| {
            let middle = histogram.median_equivalent(step.value_iterated_to()) as f64 / units;
            (middle, step.count_since_last_iteration())
        })
    }
}

/// A label's value as the text form writes it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_end_in_the_count() {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        for micros in [900, 1_000, 4_000, 90_000, 70_000_000] {
            histogram.record(micros).unwrap();
        }
        let mut out = String::new();
        let exposed = Exposed {
            name: "x_seconds",
            load: None,
            histogram: &histogram,
            sum: 70.095_9,
            buckets: &[0.001, 0.005, 0.1],
            units: 1e6,
        };
        Exposed::render_head("x_seconds", "Test.", &mut out);
        exposed.render(&mut out);
        assert_eq!(
            out,
            "# HELP x_seconds Test.\n# TYPE x_seconds histogram\nx_seconds_bucket{le=\"0.001\"} 2\n\
             x_seconds_bucket{le=\"0.005\"} 3\nx_seconds_bucket{le=\"0.1\"} 4\n\
             x_seconds_bucket{le=\"+Inf\"} 5\nx_seconds_sum 70.0959\nx_seconds_count 5\n"
        );
        let mut out = String::new();
        Exposed { load: Some("a\"b"), buckets: &[0.1], ..exposed }.render(&mut out);
        assert_eq!(
            out,
            "x_seconds_bucket{load=\"a\\\"b\",le=\"0.1\"} 4\nx_seconds_bucket{load=\"a\\\"b\",le=\"+Inf\"} 5\n\
             x_seconds_sum{load=\"a\\\"b\"} 70.0959\nx_seconds_count{load=\"a\\\"b\"} 5\n"
        );
    }
}
