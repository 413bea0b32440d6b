//! What lines are written with.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// The styles. Colour means something: yellow is throttled, red is lost or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ink {
    /// Whether there are colours; `NO_COLOR` says there are not.
    pub colours: bool,
}

#[expect(clippy::unused_self, reason = "styles are asked of one ink, whether colours matter to them or not")]
impl Ink {
    /// Names of things, rules and axes.
    pub(super) fn label(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// What is looked for first.
    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Throttled, or a warning.
    pub(super) fn throttled(self) -> Style {
        if self.colours { Style::new().fg(Color::Yellow) } else { self.strong() }
    }

    /// Lost, or an error.
    pub(super) fn lost(self) -> Style {
        let style = self.strong();
        if self.colours { style.fg(Color::Red) } else { style.add_modifier(Modifier::REVERSED) }
    }

    /// A count that should be zero.
    pub(super) fn unless_zero(self, count: u64, style: Style) -> Style {
        if count == 0 { Style::new() } else { style }
    }
}

/// Writes a line into a row of an area; what does not fit is left out.
pub(super) fn put(buf: &mut Buffer, area: Rect, row: u16, line: &Line<'_>) {
    put_at(buf, area, 0, row, line);
}

/// The same, from a column on.
pub(super) fn put_at(buf: &mut Buffer, area: Rect, column: u16, row: u16, line: &Line<'_>) {
    let area = area.intersection(buf.area);
    if row < area.height && column < area.width {
        buf.set_line(area.x + column, area.y + row, line, area.width - column);
    }
}

/// The same, ending at the right border.
pub(super) fn put_right(buf: &mut Buffer, area: Rect, row: u16, line: &Line<'_>) {
    let width = u16::try_from(line.width()).unwrap_or(u16::MAX);
    put_at(buf, area, area.width.saturating_sub(width), row, line);
}

/// A heading: its name, and a rule to the right border.
pub(super) fn heading(buf: &mut Buffer, area: Rect, name: Line<'_>, ink: Ink) {
    let rest = usize::from(area.width).saturating_sub(name.width() + 1);
    let mut line = name;
    line.push_span(Span::raw(" "));
    line.push_span(Span::styled("─".repeat(rest), ink.label()));
    put(buf, area, 0, &line);
}

/// The rows of an area from one on, so many of them.
pub(super) fn rows(area: Rect, from: u16, height: u16) -> Rect {
    let from = from.min(area.height);
    Rect { y: area.y + from, height: height.min(area.height - from), ..area }
}

/// The columns of an area from one on, so many of them.
pub(super) fn columns(area: Rect, from: u16, width: u16) -> Rect {
    let from = from.min(area.width);
    Rect { x: area.x + from, width: width.min(area.width - from), ..area }
}
