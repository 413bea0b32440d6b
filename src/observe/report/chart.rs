//! Charts as SVG. Each is drawn twice, for wide pages and for phones, so that its texts stay legible; the
//! style sheet shows one of them.

use super::text::{escaped, number, short};
use std::fmt::Write as _;

/// The size of a drawing, in its own units: CSS pixels where the page gives it its full width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) class: &'static str,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Ticks of the horizontal axis, about.
    pub(super) ticks: usize,
}

pub(super) const WIDE: Size = Size { class: "wide", width: 920.0, height: 280.0, ticks: 8 };
pub(super) const NARROW: Size = Size { class: "narrow", width: 344.0, height: 240.0, ticks: 4 };

/// Room for the labels around a drawing.
pub(super) const LEFT: f64 = 56.0;
pub(super) const RIGHT: f64 = 58.0;
pub(super) const TOP: f64 = 22.0;
pub(super) const BOTTOM: f64 = 38.0;

/// From values to places along an axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    log: bool,
}

impl Scale {
    /// From 0 to a round number that is not below `highest`.
    pub(super) fn linear(highest: f64) -> Self {
        let high = if highest > 0.0 { highest } else { 1.0 };
        let step = round_step(high / 5.0);
        Self { low: 0.0, high: (high / step).ceil() * step, log: false }
    }

    /// From the decade or half of it below `lowest` to that above `highest`.
    pub(super) fn logarithmic(lowest: f64, highest: f64) -> Self {
        let low = lowest.max(1e-3);
        let high = highest.max(low * 10.0);
        let floor = 10_f64.powf(low.log10().floor());
        let ceil = 10_f64.powf(high.log10().ceil());
        let near = |bounds: [f64; 3], fits: &dyn Fn(f64) -> bool| bounds.into_iter().find(|&b| fits(b));
        let low = near([floor * 5.0, floor * 2.0, floor], &|bound| bound <= low).unwrap_or(floor);
        let high = near([ceil / 5.0, ceil / 2.0, ceil], &|bound| bound >= high).unwrap_or(ceil);
        Self { low, high, log: true }
    }

    /// The better of both for these values: logarithmic if they span much.
    pub(super) fn of(values: &(impl Iterator<Item = f64> + Clone)) -> Self {
        let positive = values.clone().filter(|value| *value > 0.0);
        let lowest = positive.clone().fold(f64::INFINITY, f64::min);
        let highest = positive.fold(0.0, f64::max);
        if highest > 20.0 * lowest { Self::logarithmic(lowest, highest) } else { Self::linear(highest) }
    }

    /// A part of the axis, from 0 to 1.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        part.clamp(0.0, 1.0)
    }

    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = round_step((self.high - self.low) / 5.0);
            return steps(step, self.high);
        }
        let decades = (self.high / self.low).log10();
        let within = |value: &f64| *value >= self.low * 0.999 && *value <= self.high * 1.001;
        let parts: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut decade = 10_f64.powf(self.low.log10().floor());
        let mut ticks = Vec::new();
        while decade <= self.high {
            ticks.extend(parts.iter().map(|part| part * decade).filter(within));
            decade *= 10.0;
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, not below `least`.
pub(super) fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-12).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * power).find(|s| *s >= least * 0.999).unwrap_or(power)
}

fn steps(step: f64, high: f64) -> Vec<f64> {
    let mut ticks = vec![0.0];
    let mut at = step;
    while at <= high * 1.001 {
        ticks.push(at);
        at += step;
    }
    ticks
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// Its name.
    pub(super) name: &'static str,
    /// Its class in the style sheet.
    pub(super) class: &'static str,
    /// Its points by rising x; where y is absent, the line is broken.
    pub(super) points: Vec<(f64, Option<f64>)>,
}

/// Lines over time, or over another axis whose ticks are given.
#[derive(Clone, Debug)]
pub(super) struct LineChart {
    /// An id for its parts, unlike those of others.
    pub(super) id: &'static str,
    /// What it shows.
    pub(super) title: String,
    /// The same with figures, for those who do not see it.
    pub(super) description: String,
    /// The unit of y, above the axis.
    pub(super) unit: &'static str,
    /// What x is, below the axis.
    pub(super) x_name: String,
    /// The end of x, which begins at 0.
    pub(super) x_end: f64,
    /// The ticks of x with their labels, for so many of them.
    pub(super) x_ticks: fn(f64, usize) -> Vec<(f64, String)>,
    /// The scale of y.
    pub(super) scale: Scale,
    /// The lines.
    pub(super) series: Vec<Series>,
    /// A span of x that is shaded, and why.
    pub(super) band: Option<(f64, f64, &'static str)>,
    /// Places of x that are marked.
    pub(super) marks: Vec<(f64, String)>,
    /// Whether the lines end in their names rather than in their last values.
    pub(super) named: bool,
}

/// Ticks of a time axis in seconds.
pub(super) fn time_ticks(end: f64, most: usize) -> Vec<(f64, String)> {
    const STEPS: [f64; 18] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
        21_600.0, 43_200.0,
    ];
    let least = end / most as f64;
    let step = STEPS.into_iter().find(|step| *step >= least).unwrap_or(86_400.0 * (least / 86_400.0).ceil());
    let label = |at: f64| {
        if step >= 3600.0 {
            format!("{} h", number(at / 3600.0))
        } else if step >= 60.0 {
            format!("{} min", number(at / 60.0))
        } else {
            format!("{} s", number(at))
        }
    };
    steps(step, end).into_iter().map(|at| (at, if at == 0.0 { "0".to_owned() } else { label(at) })).collect()
}

impl LineChart {
    /// Both drawings with their legend, as a figure.
    pub(super) fn figure(&self) -> String {
        format!(
            "<figure>{}{}{}</figure>\n",
            legend(self.series.iter().map(|series| (series.name, series.class))),
            self.draw(WIDE),
            self.draw(NARROW)
        )
    }

    fn draw(&self, size: Size) -> String {
        let plot = Plot { size };
        let mut svg = plot.open(self.id, &self.title, &self.description);
        let y = |value: f64| plot.y(self.scale.at(value));
        let x = |value: f64| plot.x(value / self.x_end.max(1e-9));
        if let Some((from, to, why)) = self.band.filter(|(from, to, _)| to > from) {
            let width = x(to) - x(from);
            let _ = write!(
                svg,
                r#"<rect class="band" x="{:.1}" y="{TOP}" width="{width:.1}" height="{:.1}"/>"#,
                x(from),
                plot.y(0.0) - TOP
            );
            if width > 50.0 {
                let _ = write!(
                    svg,
                    r#"<text class="note" x="{:.1}" y="{}">{why}</text>"#,
                    x(from) + 5.0,
                    TOP + 13.0
                );
            }
        }
        for tick in self.scale.ticks() {
            plot.horizontal(&mut svg, y(tick), &short(tick));
        }
        let _ = write!(svg, r#"<text class="unit" x="0" y="11">{}</text>"#, self.unit);
        for (at, label) in (self.x_ticks)(self.x_end, size.ticks) {
            plot.below(&mut svg, x(at), &label);
        }
        plot.name_of_x(&mut svg, &self.x_name);
        for (at, label) in &self.marks {
            let (at, text) = (x(*at), escaped(label));
            let _ = write!(
                svg,
                r#"<path class="mark" d="M{at:.1} {TOP}V{:.1}"><title>{text}</title></path><text class="note" x="{:.1}" y="{}">drill</text>"#,
                plot.y(0.0),
                at + 4.0,
                TOP + 11.0
            );
        }
        for series in &self.series {
            let path = Self::path(series, &x, &y);
            let _ = write!(svg, r#"<path class="line {}" d="{path}"/>"#, series.class);
        }
        self.label_ends(&mut svg, &plot, &y);
        svg.push_str("</svg>");
        svg
    }

    fn path(series: &Series, x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) -> String {
        let mut path = String::new();
        let mut joined = false;
        for (at, value) in &series.points {
            match value {
                None => joined = false,
                Some(value) => {
                    let (x, y) = (x(*at), y(*value));
                    let _ = write!(path, "{}{x:.1} {y:.1}", if joined { 'L' } else { 'M' });
                    // A point alone still shows, by its round cap.
                    if !joined {
                        path.push_str("h0");
                    }
                    joined = true;
                }
            }
        }
        path
    }

    /// The last values beside the lines, moved apart where they would cover each other.
    fn label_ends(&self, svg: &mut String, plot: &Plot, y: &impl Fn(f64) -> f64) {
        const APART: f64 = 13.0;
        let last = |series: &Series| series.points.iter().rev().find_map(|(_, value)| *value);
        let mut ends: Vec<(f64, f64, &Series)> =
            self.series.iter().filter_map(|series| last(series).map(|v| (y(v), v, series))).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        for place in 1..ends.len() {
            ends[place].0 = ends[place].0.max(ends[place - 1].0 + APART);
        }
        let mut lowest = plot.y(0.0) - 4.0;
        for end in ends.iter_mut().rev() {
            end.0 = end.0.min(lowest);
            lowest = end.0 - APART;
        }
        let x = plot.x(1.0) + 6.0;
        for (y, value, series) in ends {
            let text = if self.named { series.name.to_owned() } else { short(value) };
            let _ = write!(
                svg,
                r#"<text class="end {}" x="{x:.1}" y="{:.1}">{text}</text>"#,
                series.class,
                y + 4.0
            );
        }
    }
}

/// The names of the lines, each with its colour.
pub(super) fn legend<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut html = r#"<figcaption class="legend">"#.to_owned();
    for (name, class) in entries {
        let _ = write!(
            html,
            r#"<span><svg class="key" viewBox="0 0 20 10" aria-hidden="true"><path class="line {class}" d="M1 5H19"/></svg>{name}</span>"#
        );
    }
    html.push_str("</figcaption>");
    html
}

/// The area of a drawing.
pub(super) struct Plot {
    pub(super) size: Size,
}

impl Plot {
    /// The place of a part of the horizontal axis.
    pub(super) fn x(&self, part: f64) -> f64 {
        LEFT + part.clamp(0.0, 1.0) * (self.size.width - LEFT - RIGHT)
    }

    /// The place of a part of the vertical axis, which rises.
    pub(super) fn y(&self, part: f64) -> f64 {
        self.size.height - BOTTOM - part * (self.size.height - TOP - BOTTOM)
    }

    pub(super) fn open(&self, id: &str, title: &str, description: &str) -> String {
        let Size { class, width, height, .. } = self.size;
        let (title, description) = (escaped(title), escaped(description));
        format!(
            r#"<svg class="chart {class}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-{class}-t {id}-{class}-d"><title id="{id}-{class}-t">{title}</title><desc id="{id}-{class}-d">{description}</desc>"#
        )
    }

    fn horizontal(&self, svg: &mut String, y: f64, label: &str) {
        let (from, to) = (self.x(0.0), self.x(1.0));
        let _ = write!(
            svg,
            r#"<path class="grid" d="M{from:.1} {y:.1}H{to:.1}"/><text class="tick y" x="{:.1}" y="{:.1}">{label}</text>"#,
            from - 7.0,
            y + 4.0
        );
    }

    pub(super) fn below(&self, svg: &mut String, x: f64, label: &str) {
        let y = self.y(0.0);
        let _ = write!(
            svg,
            r#"<path class="axis" d="M{x:.1} {y:.1}v4"/><text class="tick x" x="{x:.1}" y="{:.1}">{label}</text>"#,
            y + 17.0
        );
    }

    pub(super) fn name_of_x(&self, svg: &mut String, name: &str) {
        let _ = write!(
            svg,
            r#"<path class="axis" d="M{:.1} {y:.1}H{:.1}"/><text class="name" x="{:.1}" y="{:.1}">{name}</text>"#,
            self.x(0.0),
            self.x(1.0),
            f64::midpoint(self.x(0.0), self.x(1.0)),
            self.size.height - 3.0,
            y = self.y(0.0)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_ticks_that_cover_the_values() {
        let scale = Scale::linear(2016.0);
        assert_eq!(scale.ticks(), [0.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0]);
        let scale = Scale::of(&[0.7, 5.0, 93.0].into_iter());
        assert_eq!(scale.ticks(), [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        assert!((scale.at(0.5) - 0.0).abs() < 1e-9 && (scale.at(100.0) - 1.0).abs() < 1e-9);
        assert_eq!(Scale::of(&[].into_iter()).ticks().len(), 6);
        assert!(Scale::of(&[1e-9, 1e9].into_iter()).ticks().len() < 20);
        let labels: Vec<String> = time_ticks(95.0, 8).into_iter().map(|(_, label)| label).collect();
        assert_eq!(labels, ["0", "15 s", "30 s", "45 s", "60 s", "75 s", "90 s"]);
        assert_eq!(time_ticks(7200.0, 8)[1].1, "30 min");
    }

    #[test]
    fn a_line_is_broken_where_nothing_was_measured() {
        let points = vec![(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(1.0))];
        let chart = LineChart {
            id: "t",
            title: "a <title>".into(),
            description: "d".into(),
            unit: "ms",
            x_name: "time".into(),
            x_end: 3.0,
            x_ticks: time_ticks,
            scale: Scale::linear(2.0),
            series: vec![Series { name: "n", class: "a", points }],
            band: None,
            marks: Vec::new(),
            named: false,
        };
        let svg = chart.draw(WIDE);
        assert!(svg.contains("a &lt;title&gt;"));
        let path = svg.split("class=\"line a\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
    }
}
