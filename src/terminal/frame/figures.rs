//! Tables of figures: times, what became of the records, loads.

use super::ink::{Ink, heading, put, put_at, put_right, rows};
use super::text;
use crate::observe::Percentiles;
use crate::terminal::view::View;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The percentiles, each in a column; those of the whole run too if there is room.
pub(super) fn times(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    let roomy = area.width >= 56;
    let column: u16 = if roomy { 7 } else { 6 };
    let recent = if view.recent_s > 0.0 { format!("last {:.0} s", view.recent_s) } else { String::new() };
    let title = if roomy { "Times, ms" } else { "ms" };
    let title = Line::styled(title, ink.strong());
    if roomy {
        heading(buf, area, title, ink);
    } else {
        put(buf, area, 0, &title);
    }
    let cells = |buf: &mut Buffer, row: u16, texts: [String; 5], style: Style| {
        for (place, text) in (0u16..).zip(texts) {
            let right = area.width.saturating_sub((4 - place) * column);
            let line = Line::styled(format!("{text:>0$}", usize::from(column)), style);
            put_right(buf, Rect { width: right, ..area }, row, &line);
        }
    };
    cells(buf, 0, ["p50", "p90", "p99", "p99.9", "max"].map(|name| format!(" {name}")), ink.label());
    let of = |percentiles: Option<Percentiles>| match percentiles {
        None => ["–"; 5].map(String::from),
        Some(Percentiles { p50, p90, p99, p999, max }) => [p50, p90, p99, p999, max].map(text::millis),
    };
    let lines = [
        ("response", &recent, view.recent.response, ink.strong()),
        ("service", &recent, view.recent.service, Style::new()),
        ("response", &"all".to_owned(), view.whole.response, Style::new()),
        ("service", &"all".to_owned(), view.whole.service, Style::new()),
    ];
    for (row, (name, when, percentiles, style)) in (1..area.height).zip(lines) {
        put(buf, area, row, &Line::styled(name, ink.label()));
        if roomy {
            put_at(buf, area, 10, row, &Line::styled(when.clone(), ink.label()));
        }
        cells(buf, row, of(percentiles), style);
    }
}

type Figure = (&'static str, String, Style);

/// The figures of a narrow or low terminal.
fn few(view: &View, ink: Ink) -> Vec<Figure> {
    let (records, way) = (view.records, view.way);
    let lost = records.failed + records.expired;
    let throttled = records.throttled_entries;
    vec![
        ("acked", text::count(records.acked), Style::new()),
        ("lost", text::count(lost), ink.unless_zero(lost, ink.lost())),
        ("throttled", text::count(throttled), ink.unless_zero(throttled, ink.throttled())),
        ("dropped", text::count(records.dropped), ink.unless_zero(records.dropped, ink.lost())),
        ("waiting", text::count(way.backlog_records), Style::new()),
        ("in flight", text::bytes(way.in_flight_bytes), Style::new()),
    ]
}

fn all(view: &View, ink: Ink) -> Vec<Figure> {
    let (records, way) = (view.records, view.way);
    let bad = |count| (text::count(count), ink.unless_zero(count, ink.lost()));
    let (failed, expired, dropped) = (bad(records.failed), bad(records.expired), bad(records.dropped));
    let throttled = records.throttled_entries;
    let mut figures = vec![
        ("scheduled", text::count(records.scheduled), Style::new()),
        ("acked", text::count(records.acked), Style::new()),
        ("failed", failed.0, failed.1),
        ("expired", expired.0, expired.1),
        ("dropped", dropped.0, dropped.1),
        ("waiting", text::count(way.backlog_records), Style::new()),
        ("requests in flight", text::count(way.in_flight_requests), Style::new()),
        ("bytes in flight", text::bytes(way.in_flight_bytes), Style::new()),
        ("entries throttled", text::count(throttled), ink.unless_zero(throttled, ink.throttled())),
        ("entries resent", text::count(records.retried_entries), Style::new()),
    ];
    if records.possible_duplicates > 0 {
        figures.push(("possible duplicates", text::count(records.possible_duplicates), ink.throttled()));
    }
    if records.payload_failures > 0 {
        figures.push(("payloads failed", text::count(records.payload_failures), ink.lost()));
    }
    figures
}

fn record_columns(width: u16) -> u16 {
    ((width + 3) / 30).clamp(1, 4)
}

/// The rows that all figures would like to have below their heading.
pub(super) fn record_rows(width: u16, view: &View) -> u16 {
    let figures = u16::try_from(all(view, Ink { colours: false }).len()).unwrap_or(u16::MAX);
    figures.div_ceil(record_columns(width))
}

/// What became of the records: all figures under a heading, or a few.
pub(super) fn records(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    let wish = record_rows(area.width, view);
    if area.height > wish {
        heading(buf, area, Line::styled("Records", ink.strong()), ink);
        grid(buf, rows(area, 1, wish), &all(view, ink), record_columns(area.width));
    } else {
        let columns = if area.width >= 60 { 3 } else { 2 };
        grid(buf, rows(area, 0, area.height.min(3)), &few(view, ink), columns);
    }
}

/// Names and values in columns, one below the other.
fn grid(buf: &mut Buffer, area: Rect, figures: &[Figure], columns: u16) {
    const GAP: u16 = 3;
    if area.height == 0 || area.width < GAP {
        return;
    }
    let width = (area.width + GAP) / columns;
    for (place, (name, value, style)) in figures.iter().enumerate() {
        let (column, row) = (place / usize::from(area.height), place % usize::from(area.height));
        let (Ok(column), Ok(row)) = (u16::try_from(column), u16::try_from(row)) else { return };
        if column >= columns {
            return;
        }
        let own = super::columns(area, column * width, width.saturating_sub(GAP));
        put(buf, own, row, &Line::styled(*name, Ink { colours: false }.label()));
        put_right(buf, own, row, &Line::styled(format!(" {value}"), *style));
    }
}

/// The loads, if there are several.
pub(super) fn loads(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    const COLUMN: usize = 11;
    if area.height == 0 {
        return;
    }
    heading(buf, area, Line::styled("Loads", ink.strong()), ink);
    let fits = usize::from(area.width).saturating_sub(14) / COLUMN;
    let cells = |cells: [(String, Style); 5]| {
        let cell = |(text, style): (String, Style)| Span::styled(format!("{text:>COLUMN$}"), style);
        cells.into_iter().take(fits).map(cell).collect::<Line<'_>>()
    };
    let names = ["acked/s", "of", "p99 ms", "lost", "throttled/s"];
    put_right(buf, area, 0, &cells(names.map(|name| (format!(" {name}"), ink.label()))));
    let room = usize::from(area.height - 1);
    // The last row tells how many are left out.
    let shown = if view.loads.len() > room { room.saturating_sub(1) } else { room };
    for (row, load) in (1..).zip(view.loads.iter().take(shown)) {
        put(buf, area, row, &Line::raw(&load.name));
        let throttled = if load.rate.throttled > 0.0 { ink.throttled() } else { Style::new() };
        let line = cells([
            (text::rate(load.rate.acked), Style::new()),
            (load.rate.target.map_or_else(|| "max".into(), text::rate), Style::new()),
            (load.p99.map_or_else(|| "–".into(), text::millis), Style::new()),
            (text::count(load.lost), ink.unless_zero(load.lost, ink.lost())),
            (text::rate(load.rate.throttled), throttled),
        ]);
        put_right(buf, area, row, &line);
    }
    if view.loads.len() > room && room > 0 {
        let more = format!("and {} more", view.loads.len() - shown);
        put(buf, area, area.height - 1, &Line::styled(more, ink.label()));
    }
}
