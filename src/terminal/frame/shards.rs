//! The shards: a bar for each, or where they are too many a row of cells for some shards each.

use super::ink::{self, Ink, heading, put, put_at};
use super::rate::level_sign;
use super::{bar, part, text};
use crate::terminal::view::{Shard, View};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// The narrowest bar with its figures, and the widest that is of use.
const NARROWEST: u16 = 24;
const WIDEST: u16 = 54;

/// The most rows that are asked for.
const MOST_ROWS: u16 = 16;

/// The rows that so many shards would like to have below their heading.
pub(super) fn rows(shards: usize, width: u16) -> u16 {
    let in_columns = |of: u16| u16::try_from(shards.div_ceil(usize::from(of.max(1)))).unwrap_or(u16::MAX);
    if in_columns(width / NARROWEST) > MOST_ROWS {
        // A cell each, and a line of figures.
        return in_columns(width).clamp(1, MOST_ROWS) + 1;
    }
    in_columns(width / 36).clamp(1, MOST_ROWS)
}

/// Draws them under a heading with their sum.
pub(super) fn draw(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    if area.height == 0 {
        return;
    }
    let shards = &view.shards;
    let scale = shards.iter().map(|shard| shard.limit.unwrap_or(0.0).max(shard.accepted)).fold(0.0, f64::max);
    heading(buf, area, title(shards, ink), ink);
    let area = ink::rows(area, 1, area.height);
    if shards.is_empty() || area.height == 0 {
        return;
    }
    let columns = shards.len().div_ceil(usize::from(area.height));
    match u16::try_from(columns).ok().map(|columns| area.width / columns.max(1)) {
        Some(width) if width >= NARROWEST => {
            // No more columns than are needed, unless there is much room.
            let width = width.min(WIDEST);
            bars(buf, area, shards, width, scale, ink);
        }
        _ => heat(buf, area, shards, scale, ink),
    }
}

fn title(shards: &[Shard], ink: Ink) -> Line<'static> {
    let sum = |of: fn(&Shard) -> f64| shards.iter().map(of).sum::<f64>();
    let (accepted, throttled) = (sum(|shard| shard.accepted), sum(|shard| shard.throttled));
    let limit = shards.iter().map(|shard| shard.limit).sum::<Option<f64>>().filter(|limit| *limit > 0.0);
    let mut line = vec![Span::styled("Shards", ink.strong())];
    line.push(Span::styled(
        format!("  {}, {}/s", text::count(shards.len() as u64), text::rate(accepted)),
        ink.label(),
    ));
    if let Some(limit) = limit {
        line.push(Span::styled(format!(" of {}/s", text::rate(limit)), ink.label()));
    }
    if throttled > 0.0 {
        line.push(Span::styled(format!("  ▲ {}/s throttled", text::rate(throttled)), ink.throttled()));
    }
    Line::from(line)
}

/// How full a shard is.
fn share(shard: &Shard, scale: f64) -> f64 {
    let limit = shard.limit.filter(|limit| *limit > 0.0).unwrap_or(scale);
    if limit > 0.0 { shard.accepted / limit } else { 0.0 }
}

fn bars(buf: &mut Buffer, area: Rect, shards: &[Shard], width: u16, scale: f64, ink: Ink) {
    let name = |shard: &Shard| match &shard.stream {
        Some(stream) => format!("{:.8}/{}", stream, shard.id),
        None => shard.id.to_string(),
    };
    let names = shards.iter().map(|shard| name(shard).chars().count()).max().unwrap_or(0);
    for (place, shard) in shards.iter().enumerate() {
        let (column, row) = (place / usize::from(area.height), place % usize::from(area.height));
        let (Ok(column), Ok(row)) = (u16::try_from(column), u16::try_from(row)) else { return };
        let own = ink::columns(area, column.saturating_mul(width), width.saturating_sub(2));
        let full = if shard.throttled > 0.0 { ink.throttled() } else { Style::new() };
        // Room for `▲ 12.3k`, or where it is narrow for the sign alone.
        let mark = if width >= 34 { 8 } else { 2 };
        let taken = u16::try_from(names).unwrap_or(u16::MAX).saturating_add(1 + 8 + mark);
        let length = own.width.saturating_sub(taken);
        let mut line = Line::from(Span::styled(format!("{:>names$} ", name(shard)), ink.label()));
        line.extend(bar(share(shard, scale), length, full, ink));
        line.push_span(Span::raw(format!("{:>6}/s", accepted(shard))));
        if shard.throttled > 0.0 {
            let mark =
                if mark > 2 { format!(" ▲ {}", text::short(shard.throttled)) } else { " ▲".into() };
            line.push_span(Span::styled(mark, ink.throttled()));
        }
        put(buf, own, row, &line);
    }
}

fn accepted(shard: &Shard) -> String {
    if shard.accepted < 99_999.0 { text::rate(shard.accepted) } else { text::short(shard.accepted) }
}

/// Cells of one or more shards each, as high as the fullest of them; a line of figures below if there is room.
fn heat(buf: &mut Buffer, area: Rect, shards: &[Shard], scale: f64, ink: Ink) {
    let legend = u16::from(area.height >= 2);
    let cells = usize::from(area.width) * usize::from(area.height - legend);
    let group = shards.len().div_ceil(cells.max(1)).max(1);
    for (place, group) in shards.chunks(group).enumerate() {
        let (row, column) = (place / usize::from(area.width), place % usize::from(area.width));
        let (Ok(row), Ok(column)) = (u16::try_from(row), u16::try_from(column)) else { return };
        let fullest = group.iter().map(|shard| share(shard, scale)).fold(0.0, f64::max);
        let throttled = group.iter().any(|shard| shard.throttled > 0.0);
        let cell = match part(fullest, 8) {
            0 => Line::styled("·", ink.label()),
            level => Line::styled(level_sign(level), if throttled { ink.throttled() } else { Style::new() }),
        };
        put_at(buf, area, column, row, &cell);
    }
    if legend == 1 {
        let used = shards.len().div_ceil(group).div_ceil(usize::from(area.width.max(1)));
        let row = u16::try_from(used).unwrap_or(u16::MAX).min(area.height - 1);
        put(buf, area, row, &heat_legend(shards, group, scale, ink));
    }
}

fn heat_legend(shards: &[Shard], group: usize, scale: f64, ink: Ink) -> Line<'static> {
    let fullest = shards.iter().max_by(|a, b| share(a, scale).total_cmp(&share(b, scale)));
    let mean = shards.iter().map(|shard| share(shard, scale)).sum::<f64>() / shards.len().max(1) as f64;
    let throttled = shards.iter().filter(|shard| shard.throttled > 0.0).count();
    let cell =
        if group == 1 { "a cell each".to_owned() } else { format!("{group} a cell, the fullest counts") };
    let mut line = Line::styled(format!("{cell}; mean {}", text::percent(mean)), ink.label());
    if let Some(fullest) = fullest {
        let shard = format!(", fullest {} at {}", fullest.id, text::percent(share(fullest, scale)));
        line.push_span(Span::styled(shard, ink.label()));
    }
    if throttled > 0 {
        line.push_span(Span::styled(format!(", {throttled} throttled"), ink.throttled()));
    }
    line
}
