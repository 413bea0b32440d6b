//! The shard heat map: what each shard took over time.

use super::chart::{LEFT, NARROW, Plot, RIGHT, Size, WIDE, time_ticks};
use super::text::{escaped, number, short};
use crate::observe::{ShardHeat, ShardHeatRow};
use std::fmt::Write as _;

/// Shades of the scale, from nothing to the most.
const SHADES: usize = 7;

/// The highest and the lowest height of a row.
const TALL: f64 = 22.0;
const LOW: f64 = 7.0;

const HEAD: f64 = 8.0;
const FOOT: f64 = 38.0;

pub(super) fn figure(heat: &ShardHeat) -> String {
    let most = heat.shards.iter().flat_map(|row| &row.accepted).copied().max().unwrap_or(0);
    let throttled = heat.shards.iter().any(|row| row.throttled.iter().any(|n| *n > 0));
    let mut legend = r#"<figcaption class="legend"><span>0"#.to_owned();
    for shade in 0..=SHADES {
        let _ = write!(
            legend,
            r#"<svg class="swatch" viewBox="0 0 14 10" aria-hidden="true"><path class="cell s{shade}" d="M0 0H14V10H0z"/></svg>"#
        );
    }
    let _ = write!(legend, "{} Kinesis records/s</span>", short(most as f64 / heat.span_s.max(1e-9)));
    if throttled {
        legend.push_str(
            r#"<span><svg class="key" viewBox="0 0 20 10" aria-hidden="true"><circle class="hit" cx="10" cy="5" r="3"/></svg>throttled</span>"#,
        );
    }
    legend.push_str("</figcaption>");
    format!("<figure>{legend}{}{}</figure>\n", draw(heat, most, WIDE), draw(heat, most, NARROW))
}

fn draw(heat: &ShardHeat, most: u64, size: Size) -> String {
    let rows = heat.shards.len() as f64;
    let tall = (420.0 / rows).clamp(LOW, TALL);
    let size = Size { height: HEAD + rows * tall + FOOT, ..size };
    let plot = Plot { size };
    let columns = heat.shards.iter().map(|row| row.accepted.len()).max().unwrap_or(1).max(1);
    let wide = (size.width - LEFT - RIGHT) / columns as f64;
    let mut svg = plot.open("heat", "Kinesis records that each shard took over time", &described(heat));
    let mut cells = vec![String::new(); SHADES + 1];
    let mut hits = String::new();
    let every = (13.0 / tall).ceil();
    for (place, row) in heat.shards.iter().enumerate() {
        let y = HEAD + place as f64 * tall;
        if (place as f64 % every).abs() < 0.5 {
            let _ = write!(
                svg,
                r#"<text class="tick y" x="{:.1}" y="{:.1}">{}<title>{}</title></text>"#,
                LEFT - 7.0,
                y + tall / 2.0 + 4.0,
                escaped(&short_id(&row.id)),
                escaped(&full_name(row))
            );
        }
        for (column, (accepted, throttled)) in row.accepted.iter().zip(&row.throttled).enumerate() {
            let x = LEFT + column as f64 * wide;
            let _ = write!(
                cells[shade(*accepted, most)],
                "M{x:.1} {y:.1}h{:.1}v{:.1}h-{:.1}z",
                wide - 0.6,
                tall - 1.0,
                wide - 0.6
            );
            if *throttled > 0 {
                let radius = (wide.min(tall) / 4.0).clamp(1.2, 3.0);
                let _ = write!(
                    hits,
                    r#"<circle class="hit" cx="{:.1}" cy="{:.1}" r="{radius:.1}"/>"#,
                    x + wide / 2.0,
                    y + tall / 2.0
                );
            }
        }
    }
    for (shade, path) in cells.iter().enumerate().filter(|(_, path)| !path.is_empty()) {
        let _ = write!(svg, r#"<path class="cell s{shade}" d="{path}"/>"#);
    }
    svg.push_str(&hits);
    let end = columns as f64 * heat.span_s;
    for (at, label) in time_ticks(end, size.ticks) {
        plot.below(&mut svg, plot.x(at / end), &label);
    }
    plot.name_of_x(&mut svg, "time since the start");
    svg.push_str("</svg>");
    svg
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a shade")]
fn shade(accepted: u64, most: u64) -> usize {
    if accepted == 0 {
        return 0;
    }
    ((accepted as f64 / most.max(1) as f64 * SHADES as f64).ceil() as usize).clamp(1, SHADES)
}

/// `12` for `shardId-000000000012`.
pub(super) fn short_id(id: &str) -> String {
    let digits = id.rsplit('-').next().unwrap_or(id).trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}

fn full_name(row: &ShardHeatRow) -> String {
    match &row.stream {
        Some(stream) => format!("{stream} {}", row.id),
        None => row.id.clone(),
    }
}

fn described(heat: &ShardHeat) -> String {
    let total = |row: &ShardHeatRow| row.accepted.iter().sum::<u64>();
    let all: u64 = heat.shards.iter().map(total).sum();
    let Some(hottest) = heat.shards.iter().max_by_key(|row| total(row)) else { return String::new() };
    format!(
        "{} shards; the hottest, {}, took {} % of all. The table of shards has the sums.",
        heat.shards.len(),
        hottest.id,
        number(total(hottest) as f64 / all.max(1) as f64 * 100.0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_tell_nothing_from_little() {
        assert_eq!((shade(0, 1000), shade(1, 1000), shade(1000, 1000)), (0, 1, SHADES));
        assert_eq!(
            (short_id("shardId-000000000012"), short_id("shardId-000000000000")),
            ("12".into(), "0".into())
        );
    }
}
