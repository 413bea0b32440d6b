//! A frame of the live view: a pure function of the [`View`] and the size of the terminal.

mod figures;
mod ink;
mod rate;
mod shards;

pub use ink::Ink;

use super::text;
use super::view::{LogLine, Phase, View};
use ink::{columns, heading, put, put_at, put_right, rows};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use tracing::Level;

/// From this width on the rate stands beside the figures.
const WIDE: u16 = 110;

/// The width of the figures there.
const FIGURES: u16 = 57;

/// Draws the view.
pub fn draw(frame: &mut Frame<'_>, view: &View, ink: Ink) {
    let area = frame.area();
    let buf = frame.buffer_mut();
    let margin = u16::from(area.width >= 60);
    let area = columns(area, margin, area.width - 2 * margin);
    if area.height == 0 {
        return;
    }
    let bar = u16::from(area.height >= 14);
    header(buf, rows(area, 0, 1 + bar), view, ink);
    put(buf, area, area.height - 1, &footer(view, ink, area.width));
    let body = rows(area, 1 + bar, area.height.saturating_sub(2 + bar));
    if view.help {
        help(buf, body, ink);
    } else {
        blocks(buf, body, view, ink);
    }
}

/// What the body is made of, one below the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Rate,
    Times,
    Records,
    RateAndFigures,
    Shards,
    Loads,
    Log,
}

fn blocks(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    let blocks = wishes(area, view);
    // A row between them, where there is room.
    let gap = u16::from(area.height >= 20);
    let gaps = gap * u16::try_from(blocks.len() - 1).unwrap_or(0);
    let heights = share(area.height.saturating_sub(gaps), &blocks);
    let mut from = 0;
    for ((block, ..), height) in blocks.into_iter().zip(heights) {
        let own = rows(area, from, height);
        from += height + gap;
        match block {
            Block::Rate => rate::draw(buf, own, view, ink),
            Block::Times => figures::times(buf, own, view, ink),
            Block::Records => figures::records(buf, own, view, ink),
            Block::RateAndFigures => {
                rate::draw(buf, columns(own, 0, own.width - FIGURES - 3), view, ink);
                let right = columns(own, own.width - FIGURES, FIGURES);
                figures::times(buf, rows(right, 0, 6), view, ink);
                figures::records(buf, rows(right, 6, own.height), view, ink);
            }
            Block::Shards => shards::draw(buf, own, view, ink),
            Block::Loads => figures::loads(buf, own, view, ink),
            Block::Log => log(buf, own, &view.log, ink),
        }
    }
}

/// The blocks with their least and their best heights.
fn wishes(area: Rect, view: &View) -> Vec<(Block, u16, u16)> {
    let mut blocks = Vec::new();
    let low = area.height < 18;
    // The chart grows with the terminal.
    let chart = (area.height / 3).clamp(3, 18);
    if area.width >= WIDE && !low {
        let figures = 6 + figures::record_rows(FIGURES, view) + 1;
        blocks.push((Block::RateAndFigures, figures, figures.max(chart)));
    } else {
        blocks.push((Block::Rate, if low { 2 } else { 5 }, chart));
        blocks.push((Block::Times, 3, 5));
        blocks.push((Block::Records, 2, figures::record_rows(area.width, view) + 1));
    }
    let shards = shards::rows(view.shards.len(), area.width);
    blocks.push((Block::Shards, 1 + shards.min(if low { 1 } else { 2 }), 1 + shards));
    if view.loads.len() > 1 {
        let loads = u16::try_from(view.loads.len()).unwrap_or(u16::MAX);
        blocks.push((Block::Loads, 2, loads.saturating_add(1).min(12)));
    }
    blocks.push((Block::Log, 1, u16::MAX));
    blocks
}

/// Shares rows: to each its least, as long as there are any, and then in turn until its best.
fn share(mut height: u16, blocks: &[(Block, u16, u16)]) -> Vec<u16> {
    let mut heights = Vec::with_capacity(blocks.len());
    for (_, least, _) in blocks {
        let given = height.min(*least);
        heights.push(given);
        height -= given;
    }
    while height > 0 {
        let before = height;
        for (given, (_, _, best)) in heights.iter_mut().zip(blocks) {
            if *given < *best && height > 0 {
                *given += 1;
                height -= 1;
            }
        }
        if height == before {
            break;
        }
    }
    heights
}

fn header(buf: &mut Buffer, area: Rect, view: &View, ink: Ink) {
    let phase = match view.phase {
        Phase::Paused | Phase::Draining => ink.throttled(),
        _ => Style::new(),
    };
    let mut time =
        vec![Span::styled(view.phase.name(), phase), Span::raw(format!("  {}", text::clock(view.elapsed)))];
    if let Some(left) = view.left {
        if view.phase != Phase::Draining && area.width >= 60 {
            let total = format!(" of {}", text::clock(view.elapsed + left));
            time.push(Span::styled(total, ink.label()));
        }
        time.push(Span::raw(format!("  {} left", text::clock(left))));
    }
    let time = Line::from(time);
    let free = area.width.saturating_sub(u16::try_from(time.width()).unwrap_or(u16::MAX) + 2);
    let name = Line::from(vec![
        Span::styled("tickgen ", ink.strong()),
        Span::styled(" stream ", ink.label()),
        Span::raw(&view.to),
        Span::styled("  run ", ink.label()),
        Span::raw(&view.run_id),
    ]);
    put(buf, columns(area, 0, free), 0, &name);
    put_right(buf, area, 0, &time);
    if area.height > 1 {
        put(buf, area, 1, &progress(view, area.width, ink));
    }
}

/// How much of the run is over, as a line; of a run without end a rule.
fn progress(view: &View, width: u16, ink: Ink) -> Line<'static> {
    let done = match view.left {
        Some(left) if view.phase < Phase::Draining => {
            view.elapsed / (view.elapsed + left).max(f64::MIN_POSITIVE)
        }
        None if view.phase < Phase::Draining => 0.0,
        _ => 1.0,
    };
    bar(done, width, Style::new(), ink)
}

/// A line of which a share is heavy.
fn bar(share: f64, width: u16, style: Style, ink: Ink) -> Line<'static> {
    let full = usize::from(part(share, width));
    Line::from(vec![
        Span::styled("━".repeat(full), style),
        Span::styled("─".repeat(usize::from(width) - full), ink.label()),
    ])
}

/// A share of a whole; anything above it is the whole.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to the whole
fn part(share: f64, whole: u16) -> u16 {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    // What is not nothing shows, and what is not all of it, too.
    let part = (share * f64::from(whole)).round() as u16;
    if share > 0.0 { part.max(1).min(whole) } else { part }
}

fn footer(view: &View, ink: Ink, width: u16) -> Line<'static> {
    let pause = if view.phase == Phase::Paused { "resume" } else { "pause" };
    let quit = match (view.quitting, width >= 60) {
        (false, _) => "quit",
        (true, false) => "end",
        (true, true) => "end at once",
    };
    let mut line = Line::default();
    let between = if width >= 60 { "   " } else { " " };
    for (key, what) in [("+ -", "rate"), ("p", pause), ("d", "drain"), ("q", quit), ("?", "help")] {
        line.push_span(Span::styled(key, ink.strong()));
        line.push_span(Span::styled(format!(" {what}{between}"), ink.label()));
    }
    line
}

const HELP: [(&str, &str); 14] = [
    ("+  -", "a constant rate, a tenth above or below the present one"),
    ("p", "pause: nothing falls due until p again"),
    ("d", "drain: end the load, settle what is on its way"),
    ("q  Ctrl-C", "quit: drain; a second one ends at once"),
    ("?  Esc", "close this"),
    ("", ""),
    ("rate", "acked records per second; the broken line is the target"),
    ("response", "from the intended start to the answer, waiting included"),
    ("service", "from the send of the successful attempt to its answer"),
    ("dropped", "fell due and could not start, for want of room"),
    ("lost", "failed or expired"),
    ("waiting", "records made and not sent, or to be sent again"),
    ("shards", "Kinesis records accepted per second, of the limit"),
    ("▲ yellow", "Kinesis records throttled per second"),
];

fn help(buf: &mut Buffer, area: Rect, ink: Ink) {
    heading(buf, area, Line::styled("Help", ink.strong()), ink);
    for (row, (name, what)) in (1..).zip(HELP) {
        if row < area.height {
            put(buf, area, row, &Line::styled(name, ink.strong()));
            put_at(buf, area, 11, row, &Line::raw(what));
        }
    }
}

fn log(buf: &mut Buffer, area: Rect, lines: &[LogLine], ink: Ink) {
    if area.height > 1 {
        heading(buf, area, Line::styled("Log", ink.strong()), ink);
    }
    let area = rows(area, u16::from(area.height > 1), area.height);
    let first = lines.len().saturating_sub(usize::from(area.height));
    for (row, line) in (0..).zip(&lines[first..]) {
        let style = match line.level {
            Level::ERROR => ink.lost(),
            Level::WARN => ink.throttled(),
            _ => ink.label(),
        };
        let line =
            Line::from(vec![Span::styled(format!("{:<5} ", line.level), style), Span::raw(&line.text)]);
        put(buf, area, row, &line);
    }
}

#[cfg(test)]
mod tests;
