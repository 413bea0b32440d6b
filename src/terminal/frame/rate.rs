//! The rate against its target, second by second.

use super::ink::{Ink, heading, put, put_at, put_right, rows};
use super::text;
use crate::terminal::view::{Second, View};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::bar::NINE_LEVELS;
use ratatui::text::{Line, Span};

/// Room for the axis: `12.3k `.
const AXIS: u16 = 6;

/// Draws the rate: in two rows its figures and a line of bars, in more a chart.
pub(super) fn draw(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    if area.height < 4 {
        put(buf, area, 0, &figures(view, ink));
        return chart(buf, rows(area, 1, area.height), view, ink);
    }
    heading(buf, area, Line::styled("Rate", ink.strong()), ink);
    put(buf, area, 1, &figures(view, ink));
    chart(buf, rows(area, 2, area.height - 2), view, ink);
}

fn figures(view: &View, ink: Ink) -> Line<'static> {
    let Second { acked, target, .. } = view.rate;
    if view.history.is_empty() {
        return Line::styled("not a second old", ink.label());
    }
    let mut line = vec![
        Span::styled(format!("{}/s", text::rate(acked)), ink.strong()),
        Span::styled(" acked", ink.label()),
    ];
    match target {
        None => line.push(Span::styled(", as many as answers allow", ink.label())),
        Some(target) => {
            line.push(Span::styled(" of ", ink.label()));
            line.push(Span::raw(format!("{}/s", text::rate(target))));
            if target > 0.0 {
                line.push(Span::styled(format!(" due, {}", text::percent(acked / target)), ink.label()));
            }
        }
    }
    Line::from(line)
}

/// Bars of the last seconds, the latest at the right; a row of time below if there is room.
fn chart(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    let times = u16::from(area.height >= 4);
    let bars = rows(area, 0, area.height - times);
    let width = usize::from(area.width.saturating_sub(AXIS));
    if bars.height == 0 || width == 0 {
        return;
    }
    let seconds = &view.history[view.history.len().saturating_sub(width)..];
    let scale = scale(seconds);
    put_at(buf, bars, 0, 0, &Line::styled(format!("{:>5}", text::short(scale)), ink.label()));
    if bars.height > 1 {
        put_at(buf, bars, 0, bars.height - 1, &Line::styled("    0", ink.label()));
    }
    // The latest second is always at the right border.
    let from = area.width - u16::try_from(seconds.len()).unwrap_or(0);
    for (column, second) in (from..).zip(seconds) {
        column_of(buf, bars, column, second, scale, ink);
    }
    if times == 1
        && let (Some(first), Some(last)) = (seconds.first(), seconds.last())
    {
        let span = last.at - first.at;
        let ago = Line::styled(format!("{span:.0} s ago"), ink.label());
        // Not into each other.
        if usize::from(area.width - from) > ago.width() + 5 {
            put_at(buf, area, from, area.height - 1, &ago);
        }
        put_right(buf, area, area.height - 1, &Line::styled("now", ink.label()));
    }
}

fn column_of(buf: &mut Buffer, area: Rect, column: u16, second: &Second, scale: f64, ink: Ink) {
    let style = match second {
        Second { lost, .. } if *lost > 0.0 => ink.lost(),
        Second { throttled, .. } if *throttled > 0.0 => ink.throttled(),
        _ => ink.label(),
    };
    let full = eighths(second.acked, scale, area.height);
    let target = second.target.filter(|target| *target > 0.0);
    let target_row = target.map(|target| eighths(target, scale, area.height).saturating_sub(1) / 8);
    for from_below in 0..area.height {
        let level = full.saturating_sub(from_below * 8).min(8);
        let row = area.height - 1 - from_below;
        if level > 0 {
            put_at(buf, area, column, row, &Line::styled(level_sign(level), style));
        } else if target_row == Some(from_below) {
            put_at(buf, area, column, row, &Line::raw("╌"));
        }
    }
}

/// A block of so many eighths of a cell.
pub(super) fn level_sign(eighths: u16) -> &'static str {
    let bar = NINE_LEVELS;
    [
        bar.empty,
        bar.one_eighth,
        bar.one_quarter,
        bar.three_eighths,
        bar.half,
        bar.five_eighths,
        bar.three_quarters,
        bar.seven_eighths,
        bar.full,
    ][usize::from(eighths.min(8))]
}

fn eighths(value: f64, scale: f64, height: u16) -> u16 {
    super::part(value / scale, height.saturating_mul(8))
}

/// The top of the chart: a round number above all that it shows.
fn scale(seconds: &[Second]) -> f64 {
    let highest = |most: f64, second: &Second| most.max(second.acked).max(second.target.unwrap_or(0.0));
    let highest = seconds.iter().fold(1.0, highest) * 1.02;
    let decade = 10_f64.powf(highest.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * decade).find(|top| *top >= highest).unwrap_or(highest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_a_round_number_above_everything() {
        let of = |acked, target| scale(&[Second { acked, target, ..Second::default() }]);
        for (acked, target, top) in [
            (0.0, None, 1.2),
            (980.0, None, 1000.0),
            (990.0, Some(1000.0), 1200.0),
            (1.0, Some(5000.0), 6000.0),
        ] {
            assert!((of(acked, target) - top).abs() < 1e-9, "{acked} {target:?}: {}", of(acked, target));
        }
    }
}
